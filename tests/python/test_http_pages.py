"""What a node tells over HTTP of itself and of what it hosts."""

from __future__ import annotations

from typing import Any

import rhd as rh
from conftest import Node, hosted
from http_client import Tally, ask, named, scale


def numbers(url: str) -> dict[str, float]:
    """What /metrics says, by name and labels."""
    answer = ask(url, "GET", "/metrics")
    assert answer.status == 200 and answer.headers["content-type"].startswith("application/openm")
    lines = answer.body.decode().splitlines()
    assert lines[-1] == "# EOF"
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_metrics_count_calls_on_both_nodes(mesh: tuple[Node, Node]) -> None:
    urls = [str(hosted(node)["web"]) for node in mesh]

    def fail() -> None:
        raise ValueError

    before = [numbers(url) for url in urls]
    with named(scale, "scale", "beta") as one, named(fail, "fail", "beta"):
        assert one([1.0]) == [2.0]
        assert ask(urls[0], "POST", "/scale", [[1]]).status == 200
        assert ask(urls[0], "POST", "/fail").status == 500
        after = [numbers(url) for url in urls]

    def grew(node: int, name: str) -> float:
        return after[node][name] - before[node].get(name, 0)

    ok, bad = 'outcome="ok"}', 'outcome="remote"}'
    for node, stage in ((0, "call"), (1, "serve"), (1, "execute")):
        assert grew(node, f'rhd_calls_ended_total{{stage="{stage}",{ok}') == 2, stage
        assert grew(node, f'rhd_calls_ended_total{{stage="{stage}",{bad}') == 1, stage
        assert grew(node, f'rhd_call_seconds_count{{stage="{stage}"}}') == 3, stage
        assert after[node][f'rhd_calls_in_flight{{stage="{stage}"}}'] == 0, stage
    assert grew(0, 'rhd_calls_started_total{stage="execute"}') == 0
    assert grew(0, 'rhd_call_seconds_bucket{le="+Inf",stage="call"}') == 3
    assert grew(0, 'rhd_http_requests_total{status="2xx"}') >= 1
    assert grew(0, 'rhd_http_requests_total{status="5xx"}') == 1
    assert after[0]['rhd_peers{path="direct"}'] == 1
    assert after[1]["rhd_envs_running"] >= 1 and after[1]["rhd_workers_started_total"] >= 1
    assert after[0]["process_resident_memory_bytes"] > 1_000_000
    # As many lines before and after: no name or id of a call makes one more.
    assert after[0].keys() == before[0].keys()


def test_pages_describe_what_can_be_called(where: str, url: str, get: Any) -> None:
    with named(scale, "scale", where), named(Tally, "Tally", where) as remote:
        tally = remote(name="tally")
        page = get("/")
        assert page.status == 200 and page.headers["content-type"].startswith("text/html")
        assert b"/ann/scale" in page.body and b"/ann/tally" in page.body
        assert "default-src 'none'" in page.headers["content-security-policy"]
        document = get("/scale/openapi.json").json
        assert document["openapi"].startswith("3.1")
        post = document["paths"]["/ann/scale"]["post"]
        schema = post["requestBody"]["content"]["application/json"]["schema"]["anyOf"][0]
        assert schema["required"] == ["values"] and schema["properties"].keys() == {
            "values",
            "factor",
        }
        paths = get("/ann/tally/openapi.json").json["paths"]
        assert {"/ann/tally/add", "/ann/tally/upto", "/ann/tally/total"} <= paths.keys()
        query = paths["/ann/tally/add"]["get"]["parameters"]
        integer = {"type": "integer"}
        assert query == [{"name": "n", "in": "query", "required": False, "schema": integer}]
        assert get("/nope/openapi.json").status == 404
        rh.daemon.daemon().request("remove", name=tally.name)
