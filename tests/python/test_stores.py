"""Folders, files and blobs in object stores: real daemons, and a real S3-compatible server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import rhd as rh
from conftest import Node, nodes
from object_store import Store, running
from test_folders import noise, tree, write

MIB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    with running() as store:
        yield store


@pytest.fixture(scope="module")
def both(server: Store, root: Path) -> Iterator[tuple[Node, Node]]:
    """Two nodes of one realm that know the store."""
    with nodes(root) as make:
        yield make("near", **server.settings), make("far", **server.settings)


@pytest.fixture
def s3(server: Store, both: object, request: pytest.FixtureRequest) -> Iterator[Store]:
    server.name = server.bucket(f"b{abs(hash(request.node.name)):x}"[:40])
    server.requests.clear()
    yield server
    server.fault = None


@pytest.fixture
def beta_dir(tmp_path: Path) -> Path:
    return tmp_path / "far"


def files(root: Path) -> dict[str, object]:
    return {name: what for name, what in tree(root).items() if what != "dir"}


def test_a_folder_goes_to_a_store_and_to_another_node(
    s3: Store, source: Path, tmp_path: Path
) -> None:
    write(source, {"a": b"one", "deep/er/b": b"two", "empty": b"", "run": b"#!", "ä %=+": b"odd"})
    write(source, {"large": noise(20 * MIB)})
    (source / "run").chmod(0o755)
    (source / "link").symlink_to("a")
    (source / "nothing").mkdir()
    far = rh.folder(source).to("s3", f"{s3.name}/x")
    assert far.last is not None
    assert (far.path, far.system) == (f"s3://{s3.name}/x", "s3")
    assert (far.last.written, far.last.moved) == (6, 20 * MIB + 11)
    assert set(far.last.skipped) == {"link", "nothing"}
    assert s3.get(f"{s3.name}/x/deep/er/b") == b"two"
    assert s3.get(f"{s3.name}/x/large") == noise(20 * MIB)
    # From there to another node, which asks the store by itself.
    target = tmp_path / "target"
    copy = far.to("far", str(target))
    assert copy.last is not None and copy.last.written == 6
    expected = {name: what for name, what in files(source).items() if name != "link"}
    assert files(target) == expected
    s3.requests.clear()
    again = far.to("far", str(target)).last
    assert again is not None and (again.written, again.moved) == (0, 0)
    assert [way for way, path in s3.requests if "list-type" not in path] == []


def test_only_what_changed_goes_again_and_what_others_did_stays(s3: Store, source: Path) -> None:
    write(source, {"a": b"one", "b": b"two", "c": b"three", "gone": b"x"})
    folder = rh.folder(source)
    first = folder.to("s3", f"{s3.name}/x")
    s3.requests.clear()
    same = folder.to("s3", f"{s3.name}/x").last
    assert same is not None and (same.written, same.moved) == (0, 0)
    assert s3.count("PUT", "") == 0
    # Here: one changed, one removed. There: one changed, one new, by somebody else.
    (source / "a").write_bytes(b"one more")
    (source / "gone").unlink()
    s3.put(f"{s3.name}/x/c", b"of somebody")
    s3.put(f"{s3.name}/x/new", b"of somebody, too")
    done = folder.to("s3", f"{s3.name}/x").last
    assert done is not None and (done.written, done.removed) == (1, 1)
    assert sorted(done.kept) == ["c", "new"]
    assert s3.keys(s3.name) == ["x/a", "x/b", "x/c", "x/new"]
    assert s3.get(f"{s3.name}/x/c") == b"of somebody"
    assert first.ls() == ["a", "b", "c", "new"]


def test_what_can_not_be_read_is_not_taken_for_gone(
    s3: Store, source: Path, beta_dir: Path
) -> None:
    write(source, {"a": b"one", "b": b"two"})
    folder = rh.folder(source)
    folder.to("s3", f"{s3.name}/x")
    folder.to("far", str(beta_dir))
    # More than a file may have, of which the disk keeps nothing.
    os.truncate(source / "a", (1 << 42) + 1)
    for system, path in (("s3", f"{s3.name}/x"), ("far", str(beta_dir))):
        done = folder.to(system, path).last
        assert done is not None and done.removed == 0 and list(done.skipped) == ["a"]
    assert s3.get(f"{s3.name}/x/a") == b"one" == (beta_dir / "a").read_bytes()


def test_what_changed_on_both_sides_is_set_aside(s3: Store, source: Path) -> None:
    write(source, {"a.txt": b"first"})
    far = rh.folder(source).to("s3", f"{s3.name}/x")
    (source / "a.txt").write_bytes(b"changed here")
    s3.put(f"{s3.name}/x/a.txt", b"changed there")
    done = rh.folder(source).to("s3", f"{s3.name}/x").last
    assert done is not None
    (aside,) = done.conflicts
    assert aside.startswith("a.conflict-near-") and aside.endswith(".txt")
    assert s3.get(f"{s3.name}/x/{aside}") == b"changed there"
    assert s3.get(f"{s3.name}/x/a.txt") == b"changed here"
    # And on the way back.
    (source / "a.txt").write_bytes(b"again here")
    s3.put(f"{s3.name}/x/a.txt", b"again there")
    back = far.to("here", str(source)).last
    assert back is not None
    # What was set aside there came, too: within one second both would have the same name.
    (other,) = back.conflicts
    there, here, now = (source / aside, source / other, source / "a.txt")
    contents = [path.read_bytes() for path in (there, here, now)]
    assert contents == [b"changed there", b"again here", b"again there"]
    assert len(list(source.iterdir())) == 3


def test_what_is_set_aside_there_has_a_name_that_nothing_here_has(s3: Store, source: Path) -> None:
    # Whenever it is done: what is here has the name of each second. Two long names become one.
    name, twins = "a.conflict-near-{}.txt", [f"{'n' * 240}{letter}" for letter in "pq"]
    now = datetime.now(timezone.utc)
    stamps = [f"{now + timedelta(seconds=s):%Y%m%d-%H%M%S}" for s in range(120)]
    write(source, {name.format(stamp): stamp.encode() for stamp in stamps})
    write(source, {path: b"here" for path in ["a.txt", *twins]})
    for path in ["a.txt", *twins]:
        s3.put(f"{s3.name}/x/{path}", f"{path} there".encode())
    done = rh.folder(source).to("s3", f"{s3.name}/x").last
    assert done is not None
    asides = {s3.get(f"{s3.name}/x/{aside}") for aside in done.conflicts}
    assert asides == {f"{path} there".encode() for path in ["a.txt", *twins]}
    for path in source.iterdir():
        assert s3.get(f"{s3.name}/x/{path.name}") == path.read_bytes()


def test_both_sides_are_brought_together(s3: Store, source: Path) -> None:
    write(source, {"a": b"1", "b": b"2", "c": b"3"})
    far = rh.folder(source).to("s3", f"{s3.name}/x")
    (source / "a").write_bytes(b"from here")
    (source / "b").unlink()
    s3.put(f"{s3.name}/x/c", b"from there")
    s3.put(f"{s3.name}/x/d", b"new there")
    there, here = far.sync()
    assert (there.written, there.removed, here.written, here.removed) == (1, 1, 2, 0)
    assert files(source) == {
        "a": (b"from here", False),
        "c": (b"from there", False),
        "d": (b"new there", False),
    }
    assert s3.keys(s3.name) == ["x/a", "x/c", "x/d"]
    s3.ask("DELETE", f"/{s3.name}/x/d")
    there, here = far.sync()
    assert (there.written, there.removed, here.removed) == (0, 0, 1)
    assert sorted(files(source)) == ["a", "c"]


def test_objects_of_others_come_once_and_names_that_lead_out_do_not(
    s3: Store, tmp_path: Path
) -> None:
    s3.put(f"{s3.name}/d/a", b"1")
    s3.put(f"{s3.name}/d/made/", b"")
    s3.put(f"{s3.name}/d/made/by hand", b"2")
    s3.put(f"{s3.name}/d/a/below", b"blocked")
    s3.put(f"{s3.name}/d/large", noise(9 * MIB))
    target = tmp_path / "target"
    done = rh.folder(f"s3://{s3.name}/d").to("here", str(target)).last
    assert done is not None and done.moved == 9 * MIB + 2
    large = (noise(9 * MIB), False)
    assert files(target) == {"a": (b"1", False), "large": large, "made/by hand": (b"2", False)}
    assert list(done.skipped) == ["a/below"]
    # In two parts, each once.
    assert s3.count("GET", "/d/large") == 2
    assert s3.count("GET", "/d/a") == 1
    other = rh.folder(f"s3://{s3.name}/d").to("here", str(tmp_path / "other")).last
    assert other is not None and other.written == 3


def test_from_store_to_store(s3: Store, source: Path) -> None:
    other = s3.bucket(f"{s3.name}-2"[:60])
    write(source, {"a": b"one", "large": noise(9 * MIB)})
    first = rh.folder(source).to("s3", f"{s3.name}/x")
    for place in (f"{s3.name}/y", f"{other}/x"):
        s3.requests.clear()
        done = first.to("s3", place).last
        assert done is not None and (done.written, done.entries) == (2, 2)
        assert s3.get(f"{place}/large") == noise(9 * MIB)
        # In one bucket the store copies by itself.
        assert (s3.count("GET", "large") == 0) == place.startswith(f"{s3.name}/")
        again = first.to("s3", place).last
        assert again is not None and (again.written, again.moved) == (0, 0)
    with pytest.raises(rh.RhdError, match="one is in the other"):
        first.to("s3", f"{s3.name}/x/below")


def test_a_folder_in_a_store_is_used_like_any_other(s3: Store) -> None:
    folder = rh.folder(f"{s3.name}/x", system="s3")
    assert not folder.exists_in_system()
    with pytest.raises(rh.RhdError, match="no folder"):
        folder.ls()
    folder.put({"a": "text", "sub/b": b"bytes"})
    assert folder.exists_in_system() and folder.ls() == ["a", "sub"]
    assert folder.ls(full_paths=True) == [f"s3://{s3.name}/x/{name}" for name in ("a", "sub")]
    assert folder.get("sub/b") == b"bytes"
    with folder.open("a", "r") as text:
        assert text.read() == "text"
    folder.rm("sub")
    assert s3.keys(s3.name) == ["x/a"]
    with pytest.raises(rh.RhdError, match="no folder"):
        folder.rm("sub")
    folder.mv(f"s3://{s3.name}/y/z")
    assert s3.keys(s3.name) == ["y/z/a"] and folder.get("a") == b"text"
    folder.rm()
    assert s3.keys(s3.name) == [] and not folder.exists_in_system()
    with pytest.raises(rh.RhdError, match="whole bucket"):
        rh.folder(f"s3://{s3.name}").rm()
    for wrong in ("s3://", "s3://b/../c", "s3:///x"):
        with pytest.raises(rh.RhdError, match="names no"):
            rh.folder(wrong).ls()
    with pytest.raises(rh.RhdError, match="has a path"):
        rh.folder(system="s3")


def test_files_and_blobs(s3: Store, tmp_path: Path) -> None:
    file = rh.file(noise(9 * MIB), path=f"{s3.name}/f", system="s3")
    assert s3.get(f"{s3.name}/f") == noise(9 * MIB)
    assert file.size == 9 * MIB and file.exists_in_system()
    with file.open() as read:
        read.seek(5 * MIB)
        assert read.read(7) == noise(9 * MIB)[5 * MIB :][:7]
    copy = file.to("far", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == noise(9 * MIB)
    (tmp_path / "copy").write_bytes(b"less")
    copy.to("s3", f"{s3.name}/g")
    assert s3.get(f"{s3.name}/g") == b"less"
    s3.put(f"{s3.name}/f", b"of somebody")
    assert file.fetch() == b"of somebody"
    file.rm()
    assert not file.exists_in_system()
    with pytest.raises(rh.RhdError, match="look at"):
        file.fetch()
    blob = rh.blob({"an": "object"}, name="of-a-store")
    blob.to("s3", path=f"{s3.name}/blob").to("far", path=str(tmp_path / "blob"))
    assert (tmp_path / "blob").read_bytes() == s3.get(f"{s3.name}/blob")
    again = rh.blob(path=f"s3://{s3.name}/blob")
    assert again.hash == blob.hash
    blob.delete()


def test_the_command_line(s3: Store, both: tuple[Node, Node], source: Path, tmp_path: Path) -> None:
    write(source, {"a": b"one"})
    near, _ = both
    near.cli("folder", "to", str(source), f"s3://{s3.name}/x")
    assert "a" in near.cli("folder", "ls", f"s3://{s3.name}/x")
    near.cli("folder", "to", f"s3://{s3.name}/x", f"far:{tmp_path / 'there'}")
    assert (tmp_path / "there/a").read_bytes() == b"one"
    near.cli("folder", "rm", f"s3://{s3.name}/x")
    assert s3.keys(s3.name) == []


def test_what_becomes_ignored_stays_in_a_store(s3: Store, source: Path) -> None:
    write(source, {"a.log": b"log", "gone": b"gone", "kept": b"kept"})
    folder = rh.folder(source)
    far = folder.to("s3", f"{s3.name}/x")
    write(source, {".rhdignore": b"*.log\n.rhdignore\n"})
    (source / "gone").unlink()
    done = folder.to("s3", f"{s3.name}/x").last
    assert done is not None and (done.removed, done.kept) == (1, ["a.log"])
    assert s3.keys(s3.name) == ["x/a.log", "x/kept"]
    # Kept alike, neither is written over by the other, nor brought back and forth.
    write(source, {"a.log": b"newer"})
    for _ in range(2):
        there, back = far.sync()
        assert there.conflicts == back.conflicts == [] and there.written == back.written == 0
    assert s3.get(f"{s3.name}/x/a.log") == b"log" and (source / "a.log").read_bytes() == b"newer"
