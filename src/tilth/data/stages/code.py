"""Source files among documents: what may be done to prose would make another program of them.

is_code(document)     by the suffix in its locator
but_code(run)         a stage that leaves them alone, unless its option `code` says otherwise
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import regex  # type: ignore[import-untyped]

from tilth.data.document import Document
from tilth.data.stages.base import Result, Run

# Not pages of the web (`index.php`), and not what holds documents or prose (`.json`, `.html`, `.tex`).
_SOURCE_FILE = regex.compile(
    r"^(?!https?://).*\.(?:py|pyi|pyx|c|h|cc|cpp|cxx|hpp|cs|java|kt|scala|js|jsx|mjs|ts|tsx|go|rs|rb|php|pl|pm|lua|r|jl"
    r"|swift|m|mm|f|f90|hs|ml|ex|exs|erl|clj|lisp|el|sh|bash|zsh|ps1|bat|sql|css|scss|toml|ini|cfg|cmake|mk|s|asm|v)"
    r"(?:\.(?:gz|zst|bz2|xz))?(?=[#:?!]|$)",
    regex.IGNORECASE | regex.DOTALL,
)


def is_code(document: Document) -> bool:
    """Whether a document is a source file, by the suffix in its locator."""
    return _SOURCE_FILE.search(document.locator) is not None


def but_code(run: Run) -> Run:
    """The stage over all documents but source files; its options have a `code`, which takes these in."""

    def over_prose(documents: Sequence[Document], options: Any) -> list[Result]:
        code = [not options.code and is_code(document) for document in documents]
        results = iter(run([document for document, left in zip(documents, code, strict=True) if not left], options))
        return [Result(d.text) if left else next(results) for d, left in zip(documents, code, strict=True)]

    return over_prose
