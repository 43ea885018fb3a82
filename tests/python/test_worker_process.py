"""The worker as a process: forks, children, signals, the daemon's end."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from worker_daemon import PATIENCE, SDK, daemon_fixture, errors, frames  # noqa: F401


def test_without_its_daemon_the_whole_group_dies(daemon):
    daemon.code(
        """
        import subprocess, sys
        def child():
            code = "import signal; print(1, flush=True); signal.pause()"
            p = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
            p.stdout.readline()
            return p.pid
        """,
        "child",
    )
    pid = daemon.call("child")
    watched = os.pidfd_open(pid)
    import select

    daemon.control.shutdown(2)
    assert daemon.process.wait(PATIENCE) == -signal.SIGKILL
    assert select.select([watched], [], [], PATIENCE)[0]
    os.close(watched)


def test_forked_children_never_answer(daemon):
    daemon.code(
        """
        import os, sys
        def fork_and_leave():
            pid = os.fork()
            if pid == 0:
                print("child speaks")
                os._exit(7)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        def fork_and_return(how):
            pid = os.fork()
            if pid == 0:
                if how == "raise":
                    raise ValueError("in the child")
                if how == "exit":
                    sys.exit(5)
                return "child"
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        def fork_in_generator():
            yield 1
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
            yield "parent" if pid else "child"
        async def afork():
            pid = os.fork()
            if pid == 0:
                return "child"
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        """,
        "fork_and_leave",
        "fork_and_return",
        "fork_in_generator",
        "afork",
    )
    under = daemon.start("fork_and_leave")
    assert under.result() == 7 and under.output[1] == b""
    assert daemon.call("fork_and_return", "return") == 0
    assert daemon.call("fork_and_return", "raise") == 1
    assert daemon.call("fork_and_return", "exit") == 5
    assert daemon.start("fork_in_generator").items() == [1, "parent"]
    assert daemon.start_async("afork").result() == 0
    own = daemon.own_output()
    assert "child speaks" in own and "ValueError: in the child" in own
    for sock in daemon.lanes:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):  # nothing was written beside the answers
            sock.recv(1)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_works_inside_a_call(daemon, method):
    daemon.code(
        f"""
        import multiprocessing as mp, os
        def square(x):
            print("child", x)
            return x * x, "RHD_WORKER_TOKEN" in os.environ
        def run():
            context = mp.get_context("{method}")
            with context.Pool(2) as pool:
                out = pool.map(square, [1, 2, 3])
            queue = context.SimpleQueue()
            p = context.Process(target=queue.put, args=(9,))
            p.start()
            out.append(queue.get())
            p.join()
            return out
        """,
        "run",
    )
    assert daemon.call("run") == [(1, False), (4, False), (9, False), 9]
    assert "child 3" in daemon.own_output()
    assert daemon.process.poll() is None


def test_interrupts_are_not_the_workers_and_children_get_them_as_usual(daemon):
    daemon.code(
        """
        import os, signal, subprocess, sys
        def poke():
            os.kill(os.getpid(), signal.SIGINT)
            code = "import signal as s; print(s.getsignal(s.SIGINT) is s.default_int_handler)"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            return done.stdout
        def f(): return 1
        """,
        "poke",
        "f",
    )
    assert daemon.call("poke") == "True\n"
    assert daemon.call("f") == 1


def test_the_environment_is_passed_on_without_the_token(daemon):
    daemon.code("import os\ndef env(): return dict(os.environ)\n", "env")
    env = daemon.call("env")
    assert env["RHD_WORKER"] == "w1"
    assert "RHD_WORKER_TOKEN" not in env and "RHD_WORKER_SOCKET" not in env


def test_the_working_directory_hides_no_module(daemon):
    daemon.code("import sys\ndef path(): return sys.path\n", "path")
    assert str(daemon.folder) not in daemon.call("path")


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff" * 8,
        b"\0" * 8,
        b"\0\0\0\x04\0\0\0\0junk",
        b"\0\0\0\x01\xff\xff\xff\xff\x80",
        b"\0\0\0\x01\0\0\0\0\x80",
        b"\0\0\0\x01\0",
    ],
)
def test_junk_closes_its_lane_only(daemon, junk):
    daemon.code("def f(): return 1\n", "f")
    sock = daemon.idle.get()
    sock.sendall(junk)
    sock.shutdown(1)
    # Reset, when it left bytes unread.
    with contextlib.suppress(ConnectionResetError):
        assert sock.recv(1) == b""
    assert [daemon.call("f") for _ in range(6)] == [1] * 6


def test_started_by_hand_it_says_who_starts_it():
    env = {k: v for k, v in os.environ.items() if not k.startswith("RHD_")}
    ran = subprocess.run(
        [sys.executable, "-m", "rhd.worker"],
        env={**env, "PYTHONPATH": str(SDK)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1 and "started by the rhd daemon" in ran.stderr


def test_it_runs_where_nothing_is_installed(daemon, tmp_path):
    code = (
        "import sys; from rhd._deps import cloudpickle, msgpack; c = cloudpickle();"
        "print(msgpack.__file__, c.__file__, c.__name__, c.loads(c.dumps(lambda: 5))())"
    )
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(SDK)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.count("_vendor") == 2 and ran.stdout.endswith(" cloudpickle 5\n")
