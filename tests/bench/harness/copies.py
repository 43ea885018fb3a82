"""Folders from one daemon to another, beside rsync and scp over OpenSSH and a plain write."""

import os

from .files import MIB, fill, plain

TITLE = "Folders"
NOTE = "From one daemon to another; a plain write is of one process, in blocks of 1 MiB."
SMALL = 4096


def measure(place, figures):
    """Small files, small files of which most are there already, and a large one."""
    with place.folder() as made, place.mesh() as mesh:
        small, other, big = (made / name for name in ("small", "other", "big"))
        fill(small, 5000, SMALL)
        fill(other, 2000, SMALL)
        fill(big, 1, place.large * MIB)

        def rhd(source, target):
            mesh.nodes[0].cli("folder", "to", source, f"n1:{target}")

        ways = {"rhd": rhd, "plain write": plain, **place.ssh}
        for names in place.turns(ways):
            for name in names:
                copy = ways[name]

                def note(what, size, source, target, name=name, copy=copy):
                    figures.note(what, name, place.timed(size, copy, source, target))

                with place.folder() as folder:
                    note("5,000 files of 4 KiB, cold", 5000 * SMALL, small, folder / "x")
                if name in ("rhd", "rsync"):
                    _again(place, name, copy, note, other)
                with place.folder() as folder:
                    size = place.large * MIB
                    note(f"one file of {place.large:,} MiB", size, big, folder / "x")


def _again(place, name, copy, note, source):
    """A folder that is there already."""
    with place.folder() as folder:
        target = folder / "x"
        copy(source, target)
        note("2,000 files, nothing changed", 0, source, target)
        (source / "d0" / "f1").write_bytes(os.urandom(SMALL))
        note("2,000 files, one changed", SMALL, source, target)
        if (source / "d0" / "f1").read_bytes() != (target / "d0" / "f1").read_bytes():
            raise RuntimeError(f"{name} did not bring the change")
