"""Tables: Parquet files in a folder of a node, written as a whole and read in batches."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import posixpath
import random
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import config, parquet, tabular
from .blob import Inputs, Progress, _texts
from .cluster import Cluster, here, spot
from .daemon import daemon
from .errors import RhdError
from .faults import fault
from .folder import Folder, place_of, sought
from .saved import SavedTree
from .stores import is_url, local, system_of

Where = Mapping[str, Any]
"""Values of partition columns: one, a list of some, or None."""


class Table(SavedTree):
    """A table of a node; made by `rh.table`."""

    kind = "table"

    def __init__(
        self,
        data: Any,
        path: str,
        name: str | None,
        node: str | None,
        partition_cols: Sequence[str],
    ) -> None:
        self._path = path if node else local(path)
        self._name, self._node = name, node
        self._partition_cols = list(partition_cols)
        self.skipped = {}
        self._data = data
        self._kind = None if data is None else tabular.kind_of(data)

    @property
    def path(self) -> str:
        """Where it is on its node."""
        return self._path

    @property
    def system(self) -> str:
        """The name of its node, or the object store that it is in."""
        return self._node or system_of(self._path) or here.name

    @property
    def schema(self) -> Any:
        """Its columns, as a `pyarrow.Schema`, without reading it."""
        said = self._ask("schema")
        found, _ = self._decoded(said["ipc"])
        return self._restored(found.empty_table(), None).schema

    def write(self, data: Any = None, progress: Progress | None = None) -> Table:
        """Puts its data, or this, in the place of what is there, all at once. Who reads meanwhile
        reads the old one to its end."""
        self._send("replace", self._given(data), progress)
        return self

    def append(self, data: Any, progress: Progress | None = None) -> Table:
        """Adds rows as further files."""
        self._send("append", self._given(data), progress)
        return self

    def fetch(self, columns: Sequence[str] | None = None, where: Where | None = None) -> Any:
        """All of it, or some columns, or the partitions `where` columns have these values: as what
        it was made of, or as a `pyarrow.Table`."""
        pa = tabular.arrow()
        read = [self._decoded(body) for body in self._items(columns, where)]
        table = pa.Table.from_batches([b for _, some in read for b in some], read[0][0])
        return tabular.give(self._restored(table, columns), self._kind)

    def stream(
        self,
        batch_size: int = 256,
        shuffle_seed: int | None = None,
        shuffle_buffer: int = 0,
        prefetch: int = 1,
        columns: Sequence[str] | None = None,
        where: Where | None = None,
    ) -> Iterator[Any]:
        """Batches of exactly so many rows, but for the last: of what it was made of, or
        `pyarrow.RecordBatch`. However large it is, little of it is in memory.

        The same seed gives the same order: of the row groups, and, with a buffer, of rows drawn
        from among so many. `prefetch` is how many parts are made ready before they are asked for.
        """
        if batch_size < 1:
            raise ValueError("a batch has at least one row")
        batches = self._batches(
            batch_size, shuffle_seed, shuffle_buffer, prefetch, columns=columns, where=where
        )
        return (tabular.give_batch(batch, self._kind) for batch in batches)

    def stats(self) -> dict[str, Any]:
        """Rows, bytes, files, row groups, and of each column the least and greatest value, missing
        ones, and bytes: by what its files say of themselves, without reading it."""
        said: dict[str, Any] = self._ask("stats")
        return said

    def to(
        self,
        system: str | Cluster,
        path: str | None = None,
        progress: Progress | None = None,
    ) -> Table:
        """Has it on a node: at this path there, or at a place of its own, the same each time. What
        is there is replaced all at once.

        Data that was not written yet is written there; else it goes from its own node. Where it was
        saved and is gone since, its newest version is put back first.
        """
        self._put_back()
        node, at = spot(system, path)
        at = at or self._place_on(node)
        copy = Table(None, at, self._name, node, self._partition_cols)
        copy._kind = self._kind
        if copy._spot() == self._spot():
            return self
        if self._data is not None and not self.exists_in_system():
            copy._send("replace", self._data, progress)
            copy._data = self._data
            return copy
        folder = Folder(self._path, None, self._node)
        copy._publish("replace", folder, progress)
        return copy

    def save(
        self,
        name: str | None = None,
        inputs: Inputs | None = None,
        progress: Progress | None = None,
    ) -> Table:
        """Keeps it, as it is written now, as the newest version of a name on its node; files that
        are stored there already are not stored again.

        The record names the call that this is in and what that has read by now, or these inputs.
        """
        return self._save(name, _texts(inputs), progress)

    def rm(self) -> None:
        """Removes it; versions that were saved stay."""
        self._ask("remove")

    def exists_in_system(self) -> bool:
        """Whether it is there."""
        return bool(self._ask("exists"))

    def __len__(self) -> int:
        """Rows, by what its files say of themselves."""
        return int(self._ask("count"))

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Its rows, each a dict."""
        for batch in self._batches(1024, None, 0, 1):
            yield from batch.to_pylist()

    def _batches(
        self,
        size: int,
        seed: int | None,
        buffer: int,
        ahead: int,
        columns: Sequence[str] | None = None,
        where: Where | None = None,
    ) -> Iterator[Any]:
        if seed is None and buffer:
            seed = random.getrandbits(64)
        shuffle = None if seed is None else {"seed": seed % (1 << 64), "buffer": buffer}
        streams = self._items(columns, where, batch=size, shuffle=shuffle, ahead=ahead)
        items = (self._restored(b, columns) for s in streams for b in self._decoded(s)[1])
        return tabular.cut(items, size)

    def _items(
        self, columns: Sequence[str] | None = None, where: Where | None = None, **read: Any
    ) -> Iterator[memoryview]:
        read["columns"] = None if columns is None else list(columns)
        read["only"] = _only(where)
        d = daemon()
        ask = {"do": "read", "path": self._path, "read": read}
        conn = d.open({"op": "table", "v": config.VERSION, "node": self._node, "ask": ask}, ())
        try:
            while True:
                reply, body = conn.next()
                if reply["t"] == "done":
                    return
                yield body
        finally:
            # Of one that is not read to its end, this closes the connection, which ends it there.
            d.give(conn)

    def _decoded(self, body: bytes | memoryview) -> tuple[Any, list[Any]]:
        """The schema and batches of a stream, which are not copied."""
        pa = tabular.arrow()
        try:
            stream = pa.ipc.open_stream(pa.py_buffer(body))
            batches = list(stream)
            for batch in batches:
                batch.validate()
            return stream.schema, batches
        except (pa.ArrowException, OSError) as e:
            text = f"node {self.system} sent rows that are none: {e}"
            raise fault("internal", text, node=self.system) from e

    def _given(self, data: Any) -> Any:
        if data is not None:
            self._data, self._kind = data, tabular.kind_of(data)
        if self._data is None:
            raise fault("bad_request", f"{self!r} has no data", hint="t.write(data)")
        return self._data

    def _send(self, do: str, data: Any, progress: Progress | None) -> None:
        rows = tabular.read(data)
        if self._node is None and not is_url(self._path):
            staged = self._staged()
            try:
                parquet.write_files(rows, staged, self._partition_cols)
                self._ask(do, **{"with": staged})
            finally:
                shutil.rmtree(staged, ignore_errors=True)
            return
        with tempfile.TemporaryDirectory(prefix="rhd-table-") as folder:
            parquet.write_files(rows, folder, self._partition_cols)
            self._publish(do, Folder(folder, None, None), progress)

    def _publish(self, do: str, folder: Folder, progress: Progress | None) -> None:
        staged = self._staged()
        copied = folder.to(self._node or system_of(staged) or "here", staged, progress)
        try:
            if copied.last is not None and copied.last.skipped:
                raise fault("conflict", f"{folder!r} did not go whole: {copied.last.skipped}")
            self._ask(do, **{"with": staged})
        except BaseException:
            with contextlib.suppress(RhdError):
                copied.rm()
            raise

    def _staged(self) -> str:
        above, name = posixpath.split(self._path.rstrip("/"))
        if not above or not name:
            raise fault("bad_request", f"{self._path!r} is no place for a table")
        return f"{above}/.{name}.rhd-new-{uuid.uuid4().hex}"

    def _place_on(self, node: str | None) -> str:
        name = self._name or posixpath.basename(self._path.rstrip("/"))
        mark = hashlib.sha256(f"{self.system}:{self._path}".encode()).hexdigest()[:8]
        return f"~/rhd/{name}-{mark}" if node != self._node else self._path

    def _restored(self, table: Any, columns: Sequence[str] | None) -> Any:
        """The same with columns of the types and in the order that they had when it was written:
        the names of folders say neither."""
        kept = (table.schema.metadata or {}).get(parquet.SCHEMA)
        if kept is None:
            return table
        pa = tabular.arrow()
        with contextlib.suppress(pa.ArrowException, OSError, ValueError):
            was = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(kept)))
            for name in self._partitions(table, was):
                index = table.schema.get_field_index(name)
                column = table.column(index).cast(was.field(name).type)
                table = table.set_column(index, was.field(name), column)
            if columns is None:
                first = [name for name in was.names if name in table.column_names]
                table = table.select(first + [n for n in table.column_names if n not in first])
        return table.replace_schema_metadata(_plain(table.schema).metadata)

    @staticmethod
    def _partitions(table: Any, was: Any) -> list[str]:
        """The columns that are in the names of folders, where they had another type."""
        names = [n for n in table.column_names if was.get_field_index(n) >= 0]
        marked = (was.metadata or {}).get(parquet.PARTITIONS, b"").decode().split("\0")
        return [n for n in names if n in marked and table.schema.field(n).type != was.field(n).type]

    def _spot(self) -> tuple[str | None, str]:
        return self._node, self._path

    def _ask(self, do: str, **fields: Any) -> Any:
        d = daemon()
        ask = {"do": do, "path": self._path, **fields}
        return d.finish(
            d.open({"op": "table", "v": config.VERSION, "node": self._node, "ask": ask}, ())
        )

    def __getstate__(self) -> dict[str, Any]:
        # Elsewhere, this node has to be called by its name; data that is not written stays here.
        node = None if is_url(self._path) else self.system
        return {**self.__dict__, "_node": node, "_data": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        system = self._node or system_of(self._path) or "here"
        return f"rh.table(path={self._path!r}, system={system!r})"


def table(
    data: Any = None,
    name: str | None = None,
    path: str | os.PathLike[str] | None = None,
    system: str | Cluster = "file",
    partition_cols: str | Sequence[str] | None = None,
) -> Table:
    """A table: a folder of Parquet files of this machine, of the node `system`, or of an object
    store ("s3", "gs" or "az"). Nothing is written before `.write()` or `.to()`.

    A path on another node is absolute, or starts with `~/`; without a path it is one of its own,
    below `~/rhd`. Values of `partition_cols` become names of folders, so that readers who want
    some of them open no others. With a name alone it is the one that was saved under it, if one
    was.
    """
    node, where = spot(system, path)
    if data is None and where is None and (info := sought(name, node, "table")):
        return found(info, node)
    columns = [partition_cols] if isinstance(partition_cols, str) else partition_cols or ()
    return Table(data, where or f"~/rhd/{name or uuid.uuid4().hex}", name, node, columns)


def found(info: dict[str, Any], node: str | None) -> Table:
    """A saved table that was looked for."""
    return Table(None, *place_of(info, node), ())._learn(info)


def _plain(schema: Any) -> Any:
    metadata = {k: v for k, v in (schema.metadata or {}).items() if k != parquet.SCHEMA}
    return schema.with_metadata(metadata or None)


def _only(where: Where | None) -> list[dict[str, Any]]:
    only = []
    for key, wanted in (where or {}).items():
        many = wanted if isinstance(wanted, list | tuple | set | frozenset | range) else [wanted]
        values = [None if value is None else _text(value) for value in many]
        only.append({"key": key, "values": values})
    return only


def _text(value: Any) -> str:
    # As the names of folders have it.
    return str(value).lower() if isinstance(value, bool) else str(value)
