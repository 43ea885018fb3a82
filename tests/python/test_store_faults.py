"""The faults of an object store: busy, cut off, refusing, and uploads that come to nothing."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import rhd as rh
from conftest import BINARY, Node, until
from object_store import Store
from test_folders import noise, write
from test_stores import both, s3, server

assert server and both and s3

MIB = 1 << 20


def each(times: int, fault: Callable[..., None]) -> Callable[..., bool]:
    """Fails the first so many requests for objects."""
    left = [times]

    def answer(door: object) -> bool:
        if left[0] <= 0:
            return False
        left[0] -= 1
        fault(door)
        return True

    return answer


def test_a_store_that_is_busy_for_a_while_is_waited_for(s3: Store, source: Path) -> None:
    write(source, {"a": b"one", "b": b"two"})
    s3.fault = each(3, lambda door: door.refuse(503, "SlowDown"))
    done = rh.folder(source).to("s3", f"{s3.name}/x").last
    assert done is not None and done.written == 2


def test_a_connection_that_is_cut_costs_no_more_than_what_it_cut(s3: Store, tmp_path: Path) -> None:
    s3.put(f"{s3.name}/x/large", noise(9 * MIB))
    cut = [2]

    def fault(door: object) -> bool:
        if door.command != "GET" or not door.path.endswith("/large") or not cut[0]:
            return False
        cut[0] -= 1
        door.forward(s3.host, s3.port, most=100_000)
        return True

    s3.fault = fault
    rh.folder(f"s3://{s3.name}/x").to("here", str(tmp_path / "x"))
    assert (tmp_path / "x/large").read_bytes() == noise(9 * MIB)
    assert cut == [0]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(403, "AccessDenied", "permission_denied"), (503, "SlowDown", "peer_lost")],
)
def test_a_store_that_refuses_is_told_about(
    s3: Store, source: Path, tmp_path: Path, status: int, code: str, kind: str
) -> None:
    write(source, {"a": b"one"})
    s3.fault = lambda door: door.refuse(status, code) or True
    with pytest.raises(rh.RhdError, match=code) as caught:
        rh.folder(source).to("s3", f"{s3.name}/x")
    assert caught.value.kind == kind and caught.value.hint and caught.value.node == "near"
    with pytest.raises(rh.RhdError, match=code) as caught:
        rh.folder(f"s3://{s3.name}/x").to("far", str(tmp_path / "x"))
    assert caught.value.node == "far"
    # A question about one object is answered without a word.
    with pytest.raises(rh.RhdError, match=str(status)):
        rh.file(path=f"{s3.name}/x", system="s3").fetch()


def test_a_bucket_that_is_not_there(s3: Store, source: Path) -> None:
    write(source, {"a": b"one"})
    with pytest.raises(rh.RhdError, match="NoSuchBucket") as caught:
        rh.folder(source).to("s3", "no-such-bucket/x")
    assert caught.value.kind == "not_found" and "make the bucket" in caught.value.hint
    assert not rh.folder("s3://no-such-bucket/x").exists_in_system()


def test_an_upload_that_fails_leaves_nothing_to_pay_for(s3: Store, source: Path) -> None:
    write(source, {"large": noise(30 * MIB)})
    parts = [0]

    def fault(door: object) -> bool:
        if door.command != "PUT" or "partNumber" not in door.path:
            return False
        parts[0] += 1
        if parts[0] < 3:
            return False
        door.refuse(403, "AccessDenied")
        return True

    s3.fault = fault
    with pytest.raises(rh.RhdError, match="AccessDenied"):
        rh.folder(source).to("s3", f"{s3.name}/x")
    until(lambda: s3.uploads(s3.name) == 0, "what was begun is given up")
    assert s3.keys(s3.name) == []
    s3.fault = None
    done = rh.folder(source).to("s3", f"{s3.name}/x").last
    assert done is not None and done.written == 1


def test_an_upload_that_is_cancelled_in_its_last_request_leaves_nothing(
    s3: Store, both: tuple[Node, Node], source: Path
) -> None:
    write(source, {"large": noise(30 * MIB)})
    last, over = threading.Event(), threading.Event()

    def fault(door: object) -> bool:
        if door.command != "POST" or "uploadId" not in door.path:
            return False
        last.set()
        # Nobody waits for the answer any more by then.
        over.wait(60)
        door.close_connection = True
        return True

    s3.fault = fault
    ask = [BINARY, "--home", str(both[0].home), "folder", "to", str(source), f"s3://{s3.name}/x"]
    with subprocess.Popen(ask, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        try:
            assert last.wait(60)
            assert s3.uploads(s3.name) == 1
            client.kill()
            until(lambda: s3.uploads(s3.name) == 0, "what was begun is given up")
        finally:
            over.set()
            client.kill()
    assert s3.keys(s3.name) == []


def test_what_says_a_wrong_hash_of_itself_is_found_out(
    s3: Store, source: Path, tmp_path: Path
) -> None:
    write(source, {"large": noise(2 * MIB)})
    rh.folder(source).to("s3", f"{s3.name}/x")
    real = noise(2 * MIB, 1)

    def fault(door: object) -> bool:
        if door.command != "GET" or not door.path.endswith("/large"):
            return False
        door.send_response(206)
        door.send_header("Content-Length", str(len(real)))
        door.send_header("Content-Range", f"bytes 0-{len(real) - 1}/{len(real)}")
        door.send_header("ETag", '"0"')
        door.send_header("Last-Modified", "Sun, 22 Nov 2026 12:00:00 GMT")
        door.end_headers()
        door.wfile.write(real)
        return True

    s3.fault = fault
    done = rh.folder(f"s3://{s3.name}/x").to("far", str(tmp_path / "x")).last
    # It is what the store gave, and known as what it is.
    assert done is not None and not done.skipped
    assert (tmp_path / "x/large").read_bytes() == real
