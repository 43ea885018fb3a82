"""Folders when nodes die, disks fill up, and there is far more than usual."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rhd as rh
from conftest import Node, until
from test_folders import noise, tree, write
from test_limits import fill, tight

MIB = 1 << 20
KILLS = int(os.environ.get("RHD_KILLS", "5"))
"""How often a node is killed under a transfer."""

Fresh = Callable[..., Node]

assert tight


@pytest.mark.parametrize("victim", ["source", "target"])
def test_a_node_that_is_killed_under_way_leaves_no_half(
    fresh: Fresh, tmp_path: Path, victim: str
) -> None:
    near, far = fresh("near"), fresh("far")
    files = {f"d{n % 5}/f{n}": noise(3000 + n, n) for n in range(400)}
    files["large"] = noise(48 * MIB)
    source, target = tmp_path / "source", tmp_path / "target"
    write(source, files)
    killed = {"source": near, "target": far}[victim]
    at = random.Random(victim)
    for _ in range(KILLS):
        thread = threading.Thread(target=attempt, args=(source, target))
        thread.start()
        # Anywhere between the first question and the last piece.
        thread.join(at.random() * 0.4)
        killed.kill()
        thread.join(60)
        assert not thread.is_alive()
        for name, content in placed(target):
            assert content == files[name], f"{name} is half there"
        killed.up()
        until(lambda: near._linked(far), "they are linked again")
    done = rh.folder(source).to("far", str(target)).last
    assert done and done.conflicts == [] and done.skipped == {}
    assert tree(target) == tree(source), "and nothing is left of what was under way"


def placed(root: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a folder but for those on their way: a living node may be clearing these."""
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if not name.startswith(".rhd-sync")]
        for path in (Path(folder, name) for name in names):
            yield str(path.relative_to(root)), path.read_bytes()


def attempt(source: Path, target: Path) -> None:
    with contextlib.suppress(rh.RhdError):
        rh.folder(source).to("far", str(target))


def test_a_disk_that_fills_up_is_told_and_what_came_stays(
    tight: Callable[[str, int], tuple[Node, Path]], tmp_path: Path
) -> None:
    node, disk = tight("small", 24)
    files = {f"f{n}": noise(MIB // 2, n) for n in range(4)} | {"large": noise(16 * MIB)}
    write(tmp_path / "source", files)
    # As the node sees it; from here it is below the node's root.
    target = str(node.home / "small" / "target")
    filler = disk / "filler"
    with open(filler, "wb") as out:
        out.write(b"x" * 12 * MIB)
    folder = rh.folder(tmp_path / "source")
    with pytest.raises(rh.QueueFull, match=r"[Nn]o space") as caught:
        folder.to("here", target)
    assert "free some space" in caught.value.hint
    seen = {p.name for p in (disk / "target").iterdir() if p.name != ".rhd-sync"}
    assert "large" not in seen
    assert all((disk / "target" / name).read_bytes() == files[name] for name in seen)
    filler.unlink()
    done = folder.to("here", target).last
    assert done and done.moved < 16 * MIB, "what had come of the large one is used"
    assert tree(disk / "target") == tree(tmp_path / "source")
    assert fill and node


def test_a_sparse_file_of_20_gib_takes_no_room(fresh: Fresh, tmp_path: Path) -> None:
    fresh("near")
    far = fresh("far")
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    with open(source / "disk.img", "wb") as image:
        image.truncate(20 << 30)
        image.seek(7 << 30)
        image.write(b"an island")
    done = rh.folder(source).to("far", str(target)).last
    copied = (target / "disk.img").stat()
    assert copied.st_size == 20 << 30 and copied.st_blocks * 512 < 8 * MIB
    with open(target / "disk.img", "rb") as image:
        image.seek(7 << 30)
        assert image.read(12) == b"an island\0\0\0"
    assert done and done.moved <= 2 * MIB
    assert (far.status() or {})["rss"] < 200 * MIB


def test_many_small_files_come_within_bounded_memory(fresh: Fresh, tmp_path: Path) -> None:
    fresh("near")
    far = fresh("far")
    count = int(os.environ.get("RHD_SMALL_FILES", "20000"))
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in range(count // 1000):
        (source / str(folder)).mkdir(parents=True)
        for n in range(1000):
            (source / str(folder) / str(n)).write_bytes(b"%d %d" % (folder, n))
    done = rh.folder(source).to("far", str(target)).last
    assert done and done.written == count and done.skipped == {}
    assert tree(target) == tree(source)
    again = rh.folder(source).to("far", str(target)).last
    assert again and again.written == 0
    assert (far.status() or {})["rss"] < 200 * MIB
    shutil.rmtree(source)
    shutil.rmtree(target)
