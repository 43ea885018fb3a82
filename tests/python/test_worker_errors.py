"""Exceptions, and results that can't travel."""

import traceback

import pytest
from rhd.worker import failures
from worker_daemon import Under, codec, daemon_fixture, errors, frames  # noqa: F401


class Strange(Exception):
    """Has a constructor that doesn't fit its args, and state."""

    def __init__(self, code, *, detail):
        super().__init__(f"code {code}")
        self.code, self.detail = code, detail


def test_an_exception_is_of_its_own_class_with_its_traceback(daemon):
    daemon.code(
        """
        def inner():
            return {}["key"]
        def outer():
            try:
                inner()
            except KeyError as error:
                raise ValueError("outer") from error
        """,
        "outer",
    )
    with pytest.raises(ValueError, match="outer") as info:
        daemon.call("outer")
    error = info.value
    assert type(error) is ValueError and error.kind == "remote" and error.call_id
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert "in inner" in text and "KeyError: 'key'" in text and "direct cause" in text
    assert 'return {}["key"]' in text
    assert "rhd/worker" not in error.remote_traceback.replace("\\", "/")


def test_a_class_of_the_caller_comes_back_as_itself_whatever_its_constructor(daemon):
    def fail():
        raise Strange(7, detail={"a": 1})

    daemon.load_value("fail", fail)
    # This module is not importable there, so the class went by value too.
    info, body = daemon.start("fail").info()
    error = errors.from_info(info, body)
    assert isinstance(error, Exception) and str(error) == "code 7"
    assert (error.code, error.detail) == (7, {"a": 1})


def test_a_class_that_the_caller_lacks_is_named(daemon):
    daemon.code("class Own(Exception): pass\ndef fail(): raise Own('mine')\n", "fail")
    with pytest.raises(errors.RemoteError, match="Own: mine") as info:
        daemon.call("fail")
    assert info.value.exc_type.endswith(".Own")
    assert "in fail" in info.value.remote_traceback
    assert "in fail" in "".join(traceback.format_exception(info.value))


def test_an_exception_that_cannot_be_pickled_still_arrives(daemon):
    daemon.code(
        """
        import threading
        def fail():
            error = ValueError("with a lock", threading.Lock())
            error.lock, error.fine = threading.Lock(), 3
            raise error
        class Hostile(Exception):
            def __reduce__(self): raise RuntimeError("never")
            def __str__(self): raise RuntimeError("never")
        def hostile():
            raise Hostile()
        def endless():
            return endless()
        def huge():
            raise ValueError("x" * 50_000_000)
        """,
        "fail",
        "hostile",
        "endless",
        "huge",
    )
    with pytest.raises(ValueError) as info:
        daemon.call("fail")
    assert info.value.args[0] == "with a lock" and info.value.fine == 3
    with pytest.raises(errors.RemoteError, match="Hostile"):
        daemon.call("hostile")
    with pytest.raises(RecursionError):
        daemon.call("endless")
    info, body = daemon.start("huge").info()
    assert "left out" in info["message"] and len(info["traceback"]) < 70_000
    error = errors.from_info(info, body)
    assert type(error) is ValueError and str(error).startswith("xxx") and len(str(error)) < 300


@pytest.mark.parametrize("raised", ["SystemExit(3)", "KeyboardInterrupt()", "GeneratorExit()"])
def test_what_ends_a_program_ends_only_the_call(daemon, raised):
    daemon.code(
        f"def leave(): raise {raised}\nasync def aleave(): raise {raised}\ndef f(): return 1\n",
        "leave",
        "aleave",
        "f",
    )
    for under in (daemon.start("leave"), daemon.start_async("aleave")):
        with pytest.raises(errors.RemoteError, match=raised.split("(")[0]):
            under.result()
    assert daemon.call("f") == 1
    assert daemon.start_async("f").result() == 1


def test_a_missing_module_says_which_package_to_add(daemon):
    daemon.code("def lazy():\n    import sklearn_not_there.sub\ndef pil(): import yaml_\n", "lazy")
    with pytest.raises(ModuleNotFoundError) as info:
        daemon.call("lazy")
    assert info.value.hint == (
        'add "sklearn_not_there" to reqs: rh.env(reqs=["sklearn_not_there"])'
    )
    assert any("add" in note for note in getattr(info.value, "__notes__", ["add"]))
    assert failures.missing_module_hint(ModuleNotFoundError(name="yaml")).startswith('add "pyyaml"')
    root = daemon.project("lacks", "1", lacks="import nowhere_at_all\ndef f(): pass\n")
    with pytest.raises(ModuleNotFoundError) as info:
        daemon.load("f", "lacks", "f", root)
    assert "nowhere_at_all" in info.value.hint


def test_an_error_of_ours_raised_by_user_code_keeps_its_class(daemon):
    daemon.code(
        "import rhd.errors as e\ndef f(): raise e.PeerLost('gone', hint='look', node='n2')\n", "f"
    )
    with pytest.raises(errors.PeerLost) as info:
        daemon.call("f")
    assert info.value.hint == "look" and info.value.node == "n2" and info.value.kind == "peer_lost"


def test_a_result_that_cannot_be_pickled_says_what_and_what_to_do(daemon):
    daemon.code(
        """
        import threading
        class Own: pass
        def lock(): return threading.Lock()
        def nested():
            own = Own(); own.part = [1, {"deep": threading.Lock()}]
            return own
        async def alock(): return threading.Lock()
        """,
        "lock",
        "nested",
        "alock",
    )
    for under in (daemon.start("lock"), daemon.start_async("alock")):
        with pytest.raises(errors.RemoteError, match=r"_thread\.lock") as info:
            under.result()
        assert "return plain data" in info.value.hint
    with pytest.raises(errors.RemoteError, match=r"\.part\[1\]\['deep'\] is of type _thread\.lock"):
        daemon.call("nested")
    with pytest.raises(errors.RemoteError, match="written as json"):
        daemon.call("lock", codec="json")


def test_a_result_over_the_limit_is_refused_with_a_way_out(daemon):
    daemon.code(
        """
        import rhd.worker.replies as replies
        def big():
            replies.MAX_BODY = 1000
            return bytes(2000)
        """,
        "big",
    )
    with pytest.raises(errors.RemoteError, match="one call may return") as info:
        daemon.call("big")
    assert "yield" in info.value.hint


def test_nothing_in_a_failure_makes_the_reader_raise():
    import pickle

    class Bomb:
        def __reduce__(self):
            return exec, ("raise SystemExit",)

    for body in (b"", b"junk", pickle.dumps(Bomb()), pickle.dumps(3), b"\x80\x05" * 9):
        error = errors.from_info(
            {"kind": "remote", "message": "m", "exc_type": "a.B", "hint": "h", "node": "n"}, body
        )
        assert type(error) is errors.RemoteError
        assert str(error) == "m (on n)\nhint: h"
    assert type(errors.from_info({})) is errors.RhdError
    assert errors.from_info({"kind": "from_the_future", "message": 3}).kind == "from_the_future"
    # What would end the caller's own program is not raised as itself.
    info, body = failures.to_info(SystemExit(0))
    assert type(errors.from_info(info, body)) is errors.RemoteError


def test_every_kind_has_its_class_and_pickles():
    import pickle

    for kind, cls in errors._KINDS.items():
        error = errors.from_info({"kind": kind, "message": "m", "hint": "h", "call": "c"})
        assert type(error) is cls and error.call_id == "c"
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is cls and str(copy) == str(error) and copy.hint == "h"
    assert issubclass(errors.Timeout, TimeoutError)
    assert issubclass(errors.NotFound, LookupError)
    assert issubclass(errors.PermissionDenied, PermissionError)
    assert issubclass(errors.DaemonUnavailable, ConnectionError)
