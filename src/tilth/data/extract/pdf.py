"""The text of a PDF, page by page, by PDFium (pypdfium2); runs in the worker only.

Lines end where they end on the page. A hyphen between letters at a line's end, for which PDFium gives U+0002 or U+FFFE,
is taken for that of a divided word and removed (`hyphen` counts them; a compound divided there loses its own). A scan
without a text layer has no text: `empty`; where other pages have some, such pages are `scanned_pages`. A document of
whose pages none can be read is `broken`.
"""

from __future__ import annotations

import re
from typing import Any

from tilth.data.extract.result import BROKEN_PAGE, SCANNED_PAGES, Extracted, Fault

_DIVIDED = re.compile("[\ufffe\x02]\n?")
_DATE = re.compile(r"(?:D:)?(\d{4})(\d\d)?(\d\d)?")
_MARK, _MARK_WITHIN = b"%PDF-", 1024  # where readers look for it (ISO 32000, annex H of 1.7)
_PASSWORD = 4  # FPDF_ERR_PASSWORD
_PICTURE = 0.5  # of a page's area: one without text on which pictures take so much is a scan
_NAMED = 3


class _TooLargeError(Exception):
    pass


def parse(raw: bytes, options: dict[str, Any]) -> Extracted:
    """The text of all pages; `encrypted`, `broken` or `empty` when there is none, `broken_page` for each lost page, and
    `scanned_pages` where some are pictures.
    """
    import pypdfium2

    if not raw.strip():
        return Extracted(None, faults=(Fault("empty", "0", "no bytes"),))
    try:
        document = pypdfium2.PdfDocument(raw)
    except pypdfium2.PdfiumError as error:
        if error.err_code == _PASSWORD:
            return Extracted(None, faults=(Fault("encrypted", "", "it needs a password"),))
        why = str(error) if _MARK in raw[:_MARK_WITHIN] else "it is no PDF: its bytes do not begin with %PDF"
        return Extracted(None, faults=(Fault("broken", "", why),))
    try:
        pages, faults = _pages(document, options["max_bytes"])
        meta = document.get_metadata_dict()
        count = len(document)
    except _TooLargeError:
        return Extracted(None, faults=(Fault("too_large", "", f"more than {options['max_bytes']} bytes of text"),))
    finally:
        document.close()
    text = "\n\n".join(page for page in pages if page)
    if faults and not pages:
        return Extracted(None, faults=(*faults, Fault("broken", "", f"of {count} pages none can be read")))
    if not text:
        return Extracted(None, faults=(*faults, Fault("empty", "0", f"no text on {count} pages")))
    title = " ".join(meta["Title"].replace("\0", "").split()) or None
    return Extracted(text, title, _date(meta["CreationDate"]), None, tuple(faults))


def _pages(document: Any, most: int) -> tuple[list[str], list[Fault]]:
    import pypdfium2

    pages: list[str] = []
    faults: list[Fault] = []
    scanned: list[int] = []
    size = divided = 0
    count = len(document)
    for number in range(count):
        try:
            page = document[number]
            place = page.get_textpage()
            text = place.get_text_bounded()
            place.close()
            if not text.strip() and _is_picture(page):
                scanned.append(number + 1)
            page.close()
        except pypdfium2.PdfiumError as error:
            faults.append(Fault(BROKEN_PAGE, str(number + 1), f"page {number + 1} of {count}: {error}"))
            continue
        text, joined = _DIVIDED.subn("", text.replace("\r\n", "\n"))
        divided += joined
        pages.append(text.strip())
        size += len(text)
        if size > most:
            raise _TooLargeError
    if divided:
        faults.append(Fault("hyphen", str(divided), "words divided at a line's end were put together"))
    if scanned:
        named = ", ".join(map(str, scanned[:_NAMED])) + (", …" if len(scanned) > _NAMED else "")
        of = f"{len(scanned)} of {count} pages: {named}" if len(scanned) > 1 else f"page {named} of {count}"
        faults.append(Fault(SCANNED_PAGES, str(len(scanned)), f"pictures without a text layer: {of}"))
    return pages, faults


def _is_picture(page: Any) -> bool:
    """Whether pictures take most of a page (scanners may cut one into strips)."""
    from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

    taken = 0.0
    for picture in page.get_objects(filter=(FPDF_PAGEOBJ_IMAGE,)):
        left, bottom, right, top = picture.get_bounds()
        taken += (right - left) * (top - bottom)
    width, height = page.get_size()
    return bool(taken >= _PICTURE * width * height > 0)


def _date(stated: str) -> str | None:
    """`D:20240131…` -> `2024-01-31`, as much of it as is there."""
    found = _DATE.match(stated)
    return "-".join(part for part in found.groups() if part) if found else None
