"""The `data:` section of a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tilth.core.config import Config
from tilth.data.clean import CleanStages
from tilth.data.sources import SourceConfig


class SplitConfig(Config):
    """Which text is held out for validation."""

    validation: float = Field(default=0.05, ge=0, lt=1)
    """The share that is held out: of the documents (`by: document`) or of the characters (`by: tail`)."""
    seed: int = Field(default=0, ge=0)
    """Draws the documents. Not the seed of training: runs with other seeds are measured on the same text."""
    by: Literal["auto", "document", "tail"] = "auto"
    """`document`: each document by a hash of its id; `tail`: the end of the text, in the order of the sources, cut
    where the share says; `auto`: by document from 100 documents on, else the tail."""


class DataConfig(Config):
    """Where the text comes from and how it becomes shards."""

    sources: list[SourceConfig] = Field(min_length=1)
    clean: CleanStages = "standard"
    deduplicate: Literal["exact", "none"] = "exact"
    split: SplitConfig = SplitConfig()
    shard_bytes: int = Field(default=32 << 20, ge=1 << 16)
    """Bytes of text that make a shard: part of the plan, never derived from the number of workers."""
    cross_document_attention: bool = True
    """False: attention and positions start anew at every document."""

    @model_validator(mode="after")
    def _names_differ(self) -> DataConfig:
        names = [source.source_name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"sources: {twice[0]!r} stands twice | give one of them another name:")
        return self
