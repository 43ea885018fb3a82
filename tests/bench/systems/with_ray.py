"""Ray: an actor in another process of a local cluster."""

import os

import numpy
import ray
import work
from driver import serve
from timing import in_groups, one_by_one

ray.init(
    num_cpus=os.cpu_count(),
    include_dashboard=False,
    log_to_driver=False,
    object_store_memory=1 << 30,
    _temp_dir=os.environ["TMPDIR"],
)


@ray.remote
class Actor:
    def noop(self):
        return work.noop()

    def echo(self, value):
        return work.echo(value)

    def size(self, value):
        return work.size(value)

    def count(self, n):
        yield from work.count(n)


actor = Actor.remote()
arrays = {mib: numpy.random.default_rng(0).bytes(mib << 20) for mib in (1, 64)}
arrays = {mib: numpy.frombuffer(data, dtype="uint8") for mib, data in arrays.items()}


def batch(seconds, width):
    return in_groups(lambda: ray.get([actor.noop.remote() for _ in range(width)]), width, seconds)


def stream(seconds):
    n = 1000

    def once():
        refs = actor.count.options(num_returns="streaming").remote(n)
        assert sum(1 for ref in refs if ray.get(ref) is not None) == n

    return in_groups(once, n, seconds)


try:
    serve(
        f"Ray {ray.__version__}",
        {
            "noop": lambda seconds: one_by_one(lambda: ray.get(actor.noop.remote()), seconds),
            "batch": batch,
            "echo": lambda seconds, mib: one_by_one(
                lambda: ray.get(actor.echo.remote(arrays[mib])), seconds
            ),
            "take": lambda seconds, mib: one_by_one(
                lambda: ray.get(actor.size.remote(arrays[mib])), seconds
            ),
            "stream": stream,
        },
    )
finally:
    ray.shutdown()
