"""Versions of data and what they were made from, as calls record it on real nodes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import rhd as rh
from conftest import BINARY, Node
from rhd import data, history
from rhd.origin import MAX_INPUTS


def hashes(blob: rh.Blob) -> list[str]:
    return [one.hash for one in blob.history()]


def test_every_write_is_a_version_that_says_who_saved_it(mesh: tuple[Node, Node]) -> None:
    blob = rh.blob(b"one", name="v/plain")
    first = blob.hash
    blob.write({"an": "object"})
    newest, oldest = blob.history()
    assert (newest.number, oldest.number) == (2, 1)
    assert (newest.hash, oldest.hash) == (blob.hash, first)
    assert newest.author == oldest.author == "alpha"
    assert newest.saved_at >= oldest.saved_at
    assert (newest.run, newest.inputs, newest.restored) == (None, (), None)
    assert blob.history(limit=1) == [newest]
    # The same again is no other version.
    blob.write({"an": "object"})
    assert len(blob.history()) == 2
    # Who saves it elsewhere is its author there.
    rh.blob(b"far", name="v/far", system="beta")
    assert [one.author for one in rh.load("v/far").history()] == ["alpha"]


def test_a_rollback_is_a_new_version_and_numbers_are_never_used_again(
    fresh: Callable[..., Node],
) -> None:
    node = fresh("few", RHD_DATA_KEEP_VERSIONS="3", RHD_DATA_KEEP_SECS="0")
    blob = rh.blob(b"0", name="few")
    for n in range(1, 4):
        blob.write(str(n).encode())
    assert [one.number for one in blob.history()] == [4, 3, 2]
    assert blob.rollback(2).fetch() == b"1" == rh.load("few").fetch()
    newest = blob.history()[0]
    assert (newest.number, newest.restored) == (5, 2)
    # To the newest: as it is.
    blob.rollback(5)
    assert [one.number for one in blob.history()] == [5, 4, 3]
    for gone in (1, 2, 6, 0):
        with pytest.raises(rh.NotFound, match=f"no version {gone} here; there are 3 to 5"):
            blob.rollback(gone)
    node.kill()
    node.up()
    blob = rh.load("few")
    assert [one.number for one in blob.history()] == [5, 4, 3]
    blob.write(b"9")
    assert [one.number for one in blob.history()] == [6, 5, 4]
    # What a kept version holds stays, the rest goes.
    node.cli("blob", "gc")
    kept = [one["content"]["hash"] for one in data._ask(None, "list")]
    assert kept == [blob.hash]
    assert all(data.have(hashes(blob), None)), "a kept version lost its content"
    lost = rh.blob(b"0").hash
    node.cli("blob", "gc")
    assert data.have([lost], None) == [None]


def test_a_call_is_recorded_with_what_it_read(mesh: tuple[Node, Node], where: str) -> None:
    left, right = rh.blob(b"left", name="v/left"), rh.blob(b"right")

    def fold(left: rh.Blob, right: rh.Blob, name: str) -> None:
        import rhd as rh

        rh.blob(b"before", name=f"{name}/before")
        text = left.fetch()
        with right.open() as file:
            text += file.read()
        rh.blob(text, name=f"{name}/after")
        unnamed = rh.blob(text + b"!")
        rh.blob(b"later").fetch()
        unnamed.save(f"{name}/saved")

    fn = rh.function(fold, name="fold").to(where)
    run = fn.run(left, right, f"v/{where}")
    run.result(timeout=60)
    before, after, saved = (
        rh.load(f"v/{where}/{one}").history()[0] for one in ("before", "after", "saved")
    )
    assert before.run == after.run == saved.run == run.id
    assert rh.run(after.run).service == after.service == "/ann/fold"
    assert before.inputs == ()
    assert after.inputs == (f"/ann/v/left@{left.hash}", right.hash) == saved.inputs
    assert after.author == ("alpha" if where == "here" else where)


def test_coroutines_threads_and_methods_are_recorded_each_for_itself(
    mesh: tuple[Node, Node], beta: str
) -> None:
    class Folder:
        def one(self, blob: rh.Blob, name: str) -> None:
            import rhd as rh

            rh.blob(blob.fetch() + b"1", name=name)

        async def other(self, blob: rh.Blob, name: str) -> None:
            import asyncio

            import rhd as rh

            read = await asyncio.to_thread(blob.fetch)
            await asyncio.sleep(0)
            rh.blob(read + b"2", name=name)

    folder = rh.module(Folder).to(beta)()
    blobs = [rh.blob(f"{n}".encode()) for n in range(6)]

    async def all_of_them() -> None:
        await asyncio.gather(
            *(folder.other.async_call(blob, f"v/a{n}") for n, blob in enumerate(blobs))
        )

    asyncio.run(all_of_them())
    for n, blob in enumerate(blobs):
        folder.one(blob, f"v/m{n}")
    runs = set()
    for n, blob in enumerate(blobs):
        for kind, method in (("a", "other"), ("m", "one")):
            (made,) = rh.load(f"v/{kind}{n}").history()
            assert made.inputs == (blob.hash,), (kind, n)
            assert made.service.endswith(f".{method}")
            runs.add(made.run)
    assert len(runs) == 2 * len(blobs)


def test_files_are_recorded_and_rolled_back(mesh: tuple[Node, Node], tmp_path, beta: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"1,2")

    def double(source: rh.File, target: str) -> None:
        import rhd as rh

        rh.file(source.fetch() * 2, name="v/doubled", path=target)

    file = rh.file(name="v/rows", path=str(path))
    rh.function(double).to(beta)(file, str(tmp_path / "doubled.csv"))
    (made,) = rh.load("v/doubled").history()
    assert made.inputs == (f"/ann/v/rows@{file.hash}",) and made.run

    path.write_bytes(b"3,4")
    with pytest.raises(rh.Conflict, match="has changed since it was saved"):
        file.rollback(1)
    file.save()
    file.rollback(1)
    assert path.read_bytes() == b"1,2" == rh.load("v/rows").fetch()
    assert [one.restored for one in file.history()] == [1, None, None]


def test_what_a_client_makes_names_what_it_is_told(mesh: tuple[Node, Node]) -> None:
    source = rh.blob(b"source", name="v/source")
    other = rh.blob(b"unnamed")
    made = rh.blob(b"made", name="v/made", inputs=["v/source", other])
    assert made.history()[0].inputs == (f"/ann/v/source@{source.hash}", other.hash)
    assert made.history()[0].run is None
    with pytest.raises(rh.NotFound):
        rh.blob(b"x", name="v/x", inputs=["v/nobody-has-this"])
    with pytest.raises(ValueError, match="at most"):
        rh.blob(b"x", name="v/x", inputs=[rh.blob(f"{n}".encode()) for n in range(MAX_INPUTS + 1)])
    assert not rh.exists("v/x")


def test_inputs_are_bounded_and_it_is_said(mesh: tuple[Node, Node], beta: str) -> None:
    def many(count: int) -> None:
        import rhd as rh

        for n in range(count):
            rh.blob(str(n).encode()).fetch()
        rh.blob(b"made of many", name="v/many")

    rh.function(many).to(beta)(MAX_INPUTS + 5)
    (made,) = rh.load("v/many").history()
    assert len(made.inputs) == MAX_INPUTS and made.more_inputs


def test_lineage_is_followed_from_node_to_node(mesh: tuple[Node, Node], beta: str) -> None:
    raw = rh.blob(b"raw", name="v/l/raw")

    def step(blob: rh.Blob, name: str) -> None:
        import rhd as rh

        rh.blob(blob.fetch() + b"+", name=name)

    fn = rh.function(step, name="step")
    fn.to(beta)(raw, "v/l/clean")
    fn.to("here")(rh.load("v/l/clean"), "v/l/model")
    model = rh.load("v/l/model")
    raw.write(b"not raw any more")
    tree = model.lineage()
    assert tree.name == "/ann/v/l/model" and tree.node == "alpha"
    (clean,) = tree.inputs
    assert (clean.name, clean.node, clean.version.author) == ("/ann/v/l/clean", "beta", "beta")
    (source,) = clean.inputs
    # What was read is what it was then.
    assert (source.name, source.version.number) == ("/ann/v/l/raw", 1)
    assert source.version.run is None and source.inputs == () and not tree.cut
    short = model.lineage(depth=1)
    assert short.cut and short.inputs[0].version and not short.inputs[0].inputs[0].version
    assert "└─ /ann/v/l/clean@" in str(tree) and "   └─ /ann/v/l/raw@" in str(tree)
    # It goes with the content: to another node, and over a rollback.
    copy = model.to(beta, name="v/l/copy")
    assert [one.name for one in copy.lineage().inputs] == ["/ann/v/l/clean"]
    model.write(b"spoilt").rollback(1)
    assert [one.name for one in rh.load("v/l/model").lineage().inputs] == ["/ann/v/l/clean"]
    # Under another name it is known by its hash.
    rh.load("v/l/clean").rename("v/l/cleaned")
    (clean,) = model.lineage().inputs
    assert clean.name == "/ann/v/l/clean" and clean.version is not None
    with pytest.raises(rh.NotFound, match="no node"):
        rh.blob(b"nobody named this").lineage()


def test_a_name_is_renamed_listed_loaded_and_deleted(mesh: tuple[Node, Node]) -> None:
    blob = rh.blob(b"1", name="v/n/old")
    blob.write(b"2")
    rh.blob(b"far", name="v/n/far", system="beta")
    assert rh.ls("v/n") == ["/ann/v/n/far", "/ann/v/n/old"] == rh.ls("/ann/v/n/")
    with pytest.raises(rh.Conflict, match="exists already"):
        rh.load("v/n/far").rename("v/n/far").save("v/n/other").rename("v/n/far")
    blob.rename("v/n/new")
    assert blob.name == "/ann/v/n/new" and not rh.exists("v/n/old")
    assert [one.number for one in rh.load("v/n/new").history()] == [2, 1]
    with pytest.raises(rh.NotFound, match="no data named"):
        rh.blob(b"1", name="v/n/gone").to("beta").delete()
        stale = rh.load("v/n/gone")
        rh.load("v/n/gone").delete()
        stale.rename("v/n/x")
    blob.delete()
    assert blob.name is None and not rh.exists("v/n/new")
    for ask in (blob.history, lambda: blob.rollback(1), lambda: blob.rename("x")):
        with pytest.raises(rh.RhdError, match="has no name"):
            ask()


def test_two_writers_of_one_name_lose_nothing(mesh: tuple[Node, Node]) -> None:
    blobs = [rh.blob(f"first {n}".encode()) for n in range(2)]
    rh.blob(b"start", name="v/both")
    each = 4

    def write(me: int) -> None:
        for n in range(each):
            rh.blob(f"{me} {n}".encode(), name="v/both", system=["alpha", "here"][me])

    writers = [threading.Thread(target=write, args=(me,)) for me in range(len(blobs))]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    history = rh.load("v/both").history()
    assert [one.number for one in history] == list(range(1 + 2 * each, 0, -1))
    expected = {rh.blob(f"{me} {n}".encode()).hash for me in range(2) for n in range(each)}
    assert {one.hash for one in history} == expected | {rh.blob(b"start").hash}


def test_a_lineage_in_circles_or_very_long_is_a_tree_that_ends() -> None:
    digest = "a" * 52

    def made(name: str, *inputs: str) -> dict:
        content = {"hash": digest, "size": 1}
        texts = [f"/a/{one}@{digest}" for one in inputs]
        version = {"number": 1, "content": content, "saved_ms": 0, "inputs": texts}
        record = {"name": f"/a/{name}", "node": "box", "version": version}
        return {"blob": f"/a/{name}@{digest}", "record": record}

    nodes = [made("x", "y", "z"), made("y", "z", "x"), made("z", "v", "x"), made("v", "far")]
    tree = history.lineage_of({"made": nodes, "cut": True})
    shape = [line.split("@")[0] + "*" * ("elsewhere" in line) for line in str(tree).split("\n")]
    assert tree.cut and shape == [
        "/a/x",
        "├─ /a/y",
        "│  ├─ /a/z*",
        "│  └─ /a/x*",
        "└─ /a/z",
        "   ├─ /a/v",
        "   │  └─ /a/far",
        "   └─ /a/x*",
    ]
    wide = [
        made("x", *(f"n{n}" for n in range(999))),
        *(made(f"n{n}", f"n{n + 1}") for n in range(999)),
    ]
    assert len(history.lineage_of({"made": wide}).inputs) == 999
    assert history.lineage_of({"made": [made("x", "x")]}).inputs[0].elsewhere
    # No node that keeps to the bounds says such a thing.
    deep = [made(f"n{n}", f"n{n + 1}") for n in range(5000)]
    assert len(str(history.lineage_of({"made": deep})).splitlines()) == 2 + history.DEPTH


def test_the_command_line_lists_rolls_back_and_tells(
    mesh: tuple[Node, Node], beta: str, tmp_path: Path
) -> None:
    alpha, _ = mesh
    source = rh.blob(b"rows", name="v/c/source")

    def fold(source: rh.Blob) -> None:
        import rhd as rh

        table = rh.blob(source.fetch() * 2, name="v/c/table")
        table.write(b"spoilt")

    run = rh.function(fold, name="fold-rows").to(beta).run(source)
    run.result(timeout=60)
    listed = alpha.cli("history", "v/c/table").splitlines()
    assert [line.split()[0] for line in listed] == ["VERSION", "2", "1"]
    assert run.id in listed[1] and f"/ann/v/c/source@{source.hash[:10]}" in listed[1]
    told = json.loads(alpha.cli("history", "v/c/table", "--json", "--limit", "1"))
    assert [one["number"] for one in told] == [2] and told[0]["run"] == run.id
    digest = rh.blob(b"rowsrows").hash
    assert alpha.cli("rollback", "v/c/table", "1") == digest
    assert rh.load("v/c/table").fetch() == b"rowsrows"
    assert "no version 7 here; there are 1 to 3" in said(alpha, 5, "rollback", "v/c/table", "7")
    tree = alpha.cli("lineage", "v/c/table").splitlines()
    assert tree[0].startswith("/ann/v/c/table@") and "rolled back to version 1" in tree[0]
    assert f"by /ann/fold-rows in run {run.id}" in tree[0]
    assert tree[1].startswith("└─ /ann/v/c/source@") and "version 1 on alpha" in tree[1]
    made = json.loads(alpha.cli("lineage", "v/c/table", "--json"))["made"]
    assert [one["record"]["node"] for one in made] == ["beta", "alpha"]

    rows = [line.split() for line in alpha.cli("ls", "v/c").splitlines()[1:]]
    assert rows == [
        ["/ann/v/c/source", "blob", "alpha", "-", "1"],
        ["/ann/v/c/table", "blob", "beta", "-", "3"],
    ]
    entries = json.loads(alpha.cli("ls", "--json", "v/c"))
    assert [one["data"]["name"] for one in entries] == ["/ann/v/c/source", "/ann/v/c/table"]
    shown = alpha.cli("show", "v/c/table")
    for part in ("blob", digest, "3, 3 kept", run.id, "/ann/fold-rows", "/ann/v/c/source@"):
        assert part in shown, part
    source.to(beta)
    alpha.cli("rm", "v/c/source")
    alpha.cli("rm", "v/c/table", "--node", "beta")
    assert rh.ls("v/c") == []
    path = tmp_path / "rows"
    path.write_bytes(b"rows again")
    kept = ["--name", "v/c/put", "--input", "v/made-for-cli", "--input", digest]
    assert "no node" in said(alpha, 5, "blob", "put", str(path), *kept)
    cause = rh.blob(b"cause", name="v/made-for-cli")
    for node in ("alpha", "beta"):
        alpha.cli("blob", "put", str(path), *kept, "--node", node)
        (made,) = rh.blob(name="v/c/put", system=node).history()
        assert made.inputs == (f"/ann/v/made-for-cli@{cause.hash}", digest)
    alpha.cli("rm", "v/c/put")
    assert rh.ls("v/c") == []
    for verb in ("history", "lineage", "show", "rm"):
        assert "v/c/table" in said(alpha, 5, verb, "v/c/table")


def said(node: Node, code: int, *args: str) -> str:
    """What a verb says that fails with this code."""
    done = subprocess.run(
        [BINARY, "--home", str(node.home), *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done
    return done.stderr
