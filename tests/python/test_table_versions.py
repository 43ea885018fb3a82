"""Versions of tables: put back all at once, on the node that holds them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import rhd as rh
from conftest import Node


def rows(table: rh.Table) -> list[dict[str, object]]:
    return sorted(table, key=lambda row: str(row["n"]))


def made(path: Path, system: str, count: int = 3) -> rh.Table:
    data = pa.table({"n": list(range(count)), "part": ["a", "b", "b"][:count]})
    where = "file" if system == "here" else system
    return rh.table(data, path=str(path), system=where, partition_cols="part").write()


def test_a_table_is_saved_and_rolled_back(where: str, tmp_path: Path) -> None:
    name = f"t/{where}"
    table = made(tmp_path / "t", where).save(name)
    first, was = table.hash, rows(table)
    table.append(pa.table({"n": [10], "part": ["c"]})).save()
    then = rows(table)
    assert len(then) == 4
    newest, oldest = table.history()
    assert (newest.kind, newest.number, oldest.hash) == ("table", 2, first)
    assert newest.path == str(tmp_path / "t")
    loaded = rh.load(name)
    assert isinstance(loaded, rh.Table) and rows(loaded) == then
    assert rows(rh.table(name=name)) == then and rh.table(name=name).hash == newest.hash
    # Rows that were not saved are a version before they go.
    table.append(pa.table({"n": [11], "part": ["a"]}))
    unsaved = rows(loaded)
    loaded.rollback(1)
    assert rows(table) == rows(loaded) == was
    assert [(one.number, one.restored) for one in loaded.history()] == [
        (4, 1),
        (3, None),
        (2, None),
        (1, None),
    ]
    assert rows(loaded.rollback(3)) == unsaved
    loaded.rm()
    assert rows(loaded.rollback(2)) == then
    assert [path.name for path in tmp_path.iterdir()] == ["t"], "nothing is left beside it"
    assert rh.table(name=name).lineage().hash == loaded.hash
    loaded.delete()
    assert not rh.exists(name) and rows(table) == then


def test_who_reads_a_table_reads_it_to_its_end_while_it_is_rolled_back(
    where: str, tmp_path: Path
) -> None:
    data = pa.table({"n": list(range(50_000))})
    node = "file" if where == "here" else where
    table = rh.table(data, path=str(tmp_path / "r"), system=node).write().save(f"r/{where}")
    table.write(pa.table({"n": list(range(50_000, 150_000))}))
    reading = table.stream(batch_size=1000)
    read = [next(reading)]
    table.rollback(1)
    read += reading
    assert sum(batch.num_rows for batch in read) == 100_000
    assert len(table) == 50_000
    table.delete()


def test_the_command_line_saves_and_rolls_back(mesh: tuple[Node, Node], tmp_path: Path) -> None:
    alpha, _ = mesh
    table = made(tmp_path / "c", "beta")
    first = alpha.cli("table", "save", f"beta:{tmp_path / 'c'}", "c/table")
    table.write(pa.table({"n": [1], "part": ["z"]}))
    assert alpha.cli("table", "save", f"beta:{tmp_path / 'c'}", "c/table") != first
    assert alpha.cli("rollback", "c/table", "1") == first
    assert len(table) == 3
    assert " table " in alpha.cli("ls", "c") and " table " in alpha.cli("history", "c/table")


def test_what_is_more_than_a_table_is_not_replaced(mesh: tuple[Node, Node], tmp_path: Path) -> None:
    table = made(tmp_path / "m", "here").save("m/more")
    (tmp_path / "m" / "README").write_text("mine")
    with pytest.raises(rh.RhdError, match="README is no part of a table"):
        table.rollback(1)
    assert (tmp_path / "m" / "README").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["m"], "nothing is left beside it"
    with pytest.raises(rh.RhdError, match="is the name of a table"):
        rh.folder(tmp_path / "m").save("m/more")
    with pytest.raises(rh.RhdError, match="object store"):
        rh.table(path="bucket/t", system="s3").save("m/s3")
