"""Failures that the client itself finds, as the same exceptions that come from a daemon."""

from __future__ import annotations

from . import errors


def fault(
    kind: str, message: str, *, hint: str = "", call: str = "", node: str = ""
) -> BaseException:
    """The exception for an error of this kind (`ErrorKind`'s names)."""
    info = {"kind": kind, "message": message, "hint": hint, "call": call, "node": node}
    return errors.from_info(info, b"")
