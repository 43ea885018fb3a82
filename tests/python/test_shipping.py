"""Code: how it gets to the other node, and how changes of it do."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import Project, script
from rhd import project as shipping


def test_a_project_goes_with_its_function(where: str, project: Project) -> None:
    project.write(
        lib_DOT___init__="",
        lib_DOT_deep_DOT___init__="from .inner import value",
        lib_DOT_deep_DOT_inner="value = 40",
        app="""
            from lib.deep import value

            def answer(x):
                import lazy
                return value + lazy.two + x
        """,
        lazy="two = 2",
    )
    assert rh.function(project.load("app").answer).to(where, project.env)(0) == 42


def test_an_edit_runs_at_the_next_call(where: str, project: Project) -> None:
    project.write(
        app="from helper import part\ndef answer(): return part() + '1'",
        helper="def part(): return 'a'",
    )
    remote = rh.function(project.load("app").answer).to(where, project.env)
    assert remote() == "a1"
    project.write(app="from helper import part\ndef answer(): return part() + '22'")
    assert remote() == "a22"
    project.write(helper="def part(): return 'bb'")
    assert remote() == "bb22"


def test_an_edit_of_a_file_that_only_the_other_side_imports(where: str, project: Project) -> None:
    project.write(app="def answer():\n    import late\n    return late.value", late="value = 1")
    remote = rh.function(project.load("app").answer).to(where, project.env)
    assert remote() == 1
    project.write(late="value = 22")
    assert remote() == 22


def test_a_syntax_error_in_an_edit_is_raised_until_it_is_mended(
    where: str, project: Project
) -> None:
    project.write(app="def answer(): return 1")
    remote = rh.function(project.load("app").answer).to(where, project.env)
    assert remote() == 1
    project.write(app="def answer(: return 2")
    for _ in range(2):
        with pytest.raises(SyntaxError):
            remote()
    project.write(app="def answer(): return 3333")
    assert remote() == 3333


def test_an_edit_may_turn_a_function_into_a_generator(beta: str, project: Project) -> None:
    project.write(app="def answer(): return [1]")
    remote = rh.function(project.load("app").answer).to(beta, project.env)
    assert remote() == [1]
    project.write(app="def answer():\n    yield 1\n    yield 2")
    assert list(remote()) == [1, 2]


def test_an_edited_class_builds_new_objects(beta: str, project: Project) -> None:
    project.write(app="class Thing:\n    def say(self): return 'old'")
    remote = rh.module(project.load("app").Thing).to(beta, project.env)
    old = remote()
    project.write(
        app="class Thing:\n    def say(self): return 'newer'\n    def more(self): return 1"
    )
    new = remote()
    assert (old.say(), new.say(), new.more()) == ("old", "newer", 1)


def test_a_decorated_function_of_a_module_is_called_not_wrapped(
    where: str, project: Project
) -> None:
    project.write(
        app="""
        import rhd as rh

        @rh.function
        def double(x):
            return 2 * x

        @rh.function
        def both(x):
            return double(x) + 1
    """
    )
    app = project.load("app")
    assert app.both(2) == 5
    assert app.both.to(where, project.env)(2) == 5


def test_lambdas_and_closures_go_by_value(where: str) -> None:
    base = {"a": 1}

    def outer(n):
        def inner(x):
            return base["a"] + n + x

        return inner

    assert rh.function(outer(10)).to(where)(100) == 111
    assert rh.function(lambda x, y=5: x * y).to(where)(2) == 10


def test_code_from_exec_goes_by_value(where: str) -> None:
    space: dict[str, Any] = {}
    exec("def made(x):\n    return helper(x) + 1\ndef helper(x):\n    return x * 10", space)
    assert rh.function(space["made"]).to(where)(2) == 21


def test_functions_of_packages_and_of_python_go_by_name(where: str) -> None:
    import json

    assert rh.function(json.dumps).to(where)({"a": 1}) == '{"a": 1}'
    assert rh.function(len).to(where)("abc") == 3


def test_a_script_takes_its_neighbours_along(where: str, tmp_path: Path, mesh: Any) -> None:
    (tmp_path / "neighbour.py").write_text("def value(): return 'next door'")
    (tmp_path / "data.bin").write_bytes(b"x" * 100)
    (tmp_path / "main.py").write_text(
        textwrap.dedent("""
        import os, sys
        import rhd as rh
        from neighbour import value

        def task():
            here = sys.modules["neighbour"].__file__
            return value(), os.listdir(os.path.dirname(here))

        if __name__ == "__main__":
            said, files = rh.function(task).to(sys.argv[1])()
            print(said, "neighbour.py" in files, "data.bin" in files)
    """)
    )
    done = subprocess.run(
        [sys.executable, "main.py", where],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(rh.__file__))},
    )
    assert done.stdout == "next door True False\n", done.stderr


def test_only_what_changed_is_sent(beta: str, project: Project) -> None:
    big = "data = '" + "x" * 300_000 + "'"
    project.write(app="import big\ndef answer(): return len(big.data)", big=big)
    remote = rh.function(project.load("app").answer).to(beta, project.env)
    first = remote._deployment.info
    assert remote() == 300_000
    assert first["bytes_sent"] > 300_000 and first["files_sent"] >= 2
    project.write(app="import big\ndef answer(): return len(big.data) + 1")
    assert remote() == 300_001
    second = remote._deployment.info
    assert second["files_sent"] == 1 and second["bytes_sent"] < 1000


def test_an_editable_install_of_setuptools_is_shipped(
    where: str, tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "mapped" / "python" / "mapped"
    package.mkdir(parents=True)
    (tmp_path / "mapped" / "pyproject.toml").touch()
    (package / "__init__.py").write_text("def value(): return 1")

    class Finder:
        """Maps names to folders without `sys.path`, as setuptools' own editable finder does."""

        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            if name != "mapped":
                return None
            inside = [str(package)]
            return importlib.util.spec_from_file_location(
                name, package / "__init__.py", submodule_search_locations=inside
            )

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    project.write(app="from mapped import value\ndef answer(): return value()")
    remote = rh.function(project.load("app").answer).to(where, project.env)
    assert remote() == 1
    (package / "__init__.py").write_text("def value(): return 2222")
    assert remote() == 2222


def test_an_editable_install_is_shipped(where: str, tmp_path: Path, project: Project) -> None:
    other = tmp_path / "other"
    (other / "src" / "edited").mkdir(parents=True)
    (other / "pyproject.toml").touch()
    (other / "src" / "edited" / "__init__.py").write_text("def value(): return 1")
    # What `pip install -e` of a src layout does: a .pth file puts the folder on sys.path.
    sys.path.append(str(other / "src"))
    try:
        project.write(app="from edited import value\ndef answer(): return value()")
        remote = rh.function(project.load("app").answer).to(where, project.env)
        assert remote() == 1
        (other / "src" / "edited" / "__init__.py").write_text("def value(): return 2222")
        assert remote() == 2222
    finally:
        sys.path.remove(str(other / "src"))


def test_ignored_and_huge_files_stay_at_home(beta: str, project: Project) -> None:
    project.write(
        app="""
        import os

        def names():
            return sorted(os.listdir(os.path.dirname(__file__)))
    """
    )
    (project.path / ".git").mkdir()
    (project.path / ".gitignore").write_text("data/\n")
    (project.path / "data").mkdir()
    (project.path / "data" / "big").write_bytes(b"x" * 1000)
    names = rh.function(project.load("app").names).to(beta, project.env)()
    assert "app.py" in names and "data" not in names


def test_the_size_guard_names_the_offender(beta: str, project: Project) -> None:
    project.write(app="def answer(): return 1")
    with open(project.path / "weights.bin", "wb") as out:
        out.truncate(2 << 30)
    with pytest.raises(rh.RhdError) as caught:
        rh.function(project.load("app").answer).to(beta, project.env)
    assert "weights.bin" in str(caught.value) and caught.value.hint


def test_another_python_is_refused_before_anything_runs(
    beta: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = shipping.locate

    def older(obj: Any, working_dir: str | None = None) -> Any:
        source = real(obj, working_dir)
        source.entry["python"] = "3.1"
        return source

    monkeypatch.setattr(shipping, "locate", older)
    path = tmp_path / "ran"
    with pytest.raises(rh.VersionMismatch) as caught:
        rh.function(lambda: open(path, "w").close()).to(beta)
    assert "3.1" in str(caught.value) and caught.value.hint and not path.exists()


def other_python() -> str | None:
    """An interpreter of another minor version, where this machine has one."""
    check = "import sys; print(sys.version_info >= (3, 10) and sys.version_info[1])"
    kept = (Path.home() / ".pyenv" / "versions").glob("3.*/bin/python3")
    named = (shutil.which(f"python3.{minor}") for minor in range(10, 20))
    for found in [*named, *map(str, kept)]:
        if found is not None:
            # A name on PATH may lead nowhere.
            done = subprocess.run([found, "-c", check], capture_output=True, text=True, check=False)
            minor = done.stdout.strip()
            if minor.isdecimal() and int(minor) != sys.version_info.minor:
                return found
    return None


def test_a_client_of_another_python_sends_what_has_a_name(mesh: Any) -> None:
    python = other_python()
    if python is None:
        pytest.skip("no second Python here")
    program = script(
        """
        import json, sys, rhd as rh
        print(rh.function(json.dumps).to("beta")({"a": (1, 2)}))
        try:
            rh.function(lambda: print("ran")).to("beta")
        except rh.VersionMismatch as e:
            print(f'python="{sys.version_info[0]}.{sys.version_info[1]}"' in e.hint)
        """,
        python=python,
    )
    out, err = program.communicate(timeout=60)
    assert out == '{"a": [1, 2]}\nTrue\n', err


# --- where code lives, decided without a daemon


def test_roots_of_a_project(project: Project) -> None:
    project.write(src_DOT_app="def answer(): return 1")
    sys.path.insert(0, str(project.path / "src"))
    try:
        source = shipping.locate(project.load("app").answer)
    finally:
        sys.path.remove(str(project.path / "src"))
    assert source.entry == {"t": "import", "module": "app", "qualname": "answer"}
    first = source.roots[0]
    assert first.path == os.path.realpath(project.path) and not first.only
    assert set(first.sys_path) == {"", "src"}


def test_a_folder_that_is_no_project_is_never_sent_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    loose = tmp_path / "loose"
    (loose / "pkg").mkdir(parents=True)
    (loose / "photos").mkdir()
    for name in ("lonely_mod.py", "beside.py", "notes.txt", "pkg/__init__.py", "photos/a.jpg"):
        (loose / name).write_text("def f(): return 1" if name.endswith("mod.py") else "")
    monkeypatch.syspath_prepend(str(loose))
    import lonely_mod  # type: ignore[import-not-found]

    try:
        root = shipping.locate(lonely_mod.f).roots[0]
    finally:
        del sys.modules["lonely_mod"]
    assert root.path == os.path.realpath(loose)
    assert root.only == ["beside.py", "lonely_mod.py", "pkg"]
    assert root.sys_path == [""]


def test_the_home_folder_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".git").mkdir()
    (tmp_path / "code").mkdir()
    assert shipping.project_of(str(tmp_path / "code")) is None
    (tmp_path / "code" / "setup.py").touch()
    assert shipping.project_of(str(tmp_path / "code")) == os.path.realpath(tmp_path / "code")


def test_installed_code_needs_no_folder() -> None:
    import msgpack

    source = shipping.locate(msgpack.unpackb)
    assert source.roots == [] or source.entry["t"] == "value"


def test_a_program_of_its_own_redefines_freely(mesh: Any) -> None:
    program = script("""
        import rhd as rh
        def f(): return 1
        one = rh.function(f).to("beta")
        def f(): return 2
        two = rh.function(f).to("beta")
        print(one(), two(), one())
    """)
    out, err = program.communicate(timeout=60)
    assert out == "1 2 1\n", err
