"""Tables, between real daemons: what is written is read, in whole or in parts, and nothing else."""

from __future__ import annotations

import datetime
import decimal
import itertools
import json
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
import rhd as rh
from conftest import Node, until
from rhd import tabular

Fresh = Callable[..., Node]
Mesh = tuple[Node, Node]

ROWS = 10_000


def numbers(rows: int = ROWS, first: int = 0) -> pa.Table:
    """A table whose rows are all different."""
    ids = range(first, first + rows)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "name": [f"row {i}" for i in ids],
            "part": [i % 3 for i in ids],
            "value": [i / 7 if i % 5 else None for i in ids],
        }
    )


@pytest.fixture
def at(tmp_path: Path) -> str:
    return str(tmp_path / "table")


def files(path: str) -> list[Path]:
    return sorted(Path(path).rglob("*.parquet"))


def noise(rows: int) -> list[bytes]:
    """Rows of 1,000 bytes, some of them alike."""
    some = os.urandom(1 << 20)
    return [some[(i * 1000) % 1_000_000 :][:1000] for i in range(rows)]


def test_each_library_gets_back_what_it_wrote(mesh: Mesh, where: str, at: str) -> None:
    values: dict[str, Any] = {
        "pandas": numbers().to_pandas(),
        "polars": pl.from_arrow(numbers()),
        "pyarrow": numbers(),
        "dict": numbers().to_pydict(),
        "list": numbers(100).to_pylist(),
    }
    for library, value in values.items():
        table = rh.table(value, path=f"{at}-{library}", system=where).write()
        got = table.fetch()
        assert type(got) is type(value), library
        if library == "pandas":
            pd.testing.assert_frame_equal(got, value)
        elif library == "polars":
            assert got.equals(value)
        else:
            assert got == value
        assert len(table) == len(value) if library != "dict" else len(value["id"])


def test_what_is_on_one_node_is_read_on_another(mesh: Mesh, at: str) -> None:
    here = rh.table(numbers(), path=at).write()
    there = here.to("beta", f"{at}-there")
    assert (there.system, there.path) == ("beta", f"{at}-there")
    here.rm()
    assert not here.exists_in_system() and there.exists_in_system()
    assert there.fetch() == numbers()
    assert rh.table(path=f"{at}-there", system="beta").fetch(columns=["value", "id"]) == (
        numbers().select(["value", "id"])
    )
    back = there.to("here", at)
    assert back.fetch() == numbers()
    assert sorted(os.listdir(os.path.dirname(at))) == ["table", "table-there"]


def test_what_git_ignores_is_part_of_a_table(mesh: Mesh, tmp_path: Path, at: str) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.parquet\n/data/\n")
    here = rh.table(numbers(), path=tmp_path / "data").write()
    assert here.to("beta", at).fetch() == numbers()


def test_partitions_that_are_not_wanted_are_not_opened(mesh: Mesh, where: str, at: str) -> None:
    table = rh.table(numbers(), path=at, system=where, partition_cols=["part"]).write()
    assert sorted(p.parent.name for p in files(at)) == ["part=0", "part=1", "part=2"]
    whole = table.fetch()
    assert whole.schema.names == numbers().schema.names
    assert whole.sort_by("id") == numbers()
    for file in files(at):
        if file.parent.name != "part=1":
            file.write_bytes(b"broken")
    mine = numbers().filter(pa.compute.field("part") == 1)
    assert table.fetch(where={"part": 1}) == mine
    assert table.fetch(["id"], where={"part": [1]}) == mine.select(["id"])
    assert sum(b.num_rows for b in table.stream(where={"part": 1})) == mine.num_rows
    with pytest.raises(rh.RhdError, match="part=0"):
        table.fetch()
    with pytest.raises(rh.RhdError, match='"id" is no partition column'):
        table.fetch(where={"id": 7})


def test_partitions_keep_odd_values(mesh: Mesh, where: str, at: str) -> None:
    odd = ["plain", "a/b", "ü & =", None, "007", "x%20y", "plain"]
    data = pa.table({"k": odd, "n": pa.array(range(len(odd)), pa.int32())})
    table = rh.table(data, path=at, system=where, partition_cols="k").write()
    assert table.fetch().sort_by("n") == data
    assert table.fetch(["n"], where={"k": None})["n"].to_pylist() == [3]
    assert sorted(table.fetch(where={"k": ["a/b", "007"]})["n"].to_pylist()) == [1, 4]


def test_partition_columns_keep_their_types(mesh: Mesh, where: str, at: str) -> None:
    data = pa.table(
        {
            "day": [datetime.date(2024, 1, d % 3 + 1) for d in range(9)],
            "n": list(range(9)),
            "good": [d % 2 == 0 for d in range(9)],
        }
    )
    table = rh.table(data, path=at, system=where, partition_cols=["day", "good"]).write()
    assert table.schema == data.schema
    assert table.fetch().sort_by("n") == data
    assert pa.Table.from_batches(list(table.stream(2))).sort_by("n") == data
    chosen = {"day": datetime.date(2024, 1, 2), "good": True}
    assert table.fetch(["n"], where=chosen)["n"].to_pylist() == [4]
    assert next(table.stream(where=chosen)).schema == data.schema


def test_batches_have_the_size_that_is_asked_for(mesh: Mesh, where: str, at: str) -> None:
    table = rh.table(numbers(), path=at, system=where).write()
    table.append(numbers(777, ROWS))
    rows = ROWS + 777
    assert len(table) == rows
    for size in (256, 1, 5000, 100_000):
        sizes = [batch.num_rows for batch in table.stream(batch_size=size)]
        assert sizes == [size] * (rows // size) + [rows % size] * (rows % size > 0), size
    whole = pa.Table.from_batches(list(table.stream(batch_size=256, columns=["id"])))
    assert sorted(whole["id"].to_pylist()) == list(range(rows))
    frames = list(rh.table(numbers(10).to_pandas(), path=f"{at}2").write().stream(batch_size=4))
    assert [type(f) for f in frames] == [pd.DataFrame] * 3
    assert [row["id"] for row in table][:3] == [0, 1, 2]


def test_a_shuffle_is_a_permutation_that_its_seed_decides(mesh: Mesh, at: str) -> None:
    data = numbers()
    os.makedirs(at)
    pq.write_table(data.slice(0, 6000), f"{at}/a.parquet", row_group_size=500)
    pq.write_table(data.slice(6000), f"{at}/b.parquet", row_group_size=700)
    table = rh.table(path=at)

    def order(seed: int, buffer: int, size: int = 256) -> list[int]:
        batches = table.stream(size, shuffle_seed=seed, shuffle_buffer=buffer)
        return [i for batch in batches for i in batch["id"].to_pylist()]

    orders = [order(1, 1000), order(2, 1000), order(1, 50), order(1, 0), order(1, 1 << 20)]
    for ids in orders:
        assert sorted(ids) == list(range(ROWS)) and ids != sorted(ids)
    assert len({tuple(ids) for ids in orders}) == len(orders)
    # Whatever the batches are.
    assert order(1, 1000) == orders[0] == order(1, 1000, size=3000)
    # Rows that follow each other in a file are far apart: with so large a buffer, anywhere.
    last = orders[4]
    assert sum(abs(a - b) < 100 for a, b in itertools.pairwise(last)) < ROWS / 20


def test_rows_are_counted_by_footers_alone(mesh: Mesh, where: str, at: str) -> None:
    table = rh.table(numbers(), path=at, system=where).write()
    [file] = files(at)
    content = bytearray(file.read_bytes())
    pages = pq.read_metadata(file).row_group(0).column(0).total_compressed_size
    content[4 : 4 + pages] = b"\xff" * pages
    file.write_bytes(content)
    assert len(table) == ROWS
    assert table.schema == numbers().schema
    stats = table.stats()
    columns = {column["name"]: column for column in stats["columns"]}
    assert (stats["rows"], stats["files"], stats["bytes"]) == (ROWS, 1, len(content))
    assert [columns["id"][k] for k in ("min", "max", "nulls")] == ["0", str(ROWS - 1), 0]
    assert [columns["name"][k] for k in ("min", "max")] == ['"row 0"', '"row 9999"']
    assert columns["value"]["nulls"] == ROWS // 5
    with pytest.raises(rh.RhdError, match=file.name) as caught:
        table.fetch()
    assert "Parquet" in str(caught.value)
    # A column that is not broken can be read.
    assert table.fetch(["part"]) == numbers().select(["part"])


def test_a_file_that_is_no_parquet_is_named(mesh: Mesh, at: str) -> None:
    table = rh.table(numbers(100), path=at).write().to("beta", f"{at}-there")
    good = files(f"{at}-there")[0].read_bytes()
    bad = Path(f"{at}-there/bad.parquet")
    half = len(good) // 2
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    spoilt = {
        "empty": b"",
        "short": b"PAR1",
        "text": b"no parquet at all, but long enough",
        "cut": good[:half],
        "footer": good[:footer] + b"\xff" * 32 + good[footer + 32 :],
        "long": good[:-8] + b"\xff\xff\xff\x7fPAR1",
        "encrypted": good[:-4] + b"PARE",
    }
    for name, content in spoilt.items():
        bad.write_bytes(content)
        for use in (table.fetch, table.stats, lambda: len(table), lambda: list(table.stream())):
            with pytest.raises(rh.RhdError, match=r"bad\.parquet") as caught:
                use()
            assert "beta" in str(caught.value), name
    bad.unlink()
    assert len(table) == 100
    bad.symlink_to("/dev/zero")
    with pytest.raises(rh.RhdError, match=r"bad\.parquet"):
        table.fetch()
    bad.unlink()
    os.mkfifo(bad)
    with pytest.raises(rh.RhdError, match=r"bad\.parquet"):
        table.fetch()
    with pytest.raises(rh.RhdError, match="no table"):
        len(rh.table(path=f"{at}-nowhere", system="beta"))


def test_schemas_that_differ_become_one_where_nothing_is_lost(mesh: Mesh, at: str) -> None:
    os.makedirs(f"{at}/y=1"), os.makedirs(f"{at}/y=2"), os.makedirs(f"{at}/y=3")
    pq.write_table(
        pa.table({"a": pa.array([1, 2], pa.int16()), "s": ["x", "y"]}), f"{at}/y=1/p.parquet"
    )
    pq.write_table(
        pa.table({"s": pa.array(["z"], pa.large_string()), "a": pa.array([1 << 40])}),
        f"{at}/y=2/p.parquet",
    )
    pq.write_table(pa.table({"new": [1.5], "a": pa.nulls(1)}), f"{at}/y=3/p.parquet")
    table = rh.table(path=at)
    assert table.fetch().to_pydict() == {
        "a": [1, 2, 1 << 40, None],
        "s": ["x", "y", "z", None],
        "new": [None, None, None, 1.5],
        "y": [1, 1, 2, 3],
    }
    assert table.fetch(where={"y": 3})["new"].to_pylist() == [1.5]
    pq.write_table(pa.table({"a": ["text"]}), f"{at}/y=3/q.parquet")
    with pytest.raises(rh.RhdError, match=r"y=3/q\.parquet.*\"a\"") as caught:
        table.fetch()
    assert "Utf8" in str(caught.value) and "Int64" in str(caught.value)
    with pytest.raises(rh.RhdError, match='"a"'):
        table.append(pa.table({"a": [[1]], "y": [1]}))


def test_a_reader_reads_the_table_that_it_began_to_read(mesh: Mesh, where: str, at: str) -> None:
    # Files that are not opened before what goes before them was read.
    os.makedirs(at)
    for n in range(3):
        rows = numbers(40_000, n * 40_000).append_column("noise", pa.array(noise(40_000)))
        pq.write_table(rows, f"{at}/{n}.parquet")
    table = rh.table(path=at, system=where)
    reading = table.stream(batch_size=1000)
    first = next(reading)
    table.write(numbers(10))
    table.write(numbers(20))
    assert len(table) == 20
    rest = [first, *reading]
    assert [i for batch in rest for i in batch["id"].to_pylist()] == list(range(120_000))
    beside = Path(at).parent
    until(lambda: os.listdir(beside) == ["table"], "the old one is gone")
    reading = table.stream()
    next(reading)
    table.rm()
    reading.close()
    until(lambda: os.listdir(beside) == [], "all is gone")
    with pytest.raises(rh.RhdError, match="no table"):
        table.fetch()


def test_writers_take_turns_and_nobody_sees_a_half(mesh: Mesh, at: str) -> None:
    rh.table(numbers(1000), path=at).write()
    failed: list[BaseException] = []

    def write(n: int) -> None:
        try:
            for _ in range(4):
                rh.table(numbers(1000, n), path=at).write()
        except BaseException as e:
            failed.append(e)

    threads = [threading.Thread(target=write, args=(n * 1000,)) for n in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        ids = rh.table(path=at).fetch(["id"])["id"].to_pylist()
        assert ids == list(range(ids[0], ids[0] + 1000))
    assert not failed
    assert os.listdir(Path(at).parent) == ["table"]


def test_what_is_more_than_a_table_is_not_replaced(mesh: Mesh, where: str, at: str) -> None:
    os.makedirs(at)
    precious = Path(at, "thesis.txt")
    precious.write_text("years")
    table = rh.table(numbers(10), path=at, system=where)
    for change in (table.write, table.rm):
        with pytest.raises(rh.Conflict, match=r"thesis\.txt"):
            change()
    assert precious.read_text() == "years"
    assert os.listdir(Path(at).parent) == ["table"]


def test_an_empty_table_keeps_its_columns(mesh: Mesh, where: str, at: str) -> None:
    none = numbers(1).slice(0, 0)
    for n, keys in enumerate(([], ["part"])):
        table = rh.table(none, path=f"{at}{n}", system=where, partition_cols=keys).write()
        assert table.fetch() == none and len(table) == 0 and list(table.stream()) == []
        table.append(numbers(5))
        assert table.fetch().sort_by("id") == numbers(5)


def test_what_is_asked_wrongly_is_said(mesh: Mesh, where: str, at: str) -> None:
    table = rh.table(numbers(10), path=at, system=where)
    with pytest.raises(rh.RhdError, match="no table"):
        table.fetch()
    table.write()
    with pytest.raises(rh.NotFound, match="nope") as caught:
        table.fetch(columns=["nope"])
    assert "id, name, part, value" in caught.value.hint
    with pytest.raises(rh.NotFound, match="nope"):
        rh.table(numbers(10), path=at, partition_cols=["nope"]).write()
    with pytest.raises(TypeError, match="int"):
        rh.table(5, path=at)
    assert table.fetch() == numbers(10)


def test_a_table_is_streamed_in_little_memory(fresh: Fresh, at: str) -> None:
    node = fresh("alpha")
    os.makedirs(at)
    batch = pa.table({"blob": noise(40_000), "n": list(range(40_000))})
    for n in range(12):
        # 40 MB each, when they are not compressed.
        pq.write_table(batch, f"{at}/{n:02}.parquet", use_dictionary=n % 2 == 0)
    table = rh.table(path=at)

    def peak() -> int:
        assert node.process
        status = Path(f"/proc/{node.process.pid}/status").read_text()
        return int(next(s for s in status.splitlines() if s.startswith("VmHWM")).split()[1]) >> 10

    total = sum(b.num_rows for b in table.stream(batch_size=256))
    assert total == 480_000
    assert sum(1 for _ in table.stream(256, shuffle_seed=1, shuffle_buffer=10_000)) == 1875
    # Batches that the reader puts together, as each is more than travels at once.
    assert [b.num_rows for b in table.stream(200_000)] == [200_000, 200_000, 80_000]
    assert peak() < 200, f"{peak()} MiB"


def test_a_reader_that_stops_ends_the_reading(fresh: Fresh, at: str) -> None:
    here, there = fresh("alpha"), fresh("beta")
    rh.table(numbers(400_000), path=at).write().to("beta", f"{at}-there")

    def opened() -> bool:
        assert there.process
        fds = Path(f"/proc/{there.process.pid}/fd")
        links = [os.readlink(fd) for fd in fds.iterdir() if fd.is_symlink()]
        return any(f"{at}-there" in link for link in links)

    reading = rh.table(path=f"{at}-there", system="beta").stream()
    next(reading)
    until(opened, "the file is read")
    reading.close()
    until(lambda: not opened(), "nobody reads it any more")
    reading = rh.table(path=f"{at}-there", system="beta").stream()
    next(reading)
    there.kill()
    with pytest.raises(rh.RhdError, match="beta"):
        list(reading)
    assert here.status()


def test_the_command_line_shows_a_table(mesh: Mesh, at: str) -> None:
    here, _ = mesh
    rh.table(numbers(30), path=at, partition_cols=["part"]).write().to("beta", f"{at}-there")
    rows = json.loads(here.cli("table", "head", f"beta:{at}-there", "-n", "2", "--json"))
    assert rows == [
        {"id": 0, "name": "row 0", "value": None, "part": 0},
        {"id": 3, "name": "row 3", "value": 3 / 7, "part": 0},
    ]
    assert "row 0" in here.cli("table", "head", at, "--columns", "name,id", "-n", "1")
    columns = json.loads(here.cli("table", "schema", f"beta:{at}-there", "--json"))
    assert [(c["name"], c["type"], c["partition"]) for c in columns] == [
        ("id", "Int64", False),
        ("name", "Utf8", False),
        ("value", "Float64", False),
        ("part", "Int64", True),
    ]
    stats = json.loads(here.cli("table", "stats", at, "--json"))
    assert (stats["rows"], stats["files"]) == (30, 3)
    assert "30 rows" in here.cli("table", "stats", f"beta:{at}-there")


def test_all_kinds_of_values_go_there_and_back(mesh: Mesh, where: str, at: str) -> None:
    data = pa.table(
        {
            "bool": [True, None],
            "u64": pa.array([1 << 63, 0], pa.uint64()),
            "f32": pa.array([0.5, float("nan")], pa.float32()),
            "bytes": [b"\0\xff", None],
            "date": [datetime.date(1969, 12, 31), None],
            "time": pa.array([datetime.datetime(2024, 1, 2, 3)] * 2, pa.timestamp("us", "UTC")),
            "decimal": [decimal.Decimal("1.25"), None],
            "list": [[1, None], []],
            "struct": [{"a": 1, "b": ["x"]}, None],
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
        }
    )
    table = rh.table(data, path=at, system=where).write()
    got = table.fetch()
    assert got.schema == data.schema
    assert repr(got.to_pylist()) == repr(data.to_pylist())
    assert len(table.stats()["columns"]) == len(data.schema)


def test_a_table_goes_with_a_call(mesh: Mesh, at: str) -> None:
    table = rh.table(numbers(7), path=at).write()
    again = pickle.loads(pickle.dumps(table))
    assert (again.path, again.system) == (at, "alpha")
    assert again.fetch() == numbers(7)


def test_batches_are_cut_and_joined() -> None:
    batches = numbers(1000).to_batches(max_chunksize=7)
    for size in (1, 6, 7, 8, 999, 1000, 1001):
        made = list(tabular.cut(iter(batches), size))
        assert pa.Table.from_batches(made) == numbers(1000)
        assert all(batch.num_rows == size for batch in made[:-1])


def test_a_node_that_sends_no_rows_is_named(
    mesh: Mesh, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = rh.table(numbers(10), path=at, system="beta").write()
    [good] = table._items()
    for bad in (b"", b"no rows", bytes(good)[:100], bytes(64) + bytes(good)[64:]):
        monkeypatch.setattr(rh.Table, "_items", lambda *_, bad=bad, **__: iter([memoryview(bad)]))
        for read in (table.fetch, lambda: list(table.stream())):
            with pytest.raises(rh.RhdError, match="beta"):
                read()
