"""Object stores: what is in them has a URL, and no node."""

from __future__ import annotations

import os

SYSTEMS = ("s3", "gs", "az")
"""S3, Google Cloud Storage, Azure Blob Storage."""


def is_url(path: str) -> bool:
    """Whether a text names something in an object store, rather than on a disk."""
    return path.startswith(tuple(f"{system}://" for system in SYSTEMS))


def system_of(path: str) -> str | None:
    """The system that a URL is of; none for a path of a disk."""
    return path.split(":", 1)[0] if is_url(path) else None


def local(path: str) -> str:
    """An absolute path of this machine; a URL as it is."""
    return path if is_url(path) else os.path.abspath(os.path.expanduser(path))
