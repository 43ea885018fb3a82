"""Data between two nodes and into a store, beside other tools and the floors, in one run.

Every tool moves the same data on this one machine, in turn; ratios of medians are what counts.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from subprocess import SubprocessError

from . import beside, blobs, copies, imports, scan
from .__main__ import machine
from .commands import run
from .figures import Figures
from .place import Place
from .rounds import say

PARTS = {"copies": copies, "blobs": blobs, "imports": imports, "beside": beside, "scan": scan}

INTRO = """\
{date}, {machine}. Median of {rounds} rounds,
in which all take turns on one machine: two daemons, other tools on loopback, rsync and scp over
its own OpenSSH. Each round begins with another of them. Before each turn as much memory as it will
need is touched and released, since a virtual machine is slow to give what was never used, and what
others wrote is brought to the disk; for all alike. Beside rhd's own figure: how many times as long
the others take, how many times as much memory they hold, or by how many times rhd's rate is
higher."""


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests/bench/run --data", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and less data")
    parser.add_argument("--on", action="append", type=Path, help="a folder of a file system")
    parser.add_argument(
        "--only", action="append", choices=PARTS, metavar="NAME", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    parser.add_argument("--out", type=Path, help="where the results go")
    parser.add_argument("--binaries", type=Path, required=True, help=argparse.SUPPRESS)
    for name in ("--venvs", "--tools", "--upstream"):
        parser.add_argument(name, type=Path, required=True, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.on = args.on or [Path("/tmp"), Path("/dev/shm")]
    args.only = args.only or list(PARTS)
    args.rounds = args.rounds or (2 if args.quick else 5)
    return args


def measure(args, on, left_out):
    """Each part on one file system."""
    found = {}
    with Place(args, on, left_out) as place:
        for name in args.only:
            say(f"{on}: {name}")
            found[name] = Figures()
            try:
                PARTS[name].measure(place, found[name])
            except (RuntimeError, OSError, SubprocessError) as e:
                place.leave_out(f"the rest of {name} on {on}", e)
    return found


def text(args, found, left_out):
    """Everything, as Markdown."""
    date = time.strftime("%-d %B %Y", time.gmtime())
    parts = ["# Moving data", INTRO.format(date=date, machine=machine(), rounds=args.rounds)]
    for on, figures in found.items():
        kind = run("df", "--output=fstype", on).split()[-1]
        parts.append(f"## On {kind}")
        for name, one in figures.items():
            parts += [f"### {PARTS[name].TITLE}", PARTS[name].NOTE, one.table()]
    if left_out:
        lines = [f"- {what}: {why}" for what, why in left_out.items()]
        parts += ["## Not measured", "\n".join(lines)]
    return "\n\n".join(parts)


def main():
    """Measures on each file system that is named, and prints what it found."""
    args = arguments()
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found, left_out = {}, {}
    for on in args.on:
        found[str(on)] = measure(args, on, left_out)
    said = text(args, found, left_out)
    print(said)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "moving.md").write_text(said + "\n")
        rows = {on: {name: f.rows for name, f in some.items()} for on, some in found.items()}
        (args.out / "moving.json").write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())
