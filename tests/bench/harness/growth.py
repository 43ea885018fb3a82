"""What a call costs as callers and nodes become more; callers are Rust, the function is Python."""

import statistics

from . import usage

CALLERS = (1, 8, 64, 512)
NODES = (1, 2, 4)
WIDTH = 64
"""Callers while nodes become more."""
QUEUE = {"workers.queue": 1024}
"""512 callers of one function wait in one queue."""


def run(systems, rounds, seconds, report):
    """Callers at one node of functions on another, then of functions on all nodes of realms."""
    found = []
    with systems.mesh(2, QUEUE) as mesh:
        report("growth: callers")
        with systems.callers(mesh, mesh.nodes[1:]) as (driver, services):
            for width in CALLERS:
                taken = _take(driver, services, width, rounds, seconds)
                found.append(_point("callers", width, taken, mesh))
    for size in NODES:
        report(f"growth: {size} nodes")
        with (
            systems.mesh(size, QUEUE) as mesh,
            systems.callers(mesh, mesh.nodes) as (driver, services),
        ):
            taken = _take(driver, services, WIDTH, rounds, seconds)
            found.append(_point("nodes", size, taken, mesh))
    return found


def _take(driver, services, width, rounds, seconds):
    ask = {"width": width, "services": services}
    driver.measure("call", min(seconds, 0.5), **ask)
    return [driver.measure("call", seconds, **ask) for _ in range(rounds)]


def _point(what, number, taken, mesh):
    return {
        "of": what,
        "number": number,
        "rate": statistics.median(one["count"] / one["seconds"] for one in taken),
        "p50_us": statistics.median(one["p50_us"] for one in taken),
        "p99_us": statistics.median(one["p99_us"] for one in taken),
        "daemon_bytes": max(usage.rss(node.pid) for node in mesh.nodes),
        "worker_bytes": max(
            usage.rss(pid)
            for node in mesh.nodes
            for pid in usage.family(node.pid).keys() - {node.pid}
        ),
        "rounds": taken,
    }
