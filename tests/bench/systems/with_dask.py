"""Dask: a scheduler and one worker process on this machine."""

import os

import distributed
import numpy
import work
from driver import serve
from timing import in_groups, one_by_one


class Actor:
    def noop(self):
        return work.noop()


def main():
    cluster = distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=os.cpu_count(),
        processes=True,
        dashboard_address=None,
        local_directory=os.environ["TMPDIR"],
    )
    client = distributed.Client(cluster)
    actor = client.submit(Actor, actor=True).result()
    array = numpy.frombuffer(numpy.random.default_rng(0).bytes(1 << 20), dtype="uint8")

    def submit(function, *args):
        return client.submit(function, *args, pure=False)

    def batch(width):
        client.gather([submit(work.noop) for _ in range(width)])

    def actor_batch(width):
        for future in [actor.noop() for _ in range(width)]:
            future.result()

    try:
        serve(
            f"Dask {distributed.__version__}",
            {
                "noop": lambda seconds: one_by_one(lambda: actor.noop().result(), seconds),
                "submit": lambda seconds: one_by_one(lambda: submit(work.noop).result(), seconds),
                "batch": lambda seconds, width: in_groups(
                    lambda: actor_batch(width), width, seconds
                ),
                "submit_batch": lambda seconds, width: in_groups(
                    lambda: batch(width), width, seconds
                ),
                "echo": lambda seconds, mib: one_by_one(
                    lambda: submit(work.echo, array).result(), seconds
                ),
            },
        )
    finally:
        client.close()
        cluster.close()


if __name__ == "__main__":
    main()
