"""Text to token ids and back: characters, bytes, or byte-level BPE.

    TokenizerConfig                       what a recipe says under `tokenizer:`
    train_tokenizer(config, texts)        learns the vocabulary from texts
    load_tokenizer(folder)                one that was saved; refuses damaged files
    Tokenizer                             what all three kinds can do
    StreamDecoder                         ids to text, one id at a time

    base.py       the protocol          char.py  byte.py  bpe.py   the three kinds
    patterns.py   how BPE cuts text     pretokens.py  bpe_train.py learning a BPE vocabulary
    hf_format.py  tokenizer.json        build.py                   choosing the kind

Names are loaded when first used, so that a config costs no tokenizer engine and a worker process starts quickly.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tilth.tokenizer.base import StreamDecoder, Tokenizer, TokenizerConfig
    from tilth.tokenizer.build import load_tokenizer, train_tokenizer

__all__ = ["StreamDecoder", "Tokenizer", "TokenizerConfig", "load_tokenizer", "train_tokenizer"]

_HOME = {"load_tokenizer": "build", "train_tokenizer": "build"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME.get(name, 'base')}"), name)
