"""Draws how many times better rhd is than each peer; runs with matplotlib's own environment."""

import json
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from table import SYSTEMS, best, better

COLOURS = {"ray": "#1f77b4", "dask": "#ff7f0e", "parsl": "#2ca02c"}


def main(source, target):
    with open(source) as file:
        result = json.load(file)
    measured = [r for r in result["measures"] if best(r, "rhd")]
    records = [r for r in measured if any(best(r, system) for system in SYSTEMS)]
    figure, axes = pyplot.subplots(figsize=(8, 0.8 + 0.75 * len(records)), dpi=100)
    height = 0.8 / len(SYSTEMS)
    for row, record in enumerate(records):
        for place, (system, name) in enumerate(SYSTEMS.items()):
            peer = best(record, system)
            if peer is None:
                continue
            times = better(record, best(record, "rhd"), peer)
            at = row + (place - 1) * height
            label = name if row == 0 else None
            axes.barh(at, times - 1, height, left=1, color=COLOURS[system], label=label)
            side = {"ha": "left"} if times >= 1 else {"ha": "right"}
            axes.text(times, at, f" {times:.2g} ", va="center", fontsize=8, **side)
        if record["goal"]:
            axes.plot([record["goal"]] * 2, [row - 0.45, row + 0.45], "k:", linewidth=1)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(records)), [r["title"] for r in records])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("times better than the peer; dotted: the goal against Ray", fontsize=9)
    axes.set_title(f"rhd beside its peers, {result['date']}, {result['machine']}", fontsize=10)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(target)


main(*sys.argv[1:])
