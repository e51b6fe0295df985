"""Source files among documents: what may be done to prose would make another program of them.

is_code(document)     as reading noted it (`meta.code`, by the table in sources/languages.py)
but_code(run)         a stage that leaves them alone, unless its option `code` says otherwise
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilth.data.document import Document
from tilth.data.stages.base import Result, Run


def is_code(document: Document) -> bool:
    """Whether a document is a source file, or a part of one. A page is none, whatever its address ends with."""
    return "code" in document.meta


def but_code(run: Run) -> Run:
    """The stage over all documents but source files; its options have a `code`, which takes these in."""

    def over_prose(documents: Sequence[Document], options: Any) -> list[Result]:
        code = [not options.code and is_code(document) for document in documents]
        results = iter(run([document for document, left in zip(documents, code, strict=True) if not left], options))
        return [Result(d.text) if left else next(results) for d, left in zip(documents, code, strict=True)]

    return over_prose
