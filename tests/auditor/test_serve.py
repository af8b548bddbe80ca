"""The server: what it answers, what it refuses, and that it runs nothing unless told to."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
from starlette.testclient import TestClient

from auditor.serve import app as serving
from auditor.serve.app import application
from auditor.submission.load import load_pull_request

BASE = "http://127.0.0.1"


@pytest.fixture(name="client")
def _client(challenge: Any) -> Iterator[TestClient]:
    with TestClient(application(challenge.path), base_url=BASE) as client:
        yield client


@pytest.fixture(name="leaky")
def _leaky(challenge: Any) -> str:
    return load_pull_request(challenge.path, 9)[0].main.data.decode()


def test_a_pasted_script_is_audited_and_named_in_a_static_page(
    client: TestClient, leaky: str
) -> None:
    answer = client.post("/audit", data={"script": leaky, "audience": "submitter"})
    assert answer.status_code == 200
    assert "<h1>train_gpt.py</h1>" in answer.text
    assert "invalid" in answer.text
    assert "Legal:" in answer.text


@pytest.mark.parametrize(("pr", "verdict"), [(9, "invalid"), (1, "valid")])
def test_a_pull_request_of_the_clone(client: TestClient, pr: int, verdict: str) -> None:
    for answer in (client.get(f"/pr/{pr}"), client.post("/audit", data={"pr": str(pr)})):
        assert answer.status_code == 200
        assert f'<div class="card {verdict}"><span>validity</span>' in answer.text


def test_every_page_is_locked_down(client: TestClient) -> None:
    for path, status in (("/", 200), ("/pr/1", 200), ("/pr/x", 400)):
        answer = client.get(path)
        assert answer.status_code == status
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "frame-ancestors 'none'" in policy
        assert ("form-action 'self'" in policy) is (path == "/")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "<script" not in answer.text
        assert "://" not in answer.text


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({}, 400, "paste a script"),
        ({"pr": "-1"}, 400, "paste a script"),
        ({"pr": "9" * 30}, 400, "paste a script"),
        ({"pr": "4242"}, 422, "no pull request 4242"),
        ({"script": "x = 1", "audience": "nobody"}, 400, "no such reader"),
        ({"script": "x = 1", "dynamic": "1"}, 403, "runs no scripts"),
        ({str(n): "x" for n in range(9)}, 400, "not a form"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(
    client: TestClient, form: dict[str, str], status: int, words: str
) -> None:
    answer = client.post("/audit", data=form)
    assert answer.status_code == status
    (reason,) = re.findall(r'class="warning">([^<]*)<', answer.text)
    assert words in reason


def test_other_origins_and_other_hosts_are_refused(client: TestClient) -> None:
    form = {"script": "x = 1"}
    assert client.post("/audit", data=form, headers={"origin": BASE}).status_code == 200
    elsewhere = {"origin": "http://evil.example"}
    assert client.post("/audit", data=form, headers=elsewhere).status_code == 403
    assert client.post("/audit", data=form, headers={"origin": "null"}).status_code == 403
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


def test_an_upload_over_the_limit_is_refused(client: TestClient) -> None:
    answer = client.post("/audit", content=b"script=" + b"x" * serving.MAX_BODY)
    assert answer.status_code == 413
    assert "command line" in answer.text


def test_an_audit_has_a_time_limit(
    client: TestClient, leaky: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "STATIC_SECONDS", 0.01)
    answer = client.post("/audit", data={"script": leaky})
    assert answer.status_code == 504
    assert "took more than" in answer.text


def test_too_many_at_once_are_turned_away(leaky: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "WAITING", 1)

    async def two() -> list[object]:
        audits = serving.Audits(None)
        both = (audits.script(leaky, []) for _ in range(2))
        return await asyncio.gather(*both, return_exceptions=True)

    first, second = asyncio.run(two())
    assert isinstance(first, str)
    assert isinstance(second, serving.RefusedError)
    assert second.status == 503


def test_a_server_without_a_clone_offers_none() -> None:
    with TestClient(application(None), base_url=BASE) as client:
        assert 'name="pr"' not in client.get("/").text
        assert client.get("/pr/9").status_code == 404


def test_a_dynamic_audit_is_asked_for_only_of_a_server_started_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[str]] = []

    async def noted(_self: object, arguments: list[str], _folder: Path) -> str:
        asked.append(arguments)
        return "<!doctype html>"

    monkeypatch.setattr(serving.Audits, "_run", noted)
    with TestClient(application(None, dynamic=True), base_url=BASE) as client:
        assert 'name="dynamic"' in client.get("/").text
        client.post("/audit", data={"script": "x = 1", "dynamic": "1"})
        client.post("/audit", data={"script": "x = 1"})
    assert [("--dynamic" in arguments) for arguments in asked] == [True, False]
