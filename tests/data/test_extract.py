"""Extraction in a process that can be killed: what comes out, and what hostile documents get."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.pdfs import SCAN, drawn, make_pdf
from tilth.core.errors import RecipeError
from tilth.data.extract import ExtractConfig, Extracted, Extractor
from tilth.data.extract import extractor as module
from tilth.data.extract.charset import decode, encoding_of

trafilatura = pytest.importorskip("trafilatura")
pytest.importorskip("pypdfium2")

PROSE = "".join(
    f"<p>Paragraph {n} says something at some length, so that it counts as main text.</p>\n" for n in range(9)
)
PAGE = f"""<!DOCTYPE html><html><head><meta charset="utf-8"><title>A page &amp; more</title>
<meta property="article:published_time" content="2031-02-03T10:00:00Z"></head>
<body><nav><ul><li><a href="/">Home</a></li><li><a href="/b">Elsewhere</a></li></ul></nav>
<article><h1>A page</h1>{PROSE}</article>
<footer><a rel="license" href="https://creativecommons.org/licenses/by-sa/4.0/">CC BY-SA</a></footer></body></html>"""


@pytest.fixture(scope="module")
def html() -> Iterator[Extractor]:
    with Extractor("html", ExtractConfig(seconds=10)) as extractor:
        yield extractor


@pytest.fixture(scope="module")
def pdf() -> Iterator[Extractor]:
    with Extractor("pdf") as extractor:
        yield extractor


def rules(found: Extracted) -> list[tuple[str, str]]:
    return [(fault.rule, fault.value) for fault in found.faults]


def test_a_page_gives_what_trafilatura_gives_directly(html: Extractor) -> None:
    found = html.extract(PAGE.encode(), "a.html")
    direct = trafilatura.bare_extraction(PAGE, with_metadata=True, include_comments=False)
    assert found.text == direct.text
    assert "Elsewhere" not in (found.text or "") and "Paragraph 8" in (found.text or "")
    assert (found.title, found.license) == ("A page & more", direct.license) == ("A page & more", "CC BY-SA 4.0")
    assert found.date == "2031-02-03"  # stated, if after today
    assert found.faults == ()


def test_a_paragraph_is_a_line_however_its_source_is_wrapped_and_code_keeps_its_lines(html: Extractor) -> None:
    link, packages = '<a href="/b"><em>registry</em></a>', "<code>packages</code>"
    wrapped = f"A {link}\nserves as a place\n  to find {packages}\nof any kind, all of them."
    code = "def f():\n    return 1\n\n\nprint(f())"
    page = PAGE.replace("</article>", f"<p>{wrapped}</p>\n<pre><code>{code}</code></pre>\n</article>")
    lines = (html.extract(page.encode(), "a").text or "").split("\n")
    assert "A registry serves as a place to find packages of any kind, all of them." in lines
    assert "    return 1" in lines and "print(f())" in lines
    direct = trafilatura.bare_extraction(page, with_metadata=True, include_comments=False).text
    assert direct.split() == " ".join(lines).split() and "serves as a place" in direct.split("\n"), (
        "nothing else differs"
    )


BY_SA = "https://creativecommons.org/licenses/by-sa/4.0/"


def ld_json(value: str) -> str:
    return f'<script type="application/ld+json">{value}</script>'


@pytest.mark.parametrize(
    ("head", "license"),
    [
        (f'<link rel="License nofollow" href="{BY_SA}">', "CC BY-SA 4.0"),
        ('<link rel="license" href="https://host.org/terms">', "https://host.org/terms"),
        ('<link rel="stylesheet" href="license.css">', None),
        (ld_json(f'{{"@type": "NewsArticle",\n"license": "{BY_SA}"}}'), "CC BY-SA 4.0"),
        (ld_json('{"@graph": [7, {"@type": ["WebPage"], "license": {"@type": "X", "name": "MIT"}}]}'), "MIT"),
        (ld_json('[{"@type": "WebPage", "license": [{"url": "https://host.org/l"}, "b"]}]'), "https://host.org/l"),
        (ld_json(f'{{"@type": "ImageObject", "license": "{BY_SA}"}}'), None),
        (ld_json('{"@type": "WebPage", "license": '), None),
        (ld_json("[" * 100_000), None),
        ('<meta name="DC.rights" content="All\nrights reserved">', "All rights reserved"),
        ('<meta name="dc.rights" content="mine"><meta name="dcterms.license" content="CC0">', "CC0"),
        (
            '<meta property="dcterms:license" content="https://creativecommons.org/publicdomain/zero/1.0/">',
            "CC ZERO 1.0",
        ),
        ('<meta name="dcterms.license" content=" "><link rel="license">', None),
        ('<meta name="license" content="to drive">', None),
    ],
)
def test_a_licence_is_found_where_no_reader_sees_it(html: Extractor, head: str, license: str | None) -> None:
    page = PAGE.replace("</head>", f"{head}</head>")
    assert html.extract(page.encode(), "a.html").license == "CC BY-SA 4.0", "what the page shows comes first"
    unseen = page.replace('<a rel="license"', "<a").replace(f'href="{BY_SA}">CC BY-SA', 'href="/b">no')
    assert html.extract(unseen.encode(), "a.html").license == license


@pytest.mark.slow
def test_options_reach_trafilatura(html: Extractor) -> None:
    table = "<table><tr><td>cell one is here</td><td>cell two is here</td></tr></table>"
    page = PAGE.replace("</article>", f"{table}</article>").encode()
    assert "cell two" in (html.extract(page, "a").text or "")
    with Extractor("html", ExtractConfig(tables=False)) as extractor:
        assert "cell two" not in (extractor.extract(page, "a").text or "cell two")


@pytest.mark.parametrize(
    ("raw", "stated", "text", "faults"),
    [
        ("é".encode(), None, "é", []),
        (b"\xef\xbb\xbf<meta charset=latin1>\xc3\xa9", "koi8-r", "<meta charset=latin1>é", [("bom", "utf-8")]),
        ("é".encode("utf-16"), None, "é", [("bom", "utf-16-le")]),
        (b"<meta charset='ISO-8859-1'>\x80", None, "<meta charset='ISO-8859-1'>€", [("charset", "cp1252")]),
        (b"<meta charset=utf-8>\xe9", "latin-1", "<meta charset=utf-8>é", [("charset", "cp1252")]),
        (b"<!-- <meta charset=koi8-r> -->\xc3\xa9", None, "<!-- <meta charset=koi8-r> -->é", []),
        (b"<meta charset=utf-16>\xc3\xa9", None, "<meta charset=utf-16>é", []),
        (b'<?xml encoding="Shift_JIS"?>\x82\xa0', None, '<?xml encoding="Shift_JIS"?>あ', [("charset", "cp932")]),
        (b"<meta charset=utf-7>+AGE-", None, "<meta charset=utf-7>+AGE-", [("unknown_charset", "utf-7")]),
        (b"a\xff\xff" + "\ufffd".encode(), None, "a\ufffd\ufffd\ufffd", [("invalid_utf8", "2")]),
        (b"Gr\xf6\xdfe \x80", None, "Größe €", [("charset", "cp1252")]),
        (b"Gr\xf6\xdfe", "nonsense", "Größe", [("unknown_charset", "nonsense"), ("charset", "cp1252")]),
        (b"<meta charset=utf-8>\xf6", None, "<meta charset=utf-8>\ufffd", [("invalid_utf8", "1")]),
        (b"Gr\xf6\xdfe", "utf-8", "Gr\ufffd\ufffde", [("invalid_utf8", "2")]),
        ("да, нет".encode("cp1251"), None, "\ufffd\ufffd, \ufffd\ufffd\ufffd", [("invalid_utf8", "5")]),
        ("größer".encode() + b"\xf6", None, "größer\ufffd", [("invalid_utf8", "1")]),
    ],
)  # fmt: skip
def test_the_encoding_is_the_one_that_is_stated(
    raw: bytes, stated: str | None, text: str, faults: list[tuple[str, str]]
) -> None:
    found, said = decode(raw, stated)
    assert found == text
    assert [(fault.rule, fault.value) for fault in said] == faults


@pytest.mark.parametrize(
    "label", ["rot13", "zip", "base64", "utf-7", "idna", "punycode", "undefined", "mbcs", "\0", ""]
)
def test_what_is_no_encoding_of_pages_is_refused(label: str) -> None:
    assert encoding_of(label) is None


def test_a_page_in_another_encoding_is_counted(html: Extractor) -> None:
    page = PAGE.replace('charset="utf-8"', 'charset="windows-1251"').replace("Paragraph 3", "Абзац 3")
    found = html.extract(page.encode("cp1251"), "a.html")
    assert "Абзац 3" in (found.text or "") and rules(found) == [("charset", "cp1251")]
    assert rules(html.extract(PAGE.encode() + b"\xff", "b.html")) == [("invalid_utf8", "1")]


def test_nuls_in_a_page_are_counted(html: Extractor) -> None:
    found = html.extract(PAGE.replace("Paragraph 3", "Para\0graph\0 3").encode(), "a.html")
    assert "Paragraph 3 says" in (found.text or "") and rules(found) == [("nul", "2")]
    assert found.faults[0].detail == "a.html: NUL characters removed"
    assert rules(html.extract(b"\0" * 100, "b.html")) == [("nul", "100"), ("empty", "0")]


@pytest.mark.parametrize("raw", [b"", b" \n", b"<html></html>", b"<!-- only -->", b"\x01" * 100])
def test_a_page_without_text_is_empty(html: Extractor, raw: bytes) -> None:
    found = html.extract(raw, "a.html")
    assert found.text is None and rules(found) == [("empty", "0")]
    assert found.faults[0].detail == "a.html: no main text"


@pytest.mark.parametrize("tag", [b"<div>", b"<b><i>", b"<table><tr><td>", b"<ul><li>"])
def test_html_nested_a_hundred_thousand_deep_is_dropped_and_the_next_page_read(html: Extractor, tag: bytes) -> None:
    found = html.extract(b"<html><body>" + tag * 100_000 + b"words", "a.html")
    assert found.text is None and rules(found) == [("too_deep", "")]
    assert html.extract(PAGE.encode(), "b.html").text


def test_a_page_deeper_than_the_parser_s_first_limit_is_read_whole(html: Extractor) -> None:
    deep = b"<html><body>" + b"<div>" * 600 + PROSE.encode()
    assert "Paragraph 8" in (html.extract(deep, "a.html").text or "")


@pytest.mark.slow
def test_a_line_of_ten_megabytes_is_read(html: Extractor) -> None:
    page = f"<html><body><article><p>{'words ' * 1_750_000}the end</p></article></body></html>"
    found = html.extract(page.encode(), "a.html")
    assert (found.text or "").endswith("the end") and len(found.text or "") > 10_000_000


def test_entities_that_grow_are_not_expanded(html: Extractor) -> None:
    grow = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    page = (
        f'<?xml version="1.0"?><!DOCTYPE html [<!ENTITY e0 "lol">{grow}]><html><body>{PROSE}<p>&e11;</p></body></html>'
    )
    assert len(html.extract(page.encode(), "a.xhtml").text or "") < 2000


def test_a_document_above_the_size_is_not_parsed() -> None:
    with Extractor("html", ExtractConfig(max_bytes=100)) as extractor:
        assert rules(extractor.extract(b"x" * 101, "a.html")) == [("too_large", "101")]
        assert extractor.pid is None


@pytest.mark.slow
def test_a_document_over_its_deadline_is_dropped_and_the_next_one_read() -> None:
    slow = ("<html><body>" + "<p>a b c</p>" * 100_000).encode()
    with Extractor("html", ExtractConfig(seconds=0.3)) as extractor:
        found = extractor.extract(slow, "slow.html")
        assert found.text is None and rules(found) == [("timeout", "0.3")]
        assert found.faults[0].detail == "slow.html: more than 0.3 seconds of processor time"
        assert extractor.pid is None
        assert extractor.extract(PAGE.encode(), "b.html").text


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    with Extractor("html", ExtractConfig(seconds=1)) as extractor:
        assert extractor.extract(PAGE.encode(), "a.html").text
        first = extractor.pid or 0
        os.kill(first, signal.SIGSTOP)
        begun = time.monotonic()
        found = extractor.extract(b"x" * 5_000_000, "b.html")  # more than a pipe holds: even writing it would hang
        assert time.monotonic() - begun < 5
        assert rules(found) == [("timeout", "1")]
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
        assert extractor.extract(PAGE.encode(), "c.html").text


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_the_document_tried_once_more() -> None:
    with Extractor("html") as extractor:
        assert extractor.extract(PAGE.encode(), "a.html").text
        os.kill(extractor.pid or 0, signal.SIGKILL)
        assert extractor.extract(PAGE.encode(), "b.html").text  # it was not the document


@pytest.mark.slow
def test_a_document_whose_worker_dies_is_dropped() -> None:
    slow = ("<html><body>" + "<p>a b c</p>" * 100_000).encode()
    with Extractor("html") as extractor:
        # The first worker is a fresh one: what dies there is not tried again.
        killer = threading.Thread(target=_kill_when_busy, args=(extractor,))
        killer.start()
        found = extractor.extract(slow, "slow.html")
        killer.join()
        assert found.text is None and rules(found) == [("crashed", str(-signal.SIGSEGV))]
        assert found.faults[0].detail == "slow.html: the parser died: signal SIGSEGV"
        assert extractor.extract(PAGE.encode(), "b.html").text


def _kill_when_busy(extractor: Extractor) -> None:
    """Kills the worker once it has used more processor time than starting takes."""
    while extractor.pid is None:
        time.sleep(0.01)
    time.sleep(1.0)
    os.kill(extractor.pid, signal.SIGSEGV)


@pytest.mark.slow
def test_a_document_that_asks_for_too_much_memory_is_dropped_and_the_next_one_read() -> None:
    large = b"<html><body>" + b"<p>a b</p>" * 1_000_000
    with Extractor("html", ExtractConfig(memory=300 << 20)) as extractor:
        assert extractor.extract(PAGE.encode(), "a.html").text
        found = extractor.extract(large, "large.html")
        assert found.text is None and rules(found) == [("memory", "")]
        assert extractor.extract(PAGE.encode(), "b.html").text


@pytest.mark.slow
def test_and_so_is_a_pdf_that_does() -> None:
    pytest.importorskip("pypdfium2")
    with Extractor("pdf", ExtractConfig(memory=256 << 20)) as extractor:
        found = extractor.extract(drawn(b"q " * 2_000_000), "a.pdf")
        assert found.text is None and rules(found) == [("memory", "")]
        assert "more memory than it may have" in found.faults[0].detail
        assert extractor.extract(make_pdf(["words"]), "b.pdf").text == "words"


@pytest.mark.slow
def test_what_a_page_gives_does_not_depend_on_those_before_it() -> None:
    pages = [PAGE.replace("Paragraph", word).encode() for word in ("One", "Two", "Three", "One")]
    with Extractor("html") as extractor:
        forward = [extractor.extract(page, "a") for page in pages]
        assert forward == [extractor.extract(page, "a") for page in reversed(pages)][::-1]
    for page, found in zip(pages, forward, strict=True):
        with Extractor("html") as fresh:
            assert fresh.extract(page, "a") == found


@pytest.mark.slow
def test_nothing_is_imported_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trafilatura.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    with Extractor("html") as extractor:
        assert extractor.extract(PAGE.encode(), "a.html").text


@pytest.mark.slow
def test_the_worker_ends_with_the_extractor() -> None:
    with Extractor("html") as extractor:
        extractor.extract(PAGE.encode(), "a.html")
        pid = extractor.pid or 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError) as caught:
        Extractor("pdf")
    assert "pypdfium2" in caught.value.message and caught.value.remedy == "pip install 'tilth[pdf]'"


def test_a_pdf_gives_its_pages(pdf: Extractor) -> None:
    raw = make_pdf(["First page,\ntwo lines (with brackets).", "Second page: caf\xe9."], title="A title")
    found = pdf.extract(raw, "a.pdf")
    assert found == Extracted(
        "First page,\ntwo lines (with brackets).\n\nSecond page: caf\xe9.", "A title", "2024-01-31", None, ()
    )


def test_words_divided_at_a_line_s_end_are_put_together_and_counted(pdf: Extractor) -> None:
    found = pdf.extract(make_pdf(["an exam-\nple of 1990-\n1995"]), "a.pdf")
    assert found.text == "an example of 1990-\n1995" and rules(found) == [("hyphen", "1")]


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b"", "empty"),
        (make_pdf([""]), "empty"),
        (make_pdf(["text"], encrypted=True), "encrypted"),
        (b"%PDF-1.7 and no more", "broken"),
        (make_pdf(["text " * 50] * 9)[:700], "broken"),
        (PAGE.encode(), "broken"),
    ],
)
def test_a_pdf_without_text_says_why(pdf: Extractor, raw: bytes, rule: str) -> None:
    found = pdf.extract(raw, "a.pdf")
    assert found.text is None
    assert [fault.rule for fault in found.faults] == [rule]
    assert found.faults[0].detail.startswith("a.pdf: ")


def test_pages_that_are_pictures_are_told_from_blank_ones(pdf: Extractor) -> None:
    found = pdf.extract(make_pdf(["words", SCAN, "", "more", SCAN]), "a.pdf")
    assert found.text == "words\n\nmore" and rules(found) == [("scanned_pages", "2")]
    assert found.faults[0].detail == "a.pdf: pictures without a text layer: 2 of 5 pages: 2, 5"
    found = pdf.extract(make_pdf([SCAN] * 9), "a.pdf")
    assert found.text is None and rules(found) == [("scanned_pages", "9"), ("empty", "0")]
    assert found.faults[0].detail.endswith(": 9 of 9 pages: 1, 2, 3, …")


@pytest.mark.slow
def test_a_pdf_with_more_text_than_the_limit_is_dropped() -> None:
    raw = make_pdf(["word " * 1000] * 3)
    with Extractor("pdf", ExtractConfig(max_bytes=len(raw))) as extractor:
        assert extractor.extract(raw, "a.pdf").text
    with Extractor("pdf", ExtractConfig(max_bytes=len(raw) - 1)) as extractor:
        assert rules(extractor.extract(raw, "a.pdf")) == [("too_large", str(len(raw)))]
