"""The page in a real browser: silent, alone, in order, readable at every width and on paper."""

import os
import re
import runpy
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from audit.render import render

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
BUILD = runpy.run_path(str(Path(__file__).parent / "golden" / "builder.py"))["build"]
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        refuse("the Python package playwright is not installed")
    if not CHROMIUM.exists():
        refuse(f"{CHROMIUM} is not installed")
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield started
        started.close()


def refuse(reason: str) -> None:
    """No browser: a user's machine may do without, the pipeline may not."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI must not do without")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("run")
    path = folder / "report.html"
    path.write_text(render(BUILD(folder), artifacts=folder), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def pack_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pack")
    path = folder / "test-pack.html"
    pack = Path(__file__).parent / "golden" / "test-pack.toml"
    path.write_text(render(BUILD(folder), pack, artifacts=folder), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.goto(address)
    yield opened
    opened.close()


def test_the_page_is_silent_and_asks_for_nothing(browser: Any, address: str) -> None:
    page = browser.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address, wait_until="networkidle")
    page.close()
    assert said == []
    assert [url for url in asked if url != address and not url.startswith("data:")] == []


def test_the_policy_of_the_page_is_in_force(page: Any) -> None:
    """A planted script, style and picture are all refused, so the silence above means something."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.evaluate(
        """() => { for (const [tag, key, value] of [['script', 'textContent', 'window.ran = 1'],
        ['style', 'textContent', 'h1 {display: none}'], ['img', 'src', 'http://127.0.0.1:9/x.png']]) {
        const made = document.createElement(tag); made[key] = value; document.head.append(made); } }"""
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).display") == "block"
    assert len([text for text in said if "Content Security Policy" in text or "violates" in text]) >= 3


def test_headings_are_in_order(page: Any) -> None:
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])")
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_verdict_is_seen_without_scrolling(page: Any) -> None:
    for name in (".verdict", ".answers dt"):
        box = page.locator(name).first.bounding_box()
        assert box["y"] + box["height"] < 900


@pytest.mark.parametrize("width", [360, 390, 768, 1280, 1920])
def test_nothing_sticks_out_at_any_width(browser: Any, address: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        """() => [...document.querySelectorAll('main *')]
        .filter(e => !e.closest('.scroll, .visually-hidden, svg, .forest thead')
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    )
    page.close()
    assert wide == []


def test_a_screen_reader_is_told_what_the_pictures_show(page: Any) -> None:
    pictures = page.locator("[role=img], img:not([alt=''])")
    names = [
        pictures.nth(i).evaluate(
            "e => e.getAttribute('alt') ?? e.ariaLabel ?? e.querySelector('title')?.textContent"
        )
        for i in range(pictures.count())
    ]
    assert len(names) > 20
    assert all(names)
    assert any(
        re.search(r"0\.305, interval 0\.277 to 0\.334, limit at least 0\.4: FAIL", name) for name in names
    )
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.get_by_role("navigation", name="Contents").count() == 1
    assert page.get_by_role("main").count() == 1


def test_a_mark_stands_where_its_number_says(page: Any) -> None:
    """0.305 lies left of the limit of 0.4 on the screen, and the overview's limit in the middle."""
    places = page.evaluate(
        """() => { const row = document.querySelector('.overview tbody tr');
        const box = e => e.getBoundingClientRect();
        const strip = box(row.querySelector('.strip')); const mark = box(row.querySelector('use'));
        const limit = box(row.querySelector('.limit'));
        return [strip.left, mark.left + mark.width / 2, limit.left + limit.width / 2, strip.right]; }"""
    )
    left, mark, limit, right = places
    assert left < mark < limit < right
    assert limit == pytest.approx((left + right) / 2, abs=1.5)


def test_the_dark_theme_is_dark_and_paper_is_light(browser: Any, address: str) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(address)
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(20, 22, 26)"
    page.emulate_media(media="print")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.close()


def test_details_are_open_on_paper(page: Any) -> None:
    inside = page.locator("details:not([open]) table").first
    assert not inside.is_visible()
    page.emulate_media(media="print")
    assert inside.evaluate(
        "e => e.checkVisibility({contentVisibilityAuto: true}) && e.getBoundingClientRect().height > 0"
    )
    document = page.pdf(prefer_css_page_size=True)
    assert 4 < len(re.findall(rb"/Type\s*/Page[^s]", document)) < 40


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_nothing_of_a_pack_sticks_out_and_it_is_silent(browser: Any, pack_address: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(pack_address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        """() => [...document.querySelectorAll('main *')]
        .filter(e => !e.closest('.scroll, .visually-hidden, svg, thead')
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    )
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])")
    totals = page.locator(".totals").bounding_box()
    page.close()
    assert (wide, said) == ([], [])
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert totals["y"] + totals["height"] < 900, "the totals are seen without scrolling"


def test_a_matrix_is_a_table_for_a_screen_reader_at_every_width(browser: Any, pack_address: str) -> None:
    for width in (390, 1280):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(pack_address)
        assert page.get_by_role("rowheader", name="2(c)", exact=True).count() == 1
        assert page.get_by_role("columnheader", name="Evidence").count() == 3
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="2(c)", exact=True))
        assert row.get_by_role("cell").count() == 3
        page.close()


def test_the_executive_summary_is_one_page_on_paper(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "executive-summary.html"
    path.write_text(render(BUILD(tmp_path), "executive-summary"), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.get_by_role("navigation").count() == 0, "one section needs no contents"
    document = page.pdf(prefer_css_page_size=True)
    page.close()
    assert len(re.findall(rb"/Type\s*/Page[^s]", document)) == 1
