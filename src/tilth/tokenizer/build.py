"""Choosing the kind: training a tokenizer from a config, loading a saved one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from tilth.tokenizer.base import Tokenizer, TokenizerConfig
from tilth.tokenizer.bpe import BpeTokenizer
from tilth.tokenizer.byte import ByteTokenizer
from tilth.tokenizer.char import CharTokenizer
from tilth.tokenizer.foreign import load_foreign
from tilth.tokenizer.foreign_files import is_foreign
from tilth.tokenizer.hf_format import SavedTokenizer, damaged, read_tokenizer
from tilth.tokenizer.patterns import PatternName

_BUILT_IN = {"char": 2, "byte": 1, "bpe": 1}  # special tokens that each kind has by itself, before the config's


def train_tokenizer(config: TokenizerConfig, texts: Iterable[str], workers: int = 1) -> Tokenizer:
    """Learns a tokenizer from texts; the same texts give the same one in any order and with any number of workers.

    bpe stops reading after `config.train_bytes` bytes; up to there the order does not matter. `workers` processes share
    the cutting of text (bpe only; a script that asks for more than one needs the `__main__` guard). Raises DataError
    when char finds no character.
    """
    if config.kind == "char":
        return CharTokenizer.train(texts, config.special_tokens)
    if config.kind == "byte":
        return ByteTokenizer(config.special_tokens)
    return BpeTokenizer.train(config, texts, workers)


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """The tokenizer of a folder: one that `Tokenizer.save` wrote, or any in Hugging Face's format.

    What tilth derives is rebuilt and compared with the files. DataError when they are damaged or cannot be used;
    RecipeError when a foreign one needs a library that is not installed.
    """
    folder = Path(folder)
    if is_foreign(folder):
        return load_foreign(folder)
    saved = read_tokenizer(folder)
    try:
        tokenizer = _rebuild(saved)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(folder, error) from None
    rebuilt = tokenizer.model_json()
    checks = {
        "fingerprint": tokenizer.fingerprint == saved.fingerprint,
        "special tokens": tokenizer.special_tokens == saved.special_tokens,
        "pattern": rebuilt["pre_tokenizer"] == saved.pre_tokenizer,
        "merges": rebuilt["model"].get("merges") == saved.merges(),
    }
    for what, same in checks.items():
        if not same:
            raise damaged(folder, f"{what} differ")
    return tokenizer


def _rebuild(saved: SavedTokenizer) -> Tokenizer:
    further = list(saved.special_tokens)[_BUILT_IN[saved.kind] :]
    if saved.kind == "char":
        return CharTokenizer.from_json(saved.model, further, saved.training)
    if saved.kind == "byte":
        return ByteTokenizer.from_json(saved.model, further, saved.training)
    return BpeTokenizer.from_json(saved.model, cast(PatternName, saved.pattern), further, saved.training)
