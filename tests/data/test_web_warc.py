"""WARC records: written for warcio, read from warcio, damaged in every way that files are."""

from __future__ import annotations

import gc
import gzip
import io
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from tests.data.web_site import PlainParser, read_documents
from tilth.core.errors import DataError
from tilth.core.files import hash_file
from tilth.data.document import Document, Verdict
from tilth.data.sources.inputs import Input, kind_of
from tilth.data.sources.web import documents, warc, warc_bytes
from tilth.data.sources.web.http_message import TooLargeError, decompressed, parse_response
from tilth.data.sources.web.warc import Broken, Record, make_record, read_records

DATE = "2026-01-31T12:00:00Z"


def response(number: int, body: bytes = b"", status: str = "200 OK", **headers: str) -> tuple[str, bytes]:
    """A response record's URL and its bytes, made by tilth."""
    named = {"Content-Type": "text/html", **{key.replace("_", "-"): value for key, value in headers.items()}}
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{key}: {value}\r\n" for key, value in named.items()) + "\r\n"
    url = f"http://host/{number}"
    block = head.encode() + (body or b"<title>T%d</title><p>page %d" % (number, number))
    return url, make_record("response", url, DATE, block, "application/http; msgtype=response")[1]


def by_warcio(count: int, *, packed: bool) -> bytes:
    """A file of response records that warcio wrote."""
    file = io.BytesIO()
    writer = WARCWriter(file, gzip=packed)
    writer.write_record(writer.create_warcinfo_record("a.warc.gz", {"software": "warcio"}))
    for number in range(count):
        head = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1")
        body = io.BytesIO(b"<p>page %d " % number + bytes(range(32, 120)) * number)
        writer.write_record(
            writer.create_warc_record(f"http://host/{number}", "response", payload=body, http_headers=head)
        )
    return file.getvalue()


def records(raw: bytes) -> list[Record | Broken]:
    return list(read_records(io.BytesIO(raw)))


def urls(found: list[Record | Broken]) -> list[str]:
    return [one.url for one in found if isinstance(one, Record) and one.kind != "warcinfo"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # warcio leaves its buffers open
@pytest.mark.parametrize("packed", [True, False])
def test_reads_what_warcio_wrote(packed: bool) -> None:
    raw = by_warcio(30, packed=packed)
    gc.collect()
    expected = [
        (one.rec_headers.get_header("WARC-Record-ID"), one.content_stream().read())
        for one in ArchiveIterator(io.BytesIO(raw))
        if one.rec_type == "response"
    ]
    found = [one for one in records(raw) if isinstance(one, Record) and one.kind == "response"]
    assert [(one.headers["warc-record-id"], parse_response(one.block).body) for one in found] == expected
    assert len(expected) == 30 and not any(one.digest_fault() for one in found)


def test_warcio_reads_what_we_wrote_and_finds_its_digests_right() -> None:
    raw = b"".join(response(number)[1] for number in range(5))
    found = list(ArchiveIterator(io.BytesIO(raw), check_digests="raise"))
    assert [one.rec_headers.get_header("WARC-Target-URI") for one in found] == [f"http://host/{n}" for n in range(5)]
    assert all(one.digest_checker.passed is not False for one in found)
    assert response(1) == response(1)  # the same arguments, the same bytes


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("victim", [0, 3, 9])
def test_one_damaged_record_costs_one_record(packed: bool, victim: int) -> None:
    members = [response(number, b"<p>" + bytes(range(33, 90)) * 40)[1] for number in range(10)]
    if not packed:
        members = [gzip.decompress(member) for member in members]
    hurt = bytearray(members[victim])
    hurt[0 if not packed else len(hurt) // 2] ^= 0x55
    found = records(b"".join([*members[:victim], bytes(hurt), *members[victim + 1 :]]))
    broken = [one for one in found if isinstance(one, Broken)]
    assert urls(found) == [f"http://host/{n}" for n in range(10) if n != victim]
    assert [one.offset for one in broken] == [sum(map(len, members[:victim]))]
    if packed:
        assert broken[0].url == f"http://host/{victim}"


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_that_is_cut_off_anywhere_gives_what_was_whole(packed: bool) -> None:
    members = [response(number)[1] for number in range(3)]
    if not packed:
        members = [gzip.decompress(member) for member in members]
    raw = b"".join(members)
    for end in range(0, len(raw), 7):
        found = records(raw[:end])
        whole = sum(sum(map(len, members[: n + 1])) <= end for n in range(3))
        assert urls(found)[:whole] == [f"http://host/{n}" for n in range(whole)]
        assert len(urls(found)) <= whole + 1  # its last bytes are a gzip trailer or blank lines
        cut = sum(map(len, members[:whole])) < end
        assert any(isinstance(one, Broken) for one in found) or not cut or len(urls(found)) == whole + 1


@given(st.binary(max_size=400), st.sampled_from([b"", b"WARC/1.0\r\n", b"\x1f\x8b\x08", b"\x1f\x8b\x08\x00\x00"]))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_it_fail(raw: bytes, start: bytes) -> None:
    middle = response(1)[1]
    assert urls(records(start + raw + middle)) in ([], ["http://host/1"])


def test_files_packed_otherwise() -> None:
    plain = b"".join(gzip.decompress(response(number)[1]) for number in range(4))
    whole = gzip.compress(plain)
    blocks = b"".join(gzip.compress(plain[at : at + 100]) for at in range(0, len(plain), 100))
    empty = gzip.compress(b"")
    spaced = empty + empty.join(response(number)[1] for number in range(4)) + empty
    for raw in (plain, whole, blocks, spaced, plain.replace(b"\r\n\r\nWARC", b"\r\n\r\n\r\n\r\nWARC")):
        assert urls(records(raw)) == [f"http://host/{n}" for n in range(4)]
        assert not any(isinstance(one, Broken) for one in records(raw))


def test_a_record_shorter_than_it_says_does_not_take_the_next_with_it() -> None:
    short = gzip.compress(gzip.decompress(response(0)[1]).replace(b"Content-Length: ", b"Content-Length: 1"))
    found = records(short + response(1)[1])
    assert urls(found) == ["http://host/1"] and [one.rule for one in found if isinstance(one, Broken)] == ["cut_off"]


def test_large_records_and_bombs_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warc, "LARGEST_RECORD", 1 << 20)
    monkeypatch.setattr(warc_bytes, "_BOMB_BYTES", 4 << 20)
    large = gzip.compress(
        b"WARC/1.1\r\nWARC-Target-URI: http://l/\r\nContent-Length: 2000000\r\n\r\n" + bytes(2_000_000)
    )
    bomb = gzip.compress(
        b"WARC/1.1\r\nWARC-Target-URI: http://b/\r\nContent-Length: 9000000\r\n\r\n" + bytes(9_000_000)
    )
    found = records(response(0)[1] + large + bomb + response(1)[1])
    assert urls(found) == ["http://host/0", "http://host/1"]
    assert [(one.rule, one.url) for one in found if isinstance(one, Broken)][:1] == [("too_large", "http://l/")]
    assert ("bomb", "http://b/") in [(one.rule, one.url) for one in found if isinstance(one, Broken)]


def test_codings_are_undone_and_bounded() -> None:
    text = b"some text that is packed " * 100
    brotli, zstd = (pa.compress(text, codec=name, asbytes=True) for name in ("brotli", "zstd"))
    raw_deflate = zlib.compressobj(wbits=-15)
    for coding, packed in {
        "": text,
        "identity": text,
        "gzip": gzip.compress(text),
        "GZIP, identity": gzip.compress(text),
        "x-gzip": gzip.compress(text[:100]) + gzip.compress(text[100:]) + b"\0\0",
        "gzip, gzip": gzip.compress(gzip.compress(text)),
        "deflate": zlib.compress(text),
        " deflate ": raw_deflate.compress(text) + raw_deflate.flush(),
        "br": brotli,
        "zstd": zstd,
    }.items():
        assert decompressed(packed, coding, 10_000) == text
        with pytest.raises(TooLargeError):
            decompressed(packed, coding, 1000)
    assert decompressed(text, "gzip", 10_000) == text  # a crawler unpacked it and kept the header
    for coding, packed in {
        "gzip": gzip.compress(text)[:-20],
        "zstd": zstd[:-9],
        "br": b"\xff" * 9,
        "rot13": b"",
    }.items():
        with pytest.raises(ValueError, match=r"damaged|cut off|not known"):
            decompressed(packed, coding, 10_000)


def outcomes(path: Path, name: str = "a.warc.gz") -> tuple[list[Document], list[Verdict]]:
    item = Input("s", "warc", path, name, path.stat().st_size, hash_file(path))
    found = read_documents(item)
    return [one.document for one in found if one.document], [v for one in found for v in one.verdicts]


def test_responses_become_documents_and_the_rest_is_named(tmp_path: Path) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (b"<p>in ", b"chunks")) + b"0\r\n\r\n"
    wrong = gzip.decompress(response(9)[1])
    path = tmp_path / "a.warc.gz"
    path.write_bytes(
        make_record("warcinfo", "", DATE, b"software: x\r\n", "application/warc-fields")[1]
        + response(0)[1]
        + response(1, "<p>caf\xe9".encode("latin-1"), Content_Type="text/html; charset=ISO-8859-1")[1]
        + response(2, status="404 Not Found")[1]
        + response(3, chunks, Transfer_Encoding="chunked")[1]
        + response(4, gzip.compress(b"<p>packed"), Content_Encoding="gzip")[1]
        + response(5, b"\x89PNG", Content_Type="image/png")[1]
        + response(6, b"plain caf\xe9", Content_Type="text/plain; charset=cp1252")[1]
        + response(0, b"<p>once more")[1]
        + response(8, b"broken")[1]
        + gzip.compress(wrong.replace(b"page 9", b"page 8"))
        + make_record("conversion", "http://host/wet", DATE, "from a WET file €".encode(), "text/plain")[1]
        + make_record("request", "http://host/0", DATE, b"GET /0 HTTP/1.1\r\n\r\n", "application/http")[1]
        + make_record("revisit", "http://host/old", DATE, b"", "application/http", {"WARC-Refers-To": "<urn:x>"})[1]
        + response(10, gzip.compress(b"abc")[:-3], Content_Encoding="gzip")[1]
    )
    found, verdicts = outcomes(path)
    assert {one.locator: one.text for one in found} == {
        "a.warc.gz!http://host/0": "page 0",
        "a.warc.gz!http://host/1": "café",
        "a.warc.gz!http://host/3": "in chunks",
        "a.warc.gz!http://host/4": "packed",
        "a.warc.gz!http://host/6": "plain café",
        f"a.warc.gz!http://host/0 {DATE}": "once more",
        "a.warc.gz!http://host/wet": "from a WET file €",
    }
    assert found[0].meta == {"url": "http://host/0", "fetched": DATE, "content_type": "text/html", "title": "T0"}
    assert [(v.rule, v.verdict) for v in verdicts] == [
        ("status", "dropped"),
        ("content_type", "dropped"),
        ("charset", "changed"),
        ("odd", "changed"),
        ("broken", "dropped"),
        ("warc_digest", "dropped"),
        ("bad_response", "dropped"),
        ("revisit", "dropped"),
    ]
    assert len({one.doc_id for one in found}) == len(found)
    alone = Input("s", "warc", path, path.name, path.stat().st_size, hash_file(path), pages_once=True)
    once = [one.document for one in read_documents(alone) if one.document]
    assert [f"{path.name}!{one.locator}" for one in once] == [one.locator for one in found]


def revisit(url: str, date: str, **refers: str) -> bytes:
    named = {f"WARC-Refers-To{key.replace('_', '-')}": value for key, value in refers.items()}
    return make_record("revisit", url, date, b"HTTP/1.1 200 OK\r\n\r\n", "application/http", named)[1]


def test_a_revisit_is_told_by_the_record_that_it_refers_to_wherever_that_stands(tmp_path: Path) -> None:
    path, february, march = tmp_path / "a.warc.gz", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"
    (url, page), (other, _) = response(1), response(2)
    identity = next(read_records(io.BytesIO(page))).headers["warc-record-id"]  # type: ignore[union-attr]
    by_id, by_date = {"": identity}, {"_Target_URI": f"<{url}>", "_Date": DATE}
    path.write_bytes(
        b"".join([revisit(url, february, **by_id), page, revisit(url, march, **by_id), revisit(url, march, **by_date)])
    )
    assert [len(each) for each in outcomes(path)] == [1, 0]
    # Of one that is not here each is told, under a name of its own; so is an address that has no record but them.
    path.write_bytes(
        page
        + revisit(url, february, **{"": "<urn:gone>", "_Date": "2020"})
        + revisit(url, march, **{"": "<urn:gone>", "_Date": "2020"})
        + revisit(url, march)
        + revisit(other, march, **by_id, **by_date)
    )
    found, verdicts = outcomes(path)
    assert [one.locator for one in found] == [f"a.warc.gz!{url}"]
    assert len({found[0].doc_id, *(verdict.doc_id for verdict in verdicts)}) == 5
    assert [(v.rule, v.verdict) for v in verdicts] == [("revisit", "dropped")] * 4
    first, second, third, fourth = (verdict.detail for verdict in verdicts)
    assert first == f"a.warc.gz!{url} {february}: the same as at 2020, which is not read from this file"
    assert second == f"a.warc.gz!{url} {march}: the same as at 2020, which is not read from this file"
    assert third.startswith(f"a.warc.gz!{url} {march} #byte=") and third.endswith(
        "at an earlier crawl, which record that is it does not say"
    )
    assert fourth == f"a.warc.gz!{other}: the same as {url} at {DATE}, which is read from this file"


@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
def test_every_revisit_is_told_whose_text_is_no_document_of_its_address(tmp_path: Path, first: bool) -> None:
    path, (url, page), (other, _) = tmp_path / "a.warc.gz", response(1), response(2)
    _, missing = make_record("response", "http://host/404", DATE, b"HTTP/1.1 404 No\r\n\r\nno", "application/http")
    by_id = [
        next(read_records(io.BytesIO(raw))).headers["warc-record-id"]  # type: ignore[union-attr]
        for raw in (page, missing)
    ]
    told = revisit(other, DATE, **{"": by_id[0]}) + revisit("http://host/404", "2027", **{"": by_id[1]})
    path.write_bytes(told + page + missing if first else page + missing + told)
    found, verdicts = outcomes(path)
    assert [one.locator for one in found] == [f"a.warc.gz!{url}"]
    said = [verdict.detail for verdict in verdicts if verdict.rule == "revisit"]
    assert said == [
        f"a.warc.gz!{other}: the same as {url} at {DATE}, which is read from this file",
        "a.warc.gz!http://host/404 2027: the same as at an earlier crawl, which is not read from this file",
    ]


@pytest.mark.parametrize("stated", ["", "; charset=utf-8", "; charset=utf-16", "; charset=cp1251"])
@pytest.mark.parametrize(("codec", "mark"), [("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")])
def test_the_byte_order_mark_of_a_plain_text_comes_before_what_the_server_says(
    tmp_path: Path, stated: str, codec: str, mark: bytes
) -> None:
    (tmp_path / "a.warc.gz").write_bytes(
        response(0, mark + "русский €".encode(codec), Content_Type=f"text/plain{stated}")[1]
        + response(1, mark + "half €".encode(codec)[:-1], Content_Type=f"text/plain{stated}")[1]
    )
    found, verdicts = outcomes(tmp_path / "a.warc.gz")
    assert [one.text for one in found] == ["русский €", "half \ufffd"]
    assert [(v.rule, v.value) for v in verdicts] == [("charset", codec)] * 2 + [("invalid_utf8", "1")]


def test_pages_that_grow_too_large_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LARGEST_PAGE", 1 << 20)
    path = tmp_path / "a.warc.gz"
    path.write_bytes(response(0, gzip.compress(bytes(5_000_000)), Content_Encoding="gzip")[1] + response(1)[1])
    found, verdicts = outcomes(path)
    assert [one.text for one in found] == ["page 1"] and [v.rule for v in verdicts] == ["too_large"]


def test_a_file_that_changed_is_refused_and_one_without_records_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.warc"
    path.write_bytes(b"")
    assert [v.rule for v in outcomes(path)[1]] == ["empty"]
    path.write_bytes(gzip.decompress(response(0)[1]))
    item = Input("s", "warc", path, "a.warc", path.stat().st_size, hash_file(path))
    path.write_bytes(gzip.decompress(response(1)[1]))
    with pytest.raises(DataError, match="changed while it was used"):
        read_documents(item)


def test_a_wet_file_opens_no_parser(tmp_path: Path) -> None:
    PlainParser.opened.clear()
    path = tmp_path / "a.wet.gz"
    path.write_bytes(make_record("conversion", "http://h/", DATE, b"words", "text/plain")[1])
    assert [one.text for one in outcomes(path)[0]] == ["words"] and not PlainParser.opened
    assert kind_of(path.name) == kind_of("A.WARC") == kind_of("a.warc.gz") == "warc"
