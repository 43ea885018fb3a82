"""What calls take while a folder goes the same way."""

import json

from . import usage
from .files import MIB, write

TITLE = "Calls beside a transfer"
NOTE = """\
A Python no-op from one node to the other, one call at a time: for three seconds of quiet, then
while a folder goes the same way."""


def measure(place, figures):
    """A Python no-op between two nodes, quiet and beside a large folder, and what daemons hold."""
    size = 2 * place.large
    with place.folder() as folder, place.mesh() as mesh:
        source = folder / "source"
        for n in range(2):
            write(source / f"f{n}", place.large * MIB)
        for _ in range(place.rounds):
            with place.folder() as target:
                place.settle(size * MIB)
                home = mesh.nodes[0].home
                found = json.loads(place.python("beside.py", source, target / "x", home=home))
            for when in ("quiet", "beside it"):
                for share, value in found[when].items():
                    figures.note(f"a no-op, {when}: {share}", "rhd", value)
            figures.note(f"the folder of {size:,} MiB", "rhd", found["took"])
        for node, what in zip(mesh.nodes, ("sends", "gets"), strict=True):
            peak = usage.peak(node.pid) / MIB
            figures.note(f"peak memory of the daemon that {what} it", "rhd", peak, "MiB")
