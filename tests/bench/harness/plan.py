"""What is measured, on which systems, and what is asked of it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Way:
    """One way of doing it: which driver, which of its cases, with which fields."""

    label: str
    system: str
    case: str
    fields: dict = field(default_factory=dict)
    by: str | None = None
    """The driver, where the system has more than one."""

    @property
    def driver(self):
        """Which driver does it."""
        return self.by or self.system


@dataclass(frozen=True)
class Measure:
    """Something done in several ways, one after the other, round by round."""

    name: str
    title: str
    unit: str
    """`us` for the median of one operation (less is better), else so many of it a second."""
    ways: tuple[Way, ...]
    goal: float | None = None
    """How many times better rhd has to be than `against`."""
    against: str = "ray"
    each: int = 1
    """Units in one operation."""


WIDTH = {"width": 64}
MIB, MIB64 = {"mib": 1}, {"mib": 64}

MEASURES = (
    Measure(
        "noop",
        "Python no-op, one at a time",
        "us",
        (
            Way("rhd: across two daemons", "rhd", "noop"),
            Way("Ray: actor call", "ray", "noop"),
            Way("Dask: actor call", "dask", "noop"),
            Way("Dask: submit", "dask", "submit"),
            Way("Parsl: app", "parsl", "noop"),
            Way("floor: quinn stream", "floors", "quic"),
            Way("floor: Unix socket", "floors", "unix"),
        ),
        goal=4,
    ),
    Measure(
        "noop-64",
        "Python no-op, 64 in flight",
        "calls/s",
        (
            Way("rhd: threads", "rhd", "threads", WIDTH),
            Way("rhd: asyncio", "rhd", "asyncio", WIDTH),
            Way("rhd: map", "rhd", "map", WIDTH),
            Way("Ray: actor calls, ray.get of 64", "ray", "batch", WIDTH),
            Way("Dask: actor calls", "dask", "batch", WIDTH),
            Way("Dask: submit, gather of 64", "dask", "submit_batch", WIDTH),
            Way("Parsl: apps", "parsl", "batch", WIDTH),
            Way("floor: quinn streams", "floors", "quic", WIDTH),
            Way("floor: Unix sockets", "floors", "unix", WIDTH),
        ),
        goal=4,
    ),
    Measure(
        "rust",
        "Rust no-op, one at a time",
        "us",
        (
            Way("rhd: across two daemons", "rhd", "native", by="callers"),
            Way("floor: quinn stream", "floors", "quic"),
        ),
    ),
    Measure(
        "rust-64",
        "Rust no-op, 64 in flight",
        "calls/s",
        (
            Way("rhd: across two daemons", "rhd", "native", WIDTH, by="callers"),
            Way("floor: quinn streams", "floors", "quic", WIDTH),
        ),
        goal=0.4,
        against="floors",
    ),
    Measure(
        "array-1",
        "1 MiB numpy array there and back",
        "calls/s",
        (
            Way("rhd: across two daemons", "rhd", "echo", MIB),
            Way("Ray: actor call", "ray", "echo", MIB),
            Way("Dask: submit", "dask", "echo", MIB),
        ),
        goal=4,
    ),
    Measure(
        "array-64",
        "64 MiB numpy array to a worker of the same host",
        "MiB/s",
        (
            Way("rhd: on its own node", "rhd", "take", MIB64),
            Way("Ray: actor call", "ray", "take", MIB64),
        ),
        goal=1,
        each=64,
    ),
    Measure(
        "stream",
        "Items of a generator",
        "items/s",
        (
            Way("rhd: across two daemons", "rhd", "stream"),
            Way("Ray: streaming generator", "ray", "stream"),
        ),
        goal=4,
    ),
)


def value(measure, found):
    """The figure of one measurement, in the measure's unit."""
    if measure.unit == "us":
        return found["p50_us"]
    return found["count"] / found["seconds"] * measure.each
