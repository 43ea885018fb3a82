"""Code into a running worker, and newer code in its place."""

import importlib
import sys

import pytest
from worker_daemon import PYTHON, codec, daemon_fixture, errors  # noqa: F401


def test_an_edited_project_is_loaded_again_with_all_its_modules(daemon):
    v1 = daemon.project(
        "p", "1", main="import lib.sub\ndef f(): return lib.sub.N\n", lib__sub="N = 1\n"
    )
    daemon.load("f", "main", "f", v1)
    assert daemon.call("f") == 1
    v2 = daemon.project(
        "p", "2", main="import lib.sub\ndef f(): return lib.sub.N\n", lib__sub="N = 2\n"
    )
    daemon.load("f", "main", "f", v2)
    assert daemon.call("f") == 2
    daemon.code("import sys\ndef paths(): return sys.path\n", "paths")
    paths = daemon.call("paths")
    assert v2["dir"] in paths and v1["dir"] not in paths


def test_running_calls_and_instances_keep_their_old_code(daemon):
    source = """
    import threading
    go = threading.Event()
    def wait():
        assert go.wait(20)
        return NUMBER
    def carry_on(): go.set()
    class C:
        def n(self): return NUMBER
    NUMBER = {}
    """
    v1 = daemon.project("p", "1", m=source.format(1))
    for name in ("wait", "carry_on", "C"):
        daemon.load(name, "m", name, v1)
    daemon.call("C", verb="new", instance="c")
    under = daemon.start("wait")
    v2 = daemon.project("p", "2", m=source.format(2))
    daemon.load("C", "m", "C", v2)
    daemon.call("C", verb="new", instance="c2")
    assert (daemon.call("c", method="n"), daemon.call("c2", method="n")) == (1, 2)
    daemon.call("carry_on")
    assert under.result() == 1


def test_the_same_version_is_not_loaded_twice(daemon):
    root = daemon.project("p", "1", m="print('imported')\nclass A: pass\n")
    entry = {"t": "import", "module": "m", "qualname": "A"}
    first = daemon.load_under("A", entry, [root], version="v1")
    loaded = first.result()
    assert first.output[1] == b"imported\n"
    daemon.call("A", verb="new", instance="a")
    again = daemon.load_under("A", entry, [root], version="v1")
    assert again.result() == loaded and again.output[1] == b""


def test_src_layouts_and_nested_names(daemon):
    root = daemon.project(
        "p", "1", src__pkg__mod="class A:\n    @staticmethod\n    def f(): return 1\n"
    )
    root["sys_path"] = ["src", ""]
    daemon.load("f", "pkg.mod", "A.f", root)
    assert daemon.call("f") == 1


def test_two_projects_with_one_module_name_are_told_apart(daemon):
    one = daemon.project("one", "1", a="import utils\ndef f(): return utils.N\n", utils="N = 1\n")
    two = daemon.project("two", "1", b="import utils\ndef f(): return utils.N\n", utils="N = 2\n")
    daemon.load("f", "a", "f", one)
    with pytest.raises(errors.EnvError, match=r"define module 'utils'.*one") as info:
        daemon.load("g", "b", "f", two)
    assert "two" in str(info.value) and "rh.env(name=" in info.value.hint
    # The refused project is out of the way again.
    daemon.code("import sys\ndef path(): return sys.path\n", "path")
    assert two["dir"] not in daemon.call("path") and one["dir"] in daemon.call("path")
    assert daemon.call("f") == 1


def test_a_deleted_service_frees_the_names_of_its_modules(daemon):
    one = daemon.project("one", "1", main="def f(): return 1\n")
    two = daemon.project("two", "1", main="def f(): return 2\n")
    daemon.load("f", "main", "f", one)
    daemon.call("f", verb="drop")
    daemon.load("g", "main", "f", two)
    assert daemon.call("g") == 2


def test_a_file_with_the_name_of_a_builtin_module_is_named(daemon):
    root = daemon.project("p", "1", sys="def f(): pass\n")
    with pytest.raises(errors.EnvError, match="'sys'") as info:
        daemon.load("f", "sys", "exit", root)
    assert info.value.hint == "rename sys.py"


def test_a_name_that_two_projects_define_and_none_has_imported_is_refused_at_its_import(daemon):
    one = daemon.project(
        "one", "1", a="def f():\n    import utils\n    return utils.N\n", utils="N = 1\n"
    )
    two = daemon.project("two", "1", b="def f(): return 2\n", utils="N = 2\n", setup="")
    daemon.load("f", "a", "f", one)
    # As long as nobody imports it, it does no harm.
    daemon.load("g", "b", "f", two)
    assert daemon.call("g") == 2
    with pytest.raises(ImportError, match="define module 'utils'"):
        daemon.call("f")


def test_wrappers_of_the_sdk_are_taken_off(daemon):
    root = daemon.project(
        "p",
        "1",
        m="""
        class Wrapper:
            def __init__(self, fn): self.__rhd_wrapped__ = fn
            def __call__(self): raise AssertionError
        @Wrapper
        def f(): return "inner"
        """,
    )
    daemon.load("f", "m", "f", root)
    assert daemon.call("f") == "inner"


def test_lambdas_closures_and_local_classes_go_by_value(daemon):
    base = 10

    def closure(x):
        return base + x

    class Local:
        def __init__(self):
            self.n = base

        def get(self):
            return self.n

    daemon.load_value("f", lambda x: x + 1)
    daemon.load_value("g", closure)
    assert daemon.load_value("L", Local)["class"] is True
    assert (daemon.call("f", 1), daemon.call("g", 1)) == (2, 11)
    daemon.call("L", verb="new", instance="l")
    assert daemon.call("l", method="get") == 10


def test_by_value_code_finds_the_project_that_was_sent_with_it(daemon, tmp_path, monkeypatch):
    root = daemon.project("p", "1", shipped_mod="def g(): return 'shipped'\n")
    monkeypatch.syspath_prepend(root["dir"])
    shipped_mod = importlib.import_module("shipped_mod")
    monkeypatch.delitem(sys.modules, "shipped_mod")
    sys.modules["shipped_mod"] = shipped_mod

    body = codec.dumps_by_value(lambda: shipped_mod.g())
    under = daemon.load_under("f", {"t": "value", "python": PYTHON}, [root], body)
    under.result()
    assert daemon.call("f") == "shipped"


def test_another_minor_version_is_refused_before_anything_runs(daemon):
    with pytest.raises(errors.VersionMismatch, match=r"Python 3\.2") as info:
        daemon.load_value("f", lambda: 1, python="3.2")
    assert 'rh.env(python="3.2")' in info.value.hint


def test_what_cannot_be_loaded_is_said(daemon):
    root = daemon.project("p", "1", m="x = 3\n", broken="def f(:\n", raising="1 / 0\n")
    with pytest.raises(errors.NotFound, match="module m has no f"):
        daemon.load("f", "m", "f", root)
    with pytest.raises(errors.RhdError, match="neither function nor class"):
        daemon.load("f", "m", "x", root)
    with pytest.raises(SyntaxError):
        daemon.load("f", "broken", "f", root)
    with pytest.raises(ZeroDivisionError) as info:
        daemon.load("f", "raising", "f", root)
    assert "raising.py" in info.value.remote_traceback
    assert "importlib" not in info.value.remote_traceback
    with pytest.raises(errors.EnvError, match="is missing"):
        daemon.load("f", "m", "f", {**root, "dir": "/nowhere/at/all"})
    with pytest.raises(errors.RhdError, match="can't be imported"):
        daemon.load("f", "__main__", "f", root)
    with pytest.raises(errors.RhdError, match="can't be read here"):
        daemon.load_under("f", {"t": "value", "python": PYTHON}, body=b"junk").result()


def test_loads_of_many_services_at_once(daemon):
    root = daemon.project(
        "p", "1", **{f"m{i}": f"import m0\ndef f(): return {i}\n" for i in range(20)}
    )
    under = []
    for i in range(20):
        entry = {"t": "import", "module": f"m{i}", "qualname": "f"}
        under.append(daemon.load_under(f"f{i}", entry, [root]))
        if len(under) == 4:
            for u in under:
                assert u.result()["class"] is False
            under = []
    assert [daemon.call(f"f{i}") for i in range(20)] == list(range(20))
