"""A system under measurement: a process that answers one JSON line with another."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from . import usage

START = 120.0
"""Seconds that a system may take to come up on a busy machine."""
ANSWER = 120.0
"""Seconds that one measurement may take beyond its own time."""
END = 15.0
"""Seconds that a system has to end by itself."""


class DriverError(Exception):
    """A system that doesn't start, doesn't answer, or can't do what it was asked."""


class Driver:
    """One system, up and ready to be measured."""

    def __init__(self, name, command, root, env=None, cwd=None):
        self.name = name
        # Short: sockets are made in it.
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))
        mine = {"TMPDIR": str(self.folder), "HOME": str(self.folder), "PYTHONUNBUFFERED": "1"}
        with open(self.folder / "err.log", "wb") as err:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **mine, **(env or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                cwd=cwd or self.folder,
                start_new_session=True,
            )
        self._lines = queue.Queue(16)
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.version = self._answer(START)["version"]
        except BaseException:
            self.stop()
            raise

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _answer(self, limit):
        try:
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            raise DriverError(f"{self.name} did not answer in {limit:.0f} s") from None
        if line is None:
            said = (self.folder / "err.log").read_text(errors="replace").strip().splitlines()
            raise DriverError(f"{self.name} ended: {' / '.join(said[-3:])}")
        answer = json.loads(line)
        if "error" in answer:
            raise DriverError(f"{self.name}: {answer['error']}")
        return answer

    def measure(self, case, seconds, **fields):
        """Has it do one thing for some time; returns count, seconds, p50_us and p99_us."""
        request = {"case": case, "seconds": seconds, **fields}
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer(seconds + ANSWER)

    def pids(self):
        """Its processes."""
        return usage.family(self._process.pid)

    def stop(self):
        """Ends it, and whatever of its processes doesn't end with it."""
        family = self.pids()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END)
        family |= self.pids()
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline and any(usage.alive(*each) for each in family.items()):
            time.sleep(0.05)
        for pid, started in family.items():
            if usage.alive(pid, started):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
