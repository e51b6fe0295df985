"""One file to read (`Input`), one that cannot be (`Lost`), and what a look at a source found (`Listing`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from tilth.data.document import Verdict
from tilth.data.sources.languages import LANGUAGES, PROSE_LIKE
from tilth.data.sources.own import RULE as OWN_FILES

Kind = Literal[
    "text",
    "markdown",
    "python",
    "code",
    "jsonl",
    "csv",
    "json",
    "parquet",
    "html",
    "pdf",
    "warc",
    "zip",
    "tar",
    "topics",
    "module",
    "questions",
    "arrow",
    "hub_stream",
    "synthetic_documents",
    "synthetic_pairs",
]

KINDS: dict[str, Kind] = {
    **dict.fromkeys((*LANGUAGES, *PROSE_LIKE), "code"),
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".py": "python",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
    ".warc": "warc",
    ".wet": "warc",
    ".zip": "zip",
    ".tar": "tar",
}
ARCHIVES = ("zip", "tar")
ROWS = ("jsonl", "csv", "json", "parquet", "arrow")
READ_BY = {
    "field": ROWS,
    "template": ROWS,
    "map": ROWS,
    "separator": ("csv",),
    "records": ("json",),
    "document": ("text", "markdown", "python", "code"),
    "extract": ("html", "pdf", "warc"),
}
"""Which kinds of file a key of a source says something about."""
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}
_SHORT = {".tgz": ".gz", ".tzst": ".zst", ".tbz2": ".bz2", ".txz": ".xz"}
_NAMED = sorted(suffix for suffix, kind in KINDS.items() if kind != "code")
KNOWN_SUFFIXES = f"{', '.join(_NAMED)} and those of code, each also with {', '.join(COMPRESSIONS)}"


@dataclass(frozen=True, slots=True)
class Input:
    """One file of a source.

    Attributes:
        source: the source's name.
        kind: which reader it is for.
        path: where its bytes lie on this machine; no part of its identity.
        locator: where it stands in its source, in posix form; what document ids are made from.
        size: bytes, as they lie on disk (compressed ones compressed).
        sha256: hex, of those bytes.
        license: of its texts, where what it came with says so (the card of a data set); the recipe's comes first.
        pages_once: of a WARC file: no other file of its source has records of the same addresses.
        goes_on: it is the beginning of a file, or a piece: a record that is open at its end may close behind it.
        within: of an archive in a folder: where it lies below that, for `exclude:`, which looks into it.
    """

    source: str
    kind: Kind
    path: Path
    locator: str
    size: int
    sha256: str
    license: str | None = None
    pages_once: bool = False
    goes_on: bool = False
    within: str = ""

    def identity(self) -> dict[str, str | int]:
        """What a task's key is made from: the same on every machine that has the same bytes."""
        return {
            "source": self.source,
            "kind": self.kind,
            "locator": self.locator,
            "size": self.size,
            "sha256": self.sha256,
            **({"license": self.license} if self.license else {}),
            **({"pages_once": True} if self.pages_once else {}),
        }


class Lost(NamedTuple):
    """A file that cannot be used, or not to its end: what is wrong with it, what to do about it ("": nothing is known),
    and where it stands in its source.
    """

    said: str
    remedy: str
    locator: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a source, sorted by locator.

    Attributes:
        skipped: a verdict (stage `list` or `fetch`) on each that is not read.
        notes: what should be said of the source.
        lost: the files that are not to be had: judged with those that cannot be read.
        unused: patterns of `exclude:` that name none of its files, but may yet name one in an archive.
    """

    inputs: tuple[Input, ...]
    skipped: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()
    lost: tuple[Lost, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def passed_over(self) -> list[tuple[str, str, str]]:
        """Of what is skipped all that belongs to the source: what tilth wrote among its files comes and goes with
        commands, and nothing is done again for it.
        """
        return [(v.doc_id, v.rule, v.detail) for v in self.skipped if v.rule != OWN_FILES]

    def __iter__(self) -> Iterator[Input]:
        return iter(self.inputs)

    def __len__(self) -> int:
        return len(self.inputs)


def split_suffixes(name: str) -> tuple[str, str]:
    """`(suffix, compression suffix)` of a file name in lower case: `A.TXT.gz` -> `(".txt", ".gz")`."""
    stem, suffix = os.path.splitext(name.lower())  # noqa: PTH122 - a fifth of the time of a Path, three times a file
    if suffix in _SHORT:
        return ".tar", _SHORT[suffix]
    if suffix not in COMPRESSIONS:
        return suffix, ""
    return os.path.splitext(stem)[1], suffix  # noqa: PTH122


def kind_of(name: str) -> Kind | None:
    """The reader for a file of this name, or None when its suffix is not known."""
    return KINDS.get(split_suffixes(name)[0])
