"""What breaks: workers, clients, envs. Nothing hangs, nothing runs twice."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import Node, hosted, script, until
from rhd import config


def test_a_worker_that_ends_itself_is_reported_and_replaced(where: str) -> None:
    remote = rh.function(lambda die: __import__("os")._exit(3) if die else "alive").to(where)
    assert remote(False) == "alive"
    with pytest.raises(rh.RhdError) as caught:
        remote(True)
    assert caught.value.call_id
    until(lambda: _works(remote), "the worker was replaced")


def _works(remote: Any) -> bool:
    try:
        return bool(remote(False) == "alive")
    except rh.RhdError:
        return False


def test_an_object_of_a_lost_worker_is_gone_and_says_so(beta: str) -> None:
    class Thing:
        def die(self):
            import os

            os._exit(1)

        def live(self):
            return 1

    thing = rh.module(Thing).to(beta, env=rh.env(name="doomed"))()
    assert thing.live() == 1
    with pytest.raises(rh.RhdError):
        thing.die()

    def error() -> str:
        with pytest.raises(rh.RhdError) as caught:
            thing.live()
        return caught.value.hint if isinstance(caught.value, rh.NotFound) else ""

    assert until(error, "it is reported as gone")


def test_ctrl_c_cancels_the_call_and_is_raised(where: str, tmp_path: Path) -> None:
    program = script(
        """
        import sys, rhd as rh
        def wait(path):
            import time
            open(path, "w").close()
            try:
                while True: time.sleep(0.01)
            finally:
                open(path + ".ended", "w").close()
        try:
            rh.function(wait).to(sys.argv[1])(sys.argv[2])
        except KeyboardInterrupt:
            print("interrupted", rh.function(lambda: 1).to(sys.argv[1])())
        """,
        where,
        str(tmp_path / "began"),
    )
    until((tmp_path / "began").exists, "the call began")
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert out == "interrupted 1\n", err
    until((tmp_path / "began.ended").exists, "the remote code was interrupted")


def test_a_call_that_is_never_taken_back_ends_with_its_client(beta: str, tmp_path: Path) -> None:
    began = tmp_path / "began"
    program = script(
        """
        import sys, rhd as rh
        def wait(path):
            import time
            open(path, "w").close()
            try:
                while True: time.sleep(0.01)
            finally:
                open(path + ".ended", "w").close()
        rh.function(wait).to("beta")(sys.argv[1])
        """,
        str(began),
    )
    until(began.exists, "the call began")
    program.kill()
    program.communicate()
    until((tmp_path / "began.ended").exists, "the call was cancelled")


def test_a_package_that_does_not_exist_brings_the_resolvers_words(beta: str) -> None:
    with pytest.raises(rh.EnvError) as caught:
        rh.function(lambda: 1).to(beta, env=["no-such-package-as-this-one-rhd==9.9"])
    said = str(caught.value)
    assert "no-such-package-as-this-one-rhd" in said and caught.value.hint
    # Words of pip and of uv, which we don't have ourselves.
    assert re.search("No matching distribution|No solution found|not found in", said)


def test_a_missing_module_names_itself_and_what_to_ask_for(where: str) -> None:
    def needs():
        import no_such_module_of_rhd

        return no_such_module_of_rhd

    with pytest.raises(ModuleNotFoundError) as caught:
        rh.function(needs).to(where)()
    assert caught.value.name == "no_such_module_of_rhd"
    notes = getattr(caught.value, "__notes__", None)
    assert notes is None or any("reqs" in note for note in notes)


def test_a_worker_that_forks_answers_once(where: str) -> None:
    def fork():
        import os

        child = os.fork()
        if child == 0:
            return "child"
        os.waitpid(child, 0)
        return "parent"

    assert rh.function(fork).to(where)() == "parent"


def test_a_hanging_call_keeps_no_others_waiting(where: str, tmp_path: Path) -> None:
    def hang():
        import time

        while True:
            time.sleep(1)

    remote = rh.function(hang).to(where)
    failed: list[BaseException] = []

    def run() -> None:
        with pytest.raises(rh.Timeout) as caught:
            remote.options(timeout=5)()
        failed.append(caught.value)

    thread = threading.Thread(target=run)
    thread.start()
    quick = rh.function(lambda: 1).to(where)
    assert [quick() for _ in range(10)] == [1] * 10
    thread.join(30)
    assert not thread.is_alive() and len(failed) == 1


def test_arguments_that_cannot_be_pickled_fail_here(where: str) -> None:
    remote = rh.function(lambda x: x).to(where)
    with pytest.raises(TypeError):
        remote(threading.Lock())
    assert remote(1) == 1


def test_env_variables_reach_the_code(where: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# comment\nexport RHD_TEST_A='one two'\nRHD_TEST_B=3 # no\n")
    read = rh.function(lambda: [os.environ.get(f"RHD_TEST_{k}") for k in "AB"])
    env = rh.env(env_vars=str(tmp_path / ".env"))
    assert read.to(where, env=env)() == ["one two", "3"]
    assert env.to(where).info["running"]


def test_a_client_of_a_newer_protocol_is_told_what_to_update(
    mesh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "VERSION", rh.VERSION + 1)
    for attempt in (rh.ls, lambda: rh.function(lambda: 1).to("beta")):
        with pytest.raises(rh.VersionMismatch) as caught:
            attempt()
        assert caught.value.hint


def test_no_daemon_says_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RHD_HOME", str(tmp_path))
    monkeypatch.setenv("RHD_AUTOSTART", "0")
    with pytest.raises(rh.DaemonUnavailable) as caught:
        rh.ls()
    assert "rhd up" in caught.value.hint
    monkeypatch.setenv("RHD_AUTOSTART", "1")
    monkeypatch.setenv("RHD_BIN", str(tmp_path / "absent"))
    with pytest.raises(rh.DaemonUnavailable) as caught:
        rh.ls()
    assert str(tmp_path / "absent") in str(caught.value)


def test_the_first_use_starts_a_daemon(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(root / "auto", "auto")
    monkeypatch.setenv("RHD_HOME", str(node.home))
    monkeypatch.setenv("RHD_AUTOSTART", "1")
    try:
        before = time.monotonic()
        assert rh.here.is_up() and rh.here.status()["home"].endswith("auto")
        assert time.monotonic() - before < 30
        pid = hosted(node)["pid"]
        assert rh.ls() is not None and hosted(node)["pid"] == pid
    finally:
        node.cli("down")
