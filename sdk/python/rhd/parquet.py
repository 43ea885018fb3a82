"""Parquet files as tables have them: written, with what they were made of noted in their schema."""

from __future__ import annotations

import base64
import inspect
import os
import time
import uuid
from collections.abc import Sequence
from typing import Any

from . import tabular
from .faults import fault

SCHEMA = b"rhd.schema"
"""Key of the schema that a table had before names of folders got some of its columns."""
PARTITIONS = b"rhd.partitions"
"""Key of those columns in that schema, with NUL between them."""
_MOST = 10_000


def write_files(rows: Any, folder: str, partition_cols: Sequence[str]) -> None:
    """Writes the batches of a reader as Parquet files: one, or some in each partition's folder."""
    pa = tabular.arrow()
    os.makedirs(folder, exist_ok=True)
    # Files are read in the order of their names: what is added comes last.
    name = f"part-{time.time_ns():019}-{uuid.uuid4().hex[:8]}"
    schema = rows.schema
    if partition_cols:
        missing = [column for column in partition_cols if column not in schema.names]
        if missing:
            known = ", ".join(schema.names)
            raise fault("not_found", f"there is no column {missing[0]!r}", hint=f"known: {known}")
        schema = _marked(schema, partition_cols)
        _write_partitions(rows, schema, folder, partition_cols, name)
        if any(files for _, _, files in os.walk(folder)):
            return
        rows = ()
    from pyarrow import parquet

    with parquet.ParquetWriter(os.path.join(folder, f"{name}-0.parquet"), schema) as out:
        for batch in rows:
            if batch.num_rows:
                out.write_table(pa.Table.from_batches([batch], schema), row_group_size=tabular.ROWS)


def _write_partitions(
    rows: Any, schema: Any, folder: str, columns: Sequence[str], name: str
) -> None:
    pa = tabular.arrow()
    from pyarrow import dataset

    keys = pa.schema([schema.field(column) for column in columns])
    batches = (pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in rows)
    options: dict[str, Any] = {}
    if "preserve_order" in inspect.signature(dataset.write_dataset).parameters:
        options["preserve_order"] = True
    dataset.write_dataset(
        pa.RecordBatchReader.from_batches(schema, batches),
        folder,
        format="parquet",
        partitioning=dataset.partitioning(keys, flavor="hive"),
        basename_template=name + "-{i}.parquet",
        existing_data_behavior="overwrite_or_ignore",
        max_partitions=_MOST,
        max_rows_per_group=tabular.ROWS,
        **options,
    )


def _marked(schema: Any, partition_cols: Sequence[str]) -> Any:
    """A schema whose metadata says what it was before the names of folders got some columns."""
    marked = "\0".join(partition_cols).encode()
    was = schema.remove_metadata().with_metadata({PARTITIONS: marked})
    text = base64.b64encode(was.serialize().to_pybytes())
    return schema.with_metadata({**(schema.metadata or {}), SCHEMA: text})
