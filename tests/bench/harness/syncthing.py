"""Two instances of Syncthing on loopback, each with a home of its own, known to nobody else."""

import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from urllib.parse import urlencode

from .commands import run

DEVICE = re.compile(r"\b[A-Z2-7]{7}(?:-[A-Z2-7]{7}){7}\b")
KEY = "bench"
LONGEST = 300.0
"""Seconds that the two may take to see each other, or a file to arrive."""

CONFIG = """\
<configuration version="35">
  <folder id="f" path="{folder}" type="{kind}" rescanIntervalS="0" fsWatcherEnabled="false">
    {members}
  </folder>
  {devices}
  <gui enabled="true"><address>127.0.0.1:{web}</address><apikey>{key}</apikey></gui>
  <options>
    <listenAddress>tcp://127.0.0.1:{port}</listenAddress>
    <globalAnnounceEnabled>false</globalAnnounceEnabled>
    <localAnnounceEnabled>false</localAnnounceEnabled>
    <relaysEnabled>false</relaysEnabled>
    <natEnabled>false</natEnabled>
    <crashReportingEnabled>false</crashReportingEnabled>
    <startBrowser>false</startBrowser>
    <urAccepted>-1</urAccepted>
    <autoUpgradeIntervalH>0</autoUpgradeIntervalH>
  </options>
</configuration>
"""


class Instance:
    """One of the two, and the folder that it keeps."""

    def __init__(self, program, root, kind):
        self._program, self._root, self._kind = program, root, kind
        self._process = None
        self.folder = root / "folder"
        # Without the mark in it a folder counts as gone.
        (self.folder / ".stfolder").mkdir(parents=True)
        self.port, self._web = _free_port(), _free_port()
        run(program, "generate", f"--home={root}")
        self.id = DEVICE.search(run(program, "--device-id", f"--home={root}")).group()

    def start(self, both):
        """Starts it, with what it knows of both."""
        members = (f'<device id="{one.id}"></device>' for one in both)
        address = "<address>tcp://127.0.0.1:{}</address>"
        devices = (f'<device id="{one.id}">{address.format(one.port)}</device>' for one in both)
        config = CONFIG.format(
            folder=self.folder,
            kind=self._kind,
            members="".join(members),
            devices="".join(devices),
            web=self._web,
            port=self.port,
            key=KEY,
        )
        (self._root / "config.xml").write_text(config)
        with open(self._root / "out.log", "wb") as out:
            self._process = subprocess.Popen(
                [self._program, "serve", f"--home={self._root}", "--no-browser", "--no-restart"],
                env={**os.environ, "HOME": str(self._root), "STNOUPGRADE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def stop(self):
        """Ends it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, path, post=False, **query):
        """What its REST interface says."""
        url = f"http://127.0.0.1:{self._web}/rest/{path}?{urlencode(query)}"
        method = "POST" if post else "GET"
        request = urllib.request.Request(url, headers={"X-API-Key": KEY}, method=method)
        with _DIRECT.open(request, timeout=LONGEST) as answer:
            body = answer.read()
        return json.loads(body) if body.strip() else None

    def until(self, true, what):
        """Waits for something to become true of it."""
        deadline = time.monotonic() + LONGEST
        while True:
            try:
                if true():
                    return
            except urllib.error.URLError as e:
                why = f": {e}"
            else:
                why = ""
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                said = (self._root / "out.log").read_text(errors="replace").splitlines()[-2:]
                raise RuntimeError(f"Syncthing: not so: {what}{why}: {' / '.join(said)}")
            time.sleep(0.02)


class Syncthing:
    """What one of them has goes to the other."""

    def __init__(self, program, root):
        self._from = Instance(program, root / "from", "sendonly")
        self._to = Instance(program, root / "to", "receiveonly")
        self._both = (self._from, self._to)

    def __enter__(self):
        try:
            for one in self._both:
                one.start(self._both)
            self._from.until(self._linked, "the two are connected")
            self._to.until(lambda: self._in_sync(0), "it is idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for one in self._both:
            one.stop()

    def __call__(self, place, file, _):
        """Milliseconds from asking for a scan until the other side has all."""
        size = file.stat().st_size
        os.link(file, self._from.folder / file.name)
        took = place.timed(size, self._bring, size)
        there = self._to.folder / file.name
        if there.stat().st_size != size:
            raise RuntimeError("Syncthing did not bring the file")
        (self._from.folder / file.name).unlink()
        self._scan()
        self._to.until(lambda: not there.exists() and self._in_sync(0), "the file is gone")
        return took

    def _bring(self, size):
        self._scan()
        self._to.until(lambda: self._in_sync(size), "the file is there")

    def _scan(self):
        self._from.ask("db/scan", post=True, folder="f")

    def _linked(self):
        known = self._from.ask("system/connections")["connections"]
        return known.get(self._to.id, {}).get("connected", False)

    def _in_sync(self, size):
        said = self._to.ask("db/status", folder="f")
        idle = said["state"] == "idle" and said["needTotalItems"] == 0
        return idle and said["globalBytes"] == said["localBytes"] == size


# Never by way of a proxy.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
