"""Blobs: content by hash and name, read and moved between real daemons."""

from __future__ import annotations

import hashlib
import os
import random

import numpy as np
import pytest
import rhd as rh
from conftest import Node
from rhd import data

MIB = 1 << 20


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def test_bytes_and_objects_come_back(mesh: tuple[Node, Node]) -> None:
    for size in (0, 1, 1024, 16 * 1024, 16 * 1024 + 1, 300 * 1024, 5 * MIB + 7):
        content = noise(size, size)
        blob = rh.blob(content)
        assert (blob.size, blob.fetch()) == (size, content)
    array = np.arange(200_000).reshape(2, -1)
    blob = rh.blob({"a": array, "b": [1, "x"]})
    fetched = blob.fetch()
    assert (fetched["a"] == array).all() and fetched["b"] == [1, "x"]


def test_equal_content_is_one_blob(mesh: tuple[Node, Node]) -> None:
    content = noise(3 * MIB, 1)
    first, second = rh.blob(content), rh.blob(bytearray(content))
    assert first.hash == second.hash
    listed = [one for one in data._ask(None, "list") if one["content"]["hash"] == first.hash]
    assert len(listed) == 1


def test_a_blob_goes_to_a_node_and_is_there(mesh: tuple[Node, Node]) -> None:
    content = noise(3 * MIB, 2)
    here = rh.blob(content, name="moved")
    assert data.have([here.hash], "beta") == [None]
    there = here.to("beta")
    assert (there.system, there.name) == ("beta", "/ann/moved")
    assert data.have([here.hash], "beta") == [len(content)]
    assert there.exists_in_system() and there.fetch() == content
    assert rh.load("moved").fetch() == content


def test_content_put_on_a_node_is_found_by_name_from_here(mesh: tuple[Node, Node]) -> None:
    there = rh.blob({"x": 1}, name="far-away", system="beta")
    assert there.system == "beta"
    found = rh.blob(name="far-away")
    assert found.system == "beta" and found.fetch() == {"x": 1}
    assert rh.exists("far-away") and not rh.exists("nowhere-at-all")


def test_writing_makes_a_version_and_rm_takes_the_name(mesh: tuple[Node, Node]) -> None:
    blob = rh.blob(b"one", name="versions")
    blob.write(b"two")
    assert rh.load("versions").fetch() == b"two"
    listed = [one for one in data._ask(None, "list") if one.get("name") == "/ann/versions"]
    assert [one["versions"] for one in listed] == [2]
    blob.rm()
    with pytest.raises(rh.NotFound):
        rh.blob(name="versions")


def test_a_file_fetches_only_what_is_read(mesh: tuple[Node, Node], tmp_path) -> None:
    content = noise(24 * MIB, 3)
    (tmp_path / "noise").write_bytes(content)
    there = rh.blob(path=str(tmp_path / "noise"), system="beta")
    with there.open() as file:
        file.seek(20 * MIB)
        assert file.read(1000) == content[20 * MIB :][:1000]
        assert data.have([there.hash], None) == [None]
        file.seek(-10, os.SEEK_END)
        assert file.read() == content[-10:]
        file.seek(0)
        assert hashlib.sha256(file.read()).digest() == hashlib.sha256(content).digest()


def test_text_is_written_and_read_by_lines(mesh: tuple[Node, Node]) -> None:
    blob = rh.blob(b"", name="lines")
    with blob.open("w") as file:
        file.write("äpfel\nbirnen\n")
    with rh.load("lines").open("r") as file:
        assert list(file) == ["äpfel\n", "birnen\n"]
    with pytest.raises(ZeroDivisionError), blob.open("wb") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert rh.load("lines").fetch() == "äpfel\nbirnen\n".encode()


def test_a_blob_travels_as_an_argument_and_is_read_there(mesh: tuple[Node, Node]) -> None:
    def total(numbers: rh.Blob) -> int:
        return int(numbers.fetch().sum())

    blob = rh.blob(np.arange(100_000))
    assert rh.function(total).to("beta")(blob) == sum(range(100_000))


def test_what_nobody_has_is_not_found(mesh: tuple[Node, Node]) -> None:
    with pytest.raises(rh.NotFound, match="no node that can be reached"):
        rh.blob(name="a" * 52)
    held = rh.blob(b"held")
    lost = {**held._content(), "hash": rh.blob(b"other").hash[::-1][:51] + "a", "size": 5}
    with pytest.raises(rh.NotFound, match="no node that can be reached has blob"):
        data.fetch(lost, None, [], None)


def test_a_wrong_size_is_said(mesh: tuple[Node, Node]) -> None:
    content = noise(MIB, 4)
    there = rh.blob(content, system="beta")
    for claimed in (len(content) - 1, len(content) + 1):
        with pytest.raises(rh.RhdError, match="bytes, not"):
            data.fetch({**there._content(), "size": claimed}, None, [], "alpha")


def test_progress_comes_as_events_and_is_no_noise(mesh: tuple[Node, Node], capfd) -> None:
    blob = rh.blob(noise(64 * MIB, 5))
    told: list[dict] = []
    blob.to("beta", progress=told.append)
    assert all(0 <= one["done"] <= one["total"] == 64 * MIB for one in told)
    assert [one["done"] for one in told] == sorted(one["done"] for one in told)
    rh.blob(noise(48 * MIB, 9)).to("beta")
    assert capfd.readouterr().err == "", "progress is for terminals"


def test_the_command_line_puts_lists_moves_and_gets(mesh: tuple[Node, Node], tmp_path) -> None:
    alpha, beta = mesh
    content = noise(2 * MIB, 6)
    source, target = tmp_path / "source.bin", tmp_path / "target.bin"
    source.write_bytes(content)
    digest = alpha.cli("blob", "put", str(source), "--name", "cli-file")
    assert alpha.cli("blob", "to", "cli-file", "beta") == digest
    assert "/ann/cli-file" in beta.cli("blob", "ls")
    beta.cli("blob", "get", "cli-file", "-o", str(target))
    assert target.read_bytes() == content
    beta.cli("blob", "rm", "cli-file")
    assert "cli-file" not in beta.cli("blob", "ls")
    assert "would remove" in beta.cli("blob", "gc", "--dry-run")
    assert digest in beta.cli("blob", "ls")
    assert "removed" in beta.cli("blob", "gc")
    assert digest not in beta.cli("blob", "ls")
    assert " 0 damaged" in alpha.cli("blob", "verify")


def test_many_small_reads_of_a_part_are_cheap(mesh: tuple[Node, Node], tmp_path) -> None:
    content = noise(4 * MIB, 8)
    (tmp_path / "noise").write_bytes(content)
    there = rh.blob(path=str(tmp_path / "noise"), system="beta")
    with there.open() as file:
        for at in range(0, 2 * MIB, 16 * 1024):
            file.seek(at)
            assert file.raw.read(100) == content[at : at + 100]
