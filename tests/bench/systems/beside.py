"""rhd: what calls take for three seconds, and while a folder goes the same way; prints JSON."""

import json
import statistics
import sys
import threading
import time

import rhd as rh

FAR, QUIET = "n1", 3.0


def calls(end):
    """Milliseconds of calls one after the other, until it is time to end."""
    times = []
    while not end():
        start = time.perf_counter()
        noop()
        times.append((time.perf_counter() - start) * 1000)
    times.sort()
    most = times[round((len(times) - 1) * 0.99)]
    return {"p50": statistics.median(times), "p99": most, "max": times[-1]}


def transfer():
    try:
        rh.folder(source).to(FAR, target)
    except Exception as e:
        failed.append(e)


source, target = sys.argv[1:]
failed = []
noop = rh.function(lambda: None).to(FAR)
for _ in range(200):
    noop()
until = time.perf_counter() + QUIET
quiet = calls(lambda: time.perf_counter() > until)
thread = threading.Thread(target=transfer)
start = time.perf_counter()
thread.start()
beside = calls(lambda: not thread.is_alive())
took = (time.perf_counter() - start) * 1000
if failed:
    raise failed[0]
print(json.dumps({"quiet": quiet, "beside it": beside, "took": took}))
