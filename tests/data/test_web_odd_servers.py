"""The crawler against servers that are odd, page after page, and against hosts that go away for good."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.web_site import Handler, Page, Site, crawled, fates, serving, silent, vanish
from tilth.data.sources.web import courier

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "BACKOFF", 0.01)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site()) as started:
        yield started


@pytest.mark.parametrize(("odd", "rule"), [(vanish, "broken_off"), (silent, "unreachable")])
def test_odd_pages_in_a_row_are_no_network_that_is_gone(site: Site, tmp_path: Path, odd: Page, rule: str) -> None:
    names = [f"/{number}" for number in range(8)]
    site.html("/", "".join(f'<a href="{name}">x</a>' for name in names))
    site.pages.update(dict.fromkeys(names[:6], odd))
    site.html("/6", "six")
    site.html("/7", "seven")
    assert fates(crawled(site, tmp_path), site) == {
        "/": "fetched 200",
        **dict.fromkeys(names[:6], rule),
        "/6": "fetched 200",
        "/7": "fetched 200",
    }


def announced_trickle(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b"<p>x</p>")
        time.sleep(0.05)


def test_a_page_that_trickles_what_it_announced_is_late_and_asked_for_once(site: Site, tmp_path: Path) -> None:
    site.html("/", '<a href="/slow">x</a>')
    site.pages["/slow"] = announced_trickle
    assert fates(crawled(site, tmp_path, deadline=0.3), site)["/slow"] == "timed_out 0.3"
    assert site.asked("/slow") == 1


def test_one_host_that_is_gone_costs_its_own_pages_only(site: Site, tmp_path: Path) -> None:
    with serving(Site()) as gone:
        gone.html("/", "".join(f'<a href="/{number}">x</a>' for number in range(6)) + f'<a href="{site.url}/">x</a>')
        gone.pages.update({f"/{number}": lambda handler: gone.server_close() for number in range(6)})
        site.html("/", "other")
        found = fates(crawled(gone, tmp_path, depth=2), gone)
    assert found == {
        "/": "fetched 200",
        **{f"/{number}": "unreachable" for number in range(6)},
        f"{site.url}/": "fetched 200",
    }
