"""What was found: for each measure the figures of each way, of all rounds."""

import statistics

from .rounds import say

RATES = ("rows/s",)
"""Units of which more is better."""


class Figures:
    """The figures of one part, in the order in which they came."""

    def __init__(self):
        self.rows = {}

    def note(self, what, way, value, unit="ms"):
        """Adds the figure of one round."""
        say(f"{what}: {way} {_text(value, unit)}")
        row = self.rows.setdefault(what, {"unit": unit, "ways": {}})
        row["ways"].setdefault(way, []).append(float(f"{value:.6g}"))

    def table(self):
        """A line for each measure: rhd's own figure, and how many times better it is."""
        names = dict.fromkeys(name for row in self.rows.values() for name in row["ways"])
        names.pop("rhd", None)
        lines = ["| | rhd |" + "".join(f" {name} |" for name in names)]
        lines.append("|---|---|" + "---|" * len(names))
        for what, row in self.rows.items():
            middle = {name: statistics.median(values) for name, values in row["ways"].items()}
            mine = middle.pop("rhd", None)
            cells = [what, "" if mine is None else _text(mine, row["unit"])]
            for name in names:
                cells.append(_ratio(row["unit"], mine, middle.get(name)))
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)


def _text(value, unit):
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def _ratio(unit, mine, other):
    if not mine or not other:
        return ""
    ratio = mine / other if unit in RATES else other / mine
    return f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.2g}x"
