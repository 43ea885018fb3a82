"""Files of nodes' disks, between real daemons."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import rhd as rh
from conftest import Node

MIB = 1 << 20


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def test_a_file_is_copied_to_a_node_and_read_there(mesh: tuple[Node, Node], tmp_path: Path) -> None:
    content = noise(3 * MIB)
    (tmp_path / "source").write_bytes(content)
    here = rh.file(path=str(tmp_path / "source"))
    assert (here.fetch(), here.size, here.system) == (content, len(content), "alpha")
    there = here.to("beta", path=str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == content
    assert (there.system, there.hash) == ("beta", here.hash)
    with there.open() as file:
        file.seek(MIB)
        assert file.read(10) == content[MIB:][:10]


def test_a_file_is_always_as_it_is_now(mesh: tuple[Node, Node], tmp_path: Path) -> None:
    path = tmp_path / "changing"
    path.write_bytes(b"one")
    file = rh.file(path=str(path), system="beta")
    assert file.fetch() == b"one"
    path.write_bytes(b"two, longer")
    assert (file.fetch(), file.size) == (b"two, longer", 11)
    file.write(b"three")
    assert path.read_bytes() == b"three"
    with file.open("w") as text:
        text.write("four")
    assert path.read_bytes() == b"four"
    assert file.exists_in_system()
    file.rm()
    assert not path.exists() and not file.exists_in_system()
    with pytest.raises(rh.NotFound):
        file.fetch()


def test_a_named_file_is_found_as_it_was_saved(mesh: tuple[Node, Node], tmp_path: Path) -> None:
    path = tmp_path / "named"
    rh.file(b"kept", name="kept-file", path=str(path), system="beta")
    path.write_bytes(b"changed since")
    assert rh.load("kept-file").fetch() == b"kept"


def test_what_can_not_be_a_file_is_said(mesh: tuple[Node, Node], tmp_path: Path) -> None:
    with pytest.raises(rh.RhdError, match="absolute"):
        rh.file(path="relative", system="beta")
    with pytest.raises(rh.RhdError, match="no regular file"):
        rh.file(path=str(tmp_path), system="beta").fetch()
    with pytest.raises(rh.RhdError, match="no regular file"):
        rh.blob(path="/dev/zero")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(rh.RhdError, match="no regular file"):
        rh.blob(path=str(fifo))
    with pytest.raises(TypeError):
        rh.file(path=str(tmp_path / "x")).write("text")
    missing = tmp_path / "no" / "such" / "folder"
    with pytest.raises(rh.RhdError):
        rh.file(b"x", path=str(missing), system="beta")


def test_a_copy_that_fails_leaves_what_was_there(mesh: tuple[Node, Node], tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"before")
    lost = rh.blob(b"12345")._content() | {"hash": "a" * 52}
    from rhd import data

    with pytest.raises(rh.NotFound):
        data.give_file(lost, str(target), [], "beta")
    assert target.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
