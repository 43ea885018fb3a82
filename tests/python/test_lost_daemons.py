"""Daemons that go away in the middle of a call: nothing hangs, nothing runs twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import Node, until

Fresh = Callable[..., Node]


def wait_for(path: str, mark: str) -> str:
    """Remote code that tells that it began and that it ended, and returns when told to."""
    import os
    import time

    with open(path, "a") as out:
        out.write("began\n")
    try:
        while not os.path.exists(mark):
            time.sleep(0.01)
    finally:
        with open(path, "a") as out:
            out.write("ended\n")
    return "done"


class Underway:
    """A call in a thread of its own, begun on its node."""

    def __init__(self, remote: Any, folder: Path) -> None:
        self.lines = folder / "lines"
        self.mark = folder / "mark"
        self.outcome: list[Any] = []
        self.thread = threading.Thread(target=self._run, args=(remote,))
        self.thread.start()
        until(self.lines.exists, "the call began")

    def _run(self, remote: Any) -> None:
        try:
            self.outcome.append(remote(str(self.lines), str(self.mark)))
        except BaseException as e:
            self.outcome.append(e)

    def end(self) -> Any:
        """What became of it."""
        self.thread.join(60)
        assert not self.thread.is_alive(), "the call hangs"
        (outcome,) = self.outcome
        return outcome

    def count(self, word: str) -> int:
        """How often the remote code said it."""
        return self.lines.read_text().split().count(word)


def test_a_killed_node_is_peer_lost_and_nothing_runs_twice(fresh: Fresh, tmp_path: Path) -> None:
    fresh("near")
    far = fresh("far")
    call = Underway(rh.function(wait_for).to("far"), tmp_path)
    far.kill()
    error = call.end()
    assert isinstance(error, rh.PeerLost) and f'rh.run("{error.call_id}")' in error.hint
    assert call.count("began") == 1


def test_a_killed_daemon_here_is_told_apart(fresh: Fresh, tmp_path: Path) -> None:
    near = fresh("near")
    call = Underway(rh.function(wait_for).to("here"), tmp_path)
    near.kill()
    error = call.end()
    assert isinstance(error, rh.DaemonUnavailable)
    assert f"rh.run({error.call_id!r})" in error.hint
    near.up()
    quick = rh.function(lambda x: x).to("here")
    assert quick(1) == 1
    assert call.count("began") == 1


def test_a_killed_daemon_of_the_caller_cancels_on_the_host(fresh: Fresh, tmp_path: Path) -> None:
    def endless(path):
        try:
            while True:
                yield path
        finally:
            open(path, "w").close()

    near = fresh("near")
    # So long it waits for somebody who asks after the call.
    far = fresh("far", RHD_RUNS_ORPHAN_GRACE="1")
    items = rh.function(endless).to("far")(str(tmp_path / "generator-ended"))
    next(items)
    call = Underway(rh.function(wait_for).to("far"), tmp_path)
    near.kill()
    error = call.end()
    lost = (rh.DaemonUnavailable, rh.PeerLost)
    assert isinstance(error, lost) and error.call_id and error.hint
    with pytest.raises(lost) as caught:
        for _ in items:
            pass
    assert caught.value.call_id and caught.value.hint
    until((tmp_path / "generator-ended").exists, "the generator's finally block ran")
    until(lambda: call.count("ended") == 1, "the host interrupted the code")
    until(lambda: (far.status() or {}).get("calls") == 0, "the host has no call left")
    assert call.count("began") == 1


def test_a_function_outlives_a_restart_of_its_node(fresh: Fresh) -> None:
    near = fresh("near")
    remote = rh.function(lambda x: x + 1).to("here")
    assert remote(1) == 2
    near.stop()
    near.up()
    assert remote(2) == 3


def test_retries_repeat_only_what_was_lost_and_only_when_asked(
    fresh: Fresh, tmp_path: Path
) -> None:
    fresh("near")
    far = fresh("far")
    call = Underway(rh.function(wait_for).to("far").options(retries=200), tmp_path)
    far.kill()
    far.up()
    until(lambda: call.count("began") == 2, "it was called again")
    call.mark.touch()
    assert call.end() == "done"
