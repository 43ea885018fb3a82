"""Exceptions: their own class, and the remote traceback with them."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
import rhd as rh
from conftest import Project, script


def test_builtin_exceptions_keep_class_arguments_and_traceback(where: str) -> None:
    def deep(n):
        if n:
            return deep(n - 1)
        raise KeyError("the key", 7)

    with pytest.raises(KeyError) as caught:
        rh.function(deep).to(where)(2)
    assert caught.value.args == ("the key", 7)
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count("in deep") == 3 and "raise KeyError" in shown
    assert "rhd/worker" not in shown


def test_a_class_of_the_project_is_raised_as_itself(where: str, project: Project) -> None:
    project.write(
        trouble="""
        class Trouble(Exception):
            def __init__(self, code, *, detail):
                super().__init__(f"trouble {code}")
                self.code, self.detail = code, detail

        def cause(code):
            raise Trouble(code, detail={"a": 1})
    """
    )
    trouble = project.load("trouble")
    with pytest.raises(trouble.Trouble) as caught:
        rh.function(trouble.cause).to(where, project.env)(3)
    assert (caught.value.code, caught.value.detail) == (3, {"a": 1})


def test_a_class_that_the_caller_lacks_becomes_a_remote_error(beta: str, project: Project) -> None:
    project.write(
        hidden="""
        class Hidden(Exception):
            pass

        def cause():
            raise Hidden("from afar")
    """
    )
    hidden = project.load("hidden")
    rh.function(hidden.cause, name="tests/hidden").to(beta, project.env)
    program = script(
        """
        import time, rhd as rh
        while not rh.exists("tests/hidden"): time.sleep(0.01)
        try:
            rh.load("tests/hidden")()
        except rh.RemoteError as e:
            print(type(e).__name__, e.kind, e.exc_type, "from afar" in str(e),
                  "raise Hidden" in e.remote_traceback)
        """,
        cwd="/",
    )
    out, err = program.communicate(timeout=60)
    assert out.split() == ["RemoteError", "remote", "hidden.Hidden", "True", "True"], err


def test_an_exception_that_cannot_be_pickled_is_still_told(where: str) -> None:
    def fails():
        import threading

        error = ValueError("with a lock")
        error.lock = threading.Lock()
        raise error

    with pytest.raises((ValueError, rh.RemoteError), match="with a lock"):
        rh.function(fails).to(where)()


def test_a_result_that_cannot_be_pickled_names_the_culprit(where: str) -> None:
    def result():
        import threading

        return {"fine": 1, "bad": threading.Lock()}

    with pytest.raises(rh.RhdError) as caught:
        rh.function(result).to(where)()
    assert "bad" in str(caught.value) and "lock" in str(caught.value) and caught.value.hint


def test_exit_and_interrupts_end_the_call_not_the_caller(where: str) -> None:
    def leave(kind):
        raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt()}[kind]

    remote = rh.function(leave).to(where)
    for kind in ("exit", "interrupt"):
        with pytest.raises(rh.RhdError):
            remote(kind)
    assert rh.function(lambda: 1).to(where)() == 1


def test_causes_are_shown(beta: str) -> None:
    def chained():
        try:
            raise ZeroDivisionError
        except ZeroDivisionError as e:
            raise RuntimeError("outer") from e

    with pytest.raises(RuntimeError) as caught:
        rh.function(chained).to(beta)()
    shown = "".join(traceback.format_exception(caught.value))
    assert "ZeroDivisionError" in shown and "outer" in shown


def test_errors_say_where_and_which_call(beta: str) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        rh.function(lambda: 1 / 0).to(beta)()
    error: Any = caught.value
    assert len(error.call_id) == 26 and error.node == "beta"


def test_every_error_is_an_rhd_error() -> None:
    for kind in (
        "PeerLost",
        "Timeout",
        "Cancelled",
        "PermissionDenied",
        "NotFound",
        "Conflict",
        "EnvError",
        "VersionMismatch",
        "QueueFull",
        "DaemonUnavailable",
        "RemoteError",
    ):
        cls = getattr(rh, kind)
        assert issubclass(cls, rh.RhdError)
        error = cls("x", hint="do y")
        assert error.hint == "do y" and error.kind and "do y" in str(error)
