"""Who may call over HTTP, and from where."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import Node, hosted
from http_client import ask, named, scale


def test_pages_of_other_origins_and_bent_names_are_refused(post: Any, get: Any) -> None:
    with named(scale, "scale", "here"):
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Host": "evil.example"},
        ):
            answer = post("/scale", [[1]], **headers)
            assert (answer.status, answer.json["kind"]) == (403, "permission_denied"), headers
            assert answer.json["hint"] and "access-control-allow-origin" not in answer.headers
            assert get("/scale?values=[1]", **headers).status == 403
        assert post("/scale", [[1]], **{"Sec-Fetch-Site": "same-origin"}).status == 200


def test_a_token_is_wanted_where_one_is_required(fresh: Any) -> None:
    node = fresh("gamma", RHD_WEB_REQUIRE_TOKEN="true")
    url = hosted(node)["web"]
    token = (node.home / "web.token").read_text()
    assert (node.home / "web.token").stat().st_mode & 0o777 == 0o600
    with named(scale, "scale", "here"):
        for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": token}):
            answer = ask(url, "POST", "/scale", [[1]], wrong)
            assert (answer.status, answer.json["kind"]) == (401, "permission_denied")
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert "web.token" in answer.json["hint"] and token not in answer.body.decode()
        right = {"Authorization": f"Bearer {token}"}
        assert ask(url, "POST", "/scale", [[1]], right).json == [2.0]
    assert token not in "".join(p.read_text() for p in (node.home / "log").iterdir())


def test_a_weak_token_is_refused_at_start(root: Path) -> None:
    node = Node(root / "weak", "weak", RHD_WEB_TOKEN="hunter2", RHD_WEB_LISTEN='["0.0.0.0"]')
    with pytest.raises(AssertionError, match=r"web\.token"):
        node.up()


def test_other_machines_need_the_token(fresh: Any) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("no address but loopback")
        address = probe.getsockname()[0]
    node = fresh("open", RHD_WEB_LISTEN='["0.0.0.0"]')
    port = urlsplit(str(hosted(node)["web"])).port
    near, far = f"http://127.0.0.1:{port}", f"http://{address}:{port}"
    right = {"Authorization": "Bearer " + (node.home / "web.token").read_text()}
    with named(scale, "scale", "here"):
        assert ask(near, "POST", "/scale", [[1]]).status == 200
        assert ask(far, "POST", "/scale", [[1]]).status == 401
        for path in ("/", "/metrics", "/scale/openapi.json", "/nope"):
            assert ask(far, "GET", path).status == 401, path
        assert ask(far, "POST", "/scale", [[1]], right).json == [2.0]
        bent = {**right, "Host": "evil.example"}
        assert ask(far, "POST", "/scale", [[1]], bent).status == 403


def test_two_nodes_take_two_ports(mesh: tuple[Node, Node]) -> None:
    urls = [urlsplit(hosted(node)["web"]) for node in mesh]
    assert urls[0].port != urls[1].port
    assert all(url.hostname == "127.0.0.1" and (url.port or 0) >= 32300 for url in urls)
