"""Numbers as sentences have them."""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """1 document, 2,000 documents."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
