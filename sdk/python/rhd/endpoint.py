"""Where things are called over HTTP."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from .errors import RhdError
from .remote import Target


def url(target: Target, method: str | None = None) -> str:
    """The URL at which this node answers for a service, or for a method of it."""
    base = target.daemon.request("status").get("web")
    if not base:
        raise RhdError(
            "this node doesn't answer HTTP",
            kind="bad_request",
            hint="rhd down, then rhd up --detach --set web.enabled=true; else its log says why",
        )
    path = quote(target.service if method is None else f"{target.service}/{method}")
    if not target.service.rpartition("/")[2].startswith("."):
        return f"{base}{path}"
    # A name that nobody chose is known to its node alone.
    return f"{base}{path}?{urlencode({'rhd-node': target.node_id or ''})}"
