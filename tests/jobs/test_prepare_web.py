"""From a web site to shards: the whole way, with the real crawler and the real extraction."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.data.web_site import Site, serving
from tilth.core.config import parse
from tilth.data.document import make_doc_id
from tilth.jobs.prepare import prepare_data
from tilth.jobs.recipe import Recipe

pytest.importorskip("trafilatura")
STORY = "The {n} fox went over the hill and met a hen, who had been waiting there for {n} days in the rain. "


@pytest.mark.slow
def test_a_site_becomes_shards_and_the_ledger_explains_every_url(tmp_path: Path) -> None:
    with serving(Site()) as site:
        pages = [f"/{number}" for number in range(8)]
        site.pages["/robots.txt"] = 200, {}, b"User-agent: *\nDisallow: /5\n"
        for number, path in enumerate(pages):
            article = "".join(f"<p>{STORY.format(n=number * 10 + line)}</p>" for line in range(6))
            links = "".join(f'<a href="{other}">{other}</a>' for other in [*pages, "/gone", "http://away.example/"])
            site.html(path, f"<html><title>Tale {number}</title><body><nav>{links}</nav><article>{article}</article>")
        crawl = {"start": [f"{site.url}/0"], "contact": "a@b.org", "delay": 0.0, "allow_private": True}
        recipe = parse(
            Recipe,
            {
                "name": "web",
                "data": {"sources": [{"name": "web", "crawl": crawl}], "split": {"validation": 0.3, "by": "tail"}},
                "tokenizer": {"kind": "byte"},
                "train": {"steps": 1, "batch_tokens": 256},
            },
        )
        first = prepare_data(recipe, tmp_path / "one", workers=1)
        asked = len(site.seen)
        again = prepare_data(recipe, tmp_path / "one", workers=2)
        assert again.folder == first.folder and len(site.seen) == asked == 9
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "downloads").rename(tmp_path / "two" / "downloads")
    replayed = prepare_data(recipe, tmp_path / "two", workers=2)  # the site is gone by now
    assert replayed.folder.name == first.folder.name
    assert replayed.facts["read"]["documents"] == 7
    kept = [row for path in replayed.files("documents") for row in pq.read_table(path).to_pylist()]
    assert all(
        row["locator"].partition("#")[0] == json.loads(row["meta"])["url"] for row in kept
    )  # a crawl has each address once
    rows = [row for path in replayed.folder.glob("ledger/*.parquet") for row in pq.read_table(path).to_pylist()]
    said = {row["doc_id"]: (row["rule"], row["verdict"]) for row in rows if row["stage"] == "fetch"}
    expected = {f"{site.url}{path}": ("fetched", "kept") for path in pages if path != "/5"}
    expected |= {f"{site.url}/5": ("robots", "dropped"), f"{site.url}/gone": ("status", "dropped")}
    expected |= {"http://away.example/": ("off_site", "dropped")}
    assert said == {make_doc_id("web", url): fate for url, fate in expected.items()}
