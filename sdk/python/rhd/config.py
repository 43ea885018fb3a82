"""Settings that come from the environment; nothing else in the package reads it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

VERSION = 1
"""The protocol version that this client speaks (`rhd_protocol::VERSION`)."""


def home() -> str:
    """The node's state directory, absolute."""
    return os.path.abspath(os.path.expanduser(os.environ.get("RHD_HOME") or "~/.rhd"))


def autostart() -> bool:
    """Whether a daemon may be started when none runs."""
    return os.environ.get("RHD_AUTOSTART", "1").lower() not in ("0", "no", "off", "false")


def env() -> str | None:
    """Key of the env that this process belongs to, where a daemon started it."""
    return os.environ.get("RHD_ENV") or None


def binary() -> str | None:
    """The `rhd` program: `RHD_BIN`, else on PATH, else beside the interpreter or cargo's own."""
    if named := os.environ.get("RHD_BIN"):
        return named
    beside = Path(sys.executable).parent / "rhd"
    cargo = Path("~/.cargo/bin/rhd").expanduser()
    found = shutil.which("rhd")
    return found or next((str(p) for p in (beside, cargo) if os.access(p, os.X_OK)), None)
