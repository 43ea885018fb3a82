"""Forked children: they have copies of the lanes, and must never write on them."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from typing import TYPE_CHECKING

from . import output

if TYPE_CHECKING:
    from .runtime import Runtime

_is_child = False


def install(runtime: Runtime) -> None:
    """Closes the lanes in every child that is forked from now on."""

    def in_child() -> None:
        global _is_child
        _is_child = True
        output.own_only()
        for sock in runtime.sockets():
            with contextlib.suppress(OSError):
                sock.close()

    os.register_at_fork(after_in_child=in_child)


def leave_if_child() -> None:
    """Ends a child that came back from the user's code, where only the worker itself goes on."""
    if not _is_child:
        return
    code = 0
    error = sys.exc_info()[1]
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
