"""The pages in a real browser: they render, lead where they say, and nothing in them runs.

Needs Chromium (`apt-get install chromium`, or its path in AUDITOR_CHROMIUM) and playwright.
"""

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from auditor.audit import audit_in_full
from auditor.dossier import Dossier
from auditor.finding import Evidence, Status
from auditor.policy import FRONTIER_2026_04
from auditor.report import html
from auditor.submission.load import load_pull_request, load_target

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = (os.environ.get("AUDITOR_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if name and (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")

EVIL = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
# Contrast of two colours as WCAG 2 defines it, over every text that is seen.
CONTRAST = """() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => {
    v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if (!c.endsWith(', 0)')) return c; } return 'rgb(255, 255, 255)'; };
  let worst = 21;
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest('svg')) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    worst = Math.min(worst, (a + 0.05) / (b + 0.05));
  }
  return worst;
}"""


@pytest.fixture(name="browser", scope="module")
def _browser() -> Iterator[Any]:
    with api.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(name="page")
def _page(browser: Any) -> Iterator[Any]:
    """A page that fails the test if it asks for anything but itself, or says anything."""
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    own = {page.url.partition("#")[0]}
    page.close()
    assert {url for url in asked if not url.startswith(("file:", "http://127.0.0.1:"))} == set()
    assert own <= set(asked)
    assert said == []


def _with_two_places(dossier: Dossier) -> Dossier:
    """The same, but each failure rests on the script's first line too."""
    first = Evidence(dossier.audit.path, 1, "import")
    findings = tuple(
        replace(f, evidence=(*f.evidence, first)) if f.status is Status.FAIL else f
        for f in dossier.audit.findings
    )
    return replace(dossier, audit=replace(dossier.audit, findings=findings))


@pytest.fixture(name="report", scope="module")
def _report(challenge: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the report of a record folder with a fault."""
    found = load_pull_request(challenge.path, 9)
    dossiers = [_with_two_places(audit_in_full(one, policy=FRONTIER_2026_04)) for one in found]
    path = tmp_path_factory.mktemp("pages") / "report.html"
    path.write_text(html.render(dossiers), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(name="evil", scope="module")
def _evil(challenge: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same with markup in every name and text that a submission can choose."""
    folder = tmp_path_factory.mktemp("evil") / EVIL.replace("/", ":")
    folder.mkdir()
    source = load_pull_request(challenge.path, 9)[0].main.data.decode()
    marked = source.replace("total = 0.0", f"total = 0.0  # {EVIL}").replace(
        "seen = ", f"seen = 0 if {EVIL!r} == '' else "
    )
    (folder / "train_gpt.py").write_text(marked)
    (folder / "submission.json").write_text(json.dumps({"val_bpb": 1.2, "track": EVIL}))
    (folder / "train_<script>.log").write_text(f"seed:1\n{EVIL} val_loss:2.0 val_bpb:1.2\n")
    dossiers = [audit_in_full(one, policy=FRONTIER_2026_04) for one in load_target(folder)]
    path = tmp_path_factory.mktemp("pages") / "evil.html"
    path.write_text(html.render(dossiers), encoding="utf-8")
    return path.as_uri()


def test_the_report_says_the_verdict_and_marks_the_lines(page: Any, report: str) -> None:
    page.goto(report)
    assert page.locator(".card.invalid b").inner_text() == "invalid"
    assert page.locator("article.fail h3").first.inner_text().split()[:2] == ["fail", "C2b"]
    hit = page.locator(".source .row.hit.fail").first
    ground = "getComputedStyle(e).backgroundColor"
    assert hit.evaluate(f"e => {ground}") != hit.evaluate(f"e => (e = e.parentElement, {ground})")
    assert page.locator("svg.plot circle.score").count() >= 1


def test_a_place_leads_to_its_line_and_the_line_back_to_the_finding(page: Any, report: str) -> None:
    page.goto(report)
    place = page.locator("article.fail .place a").first
    line = int(place.inner_text().rpartition(":")[2])
    place.click()
    target = page.locator(".row:target")
    assert target.locator("i").get_attribute("data-n") == str(line)
    box = target.bounding_box()
    assert 0 < box["y"] < 800
    target.locator("a.jump").first.click()
    assert page.locator("article.fail:target").count() == 1
    assert "C2b" in page.locator("article:target h3").inner_text()


def test_marked_lines_lead_from_one_to_the_next(page: Any, report: str) -> None:
    page.goto(report)
    hits = page.locator(".source .row.hit")
    assert hits.count() >= 2
    first, second = hits.nth(0), hits.nth(1)
    first.locator("a.jump", has_text="↓").click()
    assert page.locator(".row:target").get_attribute("id") == second.get_attribute("id")
    second.locator("a.jump", has_text="↑").click()
    assert page.locator(".row:target").get_attribute("id") == first.get_attribute("id")


def test_everything_is_reached_with_the_keyboard(page: Any, report: str) -> None:
    page.goto(report)
    reached = set()
    for _ in range(page.locator("a, summary, [tabindex]").count()):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
    assert {"A", "SUMMARY", "PRE"} <= reached
    page.locator("article.fail .place a").first.focus()
    page.keyboard.press("Enter")
    assert page.locator(".row:target").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_are_readable(page: Any, report: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(report)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    shade = sum(map(int, paper.removeprefix("rgb(").removesuffix(")").split(",")))
    assert (shade < 200) is (scheme == "dark")
    assert page.evaluate(CONTRAST) >= 4.5


@pytest.mark.parametrize("width", [320, 768])
@pytest.mark.parametrize("which", ["report", "evil"])
def test_a_narrow_screen_scrolls_down_and_never_sideways(
    page: Any, which: str, width: int, request: pytest.FixtureRequest
) -> None:
    page.set_viewport_size({"width": width, "height": 640})
    page.goto(request.getfixturevalue(which))
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_names_that_hold_scripts_are_text(page: Any, evil: str) -> None:
    page.goto(evil)
    page.wait_for_timeout(100)
    assert page.title() != "run"
    assert page.locator("script, img, iframe, object, embed, link").count() == 0
    assert "<script>document.title" in page.locator("body").inner_text()


def test_the_policy_stops_what_escaping_would_have_missed(browser: Any, evil: str) -> None:
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(evil)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<b onclick=\"x\">x</b>')")
    page.locator("b").last.click()
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://x.invalid/y'}))")
    page.wait_for_timeout(100)
    page.close()
    assert sum("Content Security Policy" in text for text in refused) >= 2


def test_the_server_in_a_browser(page: Any, challenge: Any) -> None:
    uvicorn = pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
    from auditor.serve.app import application

    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = uvicorn.Config(application(challenge.path), port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            thread.join(0.02)
        page.set_viewport_size({"width": 320, "height": 640})
        page.goto(f"http://127.0.0.1:{port}/")
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        page.get_by_label("train_gpt.py").fill(f"print({EVIL!r})\n")
        page.get_by_role("button").click()
        page.locator(".verdict").wait_for()
        assert page.locator("h1").inner_text() == "train_gpt.py"
        assert page.title() == "train_gpt.py - audit"
        page.go_back()
        page.get_by_label("train_gpt.py").fill("")
        page.get_by_label("or a pull request").fill("9")
        page.keyboard.press("Enter")
        page.locator(".card.invalid").wait_for()
    finally:
        server.should_exit = True
        thread.join(10)
    assert not thread.is_alive()
