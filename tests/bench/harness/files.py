"""Files to move, and the least that moving them could cost."""

import os

MIB = 1 << 20


def fill(folder, files, size):
    """Makes a folder of so many files of this size, fifty to a folder."""
    for n in range(files):
        write(folder / f"d{n // 50}" / f"f{n}", size)


def write(path, size):
    """Makes a file that holds what no file held before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for at in range(0, size, MIB):
            file.write(os.urandom(min(size - at, MIB)))
    return path


def plain(source, target):
    """The floor: the same bytes, read and written in blocks of 1 MiB."""
    target.mkdir(exist_ok=True)
    for path in source.rglob("*"):
        out = target / path.relative_to(source)
        if path.is_dir():
            out.mkdir(exist_ok=True)
            continue
        out.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "rb", 0) as file, open(out, "wb", 0) as copy:
            while block := file.read(MIB):
                copy.write(block)
