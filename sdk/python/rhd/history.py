"""Versions of data, and what they were made from."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from typing import Any

DEPTH = 32
"""Steps that a lineage goes back, at most."""
LONGEST = 1000
"""Records in one lineage, at most."""


@dataclasses.dataclass(frozen=True)
class Version:
    """What a name stood for at one time."""

    number: int
    """Never another version's of the name, also when older ones are gone."""
    hash: str
    size: int
    saved_at: datetime
    author: str
    """The node that saved it."""
    run: str | None
    """The id of the call that made it; `rh.run(id)` tells about that."""
    service: str | None
    """What was called."""
    inputs: tuple[str, ...]
    """What that call had read by then, or what its author named: `name@hash`, or a hash."""
    more_inputs: bool
    """Whether there were more of them than are named."""
    restored: int | None
    """The version that it was rolled back to."""
    kind: str = "blob"
    """`blob`, `folder` or `table`."""
    path: str | None = None
    """Where a folder or table was when it was saved."""


@dataclasses.dataclass(frozen=True)
class Lineage:
    """What something was made from."""

    name: str | None
    hash: str
    version: Version | None
    """The record of it; none where nobody who could be asked knows, or it was not followed."""
    node: str | None
    """The node that has the record."""
    inputs: tuple[Lineage, ...] = ()
    elsewhere: bool = False
    """Whether it comes up more than once, and has its inputs where it is nearest to the top."""
    cut: bool = False
    """Of the first one: whether there is more than was followed."""

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        lines = [self._line()]
        for n, one in enumerate(self.inputs):
            last = n + 1 == len(self.inputs)
            first, *rest = one._lines()
            lines.append(("└─ " if last else "├─ ") + first)
            lines += [("   " if last else "│  ") + line for line in rest]
        return lines

    def _line(self) -> str:
        head, known = f"{self.name}@{self.hash[:10]}" if self.name else self.hash[:10], self.version
        if known is None:
            return head
        if self.elsewhere:
            return f"{head}  version {known.number} on {self.node}, see elsewhere"
        made = f", by {known.service} in run {known.run}" if known.run else ""
        back = f", rolled back to version {known.restored}" if known.restored else ""
        saved = f"{known.saved_at:%Y-%m-%d %H:%M:%S}"
        return f"{head}  version {known.number} on {self.node}, saved {saved}{made}{back}"


def version_of(record: dict[str, Any]) -> Version:
    """Reads a `data::Version` of the protocol."""
    content, tree = record["content"], record.get("tree")
    return Version(
        number=int(record.get("number", 0)),
        hash=str(content["hash"]),
        size=int(tree["bytes"] if tree else content["size"]),
        saved_at=datetime.fromtimestamp(record["saved_ms"] / 1000, timezone.utc),
        author=str(record.get("author", "")),
        run=record.get("run"),
        service=record.get("service"),
        inputs=tuple(record.get("inputs", ())),
        more_inputs=bool(record.get("more", False)),
        restored=record.get("restored"),
        kind=("table" if tree.get("table") else "folder") if tree else "blob",
        path=tree["path"] if tree else None,
    )


def lineage_of(found: dict[str, Any]) -> Lineage:
    """Reads a `data::Lineage` of the protocol."""
    made = found["made"][:LONGEST]
    places = {one["blob"]: n for n, one in reversed(list(enumerate(made)))}
    inputs = [_inputs(one.get("record")) for one in made]
    # The first that names it shows what it was made from: the tree is no deeper than was followed.
    owner: dict[int, int] = {}
    depth = {0: 0}
    for n in range(len(made)):
        for one in inputs[n]:
            place = places.get(one, 0)
            if place > n and place not in owner and depth.get(n, DEPTH) < DEPTH:
                owner[place], depth[place] = n, depth[n] + 1
    whole: dict[int, Lineage] = {}

    def below(n: int, blob: str) -> Lineage:
        place = places.get(blob)
        if place is None:
            return _one(blob, None)
        if owner.get(place) == n:
            return whole[place]
        return _one(blob, made[place].get("record"), elsewhere=True)

    # What comes later is made first.
    for n in range(len(made) - 1, -1, -1):
        of = tuple(below(n, one) for one in inputs[n])
        cut = n == 0 and bool(found.get("cut"))
        whole[n] = _one(made[n]["blob"], made[n].get("record"), inputs=of, cut=cut)
    return whole[0]


def _inputs(record: dict[str, Any] | None) -> list[str]:
    return list(record["version"].get("inputs", ())) if record else []


def _one(blob: str, record: dict[str, Any] | None, **more: Any) -> Lineage:
    name, _, content_hash = blob.rpartition("@")
    known = version_of(record["version"]) if record else None
    node = record["node"] if record else None
    return Lineage(name=name or None, hash=content_hash, version=known, node=node, **more)
