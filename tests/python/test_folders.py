"""Folders, between real daemons: what arrives, what stays, what is set aside."""

from __future__ import annotations

import os
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import rhd as rh
from conftest import Node, until
from rhd.origin import MAX_INPUTS

MIB = 1 << 20

Fresh = Callable[..., Node]
Mesh = tuple[Node, Node]


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def tree(root: Path) -> dict[str, object]:
    """All that is below a folder: contents, targets of links, and folders as such."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_dir():
            found[name] = "dir"
        else:
            found[name] = (path.read_bytes(), bool(path.stat().st_mode & 0o111))
    return found


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def test_all_kinds_of_entries_arrive_as_they_are(mesh: Mesh, source: Path, tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "grün/ä") for form in ("NFC", "NFD"))
    write(
        source,
        {
            "empty": b"",
            "small": b"x",
            "deep/a/b/c/d": b"deep",
            nfc: b"composed",
            nfd: b"decomposed",
            "name with spaces; and $(signs)": b"odd",
            "large": noise(5 * MIB + 17),
            "same": noise(5 * MIB + 17),
            ".hidden": b"hidden",
            "tool": b"#!/bin/sh\n",
        },
    )
    (source / "tool").chmod(0o755)
    (source / "hollow" / "inside").mkdir(parents=True)
    (source / "link").symlink_to("deep/a")
    (source / "dangling").symlink_to("nowhere")
    (source / "deep" / "up").symlink_to("../small")
    with open(source / "sparse", "wb") as sparse:
        sparse.truncate(64 * MIB)
        sparse.seek(30 * MIB)
        sparse.write(b"island")
    target = tmp_path / "target"
    copy = rh.folder(source).to("beta", str(target))
    assert tree(target) == tree(source)
    assert (copy.path, copy.system) == (str(target), "beta")
    assert copy.last and copy.last.skipped == {} and copy.last.conflicts == []
    # The second of the two that are the same, and the holes, did not travel.
    assert 5 * MIB < copy.last.moved < 8 * MIB
    assert (target / "sparse").stat().st_blocks * 512 < 4 * MIB
    again = rh.folder(source).to("beta", str(target)).last
    assert again and (again.written, again.removed, again.moved) == (0, 0, 0)


def test_many_files_far_down_arrive(mesh: Mesh, source: Path, tmp_path: Path) -> None:
    # More than a thousand bytes of path for each: more than one question for all has room for.
    deep = "/".join(["d" * 240] * 5)
    write(source, {f"{deep}/f{n}": noise(10, n) for n in range(300)})
    done = rh.folder(source).to("beta", str(tmp_path / "target")).last
    assert done and (done.written, done.skipped) == (300, {})
    assert tree(tmp_path / "target") == tree(source)


def test_only_what_changed_travels(mesh: Mesh, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    files = {f"d{n % 7}/f{n}": noise(100, n) for n in range(300)}
    write(source, {**files, "large": noise(8 * MIB)})
    folder = rh.folder(source)
    folder.to("beta", str(target))
    write(source, {"d1/f1": b"changed", "new": b"new"})
    (source / "d2" / "f2").unlink()
    os.renames(source / "d3" / "f3", source / "moved" / "f3")
    with open(source / "large", "r+b") as large:
        large.seek(3 * MIB)
        large.write(b"in place")
    done = folder.to("beta", str(target)).last
    assert tree(target) == tree(source)
    assert done and (done.written, done.removed) == (4, 2)
    assert done.moved == MIB + len(b"changednew"), "one piece of the large one, none of the moved"


def test_paths_below_home_mean_the_same_each_time(fresh: Fresh, tmp_path: Path) -> None:
    homes = [tmp_path / name for name in ("near", "far")]
    for home in homes:
        fresh(home.name, HOME=str(home))
    write(homes[0] / "data", {"a": b"1", "b": b"1"})
    copy = rh.folder("~/data", system="near").to("far", "~/data")
    assert copy.path == str(homes[1] / "data")
    write(homes[0] / "data", {"a": b"changed here"})
    write(homes[1] / "data", {"b": b"changed there"})
    (_, here) = copy.sync()
    # What both had in common is found again under the full names: there is no conflict.
    assert here.conflicts == [] and tree(homes[0] / "data") == tree(homes[1] / "data")
    assert set(tree(homes[0] / "data")) == {"a", "b"}


def test_what_does_not_travel_is_named(mesh: Mesh, source: Path, tmp_path: Path) -> None:
    write(source, {"Readme": b"1", "README": b"2", "fine": b""})
    os.mkfifo(source / "pipe")
    (source / "out").symlink_to("/etc/passwd")
    (source / "up").symlink_to("../..")
    with open(os.path.join(os.fsencode(source), b"latin-\xe9"), "wb"):
        pass
    target = tmp_path / "target"
    done = rh.folder(source).to("beta", str(target)).last
    assert done
    assert "only in case" in done.skipped["Readme"], "both came, as this file system can"
    assert "no file" in done.skipped["pipe"]
    assert "out of the folder" in done.skipped["out"] and "up" in done.skipped
    assert any(name.startswith("latin-") for name in done.skipped)
    assert set(tree(target)) == {"Readme", "README", "fine"}


def test_a_change_on_both_sides_loses_neither(mesh: Mesh, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    write(source, {name: b"old" for name in ("both.txt", "here", "there", "gone", "deleted/x")})
    folder = rh.folder(source)
    copy = folder.to("beta", str(target))
    write(source, {"both.txt": b"here", "here": b"here", "gone": b"edited here"})
    (source / "deleted" / "x").unlink()
    write(target, {"both.txt": b"there", "there": b"there", "new": b"new", "deleted/x": b"edited"})
    (target / "gone").unlink()
    there, _ = copy.sync()
    assert tree(source) == tree(target)
    assert len(there.conflicts) == 1 and there.conflicts[0].startswith("both.conflict-beta-")
    assert (source / there.conflicts[0]).read_bytes() == b"there"
    assert [(source / n).read_bytes() for n in ("both.txt", "here", "there")] == [
        b"here",
        b"here",
        b"there",
    ]
    assert (source / "new").read_bytes() == b"new"
    # What one removed and the other changed stays.
    assert (source / "gone").read_bytes() == b"edited here"
    assert (target / "deleted" / "x").read_bytes() == b"edited"
    # What one removed and the other left alone goes, on both.
    (target / "here").unlink()
    copy.sync()
    assert not (source / "here").exists()
    # The same file made anew is a new one.
    (source / "here").write_bytes(b"here")
    folder.sync()
    assert (target / "here").read_bytes() == b"here" and tree(source) == tree(target)


def test_a_file_in_place_of_a_folder_and_back(mesh: Mesh, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    write(source, {"x/a": b"a", "y": b"y"})
    folder = rh.folder(source)
    folder.to("beta", str(target))
    write(target, {"x/mine": b"mine"})
    (source / "x" / "a").unlink()
    (source / "x").rmdir()
    (source / "y").unlink()
    write(source, {"x": b"a file now", "y/b": b"a folder now"})
    done = folder.to("beta", str(target)).last
    assert (target / "x").read_bytes() == b"a file now"
    assert (target / "y" / "b").read_bytes() == b"a folder now"
    assert done and [(target / name).read_bytes() for name in done.conflicts] == [b"mine"]


def test_it_is_kept_alike_while_it_is_watched(mesh: Mesh, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    write(source, {"a": b"1"})
    folder = rh.folder(source)
    folder.to("beta", str(target))
    with folder.sync(watch=True) as watch:
        write(source, {"sub/new": b"here"})
        arrived = lambda _: (target / "sub" / "new").exists()  # noqa: E731
        assert watch.wait(arrived, 30)
        write(target, {"sub/back": b"there"})
        assert watch.wait(lambda _: (source / "sub" / "back").exists(), 30)
        (source / "a").unlink()
        assert watch.wait(lambda _: not (target / "a").exists(), 30)
    # It may end in the middle of a look, of which nothing stays behind.
    until(lambda: tree(source) == tree(target), "both are alike")
    assert any(done.written for done in watch.synced)


def test_nodes_pass_it_on_without_the_one_who_asks(
    fresh: Fresh, tmp_path: Path, source: Path
) -> None:
    write(source, {"a": noise(3 * MIB)})
    near = fresh("one")
    fresh("two")
    fresh("three")
    there = rh.folder(str(source), system="two")
    copy = there.to("three", str(tmp_path / "target"))
    assert tree(tmp_path / "target") == tree(source)
    assert copy.last and copy.last.moved == 3 * MIB
    assert copy.ls() == ["a"] and near.name == "one"


def test_a_folder_is_used_where_it_is(mesh: Mesh, tmp_path: Path) -> None:
    folder = rh.folder(str(tmp_path / "made"), system="beta")
    assert not folder.exists_in_system()
    folder.mkdir()
    folder.put({"a.txt": "text", "deep/b": b"bytes"})
    assert folder.ls() == ["a.txt", "deep"]
    assert folder.ls(full_paths=True)[0] == f"{folder.path}/a.txt"
    assert folder.get("deep/b") == b"bytes"
    with folder.open("a.txt", "r") as file:
        assert file.read() == "text"
    with folder.open("a.txt", "wb") as file:
        file.write(b"other")
    assert (tmp_path / "made" / "a.txt").read_bytes() == b"other"
    folder.rm("deep/b")
    assert not (tmp_path / "made" / "deep" / "b").exists()
    folder.mv(str(tmp_path / "moved"))
    assert folder.get("a.txt") == b"other"
    with pytest.raises(rh.Conflict, match="there already"):
        (tmp_path / "taken").mkdir()
        folder.mv(str(tmp_path / "taken"))
    folder.rm()
    assert not folder.exists_in_system()
    with pytest.raises(rh.NotFound, match="no folder"):
        folder.ls()


def test_a_function_gets_a_folder_that_is_there(mesh: Mesh, source: Path) -> None:
    write(source, {"part-1": b"1", "part-2": b"22"})

    def total(folder: rh.Folder) -> int:
        import os

        return sum(os.path.getsize(os.path.join(folder.path, name)) for name in folder.ls())

    copy = rh.folder(source).to("beta")
    assert "/folders/source-" in copy.path
    assert rh.function(total).to("beta")(copy) == 3
    assert rh.folder(source).to("beta").path == copy.path, "the same place each time"


def test_many_files_of_a_folder_are_read_where_they_are(mesh: Mesh, source: Path) -> None:
    """Not by way of the store, but for those whose hashes the record of the call names."""
    count = 80
    write(source, {f"{n:02}": f"content {n}".encode() for n in range(count)})

    def read(folder: rh.Folder, name: str) -> tuple[list[bytes], list[str]]:
        import rhd as rh

        both = [folder.get(one) + folder.open(one).read() for one in folder.ls()]
        rh.blob(b"made", name=name)
        return both, [folder.open(one, "r").name for one in folder.ls()[-2:]]

    copy = rh.folder(source).to("beta")
    both, opened = rh.function(read).to("beta")(copy, name := "made-of-many-files")
    assert both == [f"content {n}".encode() * 2 for n in range(count)]
    assert opened == [f"{copy.path}/{n}" for n in (78, 79)], "the very files"
    (made,) = rh.load(name).history()
    assert len(made.inputs) == MAX_INPUTS and made.more_inputs

    here = rh.folder(source)
    assert here.get("00") == b"content 0" and here.open("01").name == str(source / "01")
    with pytest.raises(rh.NotFound):
        here.get("99")


@pytest.mark.parametrize("bad", ["../x", "/etc/passwd", "a/../../x", "", "a//b"])
def test_names_that_lead_out_are_refused(mesh: Mesh, tmp_path: Path, bad: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "x").write_text("outside")
    folder = rh.folder(str(tmp_path / "in"), system="beta")
    for use in (folder.get, folder.rm, lambda name: folder.put({name: b""})):
        with pytest.raises(rh.RhdError):
            use(bad)
    assert (tmp_path / "x").read_text() == "outside" and (tmp_path / "in").is_dir()


def test_places_that_make_no_sense_are_refused(mesh: Mesh, tmp_path: Path) -> None:
    with pytest.raises(rh.RhdError, match="absolute"):
        rh.folder("relative", system="beta").ls()
    with pytest.raises(rh.NotFound, match="no folder"):
        rh.folder(tmp_path / "missing").to("beta", str(tmp_path / "x"))
    assert not (tmp_path / "x" / "y").exists()
    with pytest.raises(rh.RhdError, match="has no copy"):
        rh.folder(tmp_path).sync()
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(rh.RhdError, match="one in the other"):
        rh.folder(tmp_path / "a").to("here", str(tmp_path / "a" / "b"))
