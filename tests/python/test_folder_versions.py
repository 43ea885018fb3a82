"""Versions of folders: saved, listed, rolled back and collected on the node that holds them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import Node
from rhd import data


def tree(root: Path) -> dict[str, Any]:
    """What is in a folder: bytes and whether they may be executed, or where a link goes."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = (path.read_bytes(), os.access(path, os.X_OK))
        elif not any(path.iterdir()):
            found[name] = "empty"
    return found


def fill(root: Path) -> None:
    """A folder with something of each kind."""
    (root / "sub").mkdir(parents=True)
    (root / "void").mkdir()
    (root / "a.txt").write_text("one")
    (root / "none").write_bytes(b"")
    (root / "sub" / "large").write_bytes(os.urandom(3 << 20))
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("sub/large")
    (root / ".rhdignore").write_text("*.log\n")
    (root / "x.log").write_text("not kept")


def stored(node: Node) -> int:
    """Bytes that the store of a node holds."""
    said = json.loads(node.cli("blob", "gc", "--dry-run", "--json"))
    return int(said["bytes"]) + int(said["kept_bytes"])


def collect(node: Node) -> None:
    node.cli("blob", "gc")


def test_a_folder_is_saved_and_rolled_back(mesh: tuple[Node, Node], tmp_path: Path) -> None:
    root = tmp_path / "set"
    fill(root)
    folder = rh.folder(root).save("f/set")
    first, was = folder.hash, tree(root)
    assert folder.name == "/ann/f/set" and folder.skipped == {}
    # The same again is no other version, wherever it is saved from.
    assert len(rh.folder(root).save("f/set").history()) == 1
    (root / "a.txt").write_text("two")
    (root / "run.sh").chmod(0o644)
    (root / "link").unlink()
    (root / "link").symlink_to("a.txt")
    (root / "sub" / "large").unlink()
    (root / "new").mkdir()
    (root / "new" / "x").write_text("new")
    folder.save()
    second, then = folder.hash, tree(root)
    newest, oldest = folder.history()
    assert (newest.number, newest.hash, oldest.number, oldest.hash) == (2, second, 1, first)
    assert (newest.kind, newest.author, newest.path) == ("folder", "alpha", str(root))
    assert newest.size == sum(len(x[0]) for x in then.values() if isinstance(x, tuple)) - 8
    # What was not saved is a version before it goes; what is ignored is left alone.
    (root / "a.txt").write_text("unsaved")
    (root / "y.log").write_text("ignored")
    unsaved = {**tree(root), "y.log": (b"ignored", False)}
    folder.rollback(1)
    assert tree(root) == {**was, "y.log": (b"ignored", False)}
    assert [(one.number, one.restored) for one in folder.history()] == [
        (4, 1),
        (3, None),
        (2, None),
        (1, None),
    ]
    assert folder.hash == first
    folder.rollback(3)
    assert tree(root) == unsaved
    folder.rollback(2)
    assert tree(root) == {**then, "y.log": (b"ignored", False)}
    # All of it was saved: nothing more was.
    assert len(folder.history()) == 6


def test_a_folder_that_is_gone_comes_back(mesh: tuple[Node, Node], tmp_path: Path) -> None:
    root = tmp_path / "gone"
    fill(root)
    (root / "x.log").unlink()
    folder, was = rh.folder(root).save("f/gone"), tree(root)
    folder.rm()
    assert not root.exists()
    folder.rollback(1)
    assert tree(root) == was
    assert len(folder.history()) == 1


def test_versions_survive_collections_and_kill_and_go_with_the_name(
    fresh: Callable[..., Node], tmp_path: Path
) -> None:
    node = fresh("kept", RHD_DATA_KEEP_SECS="0", RHD_DATA_KEEP_VERSIONS="3")
    root = tmp_path / "kept"
    fill(root)
    folder = rh.folder(root).save("kept")
    size = stored(node)
    # Only what changed is stored again, and a list of the files.
    (root / "a.txt").write_text("another")
    folder.save()
    assert size < stored(node) < size + 10_000
    was = tree(root)
    collect(node)
    node.kill()
    node.up()
    collect(node)
    (root / "sub" / "large").unlink()
    folder.save()
    collect(node)
    folder.rollback(2)
    assert tree(root) == was
    assert [one.number for one in folder.history()] == [4, 3, 2], "three are kept"
    # The first version's own file is gone, what others need is not.
    verified = json.loads(node.cli("blob", "verify", "--json"))
    assert verified["damaged"] == [] and verified["bytes"] > 3 << 20
    collect(node)
    node.kill()
    node.up()
    collect(node)
    folder.rollback(3)
    folder.rollback(4)
    assert tree(root) == was
    folder.delete()
    collect(node)
    assert stored(node) == 0
    assert tree(root) == was, "what is on disk stays"
    with pytest.raises(rh.NotFound):
        rh.folder(root, name="kept").history()


def test_a_node_keeps_versions_of_its_own_folders(mesh: tuple[Node, Node], tmp_path: Path) -> None:
    root = tmp_path / "far"
    fill(root)
    folder = rh.folder(str(root), system="beta").save("f/far")
    was = tree(root)
    (root / "a.txt").write_text("changed")
    folder.save()
    folder.rollback(1)
    assert tree(root) == was
    history = folder.history()
    assert [one.number for one in history] == [3, 2, 1]
    assert {one.author for one in history} == {"alpha"}
    assert data.find("f/far", None)["node"] == "beta"


def test_what_was_saved_is_loaded_by_its_name_anywhere(
    mesh: tuple[Node, Node], tmp_path: Path
) -> None:
    for name, system in (("l/here", "file"), ("l/beta", "beta")):
        root = tmp_path / name
        fill(root)
        saved = rh.folder(str(root), system=system).save(name)
        for one in (rh.load(name), rh.folder(name=name)):
            assert isinstance(one, rh.Folder)
            assert (one.path, one.name, one.hash) == (str(root), saved.name, saved.hash)
            assert one.system == ("alpha" if system == "file" else system)
            assert one.get("a.txt") == b"one" and len(one.history()) == 1
        assert rh.exists(name) and f"/ann/{name}" in rh.ls("l")
        copy = rh.load(name).to("here", str(tmp_path / f"{name}-copy"))
        assert (tmp_path / f"{name}-copy" / "link").is_symlink() and copy.name == saved.name
        # Gone from its place, it is still what was saved.
        shutil.rmtree(root)
        again = rh.load(name).to("beta", str(tmp_path / f"{name}-again"))
        assert (tmp_path / f"{name}-again" / "run.sh").stat().st_mode & 0o100
        assert again.get("a.txt") == b"one" and len(moved_history := rh.load(name).history()) == 1
        assert moved_history[0].path == str(root) and root.exists()
        # It may have another name, under which it is found.
        moved = rh.load(name).rename(f"{name}-2")
        assert not rh.exists(name) and rh.load(f"{name}-2").hash == moved.hash
        with pytest.raises(rh.RhdError, match="is a folder"):
            rh.blob(name=f"{name}-2")
        # What it was made from may be a folder, by its name or itself.
        made = [rh.blob(b"m", name=f"{name}-m", inputs=[i]) for i in (f"{name}-2", moved)]
        for one in made:
            assert one.history()[0].inputs == (f"/ann/{name}-2@{saved.hash}",)
        moved.delete()
        assert not rh.exists(f"{name}-2") and root.exists()
    # Without one that was saved it is a new one, wherever it will be.
    assert rh.folder(name="l/new").path.endswith("/rhd/l/new")


def test_a_version_says_which_run_made_it(mesh: tuple[Node, Node], tmp_path: Path) -> None:
    source = rh.blob(b"words", name="f/source")

    def fold(name: str, path: str) -> str:
        import rhd

        words = rhd.load(name).fetch()
        return str(rhd.folder(path).mkdir().put({"out.txt": words}).save("f/made").hash)

    made = rh.function(fold, name="f/fold").to("alpha")("f/source", str(tmp_path / "made"))
    found = rh.folder(tmp_path / "made", name="f/made")
    (version,) = found.history()
    assert version.hash == made and version.run is not None
    assert version.service == "/ann/f/fold"
    assert version.inputs == (f"/ann/f/source@{source.hash}",)
    lineage = found.lineage()
    assert [one.name for one in lineage.inputs] == ["/ann/f/source"]


def test_what_can_not_be_a_version_is_refused(mesh: tuple[Node, Node], tmp_path: Path) -> None:
    root = tmp_path / "refused"
    root.mkdir()
    with pytest.raises(TypeError, match="name"):
        rh.folder(root).save()
    with pytest.raises(rh.NotFound, match="no folder"):
        rh.folder(tmp_path / "missing").save("f/missing")
    with pytest.raises(rh.RhdError, match="object store"):
        rh.folder("bucket/x", system="s3").save("f/s3")
    with pytest.raises(rh.RhdError, match="keeps versions in"):
        rh.folder(mesh[0].home).save("f/home")
    rh.blob(b"x", name="f/blob")
    with pytest.raises(rh.RhdError, match="is the name of a blob"):
        rh.folder(root).save("f/blob")
    rh.folder(root).save("f/folder")
    with pytest.raises(rh.RhdError, match="is the name of a folder"):
        rh.blob(b"x", name="f/folder")
    with pytest.raises(rh.NotFound, match="no version 7"):
        rh.folder(root, name="f/folder").rollback(7)
    # What doesn't travel is said.
    (root / "out").symlink_to("/etc")
    assert list(rh.folder(root).save("f/folder").skipped) == ["out"]


def test_the_command_line_saves_lists_and_rolls_back(
    mesh: tuple[Node, Node], tmp_path: Path
) -> None:
    alpha, beta = mesh
    root = tmp_path / "cli"
    fill(root)
    was = tree(root)
    first = alpha.cli("folder", "save", f"beta:{root}", "f/cli")
    (root / "a.txt").write_text("another")
    said = json.loads(alpha.cli("folder", "save", f"beta:{root}", "f/cli", "--json"))
    assert (said["stored"], said["info"]["version"]) == (len("another"), 2)
    (row,) = (line for line in beta.cli("ls").splitlines() if "/ann/f/cli " in line)
    assert row.split()[1:3] == ["folder", "beta"]
    assert alpha.cli("history", "f/cli").count(" folder ") == 2
    shown = alpha.cli("show", "f/cli")
    assert str(root) in shown and "folder" in shown
    assert alpha.cli("rollback", "f/cli", "1") == first
    assert tree(root) == was
    there = tmp_path / "elsewhere"
    assert alpha.cli("rollback", "f/cli", "2", "--path", str(there)) != first
    assert (there / "a.txt").read_text() == "another"
    assert tree(root) == was
    assert alpha.cli("blob", "get", "f/cli", check=False) == "", "it is no blob"
    alpha.cli("rm", "f/cli")
    assert "/ann/f/cli" not in beta.cli("ls")
