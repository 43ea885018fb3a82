"""Runs the benchmark; `tests/bench/run` prepares what it needs."""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

from . import rounds, table
from .plan import MEASURES
from .rounds import say
from .systems import Systems


def arguments():
    """The command line, as `tests/bench/run --help` shows it."""
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__)
    names = [m.name for m in MEASURES]
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--only", action="append", choices=names, help="only this; repeatable")
    parser.add_argument("--system", action="append", help="only this system; repeatable")
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    parser.add_argument("--seconds", type=float, help="how long one measurement takes")
    parser.add_argument("--out", type=Path, help="where the results go")
    parser.add_argument("--binaries", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--venvs", type=Path, required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    args = arguments()
    count = args.rounds or (2 if args.quick else 5)
    seconds = args.seconds or (0.7 if args.quick else 1.5)
    measures = [m for m in MEASURES if not args.only or m.name in args.only]
    wanted = {way.system for m in measures for way in m.ways}
    wanted = [name for name in ("rhd", "floors", "ray", "dask", "parsl") if name in wanted]
    if args.system:
        wanted = [name for name in wanted if name in args.system]
    # Short: sockets are made below it.
    root = Path(tempfile.mkdtemp(prefix="rhd-bench-", dir="/tmp"))
    started = time.monotonic()
    try:
        with Systems(args.binaries, args.venvs, root).up(wanted, say) as drivers:
            versions = {name: driver.version for name, driver in drivers.items()}
            records, failed = rounds.run(measures, drivers, count, seconds, say)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    result = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": versions,
        "rounds": count,
        "seconds": seconds,
        "took": round(time.monotonic() - started),
        "measures": records,
        "failed": {": ".join(key): why for key, why in failed.items()},
    }
    text = "\n\n".join((table.ratios(records), table.details(records)))
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
        (args.out / "bench.md").write_text(text + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
