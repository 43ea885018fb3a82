"""rhd: Python functions and classes on any node of your own mesh.

    import rhd as rh

    def square(x):
        return x * x

    rh.function(square).to("gpu-box")(7)

Until `.to(cluster)` everything runs here.
"""

from .blob import Blob, blob
from .cluster import Cluster, cluster, here
from .config import VERSION
from .env import Env, env
from .errors import (
    Cancelled,
    Conflict,
    DaemonUnavailable,
    EnvError,
    NotFound,
    PeerLost,
    PermissionDenied,
    QueueFull,
    RemoteError,
    RhdError,
    Timeout,
    VersionMismatch,
)
from .file import File, file
from .folder import Folder, Synced, folder
from .function import function
from .module import Module, module
from .names import exists, load, ls
from .runs import Run, run
from .table import Table, table
from .tracing import trace

__version__ = "0.1.0"

__all__ = [
    "VERSION",
    "Blob",
    "Cancelled",
    "Cluster",
    "Conflict",
    "DaemonUnavailable",
    "Env",
    "EnvError",
    "File",
    "Folder",
    "Module",
    "NotFound",
    "PeerLost",
    "PermissionDenied",
    "QueueFull",
    "RemoteError",
    "RhdError",
    "Run",
    "Synced",
    "Table",
    "Timeout",
    "VersionMismatch",
    "blob",
    "cluster",
    "env",
    "exists",
    "file",
    "folder",
    "function",
    "here",
    "load",
    "ls",
    "module",
    "run",
    "table",
    "trace",
]
