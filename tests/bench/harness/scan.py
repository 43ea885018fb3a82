"""A data set of Parquet files read in small batches, beside pyarrow's own scanner."""

import json

from . import usage
from .files import MIB

TITLE = "A table in batches of 256 rows"
NOTE = """\
Files as pyarrow writes them, of the same machine: `rh.table(path=p).stream(256)` beside
`pyarrow.dataset.dataset(p).to_batches(batch_size=256)`, each in a process of its own."""


def measure(place, figures):
    """Rows a second of each on the same files, in a process of its own each time."""
    large = 128 if place.args.quick else 1000
    with place.folder() as folder, place.mesh() as mesh:
        node, dataset = mesh.nodes[0], folder / "dataset"
        place.python("scan.py", "write", dataset, large)
        for names in place.turns(("rhd", "pyarrow")):
            for name in names:
                place.settle(large * MIB)
                said = place.python("scan.py", name, dataset, home=node.home)
                found = json.loads(said)
                figures.note(f"{large:,} MB", name, found["rows"] / found["seconds"], "rows/s")
                figures.note("peak memory of the process", name, found["peak"] / MIB, "MiB")
        peak = usage.peak(node.pid) / MIB
        figures.note("peak memory of the daemon", "rhd", peak, "MiB")
