"""A data set in batches of 256 rows, by rhd or pyarrow; prints JSON. `write` makes the data set."""

import json
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet

FILES, BATCH = 8, 256
ROW = 61
"""About what a row takes in a file."""


def write(path, mb):
    """Numbers, text that repeats and text that doesn't, in files as pyarrow makes them."""
    import numpy

    rng = numpy.random.default_rng(0)
    rows = mb * 1_000_000 // ROW // FILES
    kinds = numpy.array([f"kind {n}" for n in range(1000)])
    path.mkdir()
    for n in range(FILES):
        ids = pa.array(numpy.arange(n * rows, (n + 1) * rows))
        columns = {"id": ids, "kind": pa.array(kinds[rng.integers(0, 1000, rows)])}
        columns |= {name: pa.array(rng.standard_normal(rows)) for name in "abc"}
        columns["count"] = pa.array(rng.integers(0, 1 << 30, rows, dtype="int32"))
        columns["text"] = pc.binary_join_element_wise(
            pc.cast(pa.array(rng.integers(0, 1 << 62, rows)), "string"), pc.cast(ids, "string"), "-"
        )
        pa.parquet.write_table(pa.table(columns), path / f"part-{n}.parquet")


def rhd(path):
    import rhd as rh

    return rh.table(path=str(path)).stream(BATCH)


def pyarrow(path):
    return pa.dataset.dataset(path).to_batches(batch_size=BATCH)


way, path = sys.argv[1], Path(sys.argv[2])
if way == "write":
    write(path, int(sys.argv[3]))
    sys.exit()
batches = {"rhd": rhd, "pyarrow": pyarrow}[way](path)
start = time.perf_counter()
rows = sum(batch.num_rows for batch in batches)
seconds = time.perf_counter() - start
# Not that of getrusage, which begins with what the parent had.
status = Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps({"rows": rows, "seconds": seconds, "peak": peak}))
