"""Rounds: every way of every measure in turn, so that all see the same machine."""

import statistics
import sys

from . import plan
from .driver import DriverError

WARM = 0.5
"""Seconds of each way before the first round, which don't count."""


def run(measures, drivers, rounds, seconds, report):
    """Measures everything `rounds` times; returns the figures of every way by measure name."""
    found = {m.name: {way.label: [] for way in m.ways} for m in measures}
    failed = {}

    def take(measure, way, span):
        if way.driver not in drivers or f"{measure.title}: {way.label}" in failed:
            return None
        try:
            return drivers[way.driver].measure(way.case, span, **way.fields)
        except DriverError as e:
            failed[f"{measure.title}: {way.label}"] = str(e)
            report(f"LEFT OUT: {measure.title}: {way.label}: {e}")
            return None

    for measure in measures:
        for way in measure.ways:
            take(measure, way, WARM)
    for number in range(rounds):
        report(f"round {number + 1} of {rounds}")
        for measure in measures:
            for way in measure.ways:
                one = take(measure, way, seconds)
                if one is not None:
                    found[measure.name][way.label].append(one)
    return [_record(m, found[m.name]) for m in measures], failed


def _record(measure, found):
    ways = [_way(measure, way, found[way.label]) for way in measure.ways if found[way.label]]
    return {
        "name": measure.name,
        "title": measure.title,
        "unit": measure.unit,
        "goal": measure.goal,
        "against": measure.against,
        "ways": ways,
    }


def _way(measure, way, rounds):
    return {
        "label": way.label,
        "system": way.system,
        "value": statistics.median(plan.value(measure, one) for one in rounds),
        "p50_us": _median(rounds, "p50_us"),
        "p99_us": _median(rounds, "p99_us"),
        "rounds": rounds,
    }


def _median(rounds, key):
    known = [one[key] for one in rounds if one[key] is not None]
    return statistics.median(known) if known else None


def say(text):
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)
