"""The results as text, and in the files that are kept."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

from . import table

INTRO = """\
{date}, {machine}; {versions}. Median of {rounds} rounds of {seconds:g} s each; in a round all ways
of a measure take their turns, while everything is up. Every system runs on this one machine: rhd as
a client, two daemons and a worker; Ray, Dask and Parsl as local clusters with the function in
another process, so that nothing of theirs crosses a link between nodes. Ratios say how many times
better rhd is; trust them rather than the figures, which are this machine's alone."""


def text(found):
    """Everything, as Markdown."""
    ours = ("floors", "callers")
    names = [name for system, name in found["versions"].items() if system not in ours] or ["rhd"]
    parts = ["# rhd beside its peers", INTRO.format(**(found | {"versions": ", ".join(names)}))]
    if found["measures"]:
        parts += ["## Ratios", table.ratios(found["measures"])]
    if "growth" in found:
        parts += ["## As it grows", table.growth(found["growth"])]
    if "idle" in found:
        parts += ["## Idle", table.idle(found["idle"])]
    if found["measures"]:
        parts += ["## Every way of it", table.details(found["measures"])]
    if found["left_out"]:
        lines = [f"- {what}: {why}" for what, why in found["left_out"].items()]
        parts += ["## Not measured", "\n".join(lines)]
    return "\n\n".join(parts)


def keep(found, folder, python):
    """Writes JSON, Markdown and, where there is something to draw, the chart."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "bench.json"
    source.write_text(json.dumps(_rounded(found), indent=1) + "\n")
    (folder / "bench.md").write_text(text(found) + "\n")
    if found["measures"]:
        chart = Path(__file__).with_name("chart.py")
        with tempfile.TemporaryDirectory() as cache:
            subprocess.run(
                [python, chart, source, folder / "bench.png"],
                env={**os.environ, "MPLCONFIGDIR": cache},
                check=True,
            )


def _rounded(value):
    """Six digits are more than anything here can be trusted for."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
