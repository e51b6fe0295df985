"""What the tests of conversations share: tokenizers of each kind, ours and transformers', and labels read."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from tests.tokenizer.foreign_kinds import KINDS
from tilth.tokenizer import Tokenizer, load_tokenizer
from tilth.tokenizer.chat import ChatEncoder, Dropped, EncodedChat
from tilth.tokenizer.templates import BUILT_IN, ChatTemplate

Pair = tuple[Tokenizer, Any]


def made_pairs(root: Path) -> dict[str, Pair]:
    """Tokenizers of each kind, ours and transformers', with the special tokens that any template here writes."""
    names = ["<s>", "</s>", *dict.fromkeys(name for tokens in BUILT_IN.values() for name in tokens)]
    return {kind: made_pair(root, kind, names) for kind in KINDS}


def made_pair(root: Path, kind: str, names: Sequence[str]) -> Pair:
    load_tokenizer(KINDS[kind](root / kind)).with_special_tokens(names).save(root / f"{kind}-more")
    ours = load_tokenizer(root / f"{kind}-more")
    theirs = transformers.AutoTokenizer.from_pretrained(root / f"{kind}-more")
    for job in ("bos_token", "eos_token"):  # the templates of other families write them
        if getattr(theirs, job) is None:
            setattr(theirs, job, "<s>" if job == "bos_token" else ours.named_tokens["eos_token"])
    return ours, theirs


def encoder(pair: Pair, template: ChatTemplate, **variables: Any) -> ChatEncoder:
    named = {job: getattr(pair[1], job) for job in ("bos_token", "eos_token")}
    return ChatEncoder(pair[0], template, variables={**named, **variables}, today=datetime.date.today())


def without_marks(template: ChatTemplate) -> ChatTemplate:
    """A built-in template as most checkpoints' are: nothing says where answers are."""
    return ChatTemplate("unmarked", re.sub(r"\{%- (end)?generation %\}", "", template.source))


def used(encoded: EncodedChat | Dropped) -> EncodedChat:
    assert isinstance(encoded, EncodedChat), encoded
    return encoded


def answers(tokenizer: Tokenizer, encoded: EncodedChat | Dropped) -> list[str]:
    """The trained stretches, decoded."""
    encoded = used(encoded)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], encoded.trained.astype(int), [0]])))
    return [tokenizer.decode(encoded.ids[start:end]) for start, end in zip(edges[::2], edges[1::2], strict=True)]
