"""What to do where a crawl brought no page: by what became of the first address.

remedy_of(config, fates, earlier) -> str
"""

from __future__ import annotations

from collections.abc import Sequence

from tilth.data.sources.web.config import CrawlConfig
from tilth.data.sources.web.courier import LONGEST_WAIT, NO_ROBOTS
from tilth.data.sources.web.frontier import Fate

_ON_THE_WAY = ("redirected", "sitemap")  # what it led to says more


def remedy_of(config: CrawlConfig, fates: Sequence[Fate], earlier: int | None) -> str:
    """What to do about it.

    Args:
        fates: of all addresses, in the order in which they were asked for.
        earlier: the number of the crawl before this one, whose pages are there.
    """
    known = f"; `recrawl: {earlier}` uses the pages that are there" if earlier is not None else ""
    if not config.allow_private and any(fate.rule == "private_address" for fate in fates):
        return f"if it is a server of yours, set crawl.allow_private: true{known}"
    if empty := next((fate.url for fate in fates if fate.rule == "empty_sitemap"), None):
        return (
            f"look at {empty} in a browser: a sitemap has <urlset> or <sitemapindex>; crawl.urls takes single pages"
            f"{known}"
        )
    first = next((fate for fate in fates if fate.rule not in _ON_THE_WAY), None)
    key = next(key for key in ("start", "sitemaps", "urls") if getattr(config, key))
    advice = (_by_rule(config, first) if first else "") or f"check crawl.{key} in a browser"
    return f"{advice}{known}"


def _by_rule(config: CrawlConfig, fate: Fate) -> str:
    """What is known to do about an address with this fate; "" where it is to be looked at."""
    if fate.detail.startswith(NO_ROBOTS):
        return "pages of a server whose robots.txt cannot be had are not asked for: type the same command later"
    return {
        "robots": "its owners want no pages of it fetched: ask them for the text, or take it out of the recipe",
        "crawl_delay": (
            f"more than {LONGEST_WAIT:g} seconds are not waited between pages: ask its owners for the text, or take it "
            "out of the recipe"
        ),
        "content_type": f"to have it, add {fate.value} to crawl.types" if fate.value else "",
        "off_site": f"name an address of {fate.value} in the recipe, or set crawl.same_host: false",
        "excluded": "check crawl.exclude",
        "not_included": "check crawl.include",
        "pattern_timeout": "check crawl.include and crawl.exclude for parts that can match in many ways",
        "timed_out": (
            f"type the same command later, or raise crawl.timeout (now {config.timeout:g}) and crawl.deadline (now "
            f"{config.deadline:g})"
        ),
        "too_large": "" if fate.sitemap else f"raise crawl.max_page_bytes (now {config.max_page_bytes})",
        "broken_off": "type the same command later",
        "status": "type the same command later" if fate.value[:1] == "5" or fate.value == "429" else "",
    }.get(fate.rule, "")
