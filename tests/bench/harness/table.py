"""The ratios as a Markdown table."""

SYSTEMS = {"ray": "Ray", "dask": "Dask", "parsl": "Parsl"}


def better(record, one, other):
    """How many times better `one` is than `other`."""
    if record["unit"] == "us":
        return other["value"] / one["value"]
    return one["value"] / other["value"]


def best(record, system):
    """The best way of a system; none where it was not measured."""
    ways = [way for way in record["ways"] if way["system"] == system]
    return min(ways, key=lambda w: w["value"] * (1 if record["unit"] == "us" else -1), default=None)


def figure(value, unit):
    """A figure to three digits, with its unit."""
    text = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return f"{int(text):,} {unit}" if value >= 100 else f"{text} {unit}"


def ratio(value):
    """A ratio to two digits."""
    return f"{value:.0f}x" if value >= 10 else f"{value:.2g}x"


def ratios(records):
    """A line for each measure: rhd's own figure, and how many times better than each peer it is."""
    lines = [
        "| | rhd | vs Ray | vs Dask | vs Parsl | of the floor | goal | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        mine = best(record, "rhd")
        if mine is None:
            continue
        cells = [record["title"], figure(mine["value"], record["unit"])]
        for system in SYSTEMS:
            peer = best(record, system)
            cells.append(ratio(better(record, mine, peer)) if peer else "")
        floors = [way for way in record["ways"] if way["system"] == "floors"]
        cells.append(f"{better(record, mine, floors[0]):.0%}" if floors else "")
        cells += goal(record, mine)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def goal(record, mine):
    """What is asked for, and whether it is so."""
    against = best(record, record["against"])
    if record["goal"] is None or against is None:
        return ["", ""]
    got = better(record, mine, against)
    share = record["against"] == "floors"
    name = "the floor" if share else SYSTEMS[record["against"]]
    asked = f"{record['goal']:.0%} of {name}" if share else f"{record['goal']:g}x {name}"
    if got >= record["goal"]:
        return [asked, "met"]
    return [asked, f"{got / record['goal']:.0%} of the way"]


def details(records):
    """A line for each way: its own figures, medians of all rounds."""
    lines = ["| | | median | p50 us | p99 us |", "|---|---|---|---|---|"]
    for record in records:
        for way in record["ways"]:
            cells = [
                record["title"],
                way["label"],
                figure(way["value"], record["unit"]),
                *("" if way[key] is None else f"{way[key]:,.0f}" for key in ("p50_us", "p99_us")),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
