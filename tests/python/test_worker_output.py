"""stdout and stderr of calls."""

import pytest
from worker_daemon import daemon_fixture  # noqa: F401


def test_both_streams_come_back_in_lines_before_the_result(daemon):
    daemon.code(
        """
        import sys, logging, warnings
        def talk():
            print("one")
            print("two", "parts", end="")
            sys.stderr.write("bad\\n")
            sys.stdout.buffer.write(b"\\xff raw")
            logging.getLogger("x").warning("logged")
            warnings.warn("warned")
            print("\\udcff lone")
            sys.stdout.writelines(["a", "b\\n"])
            out, err = sys.stdout, sys.stderr
            return out.isatty(), out.encoding, out.fileno(), err.fileno()
        """,
        "talk",
    )
    under = daemon.start("talk")
    assert under.result() == (False, "utf-8", 1, 2)
    assert under.output[1] == b"one\ntwo parts\xff raw\\udcff lone\nab\n"
    assert under.output[2].startswith(b"bad\nlogged\n") and b"warned" in under.output[2]
    assert under.frames.index("done") == len(under.frames) - 1
    assert daemon.own_output() == ""


def test_progress_bars_arrive_as_they_are_drawn(daemon):
    root = daemon.project(
        "bars",
        "1",
        bars="""
        import sys, threading
        go = threading.Event()
        def bar():
            sys.stderr.write("\\r 10%"); sys.stderr.flush()
            assert go.wait(20)
            sys.stderr.write("\\r 20%")
            sys.stderr.write("\\r 30%\\n")
        def carry_on():
            go.set()
        """,
    )
    daemon.load("bar", "bars", "bar", root)
    daemon.load("carry_on", "bars", "carry_on", root)
    under = daemon.start("bar")
    under.until_output("10%", fd=2)
    daemon.call("carry_on")
    under.result()
    assert under.output[2] == b"\r 10%\r 20%\r 30%\n"


def test_output_belongs_to_its_call_through_threads_pools_and_tasks(daemon):
    root = daemon.project(
        "mix",
        "1",
        mix="""
        import asyncio, threading
        from concurrent.futures import ThreadPoolExecutor
        barrier = threading.Barrier(4, timeout=20)
        pool = ThreadPoolExecutor(1)
        def talk(name):
            barrier.wait()
            for i in range(50):
                print(name, "direct", i)
            thread = threading.Thread(target=lambda: print(name, "thread"))
            thread.start(); thread.join()
            pool.submit(print, name, "pool").result()
            class Sub(threading.Thread):
                def run(self):
                    print(name, "sub")
                    inner = threading.Thread(target=print, args=(name, "inner"))
                    inner.start(); inner.join()
            sub = Sub(); sub.start(); sub.join()
            def bad():
                raise ValueError(name + " uncaught")
            thread = threading.Thread(target=bad)
            thread.start(); thread.join()
        async def atalk(name):
            for i in range(50):
                print(name, "direct", i)
                await asyncio.sleep(0)
            await asyncio.to_thread(print, name, "thread")
            await asyncio.get_running_loop().run_in_executor(None, print, name, "executor")
            await asyncio.create_task(say(name))
        async def say(name):
            print(name, "task")
        """,
    )
    daemon.load("talk", "mix", "talk", root)
    daemon.load("atalk", "mix", "atalk", root)
    calls = {name: daemon.start("talk", name) for name in "abcd"}
    for name, under in calls.items():
        under.result()
        lines = under.output[1].decode().splitlines()
        assert len(lines) == 54 and all(line.startswith(name + " ") for line in lines)
        assert {"thread", "pool", "sub", "inner"} <= {line.split()[1] for line in lines}
        assert f"{name} uncaught" in under.output[2].decode()
    tasks = {name: daemon.start_async("atalk", name) for name in "efgh"}
    for name, under in tasks.items():
        under.result()
        lines = under.output[1].decode().splitlines()
        assert len(lines) == 53 and all(line.startswith(name + " ") for line in lines)


def test_output_outside_calls_and_unwanted_output_go_to_the_processes_own(daemon):
    root = daemon.project(
        "late",
        "1",
        late="""
        import threading
        go, gone = threading.Event(), threading.Event()
        def start():
            def later():
                go.wait(20)
                print("too late")
                gone.set()
            threading.Thread(target=later).start()
        def end():
            go.set()
            gone.wait(20)
        def say(text):
            print(text)
        """,
    )
    for name in ("start", "end", "say"):
        daemon.load(name, "late", name, root)
    daemon.call("start")
    under = daemon.start("end")
    under.result()
    assert under.output[1] == b""
    under = daemon.start("say", "unwanted", logs=False)
    under.result()
    assert under.frames == ["done"]
    assert daemon.own_output() == "too late\nunwanted\n"


def test_a_long_line_is_cut_into_bounded_frames(daemon):
    daemon.code(
        """
        import sys
        def long(n):
            print("x" * n)
            for _ in range(n):
                sys.stdout.write("y")
        """,
        "long",
    )
    under = daemon.start("long", 200_000)
    assert under.result() is None
    assert under.output[1] == b"x" * 200_000 + b"\n" + b"y" * 200_000
    assert under.frames.count("log") >= 7


def test_a_flood_on_one_lane_slows_no_other(daemon):
    daemon.code(
        "def flood():\n    while True: print('x' * 1000)\ndef f(): return 1\n", "flood", "f"
    )
    flood = daemon.start("flood")
    flood.until_output("x")
    # Nobody reads the flood now.
    assert [daemon.call("f") for _ in range(100)] == [1] * 100
    daemon.order("cancel", id=flood.id)
    with pytest.raises(Exception, match="cancelled"):
        flood.result()


def test_a_flood_on_the_loop_is_dropped_and_counted(daemon):
    daemon.code(
        """
        import asyncio, sys
        over = []
        async def flood(n):
            while not n and not over:
                await asyncio.sleep(0.01)
            for _ in range(n):
                print("x" * 999)
            sys.stderr.write("end\\n")
            over.append(n)
            return n
        """,
        "flood",
    )
    daemon.reading.clear()
    under = daemon.start_async("flood", 100_000)
    daemon.call("flood", 0)  # comes by another lane, and ends after the first
    # Read again, and the result follows what was kept.
    daemon.reading.set()
    assert under.result() == 100_000
    kept = len(under.output[1])
    assert kept < 2_000_000
    said = under.output[2].decode()
    assert "bytes of output dropped]" in said
    dropped = sum(int(line.split()[1]) for line in said.splitlines() if "dropped" in line)
    assert kept + dropped + (4 if "end\n" in said else 0) == 100_000_000 + 4


def test_a_finalizer_that_prints_while_a_frame_is_written_does_no_harm(daemon):
    daemon.code(
        """
        import gc
        from rhd import frames
        class Loud:
            def __init__(self): self.me = self
            def __del__(self): print("gone")
        def run(n):
            gc.set_threshold(1)
            whole = frames.send
            def in_pieces(sock, header, parts=()):
                # What a large frame does when the socket takes it piece by piece.
                data = b"".join([frames.encode(header, sum(map(len, parts))), *parts])
                sock.sendall(data[:20])
                Loud(); gc.collect()
                sock.sendall(data[20:])
            try:
                frames.send = in_pieces
                for i in range(n):
                    yield [bytes(100_000), i]
            finally:
                frames.send = whole
                gc.set_threshold(700)
        async def arun(n):
            gc.set_threshold(1)
            try:
                for i in range(n):
                    Loud()
                    yield [bytes(100_000), i]
            finally:
                gc.set_threshold(700)
                gc.collect()
        """,
        "run",
        "arun",
    )
    under = daemon.start("run", 50)
    assert [i for _, i in under.items()] == list(range(50))
    assert under.output[1] == b"" and daemon.own_output() == "gone\n" * 50
    under = daemon.start_async("arun", 50)
    daemon.order("credit", id=under.id, items=50)
    assert [i for _, i in under.items()] == list(range(50))
    # Some finalizers may have run on threads of no call.
    assert under.output[1].decode() + daemon.own_output() == "gone\n" * 100
