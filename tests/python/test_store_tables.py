"""Tables in object stores: written there, read from there by parts, brought here and there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import rhd as rh
from object_store import Store
from test_stores import both, s3, server

assert server and both and s3

ROWS = 50_000


@pytest.fixture
def data() -> dict[str, list[Any]]:
    return {
        "n": list(range(ROWS)),
        "wide": [f"{n:0200d}" for n in range(ROWS)],
        "year": [2020 + n % 3 for n in range(ROWS)],
    }


@pytest.fixture
def table(s3: Store, data: dict[str, list[Any]]) -> Iterator[Any]:
    yield rh.table(data, path=f"{s3.name}/t", system="s3", partition_cols=["year"]).write()


def test_it_is_read_as_any_other(s3: Store, table: Any, data: dict[str, list[Any]]) -> None:
    assert table.system == "s3" and table.exists_in_system()
    assert all(key.startswith("t/year=202") for key in s3.keys(s3.name)), "nothing is left beside"
    assert len(table) == ROWS and table.schema.names == ["n", "wide", "year"]
    assert table.stats()["rows"] == ROWS
    found = rh.table(path=f"s3://{s3.name}/t").fetch(columns=["n"], where={"year": 2021})
    assert found["n"].to_pylist() == [n for n in data["n"] if n % 3 == 1]
    seen = [row for batch in table.stream(777, columns=["n", "year"]) for row in batch["n"]]
    assert sorted(seen) == data["n"]


def test_columns_that_are_not_wanted_are_not_read(s3: Store, data: dict[str, list[Any]]) -> None:
    dice = random.Random(0)
    wide = pa.table({"noise": [dice.randbytes(200) for _ in data["n"]], "n": data["n"]})
    table = rh.table(wide, path=f"{s3.name}/w", system="s3").write()
    (key,) = s3.keys(s3.name)
    size = len(s3.get(f"{s3.name}/{key}"))
    read = [0]

    def fault(door: Any) -> bool:
        asked = door.headers.get("Range", "")
        if door.command == "GET" and asked.startswith("bytes="):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            read[0] += min(int(last), size - 1) - int(first) + 1
        return False

    s3.fault = fault
    assert table.fetch(columns=["n"])["n"].to_pylist() == data["n"]
    assert 0 < read[0] < size / 2, (read[0], size)


def test_it_grows_is_replaced_and_goes(s3: Store, table: Any) -> None:
    more = {"n": [-1], "wide": ["x"], "year": [2029]}
    table.append(more)
    assert len(table) == ROWS + 1
    with pytest.raises(rh.RhdError, match="column"):
        table.append({"n": ["text"], "wide": ["x"], "year": [2029]})
    table.write(more)
    assert table.fetch() == more
    assert len(s3.keys(s3.name)) == 1
    s3.put(f"{s3.name}/t/notes.txt", b"of somebody")
    with pytest.raises(rh.RhdError, match=r"notes\.txt"):
        table.write(more)
    assert s3.get(f"{s3.name}/t/notes.txt") == b"of somebody"
    s3.ask("DELETE", f"/{s3.name}/t/notes.txt")
    table.rm()
    assert s3.keys(s3.name) == [] and not table.exists_in_system()
    with pytest.raises(rh.RhdError, match="no table"):
        len(table)


def test_it_goes_to_nodes_and_back(s3: Store, table: Any, tmp_path: Path) -> None:
    there = table.to("far", str(tmp_path / "t"))
    assert len(there) == ROWS and (tmp_path / "t/year=2020").is_dir()
    back = there.to("s3", f"{s3.name}/back")
    assert len(back) == ROWS and back.path == f"s3://{s3.name}/back"


def test_what_is_no_parquet_is_told(s3: Store) -> None:
    s3.put(f"{s3.name}/t/part.parquet", b"PAR1 this is none PAR1")
    with pytest.raises(rh.RhdError, match=r"s3://.*/t/part.parquet can't be read as Parquet"):
        len(rh.table(path=f"{s3.name}/t", system="s3"))
