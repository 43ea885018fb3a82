"""What envs need, what nodes have, and what is said when they don't fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import Node, nodes, until
from rhd.env import amounts_and_labels


@pytest.fixture(scope="module")
def realm(root: Path) -> Iterator[tuple[Node, Node, Node]]:
    """A laptop, a box with two GPUs in the east, and one with half a GPU in the west."""
    with nodes(root) as make:
        laptop = make("laptop", RHD_NODE_RESOURCES="{gpus=0, cpus=2}")
        east = make("east", RHD_NODE_RESOURCES="{gpus=2}", RHD_NODE_LABELS='{zone="east"}')
        west = make("west", RHD_NODE_RESOURCES="{gpus=0.5}", RHD_NODE_LABELS='{zone="west"}')
        until(lambda: all(offer(name) for name in ("east", "west")), "both say what they have")
        yield laptop, east, west


def offer(name: str) -> Any:
    with contextlib.suppress(rh.NotFound):
        return rh.cluster(name).status().get("offer")


def free(name: str, resource: str) -> float:
    return offer(name)["free"][resource] / 1000


def where() -> str:
    import rhd

    return rhd.here.name


def test_the_daemon_finds_the_node_that_has_it(realm: Any) -> None:
    f = rh.function(where).to(env=rh.env(compute={"gpus": 1}))
    assert f() == "east"
    g = rh.function(where).to(env=rh.env(compute={"gpus": 0.5, "labels": {"zone": "west"}}))
    assert g() == "west"
    # Nothing needed, or nothing but what is here: nobody else is asked.
    assert rh.function(where).to()() == "laptop"


def test_what_an_env_needs_is_held_while_something_lives_in_it(realm: Any) -> None:
    env = rh.env(name="held", compute={"gpus": 2})
    until(lambda: free("east", "gpus") == 2, "nothing holds them")
    f = rh.function(where).to("east", env=env)
    until(lambda: free("east", "gpus") == 0, "the env holds both")
    # A second function of the same env shares what it holds.
    g = rh.function(offer).to("east", env=env)
    assert f() == "east"
    with pytest.raises(rh.QueueFull) as caught:
        rh.function(where).to("east", env=rh.env(name="other", compute={"gpus": 1}))
    assert "east has 0 of 2 gpus free (wanted: 1)" in caught.value.message
    assert "rhd rm" in caught.value.hint
    del f, g
    until(lambda: free("east", "gpus") == 2, "what nobody holds is free again")


def visible() -> str | None:
    import os

    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_gpus_that_an_env_holds_are_its_own_by_index(fresh: Any) -> None:
    node = fresh("box", RHD_NODE_RESOURCES="{gpus=5}")

    def seen(name: str, gpus: float, **more: Any) -> Any:
        return rh.function(visible).to(
            "here", env=rh.env(name=name, compute={"gpus": gpus}, **more)
        )

    one, two, half = seen("one", 1), seen("two", 2, workers=2), seen("half", 0.5)
    assert (one(), two(), half()) == ("0", "1,2", "3")
    other = seen("other", 0.5)
    assert other() == "3", "two halves share one"
    # All its processes, what its commands see, and after a restart.
    assert {two() for _ in range(8)} == {"1,2"}
    assert rh.here.run("echo $CUDA_VISIBLE_DEVICES", env="two")[0][1] == "1,2\n"
    assert rh.function(visible).to("here")() is None, "who asks for none is not confined"
    own = seen("own", 0.25, env_vars={"CUDA_VISIBLE_DEVICES": "7"})
    assert own() == "7", "who says it is believed"
    node.stop()
    node.up()
    assert (one(), two(), half(), other(), own()) == ("0", "1,2", "3", "3", "7")
    # What nobody holds any more goes to the next, and back to nobody who had it.
    del one
    until(lambda: free("box", "gpus") >= 1, "it is free again")
    following = seen("next", 1)
    assert following() == "0"
    with pytest.raises(rh.QueueFull):
        seen("one", 1)


def test_a_refusal_names_every_node_and_its_reason(realm: Any) -> None:
    with pytest.raises(rh.EnvError) as caught:
        rh.function(where).to(env=rh.env(compute={"gpus": 4, "labels": {"zone": "east"}}))
    said = caught.value.message
    assert "laptop has no label zone=east" in said
    assert "east has 2 gpus (wanted: 4)" in said
    assert "west has zone=west, not east" in said


def test_a_named_node_that_lacks_it_refuses_before_anything_is_built(realm: Any) -> None:
    laptop, *_ = realm
    with pytest.raises(rh.EnvError, match=r"laptop has no gpus \(wanted: 1\)"):
        rh.function(where).to("here", env=rh.env(name="never", compute={"gpus": 1}))
    with pytest.raises(rh.EnvError, match="laptop has 2 cpus"):
        rh.env(name="never", compute={"cpus": 3}).to("here")
    assert "never" not in laptop.cli("env", "ls")


def test_a_node_that_is_gone_is_named_as_gone(realm: Any, fresh: Any) -> None:
    fresh("one", RHD_NODE_RESOURCES="{tpus=0}")
    two = fresh("two", RHD_NODE_RESOURCES="{tpus=1}")
    until(lambda: offer("two"), "two says what it has")
    two.kill()
    until(lambda: not rh.cluster("two").is_up(), "two is away")
    with pytest.raises(rh.QueueFull, match="two can't be reached"):
        rh.function(where).to(env=rh.env(compute={"tpus": 1}))


def test_what_is_no_need_is_refused_here() -> None:
    for wrong in ({"gpus": "1"}, {"gpus": True}, {"labels": "eu"}):
        with pytest.raises(TypeError):
            amounts_and_labels(wrong)
    for wrong in ({"gpus": -1}, {"gpus": float("nan")}):
        with pytest.raises(ValueError, match="0 or more"):
            amounts_and_labels(wrong)
    assert amounts_and_labels({"cpus": 0.25, "labels": {"a": 1}}) == {
        "amounts": {"cpus": 250},
        "labels": {"a": "1"},
    }
