"""Cancellation, of threads and of tasks."""

import pytest
from worker_daemon import Under, daemon_fixture, errors, frames, new_id  # noqa: F401

CODE = """
import asyncio, threading, time
from rhd.errors import Cancelled

def spin():
    print("spinning")
    while True:
        pass

def tidy():
    try:
        spin()
    finally:
        print("tidied")

def stubborn():
    try:
        spin()
    except Cancelled:
        return "kept on"

async def sleep():
    print("sleeping")
    try:
        await asyncio.sleep(3600)
    finally:
        print("woken")

def lane_sleep():
    return sleep()

def echo(x):
    return x

def short(n):
    for _ in range(n):
        pass
    return n
"""
NAMES = ["spin", "tidy", "stubborn", "sleep", "lane_sleep", "echo", "short"]


@pytest.fixture
def code(daemon):
    root = daemon.project("c", "1", c=CODE)
    for name in NAMES:
        daemon.load(name, "c", name, root)
    return daemon


def test_a_thread_is_interrupted_and_its_lane_goes_on(code):
    for _ in range(6):  # each lane more than once
        under = code.start("tidy")
        under.until_output("spinning")
        code.order("cancel", id=under.id)
        with pytest.raises(errors.Cancelled) as info:
            under.result()
        assert info.value.kind == "cancelled"
        assert under.output[1] == b"spinning\ntidied\n"
    assert [code.call("echo", i) for i in range(8)] == list(range(8))


def test_code_may_catch_the_cancellation(code):
    under = code.start("stubborn")
    under.until_output("spinning")
    code.order("cancel", id=under.id)
    assert under.result() == "kept on"


def test_a_task_is_cancelled(code):
    under = code.start_async("sleep")
    under.until_output("sleeping")
    code.order("cancel", id=under.id)
    with pytest.raises(errors.Cancelled):
        under.result()
    assert under.output[1] == b"sleeping\nwoken\n"


def test_a_coroutine_on_a_call_lane_is_cancelled(code):
    under = code.start("lane_sleep")
    under.until_output("sleeping")
    code.order("cancel", id=under.id)
    with pytest.raises(errors.Cancelled):
        under.result()
    assert under.output[1] == b"sleeping\nwoken\n"
    assert [code.call("echo", i) for i in range(4)] == list(range(4))


def test_a_cancellation_that_overtakes_its_call_is_kept_for_it(code):
    sock = code.idle.get()
    header = code.header("spin", [])
    code.order("cancel", id=header["id"])
    # The control lane is read in order: this answer means that the one before was seen.
    code.start_async("echo", 1).result()
    frames.send(sock, header)
    with pytest.raises(errors.Cancelled):
        Under(code, sock, header).result()


def test_a_ping_is_answered_while_threads_and_the_loop_are_busy(code):
    spinning = [code.start("spin") for _ in range(3)]
    for under in spinning:
        under.until_output("spinning")
    code.start_async("spin").until_output("spinning")
    answer = code.ping()
    assert answer["t"] == "done" and len(answer) == 2


def test_a_late_or_foreign_cancellation_hits_nobody(code):
    """Every call answers with its own result or as cancelled, whenever the order arrives."""
    seen = {"done": 0, "cancelled": 0}
    for n in range(400):
        under = code.start("short", n * 40)
        code.order("cancel", id=under.id)
        code.order("cancel", id=new_id())
        try:
            assert under.result() == n * 40
            seen["done"] += 1
        except errors.Cancelled:
            seen["cancelled"] += 1
        assert code.call("echo", n) == n
    assert sum(seen.values()) == 400
