"""What ignore files do: what they name stays behind, is not removed, nor replaced unseen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import rhd as rh
from conftest import Node
from test_folders import tree, write

Mesh = tuple[Node, Node]


def test_what_ignore_files_name_stays_behind(mesh: Mesh, source: Path, tmp_path: Path) -> None:
    write(
        source,
        {
            ".gitignore": b"*.tmp\n/build/\n",
            ".rhdignore": b"secret\n",
            "a.tmp": b"",
            "build/x": b"",
            "sub/build/x": b"kept",
            "sub/.gitignore": b"!wanted.tmp\n",
            "sub/wanted.tmp": b"kept",
            "secret": b"",
            ".git/config": b"",
        },
    )
    target = tmp_path / "target"
    rh.folder(source).to("beta", str(target))
    names = {name for name, what in tree(target).items() if what != "dir"}
    sub = {"sub/build/x", "sub/.gitignore", "sub/wanted.tmp"}
    assert names == {".gitignore", ".rhdignore", *sub}
    # Neither is what is ignored there removed, nor replaced unseen.
    write(target, {"a.tmp": b"theirs", "build/x": b"theirs"})
    (source / ".gitignore").write_bytes(b"")
    done = rh.folder(source).to("beta", str(target)).last
    assert done and len(done.conflicts) == 2, done
    assert {(target / name).read_bytes() for name in done.conflicts} == {b"theirs"}
    assert tree(source)["build/x"] == tree(target)["build/x"]


def test_what_becomes_ignored_stays_where_it_was_brought(
    mesh: Mesh, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    names = ("a.log", "both.log", "build/x", "sub/deep/n", "sub/kept", "gone", "kept")
    write(source, {name: name.encode() for name in names})
    folder = rh.folder(source)
    folder.to("beta", str(target))
    write(source, {".gitignore": b"*.log\n/build/\n", "sub/.gitignore": b"deep\n"})
    # Gone and ignored at once: nobody looks at it any more.
    for name in ("gone", "both.log"):
        (source / name).unlink()
    done = folder.to("beta", str(target)).last
    stays = ["a.log", "both.log", "build/x", "sub/deep/n"]
    assert done and (done.removed, done.kept, done.conflicts) == (1, stays, [])
    assert all((target / name).read_bytes() == name.encode() for name in stays)
    assert not (target / "gone").exists()
    (source / "a.log").write_bytes(b"changed where it is ignored")
    done = folder.to("beta", str(target)).last
    assert done and (done.removed, done.written) == (0, 0)
    assert (target / "a.log").read_bytes() == b"a.log"
    # What is wanted again comes; what is the same on both sides is no conflict.
    (source / ".gitignore").write_bytes(b"")
    done = folder.to("beta", str(target)).last
    assert done and len(done.conflicts) == 1, done
    assert (target / done.conflicts[0]).read_bytes() == b"a.log"
    assert (target / "a.log").read_bytes() == b"changed where it is ignored"
    done = folder.to("beta", str(target)).last
    assert done and (done.written, done.removed, done.conflicts) == (0, 0, [])


def test_what_one_side_ignores_takes_no_part_in_a_sync(
    mesh: Mesh, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    write(source, {"a.log": b"1", "b.log": b"1", "fine": b"1"})
    folder = rh.folder(source)
    copy = folder.to("beta", str(target))
    for ignoring, other in ((source, target), (target, source)):
        # An ignore file that does not travel, as it names itself.
        write(ignoring, {".rhdignore": b"*.log\n.rhdignore\n", "a.log": b"changed there"})
        write(other, {"a.log": b"and here", "new.log": b"new"})
        (other / "b.log").unlink(missing_ok=True)
        before = {root: tree(root) for root in (ignoring, other)}
        for _ in range(3):
            assert all(
                (done.written, done.removed, done.conflicts) == (0, 0, []) for done in copy.sync()
            )
        assert {root: tree(root) for root in (ignoring, other)} == before
        # Then it does again, at once.
        (ignoring / ".rhdignore").unlink()
        there, here = copy.sync()
        assert len(there.conflicts + here.conflicts) == 1
        copy.sync()
        assert tree(source) == tree(target)
        assert {"a.log", "b.log", "fine", "new.log"} <= set(tree(source))


def skip_a_pipe(_source: Path, target: Path) -> None:
    os.mkfifo(target / "pipe")


def skip_a_link(source: Path, target: Path) -> None:
    for root in (source, target):
        (root / "out").symlink_to("/etc/passwd")


def ignore_here(source: Path, target: Path) -> None:
    write(source, {".rhdignore": b"*.log\n.rhdignore\n", "a.log": b"here"})
    write(target, {"a.log": b"there", "new.log": b"there"})


def ignore_there(source: Path, target: Path) -> None:
    ignore_here(target, source)


@pytest.mark.parametrize("skip", [skip_a_pipe, skip_a_link, ignore_here, ignore_there])
def test_what_takes_no_part_leaves_the_rest_settled(
    mesh: Mesh, source: Path, tmp_path: Path, skip: Callable[[Path, Path], None]
) -> None:
    target = tmp_path / "target"
    write(source, {name: b"old" for name in ("a.txt", "b.txt", "a.log", "gone")})
    copy = rh.folder(source).to("beta", str(target))
    skip(source, target)
    logs = {root: [path.read_bytes() for path in root.glob("*.log")] for root in (source, target)}
    for turn in range(2):
        for one, other in ((source, target), (target, source)):
            said = f"{turn} {one.name}".encode()
            write(one, {"a.txt": said})
            write(other, {"b.txt": said})
            there, here = copy.sync()
            assert there.skipped or here.skipped
            assert there.conflicts + here.conflicts == []
            for root in (one, other):
                assert (root / "a.txt").read_bytes() == (root / "b.txt").read_bytes() == said
    # What came back was in common: it goes where it was left alone, and stays where it was not.
    (source / "a.txt").unlink()
    (source / "b.txt").unlink()
    write(target, {"b.txt": b"edited"})
    (target / "gone").unlink()
    copy.sync()
    for root in (source, target):
        assert not (root / "a.txt").exists() and not (root / "gone").exists()
        assert (root / "b.txt").read_bytes() == b"edited"
        assert [path.read_bytes() for path in root.glob("*.log")] == logs[root]


def test_an_ignore_file_that_comes_counts_at_once(mesh: Mesh, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    write(source, {".gitignore": b"*.log\n", "a.log": b"1", "fine": b"1"})
    copy = rh.folder(source).to("beta", str(target))
    copy.sync()
    (source / ".gitignore").write_bytes(b"")
    copy.sync()
    assert tree(source) == tree(target) and "a.log" in tree(target)


def test_what_the_target_ignores_is_replaced_but_not_unseen(
    mesh: Mesh, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    write(source, {"a.log": b"1", "sub/b.log": b"1", "link": b"1"})
    write(target, {".rhdignore": b"*.log\nlink\n"})
    folder = rh.folder(source)
    assert folder.to("beta", str(target)).last.written == 3
    again = folder.to("beta", str(target)).last
    assert (again.written, again.moved, again.conflicts) == (0, 0, []), "they are as they were"
    write(source, {"a.log": b"22", "sub/b.log": b"22"})
    write(target, {"sub/b.log": b"changed here"})
    done = folder.to("beta", str(target)).last
    assert (done.written, len(done.conflicts)) == (2, 1) and "b.conflict" in done.conflicts[0]
    assert (target / "a.log").read_bytes() == (target / "sub" / "b.log").read_bytes() == b"22"
    assert (target / done.conflicts[0]).read_bytes() == b"changed here"


def test_a_folder_that_is_named_is_not_ignored(mesh: Mesh, tmp_path: Path) -> None:
    write(tmp_path / "repo", {".gitignore": b"/data/\n*.csv\n", "data/a.csv": b"1", ".git/x": b""})
    rh.folder(tmp_path / "repo" / "data").to("beta", str(tmp_path / "target"))
    assert (tmp_path / "target" / "a.csv").read_bytes() == b"1"
