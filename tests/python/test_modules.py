"""Modules: objects with state on another node."""

from __future__ import annotations

import asyncio
import gc
import pickle
from typing import Any

import pytest
import rhd as rh
from conftest import Project, until
from rhd.names import describe


class Shelf:
    """Keeps things."""

    made = 0

    def __init__(self, things: Any = ()) -> None:
        self.things = list(things)
        self.label = "shelf"

    def put(self, thing: Any) -> int:
        """Adds a thing."""
        self.things.append(thing)
        return len(self.things)

    def each(self) -> Any:
        yield from self.things

    async def slow(self, thing: Any) -> Any:
        return thing

    async def aeach(self) -> Any:
        for thing in self.things:
            yield thing

    @property
    def count(self) -> int:
        return len(self.things)

    @classmethod
    def kind(cls) -> str:
        return cls.__name__

    @staticmethod
    def plus(a: int, b: int) -> int:
        return a + b

    def __len__(self) -> int:
        return len(self.things)

    def __iter__(self) -> Any:
        return iter(self.things)

    def __getitem__(self, at: int) -> Any:
        return self.things[at]

    def __setitem__(self, at: int, thing: Any) -> None:
        self.things[at] = thing

    def __contains__(self, thing: Any) -> bool:
        return thing in self.things


def local_copy() -> type:
    """The class as one of no importable module, so that the tests' own folder stays out of it."""
    space: dict[str, Any] = dict(vars(Shelf))
    for gone in ("__dict__", "__weakref__"):
        space.pop(gone, None)
    return type("Shelf", (), space)


@pytest.fixture
def shelf(where: str) -> Any:
    return rh.module(local_copy()).to(where)


def test_state_stays_between_calls(shelf: Any) -> None:
    one, two = shelf(["a"]), shelf()
    assert (one.put("b"), one.put("c"), two.put("z")) == (2, 3, 1)
    assert one.things == ["a", "b", "c"]


def test_attributes_and_properties_are_read_and_set(shelf: Any) -> None:
    one = shelf([1, 2])
    assert (one.count, one.label) == (2, "shelf")
    one.label = "rack"
    one.fresh = {"a": 1}
    assert (one.label, one.fresh) == ("rack", {"a": 1})
    with pytest.raises(AttributeError):
        _ = one.nothing_of_the_kind
    with pytest.raises(AttributeError):
        one.count = 3


def test_it_takes_part_in_the_language(shelf: Any) -> None:
    one = shelf([1, 2, 3])
    assert len(one) == 3 and list(one) == [1, 2, 3] and one[1] == 2 and 3 in one
    one[1] = "two"
    assert one[1] == "two"
    with pytest.raises(IndexError):
        _ = one[9]
    assert list(one.each()) == [1, "two", 3]
    assert bool(shelf())


def test_an_object_lives_while_it_is_iterated(shelf: Any) -> None:
    items = iter(shelf(range(100)))
    gc.collect()
    assert list(items) == list(range(100))
    put = shelf([1]).put
    gc.collect()
    assert put(2) == 2


def test_coroutines_and_async_generators(shelf: Any) -> None:
    one = shelf([1, 2])

    async def main() -> tuple[Any, list[Any]]:
        return await one.slow("x"), [thing async for thing in one.aeach()]

    assert asyncio.run(main()) == ("x", [1, 2])


def test_class_methods_need_no_object(shelf: Any) -> None:
    assert (shelf.kind(), shelf.plus(1, 2), shelf.made) == ("Shelf", 3, 0)
    assert shelf.local is not None


def test_a_copy_comes_back(shelf: Any) -> None:
    one = shelf([1])
    copy = one.fetch()
    assert type(copy).__name__ == "Shelf" and copy.things == [1]
    assert one.fetch("things") == [1]
    copy.things.append(2)
    assert one.count == 1


def test_a_named_object_is_found_again_and_only_once(where: str) -> None:
    remote = rh.module(local_copy()).to(where)
    name = f"tests/shelf-{where}"
    first = remote(["a"], name=name)
    until(lambda: rh.exists(name), "the name spreads")
    assert rh.load(name).put("b") == 2
    with pytest.raises(rh.Conflict) as caught:
        remote(name=name)
    assert caught.value.hint
    assert first.things == ["a", "b"]
    del first, remote
    gc.collect()
    assert rh.load(name).things == ["a", "b"]


def test_get_or_to_sends_only_what_is_not_there(beta: str) -> None:
    cls = local_copy()
    made = rh.module(cls).get_or_to(beta, None, "tests/shelves")
    again = rh.module(cls).get_or_to(beta, None, "tests/shelves")
    assert made.name == again.name == "/ann/tests/shelves"
    assert again(["x"]).things == ["x"]


def test_a_subclass_of_module_goes_as_class_or_as_object(beta: str, project: Project) -> None:
    project.write(
        counting="""
        import rhd as rh

        class Counter(rh.Module):
            def __init__(self, start, step=1):
                self.value, self.step = start, step

            def up(self):
                self.value += self.step
                return self.value
    """
    )
    counter = project.load("counting").Counter
    assert counter(1).up() == 2
    assert counter.to(beta, project.env)(10).up() == 11
    assert counter(5, step=5).to(beta, project.env).up() == 10
    one = counter(1).get_or_to(beta, project.env, name="tests/counter")
    assert one.up() == 2
    assert counter(1).get_or_to(beta, project.env, name="tests/counter").up() == 3


def test_handles_are_passed_on_and_back(mesh: Any) -> None:
    one = rh.module(local_copy()).to("here")(["x"])
    fill = rh.function(lambda shelf, n: [shelf.put(i) for i in range(n)]).to("beta")
    assert fill(one, 2) == [2, 3]
    assert pickle.loads(pickle.dumps(one)).things == ["x", 0, 1]
    method = pickle.loads(pickle.dumps(one.put))
    assert method("y") == 4


def test_an_object_without_a_name_ends_with_its_last_handle(where: str) -> None:
    one = rh.module(local_copy()).to(where)()
    name, node = one.name, one._rhd.target.node_id
    assert describe(name, node)
    assert name not in rh.ls()
    del one

    def gone() -> bool:
        try:
            return not describe(name, node)
        except rh.NotFound:
            return True

    until(gone, "the object was dropped")


def test_refresh_learns_new_members(beta: str, project: Project) -> None:
    project.write(
        toys="""
        class Toy:
            def old(self):
                return "old"
    """
    )
    toy = rh.module(project.load("toys").Toy).to(beta, project.env)()
    assert toy.old() == "old"
    assert toy.refresh().old() == "old"


def test_what_is_missing_is_named(shelf: Any) -> None:
    with pytest.raises((rh.NotFound, AttributeError)) as caught:
        shelf().pit("x")
    assert "pit" in str(caught.value)


def test_only_classes_are_modules() -> None:
    with pytest.raises(TypeError):
        rh.module(lambda: 1)
    with pytest.raises(TypeError):
        rh.function(Shelf)


def test_notes_on_a_handle_stay_here(shelf: Any) -> None:
    one = shelf()
    one.local["seen"] = True
    assert one.local == {"seen": True}


def test_what_was_just_built_there_is_found_at_once(beta: str) -> None:
    """Before beta's presence can have said so: whoever deploys a name may call it."""
    for i in range(10):
        made = rh.module(Shelf).to(beta)(name=f"just-{i}")
        assert rh.load(f"just-{i}").put(i) == 1
        assert made.things == [i]
        called = rh.function(len, name=f"count-{i}").to(beta)
        assert rh.load(f"count-{i}")("abc") == called("abc") == 3
