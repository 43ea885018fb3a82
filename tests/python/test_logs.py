"""Output of remote code, on this side."""

from __future__ import annotations

import io
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import script, until
from rhd import console


def test_stdout_and_stderr_come_to_their_own_streams(
    where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def talk():
        import sys

        print("to stdout é")
        print("to stderr", file=sys.stderr)
        print("no end", end="")

    rh.function(talk).to(where)()
    out, err = capsys.readouterr()
    assert out == "to stdout é\nno end" and "to stderr\n" in err


def test_output_of_subprocesses_and_c_comes_too(
    where: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def talk():
        import threading

        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join()

    rh.function(talk).to(where)()
    assert capfd.readouterr().out == "from a thread\n"


def test_output_comes_while_the_call_runs(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = threading.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            if "early" in text:
                seen.set()
            return len(text)

    monkeypatch.setattr("sys.stdout", Stream())

    def talk(path):
        import os
        import time

        print("early", flush=True)
        deadline = time.monotonic() + 20
        while not os.path.exists(path):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    import tempfile

    path = tempfile.mktemp()
    thread = threading.Thread(target=rh.function(talk).to(where), args=(path,))
    thread.start()
    try:
        assert seen.wait(20), "nothing came before the call ended"
    finally:
        open(path, "w").close()
        thread.join()
        os.unlink(path)


def test_a_bar_that_redraws_itself_keeps_its_carriage_returns(
    where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def bar():
        import sys

        for i in range(3):
            sys.stderr.write(f"\r{i}/3")
            sys.stderr.flush()
        sys.stderr.write("\n")

    remote = rh.function(bar).to(where)
    capsys.readouterr()
    remote()
    assert capsys.readouterr().err == "\r0/3\r1/3\r2/3\n"


def test_bars_of_tqdm_are_drawn_here_as_they_go(where: str, tmp_path: Path) -> None:
    program = script(
        """
        import sys, rhd as rh
        def bar(path):
            import os, time
            from tqdm import tqdm
            for i in tqdm(range(3), desc="rows", mininterval=0, ascii=True):
                while i == 1 and not os.path.exists(path):
                    time.sleep(0.01)
        rh.function(bar).to(sys.argv[1])(sys.argv[2])
        """,
        where,
        str(tmp_path / "go"),
    )
    assert program.stderr is not None
    seen = b""
    while b"| 1/3 [" not in seen:
        more = os.read(program.stderr.fileno(), 4096)
        assert more, seen
        seen += more
    # It is drawn so far while the call waits.
    assert b"| 2/3 [" not in seen
    (tmp_path / "go").touch()
    _, rest = program.communicate(timeout=60)
    assert b"\rrows:  33%" in seen and "rows: 100%" in rest
    drawn = re.findall(r"\| (\d)/3 \[", seen.decode() + rest)
    # The last one once more, when it closes.
    assert list(dict.fromkeys(drawn)) == ["0", "1", "2", "3"]


def test_lines_of_calls_side_by_side_stay_whole(
    where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def talk(who):
        import sys

        for i in range(100):
            sys.stdout.write(f"{who}")
            sys.stdout.flush()
            sys.stdout.write(f"-{i}")
            sys.stdout.flush()
            sys.stdout.write("\n")

    list(rh.function(talk).to(where).map("abcd", concurrency=4))
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(f"{who}-{i}" for who in "abcd" for i in range(100))
    for who in "abcd":
        assert [x for x in lines if x[0] == who] == [f"{who}-{i}" for i in range(100)]


def test_each_call_gets_its_own_output(where: str) -> None:
    def talk(who):
        for i in range(200):
            print(who, i)
        return who

    remote = rh.function(talk).to(where)
    got: dict[str, bytes] = {}

    def run(who: str) -> None:
        from rhd import remote as calls

        target = remote._target
        parts = calls.body(target, (who,), {})
        call, header = target.header(parts, "call", {})
        conn = target.daemon.open(header, parts, call)
        text = b""
        from rhd import frames

        while True:
            reply, data = frames.recv(conn.sock)
            if reply["t"] != "log":
                break
            text += bytes(data)
        conn.close()
        got[who] = text

    threads = [threading.Thread(target=run, args=(who,)) for who in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for who in "abcdef":
        assert got[who].decode() == "".join(f"{who} {i}\n" for i in range(200))


def test_output_can_be_left_there(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    remote = rh.function(lambda: print("unheard")).to(where)
    capsys.readouterr()
    remote.options(stream_logs=False)()
    assert "unheard" not in capsys.readouterr().out


def test_a_flood_does_not_stall_other_calls(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def flood(path):
        import os

        line = "x" * 1000
        while not os.path.exists(path):
            print(line)

    class Sink(io.StringIO):
        size = 0

        def write(self, text: str) -> int:
            Sink.size += len(text)
            return len(text)

    monkeypatch.setattr("sys.stdout", Sink())
    import tempfile

    path = tempfile.mktemp()
    quick = rh.function(lambda x: x).to(where)
    thread = threading.Thread(target=rh.function(flood).to(where), args=(path,))
    thread.start()
    try:
        until(lambda: Sink.size > 1_000_000, "the flood arrives")
        assert [quick.options(timeout=20)(i) for i in range(50)] == list(range(50))
        assert thread.is_alive()
    finally:
        open(path, "w").close()
        thread.join(30)
        os.unlink(path)
    assert not thread.is_alive()


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_status_line_on_a_terminal_and_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, screen = io.StringIO(), Screen()
    for stream in (plain, screen):
        monkeypatch.setattr("sys.stderr", stream)
        sink = console.Sink()
        sink.progress("building")
        sink.progress("sending")
        sink.close()
    assert plain.getvalue() == "building\nsending\n"
    assert screen.getvalue() == "\r\x1b[Kbuilding\r\x1b[Ksending\r\x1b[K"


def test_characters_cut_in_two_arrive_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    sink = console.Sink()
    data = "aé€\n".encode()
    for byte in data:
        sink.log(1, bytes([byte]))
    sink.log(1, b"\xff")
    sink.close()
    assert stream.getvalue() == "aé€\n\ufffd"


def test_an_unfinished_line_is_not_broken_into(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    one, two = console.Sink(), console.Sink()
    calls: list[Any] = [object(), object()]
    console.underway.update(calls)
    try:
        one.log(1, b"first half ")
        two.log(1, b"whole line\n")
        one.log(1, b"second half\n")
        one.close()
        two.close()
    finally:
        console.underway.difference_update(calls)
    assert stream.getvalue() == "whole line\nfirst half second half\n"


def test_a_line_without_end_is_held_back_only_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    calls: list[Any] = [object(), object()]
    console.underway.update(calls)
    try:
        sink = console.Sink()
        for _ in range(100):
            sink.log(1, b"x" * 10_000)
        assert len(stream.getvalue()) > 1_000_000 - console.HELD
        sink.close()
    finally:
        console.underway.difference_update(calls)
    assert stream.getvalue() == "x" * 1_000_000
