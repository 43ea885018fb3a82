"""Workers and clients start with rhd's own msgpack, and take the compiled one when it comes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2] / "sdk" / "python"


def test_compiled_msgpack_is_taken_when_it_arrives(tmp_path: Path) -> None:
    """The overlay's folder is on the path before it exists, and appears whole."""
    arriving, overlay = tmp_path / "arriving", tmp_path / "overlay"
    arriving.mkdir()
    (arriving / "msgpack.py").write_text("def packb(x): return b'new'\ndef unpackb(x): return {}\n")
    program = textwrap.dedent(
        """
        import sys, threading
        # As on a node whose interpreter has none.
        sys.path = [p for p in sys.path if "site-packages" not in p]
        from rhd import _deps, compiled, frames
        assert _deps.is_vendored(_deps.msgpack)
        assert frames.decode(frames.encode({"a": 1}, 0)[frames.PREFIX:]) == {"a": 1}
        compiled.watch()
        print("looking", flush=True)
        sys.stdin.readline()
        for thread in threading.enumerate():
            if thread.name == "rhd-compiled":
                thread.join()
        assert frames.encode({"a": 1}, 0)[frames.PREFIX:] == b"new"
        print("taken")
        """
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(overlay)])}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "looking\n"
        arriving.rename(overlay)
        out, _ = process.communicate("\n", timeout=60)
    assert out == "taken\n"
