"""`python -m rhd.worker`, as a daemon starts it."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Runs until the daemon goes away."""
    # `-m` puts the working directory first, where a stray file would hide a module of that name.
    if not getattr(sys.flags, "safe_path", False) and sys.path[:1] in ([""], [os.getcwd()]):
        del sys.path[0]
    try:
        worker = os.environ["RHD_WORKER"]
        # Processes that the user's code starts are no workers.
        token, path = os.environ.pop("RHD_WORKER_TOKEN"), os.environ.pop("RHD_WORKER_SOCKET")
        first = os.environ.pop("RHD_WORKER_FIRST", "") == "1"
    except KeyError as missing:
        sys.exit(f"rhd.worker is started by the rhd daemon, which sets {missing}")
    if os.getpgrp() != os.getpid():
        # The group is what gets killed with this process.
        os.setpgid(0, 0)
    # Ctrl-C in the daemon's terminal is the daemon's. A handler, as ignoring would be inherited.
    signal.signal(signal.SIGINT, lambda *_: None)

    from .. import compiled
    from . import call, fork, objects, output
    from .runtime import Runtime

    output.install()
    call.inherit_in_threads()
    runtime = Runtime(worker, token, path)
    fork.install(runtime)
    if first:
        objects.serve(os.environ.get("RHD_ENV"))
    try:
        runtime.start()
    except OSError as error:
        sys.exit(f"rhd worker: no daemon at {path}: {error}")
    compiled.watch()
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
