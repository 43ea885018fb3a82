"""A blob from one daemon to another, beside other tools with the same file, and the floors."""

import contextlib
import functools
from subprocess import SubprocessError

from . import others, usage
from .commands import run
from .files import MIB, plain, write

TITLE = "A blob"
NOTE = """\
From the store of one daemon to that of another; iroh-blobs by itself does the same, between two
processes over its own endpoint. sendme, Syncthing, rsync and scp make a file of it. The floors:
raw quinn, set as rhd's links are, sends as many bytes from memory to nowhere, and one process
writes the file in blocks of 1 MiB."""


def measure(place, figures):
    """A file that is new each round, into a second store, or to a second place."""
    what, size = f"a blob of {place.large:,} MiB", place.large * MIB
    with contextlib.ExitStack() as stack:
        mesh = stack.enter_context(place.mesh())
        ways = {"rhd": functools.partial(_rhd, mesh)}
        ways |= others.ways(place, stack)
        ways |= {name: functools.partial(_copy, copy) for name, copy in place.ssh.items()}
        ways |= {"raw quinn": _quinn, "plain write": functools.partial(_copy, plain)}
        for names in place.turns(ways):
            with place.folder() as made:
                file = write(made / "f", size)
                for name in filter(ways.get, names):
                    try:
                        with place.folder() as folder:
                            figures.note(what, name, ways[name](place, file, folder))
                    except (RuntimeError, OSError, SubprocessError) as e:
                        place.leave_out(f"{name} with {what}", e)
                        del ways[name]
        for node, does in zip(mesh.nodes, ("sends", "gets"), strict=True):
            peak = usage.peak(node.pid) / MIB
            figures.note(f"peak memory of the daemon that {does} it", "rhd", peak, "MiB")


def _rhd(mesh, place, file, _):
    """From store to store."""
    n0, _ = mesh.nodes
    n0.cli("blob", "put", "--name", "f", file)
    took = place.timed(file.stat().st_size, n0.cli, "blob", "to", "f", "n1")
    for node in ("n0", "n1"):
        n0.cli("blob", "rm", "f", "--node", node)
        n0.cli("blob", "gc", "--node", node)
    return took


def _copy(copy, place, file, folder):
    """The folder that it is in."""
    return place.timed(file.stat().st_size, copy, file.parent, folder / "x")


def _quinn(place, file, _):
    """As many bytes from memory to nowhere."""
    place.settle(0)
    return float(run(place.args.binaries / "rhd-bench", "bulk", str(file.stat().st_size // MIB)))
