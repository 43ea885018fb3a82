"""rhd beside Ray, Dask, Parsl and the floors; `tests/bench/run` prepares what this needs."""

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from . import growth, idle, results, rounds
from .plan import MEASURES
from .rounds import say
from .systems import Systems

ORDER = ("rhd", "callers", "floors", "ray", "dask", "parsl")
OTHERS = ("idle", "growth")


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__)
    names = [m.name for m in MEASURES] + list(OTHERS)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument(
        "--only", action="append", choices=names, metavar="NAME", help=f"of {', '.join(names)}"
    )
    parser.add_argument(
        "--system", action="append", choices=ORDER, metavar="NAME", help=f"of {', '.join(ORDER)}"
    )
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    parser.add_argument("--seconds", type=float, help="how long one measurement takes")
    parser.add_argument("--out", type=Path, help="where the results go")
    parser.add_argument("--binaries", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--venvs", type=Path, required=True, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.seconds = args.seconds or (0.7 if args.quick else 1.5)
    args.only = args.only or names
    return args


def machine():
    """What kind of machine this is, and no more."""
    virtual = Path("/proc/cpuinfo").exists() and "hypervisor" in Path("/proc/cpuinfo").read_text()
    kind = "virtual machine" if virtual else "machine"
    return f"{kind}, {os.cpu_count()} cores, Python {platform.python_version()}"


def measure(args, systems):
    """Everything that was asked for."""
    found = {}
    # First, while nothing else runs.
    if "idle" in args.only:
        found["idle"] = idle.run(systems, 10 if args.quick else 30, say)
    if "growth" in args.only:
        found["growth"] = growth.run(systems, min(args.rounds, 3), args.seconds, say)
    measures = [m for m in MEASURES if m.name in args.only]
    wanted = {way.driver for m in measures for way in m.ways}.intersection(args.system or ORDER)
    with systems.up([name for name in ORDER if name in wanted], say) as (drivers, missing):
        found["versions"] = {name: driver.version for name, driver in drivers.items()}
        found["measures"], failed = rounds.run(measures, drivers, args.rounds, args.seconds, say)
    found["left_out"] = missing | failed
    return found


def main():
    """Measures, prints, and keeps the results where it is told to."""
    args = arguments()
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Short: sockets are made below it.
    root = Path(tempfile.mkdtemp(prefix="rhd-bench-", dir="/tmp"))
    started = time.monotonic()
    try:
        found = measure(args, Systems(args.binaries, args.venvs, root))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    found |= {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "rounds": args.rounds,
        "seconds": args.seconds,
        "took": round(time.monotonic() - started),
    }
    print(results.text(found))
    if args.out:
        results.keep(found, args.out, args.venvs / "chart" / "bin" / "python")
    return 1 if found["left_out"] else 0


if __name__ == "__main__":
    sys.exit(main())
