"""Text to token ids and back: characters, bytes, byte-level BPE, any tokenizer of Hugging Face; conversations.

    TokenizerConfig                       what a recipe says under `tokenizer:`
    train_tokenizer(config, texts)        learns the vocabulary from texts
    load_tokenizer(folder)                one that was saved, or a checkpoint's; refuses damaged files
    Tokenizer                             what all kinds can do
    StreamDecoder                         ids to text, one id at a time
    chat.ChatEncoder                      conversations to ids, and which of them are trained

    base.py       the protocol          char.py  byte.py  bpe.py   the three kinds that are trained here
    patterns.py   how BPE cuts text     pretokens.py  bpe_train.py learning a BPE vocabulary
    hf_format.py  tokenizer.json        build.py                   choosing the kind
    foreign.py    a checkpoint's        foreign_engine.py  foreign_files.py  spelling.py   its engine, files, bytes
    chat.py       conversations; its docstring maps what belongs to them

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
