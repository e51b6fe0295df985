"""Of a page comes out what a browser shows: its signs as they stand, and its title."""

from __future__ import annotations

import html as entities
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.data.extract import ExtractConfig, Extractor

pytest.importorskip("trafilatura")

PROSE = [f"Paragraph {n} says something at some length, so that it counts as main text." for n in range(9)]
AROUND = "".join(f"<p>{text}</p>" for text in PROSE)
WAYS = {
    "paragraph": "<article>" + AROUND + "<p>it is {} here</p></article>",
    "code": "<article>" + AROUND + "<pre><code>it is {} here</code></pre></article>",
    "cell": "<article>" + AROUND + "<table><tr><td>one</td><td>it is {} here</td></tr></table></article>",
    "item": "<article>" + AROUND + "<ul><li>One of them</li><li>it is {} here</li></ul></article>",
    "link": "<article>" + AROUND + "<p>And <a href='/b?a=1&amp;copy=2'>a link</a> it is <b>{} here</b></p></article>",
    "formula": "<article>" + AROUND + "<p>And it is <math alttext='{} here'></math> too</p></article>",
    "bare": "it is {} here",
    "divisions": "<div>it is {} here</div>" + "".join(f"<div>{text}</div>" for text in PROSE),
    "articles": "<article>it is {} here" + PROSE[0] + "</article><article>" + PROSE[1] * 3 + "</article>",
}
PIECES = st.sampled_from(
    ["&", ";", "#", "amp", "amp;", "lt;", "<", ">", "&lt", "copy", "sect", "para", "nbsp;", "#38;", "x26;", "b", "＆"]
)
WORDS = st.lists(st.lists(PIECES, min_size=1, max_size=5).map("".join), min_size=1, max_size=5)


@pytest.fixture(scope="module", params=["balanced", "precision", "recall"])
def html(request: pytest.FixtureRequest) -> Iterator[Extractor]:
    with Extractor("html", ExtractConfig(favor=request.param, comments=True)) as extractor:
        yield extractor


def page(body: str, head: str = "<title>A page</title>") -> str:
    return f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>"


def text(extractor: Extractor, raw: str) -> str:
    return extractor.extract(raw.encode(), "a.html").text or ""


@pytest.mark.parametrize("way", WAYS)
def test_signs_are_as_a_browser_shows_them(html: Extractor, way: str) -> None:
    for shown in ("init(&params)", "?page=1&section=3&copy=2", "&lt; &amp; &amp;amp;", "AT&T &#38; ＆", "R&D <b>"):
        found = text(html, page(WAYS[way].format(entities.escape(shown))))
        assert f"{shown} here" in found, "nothing is decoded twice, and nothing is left encoded"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("init(&params)", "init(&params)"),
        ("AT&amp;T &amp;copy", "AT&T &copy"),
        (r"AT\u0026amp;T \u0026copy=2", "AT&T &copy=2"),
        ("&eacute; &amp;lt; &amp;amp;", "é &lt; &amp;"),
    ],
)
def test_a_text_that_stands_in_json_alone_is_decoded_once(written: str, shown: str) -> None:
    article = f'{{"@type": "Article", "articleBody": "{" ".join(PROSE)} {written}"}}'
    head = f'<script type="application/ld+json">{article}</script>'
    with Extractor("html", ExtractConfig()) as extractor:
        assert text(extractor, page("<div>Please wait</div>", head)) == f"{' '.join(PROSE)} {shown}"


@settings(deadline=None)  # the first starts a process
@given(words=WORDS)
@pytest.mark.parametrize("way", ["paragraph", "code", "cell", "item", "divisions"])
def test_the_words_of_a_page_are_the_words_that_come_out(html: Extractor, way: str, words: list[str]) -> None:
    found = text(html, page(WAYS[way].format(entities.escape(" ".join(words))))).split()
    start = next(n for n in range(len(found)) if found[n : n + 2] == ["it", "is"])
    assert found[start : found.index("here", start) + 1] == ["it", "is", *words, "here"]


@pytest.mark.parametrize(
    ("head", "title"),
    [
        ("<title>R&amp;D:\n &amp;lt;b&amp;gt; &amp;copy=2 </title>", "R&D: &lt;b&gt; &copy=2"),
        ("<title>A &lt;b&gt; | Site</title>", "A <b> | Site"),
        (
            '<title>A | Site</title><meta property="og:title" content="AT&amp;T &amp;params\n&amp;amp;">',
            "AT&T &params &amp;",
        ),
        ('<title>A | Site</title><meta property="og:title" content=" ">', "A | Site"),
        ('<meta name="OG:Title" content="A">', "A"),
        ("<title> </title>", "R&D &copy heading"),
        ("", "R&D &copy heading"),
        ('<meta name="twitter:title" content="A &amp;copy">', "A &copy"),
    ],
)
def test_a_title_is_what_the_page_says_it_is(html: Extractor, head: str, title: str) -> None:
    hidden = "<div style='display:none'><h2>Keyboard shortcuts</h2></div><svg><title>An arrow</title></svg>"
    heading = "<h1>R&amp;D &amp;copy heading</h1>"
    found = html.extract(page(f"{heading}{hidden}<article>{AROUND}</article>", head).encode(), "a.html")
    assert found.title == title
