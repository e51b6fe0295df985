"""Of a page comes out what a browser shows: its signs as they stand, its title, and paragraphs that tables lay out."""

from __future__ import annotations

import html as entities
import re
from collections.abc import Iterator
from typing import Literal

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


BY_BREAKS = "<br><br>".join(PROSE)
MENU = '<td><a href="/">Home</a><br><br><a href="/b">Elsewhere</a></td>'
LINKS = f"<tr>{MENU}{MENU}</tr>"
TOP = "<tr><td>Top</td><td>of it</td></tr>"
CELL = "<table width=600><tr>" + MENU + "<td>{}</td></tr></table>"
DATA_ROWS = "<tr><td>Year</td><td>Sold</td></tr><tr><td>1999</td><td>12.5</td></tr>"
LAID_OUT = {
    "essay": f"<table><tr>{MENU}<td><table><tr><td><b>A</b><br><br>{BY_BREAKS}</td></tr></table></td></tr></table>",
    "columns": f"<table><tbody>{TOP}<tr>{MENU}<td>{AROUND}</td></tr></tbody></table>",
    "stated": f"<table role=presentation><tr><td>{'</td><td>'.join(PROSE)}</td></tr></table>",
    "headings": f"<table><tr><td><h2>A part</h2>{AROUND}<h2>Another</h2><p>short</p></td></tr></table>",
    "bare": CELL.format(f"{PROSE[0]}<p>{'<p>'.join(PROSE[1:])}"),
    "fonts": CELL.format(
        f"<font>{PROSE[0]}<br><br>{PROSE[1]}</font><p><font>{'</font><p><font>'.join(PROSE[2:])}</font>"
    ),
    "divisions": CELL.format(f"<p>{PROSE[0]}<p>{PROSE[1]}<div>{'</div><center>'.join(PROSE[2:4])}</center>"),
    "terms": CELL.format(f"<p>{PROSE[0]}<p>{PROSE[1]}<dl><dt>term</dt><dd>says it</dd></dl>{PROSE[2]}"),
    "items": CELL.format(f"{AROUND}<ul><li>one item</li><li>two items</li></ul><p>after them</p>"),
    "links": CELL.format(
        f"<p>{PROSE[0]}<p>{PROSE[1]}<br>" + "".join(f"<a href=x>{said}</a><br>" for said in PROSE[2:])
    ),
    "in a line": CELL.format(f"So <b>bold</b> as <i>can</i> be.{AROUND}Or <a href=x>linked</a> ones.<br><br>Enough"),
    "quoted": CELL.format(f"<blockquote>{PROSE[0]}<p>{PROSE[1]}<p>{PROSE[2]}</blockquote>{PROSE[3]}"),
    "of th": f"<table role=none><caption>Of it</caption><tr><th>{'</th></tr><tr><th>'.join(PROSE)}</th></tr></table>",
    "in two rows": f"<table><tr><td>{AROUND}</td></tr><tr><td>{PROSE[0]}<br><br>{PROSE[1]}</td></tr></table>",
    "said by": f"<table><tr><td>Somebody</td><td>{AROUND}</td></tr></table>",
    "dated": f"<table>{LINKS}<tr><td>12 June<br>1999</td><td><h2>A part</h2>{AROUND}</td></tr></table>",
    "sides": f"<table><tr>{MENU}<td>{AROUND}</td><td>Call us<br>555 1234</td></tr></table>",
    "news": f"<table><tr><td>{AROUND}</td><td><b>News</b><br>1 June: we moved.</td></tr></table>",
    "after it": f"<table><tr><td>{AROUND}</td></tr></table><p>{PROSE[0]}</p>",
}
NAMES = "<tr><td>Version</td><td>Date</td><td>Notes</td></tr>"
DATA = {
    "two rows": f"<tr><td>Name</td><td>This one</td></tr><tr><td>Said</td><td>{AROUND}</td></tr>",
    "names": f"{NAMES}<tr><td>1.2.3</td><td>2001-04-05</td><td>{AROUND}</td></tr>",
    "linked": f"{NAMES}<tr><td><a href=x>1.2.3</a></td><td><a href=x>2001</a></td><td>{AROUND}</td></tr>",
    "sentences": "".join(f"<tr><td>{n}</td><td>{said}</td></tr>" for n, said in enumerate(PROSE)),
    "paragraphs": "".join(
        f"<tr><td><p>{n}</p></td><td><p>{said}</p><p>So.</p></td></tr>" for n, said in enumerate(PROSE)
    ),
    "long": f"<tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr><tr><td>e</td><td>{AROUND}</td></tr>",
    "head": f"<tr><th>What</th><th>Which</th></tr><tr><td>a</td><td>{AROUND}</td></tr>",
    "caption": f"<caption>What</caption><tr><td>a</td><td>{AROUND}</td></tr>",
    "icons": "".join(
        f"<tr><td><table role=presentation><tr><td>{n}</td></tr></table></td><td>{said}</td></tr>"
        for n, said in enumerate(PROSE)
    ),
    "breaks": f"<tr><td>a</td><td>{'<br>'.join(PROSE)}</td></tr>",
}


@pytest.mark.parametrize("tables", [True, False])
@pytest.mark.parametrize("favor", ["balanced", "precision", "recall"])
@pytest.mark.parametrize("way", LAID_OUT)
def test_a_page_laid_out_by_tables_keeps_its_paragraphs(
    way: str, favor: Literal["balanced", "precision", "recall"], tables: bool
) -> None:
    with Extractor("html", ExtractConfig(tables=tables, favor=favor)) as extractor:
        found = text(extractor, page(LAID_OUT[way]))
    lines = [line.removeprefix("- ") for line in found.split("\n")]
    said = re.findall(r"\w+", re.sub("<[^>]*>", " ", LAID_OUT[way].replace(MENU, "").replace(TOP, "")))
    assert [line for line in lines if line in PROSE] == re.findall("|".join(PROSE), LAID_OUT[way])
    assert re.findall(r"\w+", found) == said, "and all else but the menu and a head"
    assert "|" not in found


def test_a_table_of_data_beside_a_long_cell_stays(html: Extractor) -> None:
    found = text(html, page(f"<table><tr><td>{AROUND}</td><td><table>{DATA_ROWS}</table></td></tr></table>"))
    assert found.split("\n") == [*PROSE, "| Year | Sold | ", "| 1999 | 12.5 | "]


@pytest.mark.parametrize("beside", [DATA_ROWS, f"<caption>Of it</caption>{DATA_ROWS}"])
def test_a_table_of_data_in_another_row_of_a_layout_stays(html: Extractor, beside: str) -> None:
    rows = f"<tr><td>{AROUND}</td></tr><tr><td><table>{beside}</table></td></tr>"
    found = text(html, page(f"<table><tr>{MENU}<td><table>{rows}</table></td></tr></table>")).split("\n")
    assert found[: len(PROSE)] == PROSE and "| 1999 | 12.5 | " in found


def test_a_layout_stays_a_table_where_much_of_it_would_be_lost(html: Extractor) -> None:
    names = [f"name{n:02}{'GetSomething' * (n % 3 + 1)}" for n in range(60)]
    index = "".join(f"<h2>Type {n}:</h2><p><a href=x>{name}</a><br></p>" for n, name in enumerate(names))
    found = text(html, page(CELL.format(index)))
    assert re.findall(r"name\w*", found) == names


@pytest.mark.parametrize("way", DATA)
def test_a_table_of_data_stays_one(html: Extractor, way: str) -> None:
    found = text(html, page(f"<table>{DATA[way]}</table>"))
    assert any(line.startswith("| ") and PROSE[-1] in line for line in found.split("\n"))
    assert any(line.startswith("| ") and PROSE[0] in line for line in found.split("\n"))


def test_a_small_table_in_a_page_stays_one(html: Extractor) -> None:
    cells = f"<tr><td>a</td><td><p>{PROSE[0]}</p><p>{PROSE[1]}</p></td></tr>"
    found = text(html, page(f"<article>{AROUND.replace('Paragraph', 'Part')}<table>{cells}</table></article>"))
    assert f"| a | {PROSE[0]} {PROSE[1]} |" in found


@pytest.mark.parametrize("end", ["<br>", "<br/>\n", "\n"])
def test_lines_of_code_keep_their_indentation(html: Extractor, end: str) -> None:
    lines = ["def f(x):", "    if x &lt; 1:", "        return <b>1</b>", "    return 0"]
    found = text(html, page(f"<article>{AROUND}<pre>{end.join(lines)}</pre></article>")).split("\n")
    assert [line for line in found if line and line not in PROSE] == [
        "def f(x):",
        "    if x < 1:",
        "        return 1",
        "    return 0",
    ]


def test_a_page_of_frames_says_what_it_has_without_them(html: Extractor) -> None:
    frames = f"<frameset cols=2><frame src=a></frameset><noframes>{{}}<p>R&amp;D</p>{AROUND}</noframes>"
    for start in ("<body bgcolor=white>", ""):
        found = text(html, f"<html><head><title>A</title></head>{frames.format(start)}</html>")
        assert found.split("\n") == ["R&D", *PROSE]
    assert text(html, page(f"<article>{AROUND}</article><noframes><p>No frames</p></noframes>")).split("\n") == PROSE


@pytest.mark.parametrize(
    ("bare", "shown"),
    [
        ("We went to <st1:place>Rome</st1:place>, and <st1:City>Paris</st1:City>.", "We went to Rome, and Paris."),
        ("<spacer type=block>It was late.", "It was late."),  # which swallows what follows it
    ],
)
def test_what_no_browser_knows_stands_in_the_line(html: Extractor, bare: str, shown: str) -> None:
    menu = "<a href=1>Home</a><br><a href=2>News</a><br>"
    more, last = (
        " ".join(f"The people of the town built harbour {n}." for n in some) for some in (range(9), range(9, 18))
    )
    cell = f"{bare}<br><br>{more}<p>{last}</p>"
    assert shown in text(html, page(f"<table><tr><td>{menu}</td><td>{cell}</td></tr></table>"))


def test_tables_that_are_never_closed(html: Extractor) -> None:
    """Each stands in the one before; Python has fewer levels for calls than lxml has for elements."""
    posts = (
        f"<p>Post {n} of the forum, long enough to be a paragraph.</p><p>And one more of it: {n}.</p>"
        for n in range(340)
    )
    found = text(html, page("".join(f"<table><tr><td>{post}" for post in posts)))
    assert found.count("And one more of it") > 300
