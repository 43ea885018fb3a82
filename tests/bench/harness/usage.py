"""What processes use, from /proc."""

import os
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def _stat(pid):
    """The fields after the command, which may itself hold spaces and brackets."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pid):
    """CPU time, of its user and system parts together."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICK


def rss(pid):
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def peak(pid):
    """The most resident bytes that it ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def family(root):
    """A process and its descendants: pid to the time it started at, which no later process of that
    pid shares."""
    parents, started = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = _stat(entry.name)
            except OSError:
                continue
            parents[int(entry.name)], started[int(entry.name)] = int(fields[1]), fields[19]
    found, fresh = set(), {root} & started.keys()
    while fresh:
        found |= fresh
        fresh = {pid for pid, parent in parents.items() if parent in fresh} - found
    return {pid: started[pid] for pid in found}


def alive(pid, started):
    """Whether this very process still runs."""
    try:
        fields = _stat(pid)
    except OSError:
        return False
    return fields[19] == started and fields[0] != "Z"
