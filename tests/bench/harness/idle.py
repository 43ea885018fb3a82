"""What a daemon holds and uses while nothing is asked of it."""

import time

from . import usage

PEERS = (0, 10)
SETTLE = 30.0
"""Seconds after the first links: until then nodes choose among the ways to each other."""


def run(systems, seconds, report):
    """Memory and share of a core, of the worst daemon and on average, alone and with peers."""
    found = []
    for peers in PEERS:
        report(f"idle: a daemon with {peers} peers, {seconds:.0f} s")
        with systems.mesh(peers + 1) as mesh:
            time.sleep(SETTLE)
            pids = [node.pid for node in mesh.nodes]
            before = [usage.cpu_seconds(pid) for pid in pids]
            start = time.monotonic()
            time.sleep(seconds)
            took = time.monotonic() - start
            shares = [(usage.cpu_seconds(p) - b) / took for p, b in zip(pids, before, strict=True)]
            found.append(
                {
                    "peers": peers,
                    "seconds": took,
                    "most_bytes": max(map(usage.rss, pids)),
                    "most_cpu": max(shares),
                    "mean_cpu": sum(shares) / len(shares),
                }
            )
    return found
