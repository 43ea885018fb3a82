"""Results and failures as reply frames."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Sequence
from typing import Any

from .. import codec, errors, frames, segments
from ..frames import MAX_BODY, Buffer
from . import failures
from .call import Call, Refused

Frame = tuple[dict, Sequence[Buffer] | segments.Segment]


def take_body(call: Call) -> list[memoryview]:
    """Cuts the body of a call into its parts."""
    body, call.body = call.body, None
    if body is None or not call.parts:
        return [body] if body else []
    try:
        return frames.split(body, call.parts)
    except frames.FrameError as error:
        raise Refused(error) from None


def arguments(call: Call, parts: Sequence[Buffer]) -> tuple[Sequence[Any], dict]:
    """Decodes the body of a call."""
    if not parts:
        return (), {}
    try:
        args, kwargs = codec.loads(parts, call.codec)
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            raise TypeError("expected (args, kwargs)")
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise Refused(
            errors.RhdError(
                f"the arguments can't be read here: {type(error).__name__}: {error}",
                kind="bad_request",
                hint="pass plain data, arrays, or objects of classes that are in your project "
                "or in the env's reqs",
            )
        ) from error
    return args, kwargs


def value(call: Call, kind: str, result: Any) -> Frame:
    """Encodes a result (`done`) or an item of a generator (`item`)."""
    try:
        parts = codec.dumps(result, call.codec)
    except Exception as error:
        raise Refused(_unfit(call, result, error)) from error
    sizes = [memoryview(p).nbytes for p in parts]
    header = {"t": kind, "id": call.id, "codec": call.codec, "parts": sizes}
    if call.beside and segments.is_large(parts):
        try:
            return header, segments.lend(parts)
        except segments.TooLarge as error:
            raise Refused(errors.RemoteError(f"the result is {error}", hint=error.hint)) from None
    if sum(sizes) > MAX_BODY:
        raise Refused(
            errors.RemoteError(
                f"the result has {sum(sizes) / 2**20:.0f} MiB; one call may return "
                f"{MAX_BODY // 2**20} MiB",
                hint="yield it in parts, or write it to a file and return the path",
            )
        )
    return header, parts


def _unfit(call: Call, result: Any, error: Exception) -> errors.RhdError:
    where, culprit = _culprit(call, result)
    name = f"{type(culprit).__module__}.{type(culprit).__qualname__}".removeprefix("builtins.")
    verb = "pickled" if call.codec == "pickle" else f"written as {call.codec}"
    return errors.RemoteError(
        f"the result can't be {verb}: {where} is of type {name} ({error})",
        hint="return plain data, arrays or simple objects; keep what is bound to its process "
        "(locks, sockets, files, connections) in a module's state instead",
    )


def _culprit(call: Call, result: Any) -> tuple[str, Any]:
    """Finds the innermost part of a value that can't be encoded."""
    where = "it"
    for _ in range(5):
        for name, part in _parts(result):
            try:
                codec.dumps(part, call.codec)
            except Exception:
                where, result = (name if where == "it" else where + name), part
                break
        else:
            return where, result
    return where, result


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{key!r:.40}]", item) for key, item in list(value.items())[:50]]
    if isinstance(value, (list, tuple)):
        return [(f"[{at}]", item) for at, item in enumerate(value[:50])]
    return [(f".{name}", item) for name, item in list(getattr(value, "__dict__", {}).items())[:50]]


def failure(call: Call, error: BaseException) -> Frame:
    """Encodes what a call failed with."""
    body = b""
    if isinstance(error, Refused):
        info = failures.refusal(error.error, call_id=call.id)
    elif call.cancelled and isinstance(
        error, (errors.Cancelled, asyncio.CancelledError, concurrent.futures.CancelledError)
    ):
        info = failures.refusal(errors.Cancelled("the call was cancelled"), call_id=call.id)
    else:
        info, body = failures.to_info(error, call_id=call.id)
    return {"t": "fail", "id": call.id, "error": info}, [body] if body else []
