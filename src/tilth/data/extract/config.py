"""The recipe's `extract:` section of a source: what a parser may use, and what of a page is kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tilth.core.config import Config


class ExtractConfig(Config):
    """How HTML and PDF become text."""

    seconds: float = Field(default=20.0, gt=0, le=3600)
    """Processor time that one document may take; ten times as much on the clock, for a process that only waits."""
    memory: int = Field(default=1 << 30, ge=1 << 28)
    """Bytes of address space for the process that parses."""
    max_bytes: int = Field(default=64 << 20, ge=1)
    """A larger document is dropped, and so is one with more text."""
    favor: Literal["balanced", "precision", "recall"] = "balanced"
    """HTML: rather too little of a page than navigation in the text (`precision`), or the other way (`recall`)."""
    tables: bool = True
    """HTML: keep the text of tables."""
    comments: bool = False
    """HTML: keep readers' comments below an article."""
