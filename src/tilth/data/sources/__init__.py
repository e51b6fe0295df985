"""Where text comes from.

    SourceConfig                              config.py        what a recipe says of one source
    list_inputs(config, base, downloads)      listing.py       its files, sorted and hashed
    read_input(item, config)                  files.py         a file's documents and verdicts, as a stream

    inputs.py        Input and Listing; which suffix is which reader
    streams.py       bytes in pieces: plain, gzip, zstd; byte order marks; whole lines
    intake.py        bytes to documents: decoding, NULs, surrogates, emptiness, and the verdicts on them
    rows.py          JSON Lines and CSV; csv_records.py parses CSV
    url.py           one file by http, resumed and verified
    web/             crawls and Common Crawl, kept as WARC; WARC to documents
    python_docs.py   the embedded default; docstrings.py makes its reference pages

A reader is a function from an `Intake` and pieces of bytes to outcomes; `read_input` chooses it by the input's kind.
"""

from __future__ import annotations

from tilth.data.sources.config import SourceConfig
from tilth.data.sources.files import read_input
from tilth.data.sources.inputs import Input, Listing
from tilth.data.sources.listing import list_inputs

__all__ = ["Input", "Listing", "SourceConfig", "list_inputs", "read_input"]
