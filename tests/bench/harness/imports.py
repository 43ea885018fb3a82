"""A file into a store, beside b3sum, which only reads it, and b3sum with a copy."""

import functools
import shutil

from . import usage
from .commands import run
from .files import MIB, plain, write

TITLE = "Import and hash"
NOTE = """\
`rhd blob put` of a file that is new to the store. b3sum alone only reads it; where the file system
can't share a file's blocks the store has to copy it, as b3sum with a plain copy does."""
PUT = ("blob", "put", "--name", "f")


def measure(place, figures):
    """Each way of each round has a file that is new."""
    what, size = f"a file of {place.large:,} MiB", place.large * MIB
    with place.mesh() as mesh:
        node = mesh.nodes[0]
        ways = {"rhd": node.cli} | _floors(place)
        for names in place.turns(ways):
            for name in names:
                with place.folder() as folder:
                    file = write(folder / "source" / "f", size)
                    args = PUT if name == "rhd" else ()
                    figures.note(what, name, place.timed(size, ways[name], *args, file))
                if name == "rhd":
                    node.cli("blob", "rm", "f")
                    node.cli("blob", "gc")
        figures.note("peak memory of the daemon", "rhd", usage.peak(node.pid) / MIB, "MiB")


def _floors(place):
    """What a file's hash costs, and its hash and a copy."""
    b3sum = shutil.which("b3sum")
    if b3sum is None:
        place.leave_out("b3sum", "it is not installed")
        return {}

    def both(file):
        run(b3sum, file)
        plain(file.parent, file.parent.with_name("copy"))

    return {"b3sum": functools.partial(run, b3sum), "b3sum and a plain copy": both}
