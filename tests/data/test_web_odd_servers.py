"""The crawler against servers that are odd, page after page, and against hosts that go away for good."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.web_site import Page, Site, crawled, fates, serving, silent, vanish
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
