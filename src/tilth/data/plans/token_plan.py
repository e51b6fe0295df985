"""The tasks that make tokens, as the pipeline plans them: the tokenizer, learned or taken, and the shards of a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilth.core import progress
from tilth.core.errors import DataError
from tilth.core.tasks import Done, Task
from tilth.data.conversations import Encoder
from tilth.data.plans.workshop import Cleaned
from tilth.data.tasks import encode
from tilth.data.tasks.split import AssignedPart
from tilth.tokenizer import TokenizerConfig, load_tokenizer, train_tokenizer

_TOKENIZER_VERSION = 1
VERSIONS = {"tokenizer": _TOKENIZER_VERSION, "encode": encode.VERSION}
"""The version of each kind of task that is planned here: raised where its results change."""


@dataclass(frozen=True)
class GivenTokenizer:
    """A tokenizer that is not learned here: a checkpoint's, with the special tokens that the recipe adds.

    Attributes:
        folder: where it lies. What is made depends on what is in it, not on where that is.
        opening: the ids that it puts before a text, of which the fingerprint, which is of words, says nothing.
        named: the tokens that do jobs, of which it says nothing either: a chat template may write them.
    """

    folder: Path
    fingerprint: str
    special_tokens: tuple[str, ...] = ()
    opening: tuple[int, ...] = ()
    named: tuple[tuple[str, str], ...] = ()
    kind = "checkpoint"

    def model_dump(self, **_: Any) -> dict[str, Any]:
        """What decides its ids and those of templates, as plain data; called as a config's own is."""
        said = {"kind": self.kind, "fingerprint": self.fingerprint, "special_tokens": list(self.special_tokens)}
        more = {"opening": list(self.opening), "named": dict(self.named)}
        return said | {key: value for key, value in more.items() if value}


AnyTokenizer = TokenizerConfig | GivenTokenizer


def tokenizer_task(
    config: AnyTokenizer, parts: Sequence[AssignedPart], cleaned: Sequence[Cleaned], assigned: Done, workers: int
) -> Task:
    identity: dict[str, Any] = {"tokenizer": config.model_dump(mode="json")}
    if isinstance(config, GivenTokenizer):
        return Task("tokenizer", _take_tokenizer, {"given": config}, identity, _TOKENIZER_VERSION)
    if config.kind != "byte":  # bytes are the same whatever the text
        identity |= {"cleaned": [part.key for part in cleaned], "assigned": assigned.facts["parts"]}
    arguments = {"config": config, "parts": list(parts), "workers": workers}
    return Task("tokenizer", _learn_tokenizer, arguments, identity, _TOKENIZER_VERSION)


def _take_tokenizer(folder: Path, given: GivenTokenizer) -> dict[str, Any]:
    tokenizer = load_tokenizer(given.folder)
    new = [name for name in given.special_tokens if name not in tokenizer.special_tokens]
    tokenizer = tokenizer.with_special_tokens(new) if new else tokenizer
    if tokenizer.fingerprint != given.fingerprint:
        raise DataError(f"the tokenizer in {given.folder} changed while it was used", "type the same command again")
    tokenizer.save(folder)
    facts: dict[str, Any] = {"kind_of_tokenizer": given.kind, "vocab_size": tokenizer.vocab_size}
    facts |= {"fingerprint": tokenizer.fingerprint, "opening": tokenizer.opening}
    return {**facts, "named": tokenizer.named_tokens}


def _learn_tokenizer(
    folder: Path, config: TokenizerConfig, parts: Sequence[AssignedPart], workers: int
) -> dict[str, Any]:
    """Learns from the training split alone: what is held out stays unseen."""
    sizes = sum(part.part.size for part in parts)
    progress.expect(-1 if config.kind == "bpe" and sizes > config.train_bytes else sizes)
    texts = (document.text for part in parts for document in part.split("train"))
    tokenizer = train_tokenizer(config, texts, workers)
    tokenizer.save(folder)
    return {"kind_of_tokenizer": config.kind, "vocab_size": tokenizer.vocab_size, "fingerprint": tokenizer.fingerprint}


def encode_task(
    part: AssignedPart,
    cleaned: Cleaned,
    assigned: Done,
    tokenizer: Done,
    threads: int,
    encoder: Encoder | None = None,
) -> Task:
    identity = {
        "cleaned": cleaned.key,
        "source": cleaned.source,
        "assigned": [part.names, assigned.facts["parts"][part.number]],
        "tokenizer": tokenizer.facts["fingerprint"],
    }
    arguments: dict[str, Any] = {"part": part, "source": cleaned.source, "splits": part.names}
    arguments |= {"tokenizer_folder": tokenizer.folder, "threads": threads}
    if opening := tokenizer.facts.get("opening"):
        identity |= {"opening": opening}
    if encoder is not None:
        identity |= {"encoder": encoder.identity, "named": tokenizer.facts.get("named")}
        arguments |= {"encoder": encoder}
    return Task("encode", encode.encode, arguments, identity, encode.VERSION)
