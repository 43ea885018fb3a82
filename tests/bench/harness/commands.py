"""Programs that are run to their end, or spoken with by lines."""

import subprocess
import tempfile
import threading

LONGEST = 600.0
"""Seconds that one may take."""


def run(*command, **more):
    """What a command writes to stdout; its failure says why."""
    more = {"capture_output": True, "text": True, "timeout": LONGEST, **more}
    try:
        done = subprocess.run(command, check=False, **more)
    except subprocess.TimeoutExpired as e:
        raise RuntimeError(f"{command[0]} did not end in {e.timeout:.0f} s") from None
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {_last(done.stderr) or done.returncode}")
    return done.stdout


class Talk:
    """A program that says lines, ended with the block that it is used in."""

    def __init__(self, *command, cwd=None):
        self._name = command[0]
        # Removed by itself, with all that was written to it.
        self._err = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._err,
            text=True,
            cwd=cwd,
        )
        self._late = threading.Timer(LONGEST, self._process.kill)
        self._late.daemon = True
        self._late.start()

    def said(self, start=""):
        """Its next line that starts like this."""
        for line in self._process.stdout:
            if line.startswith(start):
                return line.strip()
        self._err.seek(0)
        raise RuntimeError(f"{self._name} ended: {_last(self._err.read())}")

    def ask(self, line):
        """Its next line, once it has heard one."""
        print(line, file=self._process.stdin, flush=True)
        return self.said()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._late.cancel()
        for file in (self._process.stdin, self._process.stdout, self._err):
            file.close()


def _last(text):
    return " / ".join(text.strip().splitlines()[-3:])
