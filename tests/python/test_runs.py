"""Runs: calls that leave a record, told about, attached to, cancelled, reused."""

from __future__ import annotations

import asyncio
import datetime
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import Node, script, until
from rhd.daemon import call_id

Fresh = Callable[..., Node]


@pytest.fixture
def name() -> str:
    """The name of a run that nobody has used."""
    return f"run-{call_id()[:8]}"


def work(folder: str, value: Any = "done") -> Any:
    """Remote code that leaves marks, talks, and returns when told to."""
    import os
    import sys
    import time

    print("began")
    print("oops", file=sys.stderr)
    with open(f"{folder}/began", "a") as out:
        out.write("x")
    try:
        while not os.path.exists(f"{folder}/go"):
            time.sleep(0.01)
    finally:
        open(f"{folder}/over", "w").close()
    if isinstance(value, Exception):
        raise value
    print("ended")
    return value


def begun(folder: Path) -> int:
    """How often the remote code began."""
    path = folder / "began"
    return len(path.read_text()) if path.exists() else 0


def test_a_run_is_started_told_about_and_its_result_fetched(where: str, tmp_path: Path) -> None:
    before = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=5)
    run = rh.function(work).to(where).run(str(tmp_path), value=[1, 2])
    until(lambda: begun(tmp_path), "it began")
    assert run.status == "RUNNING" and run.ended_at is None
    assert run.started_at is not None and before < run.started_at
    assert run.host == ("alpha" if where == "here" else "beta") and run.caller == "alpha"
    assert run.inputs == ((str(tmp_path),), {"value": [1, 2]})
    with pytest.raises(rh.Timeout):
        run.result(timeout=0.05)
    assert run.status == "RUNNING", "who waits no longer ends nothing"
    until(lambda: run.stdout() == "began\n", "its output is there while it runs")
    (tmp_path / "go").touch()
    assert run.result() == [1, 2] == run.result(timeout=5)
    assert run.status == "COMPLETED"
    assert run.ended_at is not None and run.ended_at >= run.started_at
    assert (run.stdout(), run.stderr()) == ("began\nended\n", "oops\n")
    assert sorted(run.logs().splitlines()) == ["began", "ended", "oops"]
    # From its id, in another process, or from another node.
    program = script("import sys, rhd as rh; print(rh.run(sys.argv[1]).result())", run.id)
    assert program.communicate(timeout=60)[0] == "[1, 2]\n"


def test_output_is_followed_line_by_line(where: str, tmp_path: Path) -> None:
    run = rh.function(work).to(where).run(str(tmp_path))
    lines = run.logs(follow=True)
    assert {next(lines), next(lines)} == {"began\n", "oops\n"}
    (tmp_path / "go").touch()
    assert list(lines) == ["ended\n"]


def test_output_that_ends_inside_a_character_is_shown_as_such(where: str) -> None:
    def cut() -> None:
        import sys

        sys.stdout.buffer.write(b"a\nb\xc3")

    run = rh.function(cut).to(where).run()
    assert list(run.logs(follow=True)) == ["a\n", "b\ufffd"]
    assert run.stdout() == "a\nb\ufffd"


def test_a_failed_run_raises_its_own_exception(where: str, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    run = rh.function(work).to(where).run(str(tmp_path), KeyError("x"))
    for _ in range(2):
        with pytest.raises(KeyError) as caught:
            run.result()
    assert run.status == "ERROR" and caught.value.call_id == run.id


def test_a_cancelled_run_is_interrupted(where: str, tmp_path: Path) -> None:
    run = rh.function(work).to(where).run(str(tmp_path))
    until(lambda: begun(tmp_path), "it began")
    run.cancel()
    assert run.status == "CANCELLED" and (tmp_path / "over").exists()
    with pytest.raises(rh.Cancelled):
        run.result()


def say_what_is_left(path: str) -> None:
    """Remote code that has much to say once it is to end."""
    import os
    import time

    print("began")
    open(path, "w").close()
    try:
        while True:
            time.sleep(0.01)
    finally:
        for n in range(200):
            print("tidying", n)
        os.system("echo of a child")


async def say_on_the_loop(path: str) -> None:
    """The same of a coroutine."""
    import asyncio

    print("began")
    open(path, "w").close()
    try:
        await asyncio.sleep(1000)
    finally:
        for n in range(200):
            print("tidying", n)


@pytest.mark.parametrize("fn", [say_what_is_left, say_on_the_loop])
@pytest.mark.parametrize("end", ["cancel", "deadline"])
def test_what_a_run_says_after_it_was_ended_is_kept(
    where: str, tmp_path: Path, fn: Any, end: str
) -> None:
    path = tmp_path / "began"
    # It ends by itself only where it is given so little time.
    remote = rh.function(fn).to(where).options(timeout=3 if end == "deadline" else None)
    run = remote.run(str(path))
    until(path.exists, "it began")
    if end == "cancel":
        run.cancel()
    with pytest.raises(rh.Cancelled if end == "cancel" else rh.Timeout):
        run.result()
    said = run.stdout().splitlines()
    assert said[:201] == ["began", *(f"tidying {n}" for n in range(200))], said
    assert fn is say_on_the_loop or said[201:] == ["of a child"]
    assert run.status == "CANCELLED"


def test_a_cancelled_coroutine_and_generator_tidy_up(where: str, tmp_path: Path) -> None:
    async def wait(path):
        import asyncio

        open(path, "w").close()
        try:
            await asyncio.sleep(1000)
        finally:
            open(path + ".over", "w").close()

    def items(path):
        try:
            yield 1
            open(path, "w").close()
            while True:
                yield 2
        finally:
            open(path + ".over", "w").close()

    for number, fn in enumerate((wait, items)):
        path = tmp_path / str(number)
        run = rh.function(fn).to(where).run(str(path))
        until(path.exists, "it began")
        run.cancel()
        assert Path(f"{path}.over").exists() and run.status == "CANCELLED"


def test_a_run_of_a_generator_has_all_its_items(where: str) -> None:
    def count(n):
        yield from range(n)

    remote = rh.function(count).to(where)
    run = remote.run(5)
    assert list(run.result()) == [0, 1, 2, 3, 4] == list(rh.run(run.id).result())
    assert list(remote.run(0).result()) == []
    async_run = remote.run(3)

    async def main() -> list[int]:
        return [item async for item in await async_run.async_result()]

    assert asyncio.run(main()) == [0, 1, 2]


def test_runs_of_methods_and_coroutines(where: str) -> None:
    class Adder:
        def __init__(self, n):
            self.n = n

        def add(self, x):
            return self.n + x

        async def later(self, x):
            return self.n * x

    adder = rh.module(Adder).to(where)(10)
    run = adder.add.run(5)
    assert run.result() == 15 and run.service.endswith(".add")
    assert asyncio.run(adder.later.run(5).async_result()) == 50


def test_a_named_run_is_found_by_its_name(where: str, name: str) -> None:
    double = rh.function(lambda x: print("on it") or 2 * x).to(where)
    assert rh.run(name).status == "NOT_STARTED"
    with pytest.raises(rh.NotFound):
        rh.run(name).result()
    assert double.options(run_name=name)(4) == 8
    found = rh.run(name)
    assert found.result() == 8 and found.name == f"/ann/{name}" and found.stdout() == "on it\n"
    # The newest has the name; a handle stays with the run it found.
    assert double.options(run_name=name)(5) == 10
    assert rh.run(name).result() == 10 and found.result() == 8
    assert found.refresh().result() == 10
    assert [run.result() for run in rh.Run.list(name=name)] == [10, 8]
    rh.run(name).delete()
    assert rh.run(name).result() == 8


def test_calls_in_a_block_are_recorded(where: str, name: str) -> None:
    double = rh.function(lambda x: 2 * x).to(where)
    with rh.run(name) as r:
        assert double(1) == 2
        assert double(2) == 4
        assert sorted(double.map([3, 4])) == [6, 8]
    double(5)
    assert r.result() == 2 and r.status == "COMPLETED"
    assert sorted(run.result() for run in r.calls) == [2, 4, 6, 8]
    assert rh.run(name).id == r.id
    assert rh.run(f"{name}-2").result() == 4
    assert len(rh.Run.list(name=name)) == 1


def test_calls_of_a_map_are_recorded_by_item(where: str, name: str) -> None:
    double = rh.function(lambda x: 2 * x).to(where).options(run_name=name)
    assert list(double.map(range(5), concurrency=3)) == [0, 2, 4, 6, 8]
    assert rh.run(name).result() == 0 and rh.run(f"{name}-4").result() == 6


def test_a_call_in_a_block_fails_as_it_would_elsewhere(where: str, name: str) -> None:
    with pytest.raises(ZeroDivisionError), rh.run(name) as r:
        rh.function(lambda: 1 / 0).to(where)()
    assert r.status == "ERROR"


def test_names_of_runs_are_paths(where: str, name: str) -> None:
    double = rh.function(lambda x: 2 * x).to(where)
    assert double.options(run_name=f"nightly/{name}")(1) == 2
    assert double.options(run_name=f"@/{name}")(2) == 4
    assert double.options(run_name=f"/team/{name}")(3) == 6
    assert rh.run(f"/ann/nightly/{name}").result() == 2
    assert rh.run(name).result() == 4 and rh.run(f"/ann/{name}").name == f"/ann/{name}"
    assert rh.run(f"/team/{name}").result() == 6
    assert [run.result() for run in rh.Run.list(name=f"/team/{name}")] == [6]


def test_a_run_outlives_the_program_that_started_it(where: str, tmp_path: Path) -> None:
    program = script(
        """
        import sys, rhd as rh
        def wait(folder):
            import os, time
            open(folder + "/began", "w").write("x")
            while not os.path.exists(folder + "/go"):
                time.sleep(0.01)
            return os.getppid()
        print(rh.function(wait, name="tests/outlives").to(sys.argv[1]).run(sys.argv[2]).id)
        """,
        where,
        str(tmp_path),
    )
    out, err = program.communicate(timeout=60)
    run = rh.run(out.strip())
    assert run.status == "RUNNING", err
    (tmp_path / "go").touch()
    assert isinstance(run.result(), int)


@pytest.mark.parametrize("how", ["named", "kept"])
def test_ctrl_c_ends_a_recorded_call(where: str, tmp_path: Path, how: str) -> None:
    program = script(
        """
        import sys, rhd as rh
        def wait(path):
            import time
            open(path, "w").close()
            try:
                while True: time.sleep(0.01)
            finally:
                open(path + ".over", "w").close()
        where, path, how = sys.argv[1:]
        more = {"run_name": "ctrl-c"} if how == "named" else {"retries": 1}
        try:
            rh.function(wait).to(where).options(**more)(path)
        except KeyboardInterrupt:
            print("interrupted")
        """,
        where,
        str(tmp_path / "began"),
        how,
    )
    until((tmp_path / "began").exists, "the call began")
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert out == "interrupted\n", err
    until((tmp_path / "began.over").exists, "the remote code was interrupted")


@pytest.mark.parametrize("options", [{"run_name": "dropped"}, {"retries": 1}, {}])
def test_a_dropped_task_ends_its_call(where: str, tmp_path: Path, options: Any) -> None:
    async def wait(path):
        import asyncio

        open(path, "w").close()
        try:
            await asyncio.sleep(1000)
        finally:
            open(path + ".over", "w").close()

    remote = rh.function(wait).to(where).options(**options)
    path = tmp_path / "began"

    async def main() -> None:
        task = asyncio.create_task(remote(str(path)))
        while not path.exists():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    until(Path(f"{path}.over").exists, "the coroutine was cancelled")


@pytest.mark.parametrize("options", [{"run_name": "late"}, {"retries": 1}, {}])
def test_a_deadline_ends_every_kind_of_call(where: str, tmp_path: Path, options: Any) -> None:
    remote = rh.function(work).to(where).options(timeout=1.0, **options)
    with pytest.raises(rh.Timeout) as caught:
        remote(str(tmp_path))
    # Its host's word, not that of a client who hears nothing.
    assert "longer than its timeout" in str(caught.value) and caught.value.node
    until((tmp_path / "over").exists, "it was interrupted")
    assert begun(tmp_path) == 1


def test_closing_a_kept_generator_ends_it(where: str, tmp_path: Path) -> None:
    def endless(path):
        try:
            while True:
                yield 1
        finally:
            open(path, "w").close()

    remote = rh.function(endless).to(where).options(retries=1)
    items = remote(str(tmp_path / "closed"))
    assert next(items) == 1
    items.close()
    until((tmp_path / "closed").exists, "it was closed")
    items = remote(str(tmp_path / "dropped"))
    assert next(items) == 1
    del items
    until((tmp_path / "dropped").exists, "it was dropped")


def test_commands_are_runs(where: str) -> None:
    rh.cluster(where).run("echo recorded command", stream_logs=False)
    node = "alpha" if where == "here" else "beta"
    run = rh.Run.list(cluster=node, limit=1)[0]
    assert run.host == node and "recorded command" in run.stdout()
    assert run.inputs[0] == (["echo recorded command"],)


def test_receipts_tell_of_plain_calls_too(where: str) -> None:
    remote = rh.function(lambda: 1 / 0).to(where)
    with pytest.raises(ZeroDivisionError) as caught:
        remote()
    run = rh.run(caught.value.call_id)
    assert run.status == "ERROR" and run.host == ("alpha" if where == "here" else "beta")
    assert rh.run(call_id()).status == "NOT_STARTED"


def test_names_of_runs_are_checked_where_they_are_used(where: str) -> None:
    remote = rh.function(lambda: sys.version).to(where)
    with pytest.raises(rh.RhdError):
        remote.options(run_name="no spaces")()
    with pytest.raises(TypeError):
        rh.run("")
