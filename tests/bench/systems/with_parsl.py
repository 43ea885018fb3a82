"""Parsl: its high-throughput executor with one worker process on this machine."""

import os

import parsl
import work
from driver import serve
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider
from timing import in_groups, one_by_one


def main():
    executor = HighThroughputExecutor(
        label="bench",
        address="127.0.0.1",
        loopback_address="127.0.0.1",
        max_workers_per_node=1,
        cores_per_worker=1,
        provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
        encrypted=False,
    )
    folder = os.path.join(os.environ["TMPDIR"], "runinfo")
    config = Config(executors=[executor], run_dir=folder, initialize_logging=False)
    with parsl.load(config):
        noop = parsl.python_app(work.noop)
        noop().result()

        def batch(width):
            for future in [noop() for _ in range(width)]:
                future.result()

        serve(
            f"Parsl {parsl.__version__}",
            {
                "noop": lambda seconds: one_by_one(lambda: noop().result(), seconds),
                "batch": lambda seconds, width: in_groups(lambda: batch(width), width, seconds),
            },
        )


if __name__ == "__main__":
    main()
