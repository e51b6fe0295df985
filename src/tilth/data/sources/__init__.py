"""Where text comes from.

    SourceConfig                              config.py        what a recipe says of one source
    list_inputs(config, root, downloads)      listing.py       its files, sorted and hashed
    read_input(item, config)                  files.py         a file's documents and verdicts, as a stream

    origins.py       what there is to know of each origin; who lists it: paths.py (path, url), embedded.py (builtin), …
    hashes.py        SHA-256 of files, remembered
    inputs.py        Input and Listing; which suffix is which reader; languages.py: what is source code
    streams.py       bytes in pieces: plain, gzip, zstd, bzip2, xz; byte order marks; whole lines; cookie.py (PEP 263)
    content.py       the bytes of a file on disk or in an archive; archives.py: the files in zip and tar
    intake.py        bytes to documents: decoding, NULs, surrogates, emptiness, and the verdicts on them (notes.py)
    readers.py       which reader is for which kind; texts.py, pages.py (HTML, PDF), and these:
    rows.py          JSON Lines, CSV and JSON; csv_records.py parses CSV, json_rows.py cuts JSON; parquet_rows.py;
                     plain_json.py reads JSON Lines of which nothing is to be said
    shapes.py        rows to texts: a column, a template, a conversation; row_map.py: what a recipe says of it
    arrow_rows.py    Arrow files, read as parquet_rows.py reads Parquet
    hub.py           data sets of Hugging Face: hub_layout.py (which files), hub_client.py (the hub), hub_stream.py
    deeplake.py      data sets of Deep Lake, exported by deeplake_export.py, a program of its own
    synthetic/       what a model was asked for
    url.py           one file by http, resumed and verified; clocked.py: in time
    web/             crawls and Common Crawl, kept as WARC; WARC to documents
    python_docs.py   the embedded default; docstrings.py makes its reference pages
    python_questions.py   questions about it, with the answers that its docstrings give

A reader is a function from an `Intake` and what it is to read of a file to outcomes: see the table in readers.py.
"""

from __future__ import annotations

from tilth.data.sources.config import SourceConfig
from tilth.data.sources.files import READING, read_input, read_rows
from tilth.data.sources.inputs import Input, Listing
from tilth.data.sources.listing import list_inputs

__all__ = ["READING", "Input", "Listing", "SourceConfig", "list_inputs", "read_input", "read_rows"]
