"""tokenizer.json and tokenizer_config.json: Hugging Face's files, which are also tilth's own.

    write_tokenizer(folder, …)            both files
    read_tokenizer(folder)                their facts, or a DataError that names the file
    byte_letters()                        the character that stands for each byte in tokenizer.json
    bpe_model, byte_level, …              the parts that several kinds share

What tilth alone needs (kind, pattern, fingerprint, what training read) stands in tokenizer_config.json under `tilth`,
where other readers leave it alone. The fingerprint is compared on load, so that two files that do not belong
together, or a flipped bit in the vocabulary, are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tilth.core.errors import DataError, IntegrityError
from tilth.core.files import read_json, write_json

MODEL_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
FORMAT = 1

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/tool_use.jinja",
    "tilth_chat.json",
)

END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "<|unk|>"  # of characters that a char tokenizer has not seen; bytes are never unknown


@cache
def byte_letters() -> list[str]:
    """For each byte the character that byte-level tokenizers write for it (GPT-2's byte-to-unicode table).

    Printable Latin-1 characters stand for themselves; the other 68 bytes, in order, for U+0100 and up.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (value for value in range(256) if value not in printable)
    stand_in = {value: 0x100 + place for place, value in enumerate(others)}
    return [chr(stand_in.get(value, value)) for value in range(256)]


def spell(token: bytes) -> str:
    """A token's bytes in byte letters."""
    letters = byte_letters()
    return "".join([letters[value] for value in token])


def unspell(token: str) -> bytes:
    """The bytes of a token in byte letters; ValueError when it has other characters."""
    values = _byte_of_letter()
    if not values.keys() >= set(token):
        raise ValueError(f"the token {token!r} is not written in byte letters")
    return bytes([values[letter] for letter in token])


@cache
def _byte_of_letter() -> dict[str, int]:
    return {letter: value for value, letter in enumerate(byte_letters())}


def byte_level() -> dict[str, Any]:
    """The pre_tokenizer that turns bytes to letters and cuts nothing."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def byte_level_decoder() -> dict[str, Any]:
    """The decoder that turns letters to bytes."""
    return {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def bpe_model(vocab: dict[str, int], merges: list[str], ignore_merges: bool) -> dict[str, Any]:
    """A `model` of type BPE; `ignore_merges` lets a whole pretoken that is a token stand, as in tiktoken."""
    options = {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    flags = {"fuse_unk": False, "byte_fallback": False, "ignore_merges": ignore_merges}
    return {"type": "BPE", **options, **flags, "vocab": vocab, "merges": merges}


def write_tokenizer(
    folder: Path, parts: Mapping[str, Any], special_tokens: Mapping[str, int], facts: Mapping[str, Any]
) -> None:
    """Writes both files, each atomically; the fingerprint tells when a crash left one of another tokenizer.

    Args:
        parts: `model`, `pre_tokenizer` and `decoder` of tokenizer.json.
        facts: kind, pattern, fingerprint and training: what stands under `tilth`.
    """
    write_json(folder / MODEL_FILE, _model_file(parts, special_tokens))
    write_json(folder / CONFIG_FILE, _config_file(special_tokens, facts))


def _model_file(parts: Mapping[str, Any], special_tokens: Mapping[str, int]) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": place, "content": name, **flags} for name, place in special_tokens.items()]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": parts["pre_tokenizer"],
        "post_processor": None,
        "decoder": parts["decoder"],
        "model": parts["model"],
    }


def _config_file(special_tokens: Mapping[str, int], facts: Mapping[str, Any]) -> dict[str, Any]:
    known = {"eos_token": END_OF_TEXT} | ({"unk_token": UNKNOWN} if UNKNOWN in special_tokens else {})
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **known,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # else transformers makes an id of "<|endoftext|>" in a text
        "tilth": {"format": FORMAT, **facts},
    }


@dataclass(frozen=True)
class SavedTokenizer:
    """What the two files say, as far as tilth needs it."""

    kind: str
    pattern: str | None
    fingerprint: str
    training: dict[str, int]
    special_tokens: dict[str, int]
    model: dict[str, Any]
    pre_tokenizer: dict[str, Any]

    def merges(self) -> list[str] | None:
        """The merges as "left right"; newer writers store pairs. None where the model has none."""
        merges = self.model.get("merges")
        return None if merges is None else [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def read_tokenizer(folder: Path) -> SavedTokenizer:
    """The facts of a saved tokenizer; DataError names the file that is missing, foreign or damaged."""
    config = read_json(folder / CONFIG_FILE)
    model = read_json(folder / MODEL_FILE)
    facts = config.get("tilth") if isinstance(config, dict) else None
    if not isinstance(facts, dict):
        raise DataError(
            f"{folder / CONFIG_FILE} has no `tilth` object: another program wrote this tokenizer",
            "name a folder that `tilth` saved, or load this one with transformers",
        )
    if facts.get("format") != FORMAT:
        raise DataError(
            f"{folder / CONFIG_FILE} has format {facts.get('format')!r}; this tilth reads {FORMAT}",
            "use the version of tilth that wrote it, or train the tokenizer again",
        )
    try:
        added = sorted(model["added_tokens"], key=lambda entry: int(entry["id"]))
        return SavedTokenizer(
            kind=str(facts["kind"]),
            pattern=facts["pattern"],
            fingerprint=str(facts["fingerprint"]),
            training=dict(facts["training"]),
            special_tokens={str(entry["content"]): int(entry["id"]) for entry in added},
            model=dict(model["model"]),
            pre_tokenizer=dict(model["pre_tokenizer"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(folder, error) from None


def damaged(folder: Path, reason: object) -> IntegrityError:
    """The error for files that are not what `write_tokenizer` wrote."""
    return IntegrityError(
        f"{folder / MODEL_FILE} is not what its {CONFIG_FILE} says: {reason}",
        "it was altered or only half copied: copy both files again, or train the tokenizer again",
    )
