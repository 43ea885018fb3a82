"""Calls into a real worker process."""

import os

import pytest
from worker_daemon import Daemon, errors, frames


@pytest.fixture
def daemon(tmp_path):
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.close()


def test_a_function_runs_and_answers_under_its_id(daemon):
    daemon.code("def add(a, b=2):\n    'Adds.'\n    return a + b\n", "add")
    assert daemon.call("add", 1) == 3
    assert daemon.call("add", 1, kwargs={"b": 5}) == 6
    assert daemon.call("add", 1, codec="msgpack") == 3
    assert daemon.call("add", "x", kwargs={"b": "y"}, codec="json") == "xy"
