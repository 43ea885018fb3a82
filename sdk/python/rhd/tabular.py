"""What tables are made of: frames of other libraries, to Arrow and back.

None of these libraries is imported before a value of it comes, or is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .faults import fault

ROWS = 128 * 1024
"""Rows of a row group that is written, and of what is taken from an iterable source at once."""


def arrow() -> Any:
    """pyarrow."""
    return _library("pyarrow", "tables need pyarrow")


def kind_of(data: Any) -> str:
    """Which library a value belongs to."""
    names = {_top(cls) for cls in type(data).__mro__}
    for library in ("pyarrow", "polars", "pandas", "datasets", "ray"):
        if library in names:
            return library
    if "dask" in names or "dask_expr" in names:
        return "dask"
    if isinstance(data, Mapping):
        return "dict"
    if isinstance(data, list):
        return "list"
    if hasattr(data, "__arrow_c_stream__"):
        return "pyarrow"
    raise TypeError(
        "a table takes pandas, polars, pyarrow, Hugging Face, Ray or Dask data, "
        f"a dict of lists or a list of dicts, not {type(data).__name__}"
    )


def read(data: Any) -> Any:
    """A `pyarrow.RecordBatchReader` of a value's rows; what can be is not copied."""
    pa = arrow()
    kind = kind_of(data)
    if kind == "pandas":
        return _whole(pa.Table.from_pandas(data))
    if kind == "polars":
        frame = data.collect() if hasattr(data, "collect") else data
        return _whole(frame.to_arrow())
    if kind == "dict":
        return _whole(pa.table(dict(data)))
    if kind == "list":
        return _whole(pa.Table.from_pylist(data))
    if kind == "datasets":
        return _joined(data.with_format("arrow").iter(batch_size=ROWS))
    if kind == "ray":
        ray = _library("ray", "a Ray data set needs ray")
        return _joined(ray.get(ref) for ref in data.to_arrow_refs())
    if kind == "dask":
        parts = (data.get_partition(n).compute() for n in range(data.npartitions))
        return _joined(pa.Table.from_pandas(part) for part in parts)
    if isinstance(data, pa.RecordBatchReader):
        return data
    if isinstance(data, pa.Table):
        return _whole(data)
    if isinstance(data, pa.RecordBatch):
        return pa.RecordBatchReader.from_batches(data.schema, [data])
    if hasattr(data, "scanner"):
        return data.scanner().to_reader()
    return pa.RecordBatchReader.from_stream(data)


def give(table: Any, kind: str | None) -> Any:
    """An Arrow table as a value of the library, or as what it is."""
    if kind == "pandas":
        return table.to_pandas()
    if kind == "polars":
        return _library("polars", "the table came from polars").from_arrow(table)
    if kind == "dict":
        return table.to_pydict()
    if kind == "list":
        return table.to_pylist()
    if kind == "datasets":
        datasets = _library("datasets", "the table came from datasets")
        return datasets.Dataset(datasets.table.InMemoryTable(table))
    if kind == "ray":
        return _library("ray.data", "the table came from Ray").from_arrow(table)
    if kind == "dask":
        frames = _library("dask.dataframe", "the table came from Dask")
        return frames.from_pandas(table.to_pandas(), npartitions=1)
    return table


def give_batch(batch: Any, kind: str | None) -> Any:
    """A record batch as what a reader of the library takes: Ray's and Dask's is a pandas frame,
    Hugging Face's a dict."""
    if kind in ("pandas", "ray", "dask"):
        return batch.to_pandas()
    if kind == "polars":
        return _library("polars", "the table came from polars").from_arrow(batch)
    if kind in ("dict", "datasets"):
        return batch.to_pydict()
    return batch.to_pylist() if kind == "list" else batch


def cut(batches: Iterable[Any], size: int) -> Iterator[Any]:
    """The same rows in batches of `size`, but for the last."""
    pa = arrow()
    waiting: list[Any] = []
    held = 0
    for batch in batches:
        at = 0
        if held:
            first = batch.slice(0, size - held)
            waiting.append(first)
            held += first.num_rows
            if held < size:
                continue
            yield pa.concat_batches(waiting)
            at, waiting, held = first.num_rows, [], 0
        while batch.num_rows - at >= size:
            yield batch.slice(at, size)
            at += size
        if at < batch.num_rows:
            waiting, held = [batch.slice(at)], batch.num_rows - at
    if held:
        yield pa.concat_batches(waiting)


def _whole(table: Any) -> Any:
    return table.to_reader(max_chunksize=ROWS)


def _joined(tables: Iterable[Any]) -> Any:
    pa = arrow()
    rest = iter(tables)
    first = next(rest, None)
    if first is None:
        return pa.table({}).to_reader()

    def batches() -> Iterator[Any]:
        yield from first.to_batches(max_chunksize=ROWS)
        for table in rest:
            yield from table.cast(first.schema).to_batches(max_chunksize=ROWS)

    return pa.RecordBatchReader.from_batches(first.schema, batches())


def _top(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _library(name: str, why: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as e:
        install = name.partition(".")[0]
        raise fault("env_error", f"{why}: {e}", hint=f"pip install {install}") from e
