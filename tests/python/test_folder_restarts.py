"""Folders when daemons start again: what has not changed is not read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import rhd as rh
from conftest import Node, until
from test_folders import noise, tree, write

MIB = 1 << 20
LARGE = 40 * MIB

Fresh = Callable[..., Node]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/io").exists(), reason="nothing counts what a process reads"
)


def kept(node: Node) -> int:
    """Bytes that a node keeps of what it knows of files."""
    return sum(path.stat().st_size for path in (node.home / "hashes").iterdir())


def bytes_read(node: Node) -> int:
    """What a node has read since it started, see proc_pid_io(5)."""
    assert node.process
    said = Path("/proc", str(node.process.pid), "io").read_text()
    return int(said.partition("rchar: ")[2].split()[0])


@pytest.mark.parametrize("end", [Node.stop, Node.kill])
def test_only_what_changed_is_read(
    fresh: Fresh, tmp_path: Path, end: Callable[[Node], None]
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    write(source, {f"small/{n}": noise(1000, n) for n in range(100)})
    write(source, {"large": noise(LARGE), "changes": b"old"})
    near, far = nodes = (fresh("near"), fresh("far"))

    def again() -> tuple[rh.Synced, list[int]]:
        """Brings it there, and says what both nodes read for it."""
        before = [bytes_read(node) for node in nodes]
        done = rh.folder(source).to("far", str(target)).last
        assert done and (done.removed, done.skipped, done.conflicts) == (0, {}, [])
        assert tree(source) == tree(target)
        return done, [bytes_read(node) - was for node, was in zip(nodes, before, strict=True)]

    again()
    # What was written just now is known by a look some moments later.
    until(lambda: max(again()[1]) < LARGE / 2, "all is known")
    for node in nodes:
        until(lambda node=node: kept(node) > 102 * 96, f"{node.name} keeps what it knows")
        end(node)
    write(source, {"changes": b"new"})
    for node in nodes:
        node.up()
    until(lambda: near._linked(far), "they are linked again")
    done, read = again()
    assert done.written == 1 and all(some < LARGE / 2 for some in read), read
    # What is damaged is as if it was not there.
    end(near)
    for path in (near.home / "hashes").iterdir():
        whole = path.read_bytes()
        path.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    near.up()
    until(lambda: near._linked(far), "they are linked again")
    done, read = again()
    assert done.written == 0 and read[0] >= LARGE > LARGE / 2 > read[1], read
