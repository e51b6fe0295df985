"""The `data:` section of a recipe."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from tilth.core.config import Config
from tilth.data.batches.mixture import MixtureEntry, check_names, check_weights
from tilth.data.batches.packing import PackingConfig
from tilth.data.duplicates.dedup import NearConfig
from tilth.data.duplicates.shared_lines import SharedLinesConfig
from tilth.data.leaks.decontaminate import DecontaminateConfig
from tilth.data.sources import SourceConfig
from tilth.data.stages import CleanStages
from tilth.tokenizer.chat_config import ChatConfig


class SplitConfig(Config):
    """Which text is held out: for validation, and for a test at the very end."""

    validation: float = Field(default=0.05, ge=0, lt=1)
    """The share that is held out: of the documents (`by: document`) or of the characters (`by: tail`)."""
    test: float = Field(default=0, ge=0, lt=1)
    """The share that is held out besides, and that training never looks at."""
    seed: int = Field(default=0, ge=0)
    """Draws the documents. Not the seed of training: runs with other seeds are measured on the same text."""
    by: Literal["auto", "document", "tail"] = "auto"
    """`document`: each document by a hash of its id; `tail`: the end of the text of each source, cut where the
    share says; `auto`: by document from 100 documents on, and where they are conversations, else the tail, as where
    drawing leaves a split without any (a book in pieces is drawn as one)."""

    @model_validator(mode="after")
    def _leaves_some(self) -> SplitConfig:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation {self.validation:g} and test {self.test:g} leave nothing to train on | make them smaller"
            )
        return self

    @property
    def held_out(self) -> tuple[tuple[str, float], ...]:
        """The splits that are not for training, with their shares."""
        return (("validation", self.validation), *((("test", self.test),) if self.test else ()))

    @property
    def names(self) -> tuple[str, ...]:
        """All splits."""
        return ("train", *(name for name, _ in self.held_out))

    @property
    def draws(self) -> bool:
        """Whether documents may be drawn into splits."""
        return self.by != "tail" and any(share for _, share in self.held_out)


class DataConfig(Config):
    """Where the text comes from and how it becomes shards."""

    example: ClassVar[str] = "{sources: [{path: my-text.txt}]}"

    sources: list[SourceConfig] = Field(min_length=1)
    """Files, folders, addresses, crawls and data sets that the text is read from; see data.md."""
    clean: CleanStages = "standard"
    """The stages that each document goes through: a preset, or a list of stages with their options."""
    deduplicate: Literal["none", "exact", "near"] | NearConfig = "exact"
    """Which documents go because others hold the same text: `exact`, the same to the letter; `near`, nearly the same
    (and the exact ones); or `near` with options of its own."""
    shared_lines: SharedLinesConfig | None = None
    """Lines that many documents hold, such as menus and licences, are taken out; `null`: they stay."""
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    """Training text that holds what the model will be measured by, in files or in the other splits, goes."""
    split: SplitConfig = SplitConfig()
    """What is held out of training."""
    shard_bytes: int = Field(default=32 << 20, ge=1 << 16)
    """Bytes of text that make a shard: part of the plan, never derived from the number of workers."""
    mixture: dict[str, MixtureEntry] | None = None
    """How much of training is from which source, by the source's name or a glob of names; null: each token once in
    every epoch. It decides nothing about shards."""
    chat: ChatConfig | None = None
    """How conversations become tokens (`train.objective: sft`). Left out: a prompt and its completion follow each other
    without a template."""
    packing: PackingConfig | None = None
    """Whole documents in the rows of training, apart from each other, instead of windows over all text. It decides
    nothing about shards. Left out: `sft` packs, and no document may be too long."""
    cross_document_attention: bool = True
    """False: attention and positions start anew at every document."""

    @property
    def near(self) -> NearConfig:
        """How near-duplicates are found."""
        return self.deduplicate if isinstance(self.deduplicate, NearConfig) else NearConfig()

    @property
    def drops_near(self) -> bool:
        """Whether near-duplicates go."""
        return self.deduplicate == "near" or isinstance(self.deduplicate, NearConfig)

    @property
    def keeps_held_out_apart(self) -> bool:
        """Whether training text that stands in another split goes."""
        return self.decontaminate.validation and any(share for _, share in self.split.held_out)

    @property
    def keeps_together(self) -> bool:
        """Whether near-duplicates have to be known so that no split parts them. Of text that is cut as it stands, only
        where held-out text is to be kept apart at all.
        """
        return self.split.draws or self.keeps_held_out_apart

    @model_validator(mode="after")
    def _names_differ(self) -> DataConfig:
        names = [source.source_name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"sources: {twice[0]!r} stands twice | give one of them another name:")
        return self

    @model_validator(mode="after")
    def _mixture_is_of_sources(self) -> DataConfig:
        if self.mixture is not None:
            if not self.mixture:
                raise ValueError("mixture: it names no source | name one, or leave it out")
            check_names(self.mixture, [source.source_name for source in self.sources])
            check_weights(self.mixture)
        return self
