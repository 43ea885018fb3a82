"""Commands on clusters and in envs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import script, until


def gone(pid: int) -> bool:
    """Whether no such process runs."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


def test_commands_return_code_and_output_of_each(where: str) -> None:
    cluster = rh.cluster(where)
    said = cluster.run(["echo out; echo err >&2; exit 3", "printf done"], stream_logs=False)
    assert said == [(3, "out\n", "err\n"), (0, "done", "")]
    assert cluster.run("kill -9 $$") == [(-9, "", "")]


def test_output_comes_while_a_command_runs(where: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    program = script(
        """
        import sys, rhd as rh
        wait = f"while [ ! -e {sys.argv[2]} ]; do sleep 0.01; done"
        rh.cluster(sys.argv[1]).run("echo first; " + wait)
        """,
        where,
        str(mark),
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "first\n"
    mark.touch()
    assert program.wait(30) == 0
    program.communicate()


def test_no_output_is_shown_unless_wanted(where: str, capfd: Any) -> None:
    rh.cluster(where).run("echo shown")
    assert "shown" in capfd.readouterr().out
    assert rh.cluster(where).run("echo shown", stream_logs=False) == [(0, "shown\n", "")]
    assert "shown" not in capfd.readouterr().out


def test_commands_have_the_variables_and_folder_of_the_env(where: str) -> None:
    env = rh.env(name="shell-vars", env_vars={"COLOUR": "red"}).to(where)
    (code, out, _), _ = env.run(["echo $COLOUR $RHD_WORKER_TOKEN$RHD_WORKER; pwd", "touch made"])
    assert code == 0 and out.splitlines()[0] == "red"
    here = rh.function(lambda: (os.getcwd(), os.path.exists("made"))).to(where, env)
    assert here() == (out.splitlines()[1], True)


def test_python_lines_run_together_in_the_envs_interpreter(where: str) -> None:
    said = rh.cluster(where).run_python(
        ["import sys", "print(sys.executable)", "x = 1", "print(x)"]
    )
    executable = rh.function(lambda: sys.executable).to(where)()
    assert said == [(0, f"{executable}\n1\n", "")]


def test_a_command_that_leaves_something_running_returns(where: str, tmp_path: Path) -> None:
    ((code, out, _),) = rh.cluster(where).run("sleep 1000 & echo $!; echo over")
    pid, over = out.split()
    assert (code, over) == (0, "over")
    assert not gone(int(pid))
    os.kill(int(pid), signal.SIGKILL)


def test_of_endless_output_the_end_is_kept(beta: str) -> None:
    ((code, out, _),) = rh.cluster(beta).run(
        "head -c 30000000 /dev/zero | tr '\\0' x; echo; echo end", stream_logs=False
    )
    assert code == 0 and out.endswith("x\nend\n")
    assert out.startswith("... ") and len(out) < 9_000_000


def test_ctrl_c_ends_a_command_and_all_that_it_started(where: str, tmp_path: Path) -> None:
    path = tmp_path / "pids"
    program = script(
        """
        import sys, rhd as rh
        pids = sys.argv[2]
        tell = f"echo $$ $! > {pids}.new; mv {pids}.new {pids}"
        try:
            rh.cluster(sys.argv[1]).run(f"trap '' TERM; sleep 1000 & {tell}; wait; sleep 1000")
        except KeyboardInterrupt:
            print("interrupted")
        """,
        where,
        str(path),
    )
    until(path.exists, "the command runs")
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert out == "interrupted\n", err
    for pid in path.read_text().split():
        until(lambda pid=pid: gone(int(pid)), "it was ended")


def test_commands_end_with_their_worker(beta: str, tmp_path: Path) -> None:
    env, path = rh.env(name="shell-doomed"), tmp_path / "pids"
    cluster = rh.cluster(beta)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            cluster.run(f"sleep 1000 & echo $$ $! > {path}.new; mv {path}.new {path}; wait", env)
        except BaseException as e:
            failed.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    until(path.exists, "the command runs")
    with pytest.raises(rh.RhdError):
        rh.function(lambda: os._exit(1)).to(beta, env)()
    thread.join(30)
    assert isinstance(failed[0], rh.RhdError)
    for pid in path.read_text().split():
        until(lambda pid=pid: gone(int(pid)), "it was ended")


def test_calls_by_name(beta: str) -> None:
    class Greeter:
        def greet(self, name, mark="."):
            return f"hello {name}{mark}"

    greeter = rh.module(Greeter).to(beta)(name="tests/greeter")
    shout = rh.function(lambda x: x.upper(), name="tests/shout").to(beta)
    cluster = rh.cluster(beta)
    assert cluster.call("tests/greeter", "greet", "ann", mark="!") == "hello ann!"
    assert cluster.call("tests/shout", None, "ann") == "ANN"
    with pytest.raises(rh.NotFound):
        cluster.call("tests/nobody", "greet")
    del greeter, shout


@pytest.fixture
def package(tmp_path: Path) -> str:
    """A package that can be installed without a network."""
    source = tmp_path / "tiny-rhd-package"
    source.mkdir()
    (source / "backend.py").write_text(
        "import zipfile\n"
        "def build_wheel(folder, *_):\n"
        "    name = 'tiny_rhd_package-1.0-py3-none-any.whl'\n"
        "    info = 'tiny_rhd_package-1.0.dist-info/'\n"
        "    with zipfile.ZipFile(f'{folder}/{name}', 'w') as z:\n"
        "        z.writestr('tiny_rhd_package.py', 'x = 42')\n"
        "        z.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: tiny-rhd-package\\n"
        "Version: 1.0\\n')\n"
        "        z.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\n"
        "Root-Is-Purelib: true\\nTag: py3-none-any\\n')\n"
        "        z.writestr(info + 'RECORD', '')\n"
        "    return name\n"
    )
    (source / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    )
    return str(source)


def test_packages_are_added_to_a_named_env(beta: str, package: str) -> None:
    cluster = rh.cluster(beta)
    env = rh.env(name="shell-install").to(cluster)
    probe = rh.function(lambda: __import__("tiny_rhd_package").x).to(beta, env)
    with pytest.raises(ModuleNotFoundError):
        probe()
    env.install([package])
    assert probe() == 42
    assert env.run("python -c 'import tiny_rhd_package as t; print(t.x)'")[0][:2] == (0, "42\n")


def test_without_an_env_packages_go_into_the_nodes_own_interpreter(
    fresh: Any, tmp_path: Path, package: str
) -> None:
    own = tmp_path / "own"
    subprocess.run([sys.executable, "-m", "venv", str(own)], check=True)
    fresh("near", RHD_WORKERS_PYTHON=str(own / "bin" / "python"))
    with pytest.raises(rh.EnvError) as caught:
        rh.here.install_packages("no-such-package-as-this-one-rhd==9.9")
    assert "no-such-package-as-this-one-rhd" in str(caught.value) and caught.value.hint
    rh.here.install_packages([package])
    assert rh.here.run_python("import tiny_rhd_package as t; print(t.x)") == [(0, "42\n", "")]


def test_what_can_not_be_installed_leaves_the_env_as_it_is(beta: str) -> None:
    env = rh.env(name="shell-in-vain").to(rh.cluster(beta))
    for _ in range(2):
        with pytest.raises(rh.EnvError):
            env.install("/no/such/package")
        assert env.reqs == []
    ((code, out, _),) = env.run("echo still here", stream_logs=False)
    assert (code, out) == (0, "still here\n")


def test_an_env_of_a_later_version_is_understood(beta: str, monkeypatch: Any) -> None:
    rh.env(name="shell-later", env_vars={"A": "1"}).to(beta)
    request = rh.daemon.Daemon.request

    def later(self: Any, op: str, **fields: Any) -> Any:
        answer = request(self, op, **fields)
        for one in answer if op == "envs" else ():
            one["spec"]["sandbox"] = {"of": "a later version"}
        return answer

    monkeypatch.setattr(rh.daemon.Daemon, "request", later)
    assert rh.cluster(beta).run("echo $A", env="shell-later", stream_logs=False)[0][1] == "1\n"
