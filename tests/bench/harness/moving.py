"""Moving files between two nodes, beside rsync and scp over OpenSSH, in one run.

Every tool copies the same folders on this one machine, in turn; ratios of medians are what counts.
A floor is shown beside them: the same bytes written by one process in blocks of 1 MiB.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .__main__ import machine
from .mesh import Mesh
from .rounds import say

MIB = 1 << 20
SMALL = 4096


class Ssh:
    """A server of this machine's OpenSSH, with keys of its own, on loopback."""

    def __init__(self, root):
        self._root = root
        for key in ("host", "user"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / key)
        shutil.copy(root / "user.pub", root / "authorized")
        config = root / "sshd_config"
        config.write_text(
            f"HostKey {root}/host\nAuthorizedKeysFile {root}/authorized\nStrictModes no\n"
            "UsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
            "Subsystem sftp internal-sftp\n"
        )
        # Where its packages did not make it; sshd asks for it.
        with contextlib.suppress(OSError):
            os.makedirs("/run/sshd", exist_ok=True)
        # A server for each connection: no port, and nothing that stays.
        proxy = f"{shutil.which('sshd') or '/usr/sbin/sshd'} -i -f {config}"
        self._options = [
            *("-i", str(root / "user")),
            *("-o", f"ProxyCommand={proxy}", "-o", "StrictHostKeyChecking=no"),
            *("-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"),
        ]
        run("ssh", *self._options, "here", "true")

    def rsync(self, source, target):
        """Copies a folder."""
        wrapper = self._root / "rsh"
        if not wrapper.exists():
            quoted = " ".join(f"'{option}'" for option in self._options)
            wrapper.write_text(f'#!/bin/sh\nexec ssh {quoted} "$@"\n')
            wrapper.chmod(0o755)
        run("rsync", "-a", "-e", wrapper, f"{source}/", f"here:{target}/")

    def scp(self, source, target):
        """Copies a folder's files."""
        target.mkdir(exist_ok=True)
        run("scp", "-q", "-r", *self._options, *source.iterdir(), f"here:{target}/")


def run(*command):
    """What a command writes to stdout; its failure says why."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout


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


def timed(work, *args):
    """Milliseconds that it takes."""
    start = time.perf_counter()
    work(*args)
    return (time.perf_counter() - start) * 1000


def fill(folder, files, size):
    """Makes a folder of so many files of this size, fifty to a folder."""
    for n in range(files):
        path = folder / f"d{n // 50}" / f"f{n}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            for _ in range(max(size // MIB, 1)):
                file.write(os.urandom(min(size, MIB)))


def measure(ways, root, rounds, large):
    """Milliseconds of each way for each measure, of all rounds."""
    found = {}

    def note(what, name, took):
        say(f"{what}: {name} {took:,.0f} ms")
        found.setdefault(what, {}).setdefault(name, []).append(took)

    small, other, big = root / "small", root / "other", root / "big"
    fill(small, 5000, SMALL)
    fill(other, 2000, SMALL)
    fill(big, 1, large * MIB)
    os.sync()
    for _ in range(rounds):
        for name, copy in ways.items():
            with tempfile.TemporaryDirectory(dir=root) as folder:
                target = Path(folder) / "x"
                note("5,000 files of 4 KiB, cold", name, timed(copy, small, target))
            if name != "plain write" and name != "scp":
                with tempfile.TemporaryDirectory(dir=root) as folder:
                    target = Path(folder) / "x"
                    copy(other, target)
                    note("2,000 files, nothing changed", name, timed(copy, other, target))
                    (other / "d0" / "f1").write_bytes(os.urandom(SMALL))
                    note("2,000 files, one changed", name, timed(copy, other, target))
                    same = (other / "d0" / "f1").read_bytes() == (target / "d0" / "f1").read_bytes()
                    if not same:
                        raise RuntimeError(f"{name} did not bring the change")
            with tempfile.TemporaryDirectory(dir=root) as folder:
                target = Path(folder) / "x"
                note(f"one file of {large:,} MiB", name, timed(copy, big, target))
    return found


def table(found):
    """A line for each measure: rhd's milliseconds, and how many times longer the others take."""
    names = sorted({name for ways in found.values() for name in ways} - {"rhd"})
    lines = [f"| | rhd | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for what, ways in found.items():
        mine = statistics.median(ways["rhd"])
        others = (
            f"{statistics.median(ways[name]) / mine:.2g}x" if name in ways else "" for name in names
        )
        lines.append(f"| {what} | {mine:,.0f} ms | {' | '.join(others)} |")
    return "\n".join(lines)


def main():
    """Measures on each file system that is named, and prints what it found."""
    parser = argparse.ArgumentParser(prog="tests/bench/run --data", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and a smaller file")
    parser.add_argument("--on", action="append", type=Path, help="a folder of a file system")
    parser.add_argument("--out", type=Path, help="where the results go")
    parser.add_argument("--binaries", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--venvs", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    rounds, large = (2, 256) if args.quick else (5, 1024)
    parts = [
        "# Moving files",
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {machine()}. Median of {rounds} rounds, in "
        "which all take turns, between two daemons of one machine; rsync and scp over OpenSSH on "
        "the same machine. Beside rhd's own time: how many times as long the others take.",
    ]
    everything = {}
    for place in args.on or [Path("/tmp"), Path("/dev/shm")]:
        root = Path(tempfile.mkdtemp(prefix="rhd-bench-", dir=place))
        try:
            with Mesh(args.binaries / "rhd", root, 2, {}) as mesh:
                home = str(mesh.nodes[0].home)

                def rhd(source, target, home=home):
                    command = (args.binaries / "rhd", "--home", home, "folder", "to")
                    run(*command, source, f"n1:{target}")

                ways = {"rhd": rhd, "plain write": plain}
                try:
                    ssh = Ssh(root)
                    ways |= {"rsync": ssh.rsync, "scp": ssh.scp}
                except (RuntimeError, OSError) as e:
                    parts.append(f"Not measured: rsync and scp: {e}")
                everything[str(place)] = found = measure(ways, root, rounds, large)
        finally:
            shutil.rmtree(root, ignore_errors=True)
        kind = run("stat", "-f", "-c", "%T", place).strip()
        parts += [f"## On {kind}", table(found)]
    text = "\n\n".join(parts)
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "moving.md").write_text(text + "\n")
        (args.out / "moving.json").write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
