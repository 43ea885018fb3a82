"""A file into a store, beside b3sum, which only reads it, and b3sum with a copy."""

import shutil

from . import usage
from .commands import run
from .files import MIB, plain, write

TITLE = "Import and hash"
NOTE = """\
`rhd blob put` of a file that is new to the store. b3sum alone only reads it; where the file system
can't share a file's blocks the store has to copy it, as b3sum with a plain copy does."""


def measure(place, figures):
    """`rhd blob put` of files that are new to the store."""
    b3sum = shutil.which("b3sum")
    if b3sum is None:
        place.leave_out("b3sum", "it is not installed")
    what, size = f"a file of {place.large:,} MiB", place.large * MIB
    with place.mesh() as mesh:
        node = mesh.nodes[0]
        for _ in range(place.rounds):
            with place.folder() as folder:
                source = folder / "source"
                file = write(source / "f", size)
                put = ("blob", "put", "--name", "f", file)
                figures.note(what, "rhd", place.timed(size, node.cli, *put))
                node.cli("blob", "rm", "f")
                node.cli("blob", "gc")
                if b3sum is None:
                    continue
                figures.note(what, "b3sum", place.timed(size, run, b3sum, file))

                def both(file=file, source=source, target=folder / "copy"):
                    run(b3sum, file)
                    plain(source, target)

                figures.note(what, "b3sum and a plain copy", place.timed(size, both))
        figures.note("peak memory of the daemon", "rhd", usage.peak(node.pid) / MIB, "MiB")
