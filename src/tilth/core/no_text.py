"""Kinds of file that hold no plain text, by their suffix, and what makes text of them.

    what_it_is("talk.docx") -> "a document of a word processor"
    text_of_it("talk.docx") -> "`pandoc FILE -o FILE.md`"

Read as text they give rubbish: none of it may be advised for them.
"""

from __future__ import annotations

from typing import NamedTuple


class _Kind(NamedTuple):
    what: str
    remedy: str
    suffixes: str


_KINDS = (
    _Kind("a document of a word processor", "`pandoc FILE -o FILE.md`", ".docx .odt .rtf"),
    _Kind("a book", "`pandoc FILE -o FILE.md`", ".epub .fb2"),
    _Kind("a book for a reader", "`ebook-convert FILE FILE.txt` (Calibre)", ".mobi .azw .azw3"),
    _Kind(
        "a document of an office program",
        "save it as PDF or text (`soffice --headless --convert-to pdf FILE`)",
        ".doc .ppt .pptx .odp .pages .key",
    ),
    _Kind("a spreadsheet", "save it as CSV, each sheet for itself", ".xlsx .xls .xlsm .ods .numbers"),
    _Kind(
        "an image, with no text in it",
        "leave it out; OCR makes text of a scan (`tesseract FILE FILE`)",
        ".png .jpg .jpeg .gif .bmp .tif .tiff .webp .heic .avif .ico .psd",
    ),
    _Kind(
        "sound, with no text in it",
        "leave it out, or give its transcript",
        ".mp3 .wav .flac .ogg .opus .m4a .aac .wma",
    ),
    _Kind(
        "a film, with no text in it",
        "leave it out, or give its subtitles",
        ".mp4 .mkv .mov .avi .webm .wmv .m4v",
    ),
    _Kind("an archive of a kind that is not read", "unpack it, or pack it as .zip or .tar", ".rar .7z .dmg .iso"),
)
_BY_SUFFIX = {suffix: kind for kind in _KINDS for suffix in kind.suffixes.split()}


def what_it_is(name: str) -> str | None:
    """What a file of this name is, where that holds no plain text; None for any other name."""
    kind = _BY_SUFFIX.get(suffix_of(name))
    return kind and kind.what


def text_of_it(name: str) -> str | None:
    """What makes text of such a file; None for any other name."""
    kind = _BY_SUFFIX.get(suffix_of(name))
    return kind and kind.remedy


def suffix_of(name: str) -> str:
    """`.docx` of `a/b.DOCX`; of `b.epub/`, which says that it is a folder, none that is known here."""
    return "".join(name.lower().rpartition(".")[1:])
