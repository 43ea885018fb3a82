"""Versions of data, and what they were made from."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from typing import Any


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


@dataclasses.dataclass(frozen=True)
class Lineage:
    """What something was made from."""

    name: str | None
    hash: str
    version: Version | None
    """The record of it; none where nobody who could be asked knows, or it was not followed."""
    node: str | None
    """The node that has the record."""
    inputs: tuple[Lineage, ...]
    """Those of each thing are in the tree where it first comes up."""
    cut: bool = False
    """Of the first one: whether there is more than was followed."""

    def __str__(self) -> str:
        return "\n".join(self._lines(set()))

    def _lines(self, shown: set[tuple[str | None, str]]) -> list[str]:
        head, known = f"{self.name or ''}@{self.hash[:10]}".lstrip("@"), self.version
        if (self.name, self.hash) in shown:
            return [f"{head}  (see above)"]
        shown.add((self.name, self.hash))
        if known is not None:
            made = f" by {known.service} in run {known.run}" if known.run else ""
            back = f", rolled back to version {known.restored}" if known.restored else ""
            saved = f"{known.saved_at:%Y-%m-%d %H:%M:%S}"
            head += f"  version {known.number} on {self.node}, saved {saved}{made}{back}"
        lines = [head]
        for n, one in enumerate(self.inputs):
            last = n + 1 == len(self.inputs)
            first, *rest = one._lines(shown)
            lines.append(("└─ " if last else "├─ ") + first)
            lines += [("   " if last else "│  ") + line for line in rest]
        return lines


def version_of(record: dict[str, Any]) -> Version:
    """Reads a `data::Version` of the protocol."""
    content = record["content"]
    return Version(
        number=int(record.get("number", 0)),
        hash=str(content["hash"]),
        size=int(content["size"]),
        saved_at=datetime.fromtimestamp(record["saved_ms"] / 1000, timezone.utc),
        author=str(record.get("author", "")),
        run=record.get("run"),
        service=record.get("service"),
        inputs=tuple(record.get("inputs", ())),
        more_inputs=bool(record.get("more", False)),
        restored=record.get("restored"),
    )


def lineage_of(found: dict[str, Any]) -> Lineage:
    """Reads a `data::Lineage` of the protocol."""
    made = {one["blob"]: one.get("record") for one in found["made"]}
    return _tree(found["made"][0]["blob"], made, set(), bool(found.get("cut")))


def _tree(blob: str, made: dict[str, Any], above: set[str], cut: bool = False) -> Lineage:
    name, _, content_hash = blob.rpartition("@")
    record = made.get(blob)
    known = version_of(record["version"]) if record else None
    inputs: list[Lineage] = []
    if known is not None and blob not in above:
        above.add(blob)
        inputs = [_tree(one, made, above) for one in known.inputs]
    return Lineage(
        name=name or None,
        hash=content_hash,
        version=known,
        node=record["node"] if record else None,
        inputs=tuple(inputs),
        cut=cut,
    )
