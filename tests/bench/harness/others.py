"""Other tools that bring a file from one process to another; what is not there is said."""

import functools
import shutil

from .commands import Talk, run
from .syncthing import Syncthing

SENDME = ("--relay", "disabled", "--no-progress", "--magic-ipv4-addr", "127.0.0.1:0")


def ways(place, stack):
    """Ways to bring a file into a folder, by name; each returns its milliseconds."""
    found = {}
    upstream = place.args.upstream / "release" / "upstream-blobs"
    if upstream.exists():
        found["iroh-blobs"] = functools.partial(_upstream, upstream)
    else:
        place.leave_out("iroh-blobs", "its program was not built")
    sendme = shutil.which("sendme", path=place.args.tools / "bin")
    if sendme:
        found["sendme"] = functools.partial(_sendme, sendme)
    else:
        place.leave_out("sendme", "it is not installed")
    syncthing = shutil.which("syncthing")
    if syncthing:
        try:
            pair = Syncthing(syncthing, stack.enter_context(place.folder()))
            found["Syncthing"] = stack.enter_context(pair)
        except (RuntimeError, OSError) as e:
            place.leave_out("Syncthing", e)
    else:
        place.leave_out("Syncthing", "it is not installed")
    return found


def _upstream(program, place, file, folder):
    """From store to store, over a connection that is there already."""
    with Talk(program, "serve", folder / "from", file) as server:
        peer, address, content = server.said().split()
        with Talk(program, "fetch", folder / "to", peer, address) as client:
            client.said("ready")
            return place.timed(file.stat().st_size, client.ask, content)


def _sendme(program, place, file, folder):
    """From store to file, each side in a folder of its own, by addresses alone."""
    here, there = folder / "from", folder / "to"
    here.mkdir()
    there.mkdir()
    send = (program, "send", "--ticket-type", "addresses", *SENDME, file)
    with Talk(*send, cwd=here) as sender:
        ticket = sender.said("sendme receive ").split()[-1]
        receive = functools.partial(run, program, "receive", *SENDME, ticket, cwd=there)
        took = place.timed(file.stat().st_size, receive)
    if (there / file.name).stat().st_size != file.stat().st_size:
        raise RuntimeError("sendme did not bring the file")
    return took
