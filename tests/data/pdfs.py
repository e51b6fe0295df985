"""PDFs written out by hand, so that what stands on each page is known to the letter."""

from __future__ import annotations

import re
import zlib

SCAN = "\f"
_PICTURE = b"q 612 0 0 792 0 0 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \x80 EI Q"


def make_pdf(pages: list[str], *, title: str = "", encrypted: bool = False) -> bytes:
    """A PDF with one line of text for each line of each page (PDF 32000-1, section 7.5); `SCAN` is a page that is a
    picture.
    """
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", font]
    kids = []
    for text in pages:
        lines = b" T* ".join(b"(%s) Tj" % _escaped(line) for line in text.split("\n"))
        stream = _PICTURE if text == SCAN else b"BT /F1 12 Tf 14 TL 72 720 Td %s ET" % lines
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        resources = b"<< /Font << /F1 3 0 R >> >>"
        page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R /Resources %s >>"
        objects.append(page % (len(objects), resources))
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    objects.append(b"<< /Title (%s) /CreationDate (D:20240131120000Z) >>" % _escaped(title))
    info = len(objects)
    trailer = b"/Info %d 0 R" % info
    if encrypted:  # RC4 with a key that the empty password does not give
        objects.append(b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (b"41" * 32, b"42" * 32))
        trailer += b" /Encrypt %d 0 R /ID [<00> <00>]" % len(objects)
    return _assembled(objects, trailer)


def without_pages(raw: bytes, lost: set[int]) -> bytes:
    """The same PDF, whose list of pages (from 1) names for those that are lost objects that it does not have."""
    listed = re.search(rb"(?<=/Kids \[)[^\]]*", raw)
    assert listed
    pages = listed[0].split(b" 0 R")[:-1]
    named = b" ".join(b"99%02d 0 R" % n if n in lost else b"%s 0 R" % page.strip() for n, page in enumerate(pages, 1))
    return raw[: listed.start()] + named + raw[listed.end() :]


def drawn(content: bytes) -> bytes:
    """A PDF of one page with that content, packed."""
    stream = zlib.compress(content)
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"]
    objects.append(b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << >> >>")
    objects.append(b"<< /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    return _assembled(objects, b"")


def _escaped(text: str) -> bytes:
    return text.encode("latin-1").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _assembled(objects: list[bytes], trailer: bytes) -> bytes:
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, start)
    return bytes(out)
