"""Generators, async generators, back-pressure."""

import pytest
from worker_daemon import daemon_fixture, errors  # noqa: F401

CODE = """
import asyncio, contextlib

log = []

def numbers(n):
    try:
        for i in range(n):
            yield i
        return "all"
    finally:
        log.append("closed")

async def ticks(n):
    try:
        for i in range(n):
            log.append(i)
            yield i
    finally:
        log.append("closed")

def fails():
    yield 1
    raise ValueError("after one")

async def afails():
    yield 1
    raise ValueError("after one")

def plain(n):
    return numbers(n)

def listed(n):
    return iter([1, 2])

def told():
    out, log[:] = list(log), []
    return out

def wait_for(entry):
    import time
    end = time.monotonic() + 20
    while entry not in log:
        assert time.monotonic() < end, log
        time.sleep(0.001)
    return True
"""
NAMES = ["numbers", "ticks", "fails", "afails", "plain", "listed", "told", "wait_for"]


@pytest.fixture
def one(daemon):
    """All functions from one module, so that they share its log."""
    root = daemon.project("one", "1", one=CODE)
    for name in NAMES:
        daemon.load(name, "one", name, root)
    return daemon


def test_a_generator_streams_and_its_return_value_ends_it(one):
    under = one.start("numbers", 3)
    assert [under.item(), under.item(), under.item()] == [0, 1, 2]
    assert under.result() == "all"
    assert one.start("plain", 4).items() == [0, 1, 2, 3]


def test_an_error_in_the_middle_comes_after_the_items(one):
    for under in (one.start("fails"), one.start_async("afails")):
        assert under.item() == 1
        with pytest.raises(ValueError, match="after one"):
            under.result()


def test_an_item_that_cannot_be_pickled_ends_the_stream_and_closes_the_generator(one):
    one.code(
        """
        import threading, one
        def locks():
            try:
                yield threading.Lock()
            finally:
                one.log.append("locks closed")
        """,
        "locks",
    )
    with pytest.raises(errors.RemoteError, match="lock"):
        one.start("locks").items()
    assert one.call("told") == ["locks closed"]


def test_an_async_generator_waits_for_credit(one):
    under = one.start_async("ticks", 100)
    assert [under.item() for _ in range(16)] == list(range(16))
    one.call("wait_for", 16)
    assert one.call("told") == list(range(17))
    assert under.replies.empty()
    one.order("credit", id=under.id, items=3)
    assert [under.item() for _ in range(3)] == [16, 17, 18]
    one.call("wait_for", 19)
    assert under.replies.empty()
    one.order("credit", id=under.id, items=1000)
    assert under.items() == list(range(19, 100))


def test_a_cancelled_async_generator_is_closed(one):
    under = one.start_async("ticks", 100)
    for _ in range(16):
        under.item()
    one.order("cancel", id=under.id)
    with pytest.raises(errors.Cancelled):
        under.result()
    assert one.call("told")[-1] == "closed"


def test_a_generator_waits_for_its_reader_and_is_closed_by_cancel(one):
    one.code(
        """
        import one
        def big(n):
            try:
                for i in range(n):
                    one.log.append(i)
                    yield bytes(1_000_000)
            finally:
                one.log.append("big closed")
        """,
        "big",
    )
    under = one.start("big", 1000)
    under.item()
    one.order("cancel", id=under.id)
    with pytest.raises(errors.Cancelled):
        under.items()
    log = one.call("told")
    assert log[-1] == "big closed" and len(log) < 100


def test_a_lane_that_is_cut_closes_the_generator(one):
    under = one.start("numbers", 10**9)
    under.item()
    under.sock.close()
    assert one.call("wait_for", "closed")
