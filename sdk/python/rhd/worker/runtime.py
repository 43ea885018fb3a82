"""The worker process: its lanes, its services, and the calls under way."""

from __future__ import annotations

import asyncio
import collections
import platform
import socket
import sys
import threading

from .. import frames, segments
from .call import Call
from .control import Control
from .lane import Lane
from .loader import Loader
from .port import Port
from .shared import Shared
from .targets import Targets

# Call lanes opened at the start; the daemon asks for more.
FIRST_LANES = 4
# Call lanes of one process, at most.
MAX_LANES = 256
# Cancellations that overtook their calls, at most.
_EARLY = 256


class Runtime:
    """Everything in this process that is not the user's."""

    def __init__(self, worker: str, token: str, path: str) -> None:
        self._hello = {
            "v": frames.VERSION,
            "worker": worker,
            "token": token,
            "python": platform.python_version(),
            "beside": segments.available,
        }
        self._path = path
        self.targets = Targets()
        self.loader = Loader(self.targets)
        self.loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._calls: dict[str, Call] = {}
        # Lanes race: a cancellation on the control lane may be read before its call.
        self._early: collections.deque[str] = collections.deque(maxlen=_EARLY)
        self._lanes: list[Lane] = []
        self._control: socket.socket | None = None
        self._shared: Shared | None = None

    def start(self) -> None:
        """Connects the control lane, then the first call lanes."""
        threading.Thread(target=self._loop_thread, name="rhd-loop", daemon=True).start()
        self._control = self._connect("control")
        Control(self, self._control, self.loop).start()
        self.open_lanes(FIRST_LANES)

    def _loop_thread(self) -> None:
        asyncio.set_event_loop(self.loop)
        while True:
            try:
                self.loop.run_forever()
            except BaseException as error:  # a callback raised SystemExit: other calls go on
                print(f"rhd worker: event loop: {error!r}", file=sys.stderr)

    def _connect(self, lane: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(self._path)
            frames.send(sock, {**self._hello, "lane": lane})
        except BaseException:
            sock.close()
            raise
        return sock

    def open_lanes(self, count: int) -> None:
        """Opens further call lanes, as many as are allowed."""
        for _ in range(min(count, MAX_LANES - len(self._lanes))):
            lane = Lane(self, Port(self._connect("call")))
            self._lanes.append(lane)
            lane.start()

    def share(self, threads: int) -> None:
        """Has threads take calls off the shared lane, which is opened the first time."""
        if self._shared is None:
            self._shared = Shared(self, self._connect("shared"))
        self._shared.more(threads)

    def forget(self, lane: Lane) -> None:
        """Takes a lane off that its daemon closed."""
        if lane in self._lanes:
            self._lanes.remove(lane)

    def sockets(self) -> list[socket.socket]:
        """Returns the sockets of all lanes."""
        own = [] if self._control is None else [self._control]
        if self._shared is not None:
            own.append(self._shared.sock)
        return own + [lane.sock for lane in self._lanes]

    def begin(self, call: Call) -> None:
        """Makes a call known to `cancel`."""
        with self._lock:
            self._calls[call.id] = call
            if self._early and call.id in self._early:
                self._early.remove(call.id)
                call.cancelled = True

    def end(self, call: Call) -> None:
        with self._lock:
            self._calls.pop(call.id, None)

    def grant(self, call_id: str, items: int) -> None:
        """Allows further items of a call that shares its lane."""
        with self._lock:
            call = self._calls.get(call_id)
        if call is not None and isinstance(call.sink, Lane):
            call.sink.grant(call, items)

    def cancel(self, call_id: str) -> None:
        """Cancels a call on whichever lane it runs, or as soon as it comes."""
        with self._lock:
            call = self._calls.get(call_id)
            if call is None:
                self._early.append(call_id)
                return
        call.sink.cancel(call)
