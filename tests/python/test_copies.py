"""Runs that outlive the node that ran them: the node of the caller keeps a copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import rhd as rh
from conftest import Node, until

Fresh = Callable[..., Node]
Pair = tuple[Node, Node]


@pytest.fixture
def pair(fresh: Fresh) -> Pair:
    """The client's node, and one that runs what it calls."""
    return fresh("near"), fresh("far")


def copied(near: Node, run: rh.Run) -> Path:
    """The record of a run at the node of its caller, once it is there."""
    record = near.home / "runs" / "records" / run.id
    until(record.exists, "the record is copied")
    return record


def say(text: str) -> str:
    print("it said", text)
    return text * 3


def fail() -> None:
    raise ValueError("on purpose")


def count(n: int):  # type: ignore[no-untyped-def]
    yield from range(n)


def test_a_run_outlives_its_host(pair: Pair, capfd: pytest.CaptureFixture[str]) -> None:
    near, far = pair
    run = rh.function(say).to("far").options(run_name="kept").run("so")
    failed = rh.function(fail).to("far").run()
    items = rh.function(count).to("far").run(5)
    assert run.result() == "sososo"
    for one in (run, failed, items):
        copied(near, one)
    far.kill()
    capfd.readouterr()
    assert run.result() == "sososo" and rh.run("kept").result() == "sososo"
    assert rh.run(run.id).status == "COMPLETED"
    assert "it said so" in near.cli("logs", "kept")
    with pytest.raises(ValueError, match="on purpose"):
        failed.result()
    assert list(rh.run(items.id).result()) == [0, 1, 2, 3, 4]


def test_a_run_is_listed_once_and_removed_everywhere(pair: Pair) -> None:
    near, far = pair
    run = rh.function(say).to("far").run("x")
    run.result()
    record = copied(near, run)
    assert near.cli("ps", "--json").count(run.id) == 1
    run.delete()
    assert not record.exists()
    assert not (far.home / "runs" / "records" / run.id).exists()
    assert run.id not in near.cli("ps", "--json")


def test_a_caller_that_was_away_gets_it_when_it_is_back(pair: Pair, tmp_path: Path) -> None:
    near, far = pair

    def wait(path: str) -> str:
        import os
        import time

        while not os.path.exists(path):
            time.sleep(0.01)
        return "done"

    run = rh.function(wait).to("far").run(str(tmp_path / "go"))
    near.kill()
    (tmp_path / "go").touch()
    until(lambda: "COMPLETED" in far.cli("ps", "--json"), "it has ended")
    near.up()
    copied(near, run)
    far.kill()
    assert rh.run(run.id).result() == "done"


def test_what_was_not_taken_is_offered_again_after_a_restart(pair: Pair, tmp_path: Path) -> None:
    near, far = pair

    def wait(path: str) -> str:
        import os
        import time

        print("it waits")
        while not os.path.exists(path):
            time.sleep(0.01)
        return "done"

    run = rh.function(wait).to("far").options(run_name="late").run(str(tmp_path / "go"))
    near.kill()
    (tmp_path / "go").touch()
    until(lambda: "COMPLETED" in far.cli("ps", "--json"), "it has ended")
    far.kill()
    far.up()
    near.up()
    copied(near, run)
    settled = far.home / "runs" / "records" / run.id / "settled"
    until(settled.exists, "its host knows that it was taken")
    far.kill()
    assert rh.run(run.id).result() == "done" and rh.run("late").result() == "done"
    assert "it waits" in near.cli("logs", run.id)


def test_what_is_too_large_stays_with_its_host(fresh: Fresh) -> None:
    near, _ = fresh("near", RHD_RUNS_COPY_BYTES="100000"), fresh("far")
    large = rh.function(lambda: b"x" * 200_000).to("far").run()
    small = rh.function(lambda: b"x").to("far").run()
    assert len(large.result()) == 200_000
    copied(near, small)
    assert not (near.home / "runs" / "records" / large.id).exists()
    until(lambda: not list((near.home / "runs" / "incoming").iterdir()), "nothing is left")
