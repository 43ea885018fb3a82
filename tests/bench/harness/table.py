"""The ratios as a Markdown table."""

IDLE_BYTES, IDLE_CPU = 60e6, 0.01
"""What an idle daemon may hold, and its share of a core."""
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
    if record["against"] == "floors":
        asked = f"{record['goal']:.0%} of the floor"
    else:
        asked = f"{record['goal']:g}x {SYSTEMS[record['against']]}"
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


def growth(points):
    """A line for each number of callers and of nodes."""
    lines = ["| | calls/s | p50 us | p99 us | daemon | worker |", "|---|---|---|---|---|---|"]
    titles = {"callers": "callers: {}; two nodes", "nodes": "nodes: {}; 64 callers"}
    for point in points:
        cells = [
            titles[point["of"]].format(point["number"]),
            f"{point['rate']:,.0f}",
            f"{point['p50_us']:,.0f}",
            f"{point['p99_us']:,.0f}",
            mib(point["daemon_bytes"]),
            mib(point["worker_bytes"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def idle(points):
    """A line for each number of peers, and whether it is within what is asked for."""
    lines = ["| | memory | CPU | goal | |", "|---|---|---|---|---|"]
    for point in points:
        met = point["most_bytes"] <= IDLE_BYTES and point["most_cpu"] < IDLE_CPU
        cells = [
            f"{point['peers']} peers" if point["peers"] else "alone",
            mib(point["most_bytes"]),
            f"{point['most_cpu']:.2%} of a core",
            "60 MB, 1%",
            "met" if met else "missed",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mib(size):
    """Bytes, for people."""
    return f"{size / 2**20:.0f} MiB"
