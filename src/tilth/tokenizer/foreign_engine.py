"""The engine of a foreign tokenizer: as its files describe it, and as tilth encodes with it.

    original_engine(files)     what AutoTokenizer would build: tokenizer.json, and the tokens that it adds
    token_texts  jobs_of  added_entries  frame_of      what it says: tokens, their jobs, what surrounds a text
    encoding_engine(files, …)  the same without the names of special tokens: aliases stand for them
    source_error(files, what)  the error for a tokenizer that cannot be used as it is

Ids that the files state and the engine does not give are refused: the model was made for other ones.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tilth.core.errors import DataError
from tilth.tokenizer.foreign_files import ForeignFiles, conventional
from tilth.tokenizer.hf_format import CONFIG_FILE, MODEL_FILE
from tilth.tokenizer.marks import MOST_SPECIALS, alias, plain

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def source_error(source: ForeignFiles, what: str) -> DataError:
    """The error for a tokenizer that cannot be used as it is."""
    return DataError(
        f"the tokenizer in {source.place} cannot be used: {what}",
        "use the tokenizer.json that its authors publish, or mend that entry",
    )


def original_engine(source: ForeignFiles) -> Any:
    """The engine as the file describes it, with the tokens that transformers adds from tokenizer_config.json."""
    tokenizers = importlib.import_module("tokenizers")
    try:
        engine = tokenizers.Tokenizer.from_str(json.dumps(source.model))
        engine.no_truncation()
        engine.no_padding()
        listed = sorted((int(place), entry) for place, entry in source.config.get("added_tokens_decoder", {}).items())
        same = {_flags_of(token) for token in engine.get_added_tokens_decoder().values()}
        further = [token for _, entry in listed if _flags_of(token := added_token(**entry)) not in same]
        engine.add_tokens(further)
        have = {token.content for token in engine.get_added_tokens_decoder().values()}
        missing = [name for name in [*source.jobs.values(), *_extra(source.config)] if name not in have]
        engine.add_special_tokens([added_token(name, special=True) for name in dict.fromkeys(missing)])
        _same_ids(source, engine, listed)
    except DataError:
        raise
    except Exception as error:  # the engine raises plain Exception, for whatever stands in the file
        raise source_error(source, f"{MODEL_FILE} or {CONFIG_FILE}: {str(error)[:300]}") from None
    return engine


def _extra(config: Mapping[str, Any]) -> list[str]:
    """Further special tokens of tokenizer_config.json, under both names that they have had."""
    listed = [config.get(key) or [] for key in ("additional_special_tokens", "extra_special_tokens")]
    values = [value for group in listed for value in (group.values() if isinstance(group, dict) else group)]
    return [str(value["content"] if isinstance(value, dict) else value) for value in values]


def _flags_of(token: Any) -> tuple[Any, ...]:
    return (token.content, token.special, *(getattr(token, key) for key in _FLAGS))


def _same_ids(source: ForeignFiles, engine: Any, listed: list[tuple[int, dict[str, Any]]]) -> None:
    """The engine numbers added tokens itself: a file that lists another id was made for other embeddings."""
    said = [*((entry["id"], entry["content"]) for entry in source.model.get("added_tokens") or [])]
    for place, name in [*said, *((place, entry["content"]) for place, entry in listed)]:
        if engine.token_to_id(name) != place:
            raise source_error(
                source, f"the added token {name!r} is listed with id {place}; it gets {engine.token_to_id(name)}"
            )


def added_token(content: str, **flags: Any) -> Any:
    known = {key: flags[key] for key in (*_FLAGS, "special") if key in flags}
    return importlib.import_module("tokenizers").AddedToken(content, **known)


def token_texts(engine: Any, source: ForeignFiles) -> dict[int, str]:
    """id -> token; two tokens with one id are refused."""
    texts: dict[int, str] = {}
    for token, place in engine.get_vocab(with_added_tokens=True).items():
        if texts.setdefault(place, token) != token:
            raise source_error(source, f"{token!r} and {texts[place]!r} have the same id, {place}")
    return texts


def jobs_of(source: ForeignFiles, tokens: Mapping[int, str]) -> dict[str, str]:
    """Which token does which job; every tokenizer must have one that ends texts."""
    by_id = {job: tokens[place] for job, place in source.ids.items() if place in tokens}
    have = set(tokens.values())
    named = {job: name for job, name in {**by_id, **source.jobs}.items() if name in have}
    if "eos_token" not in named and "sep_token" not in named:
        named = {**conventional(have), **named}
    if "eos_token" not in named:
        if "sep_token" not in named:
            raise source_error(source, f"no token ends a text: {CONFIG_FILE} names no eos_token and no sep_token")
        named["eos_token"] = named["sep_token"]
    return named


def added_entries(engine: Any, named: set[str]) -> list[dict[str, Any]]:
    """The added tokens in the order of ids; whatever has a job is special."""
    added = engine.get_added_tokens_decoder()
    entries = []
    for place in sorted(added):
        token = added[place]
        flags = {key: getattr(token, key) for key in _FLAGS}
        special = token.special or token.content in named
        entries.append({"id": place, "content": token.content, "special": special, **flags})
    listed = {entry["content"] for entry in entries}
    for name in sorted(named - listed, key=engine.token_to_id):  # in the vocabulary alone
        flags = dict.fromkeys(_FLAGS, False)
        entries.append({"id": engine.token_to_id(name), "content": name, "special": True, **flags})
    return sorted(entries, key=lambda entry: entry["id"])


def encoding_engine(
    source: ForeignFiles, added: list[dict[str, Any]], specials: Mapping[str, int]
) -> tuple[Any, npt.NDArray[np.uint32], set[str]]:
    """The engine that encodes, the file's id for each of its own, and special tokens that ordinary text becomes."""
    if len(specials) > MOST_SPECIALS:
        raise source_error(source, f"it has {len(specials)} special tokens, more than {MOST_SPECIALS}")
    model = _filled(source.model["model"])
    engine, true = _built(source, model, added, specials)
    unknown = {source.jobs.get("unk_token"), source.model["model"].get("unk_token")}
    reached = [name for name in specials if name not in unknown and _reaches(engine, true, name, specials[name])]
    if reached:
        engine, true = _built(source, _renamed(model, reached), added, specials)
    ordinary = {name for name in reached if _reaches(engine, true, name, specials[name])}
    return engine, true, ordinary


def _reaches(engine: Any, true: npt.NDArray[np.uint32], name: str, place: int) -> bool:
    ids = engine.encode(plain(name), add_special_tokens=False).ids
    return place in true[np.array(ids, np.int64)]


def _built(
    source: ForeignFiles, model: dict[str, Any], added: list[dict[str, Any]], specials: Mapping[str, int]
) -> tuple[Any, npt.NDArray[np.uint32]]:
    parts: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "post_processor": None,
    }
    kept = {key: source.model.get(key) for key in ("normalizer", "pre_tokenizer", "decoder")}
    tokenizers = importlib.import_module("tokenizers")
    engine = tokenizers.Tokenizer.from_str(json.dumps({**parts, **kept, "model": model}))
    order = {name: place for place, name in enumerate(specials)}
    spelt = {entry["content"]: _spelt(entry, order) for entry in added}
    for entry in added:
        # marks.py has seen to words that must stand alone; an alias is no text that a normalizer may change.
        flags = {**entry, **({"single_word": False, "normalized": False} if entry["special"] else {})}
        engine.add_tokens([added_token(spelt[entry["content"]], **{key: flags[key] for key in (*_FLAGS, "special")})])
    true = np.arange(engine.get_vocab_size(with_added_tokens=True), dtype=np.uint32)
    for entry in added:
        true[engine.token_to_id(spelt[entry["content"]])] = entry["id"]
    return engine, true


def _spelt(entry: Mapping[str, Any], order: Mapping[str, int]) -> str:
    return alias(order[entry["content"]]) if entry["special"] else str(entry["content"])


def _filled(model: Mapping[str, Any]) -> dict[str, Any]:
    """The model with a token that no text holds for each id that is missing: the engine numbers added tokens by how
    many the model has, and would give one of them an id twice.
    """
    vocab = model["vocab"]
    if not isinstance(vocab, dict):
        return dict(model)
    missing = sorted(set(range(max(vocab.values(), default=-1) + 1)) - set(vocab.values()))
    return {**model, "vocab": {**vocab, **{f"\ufdd6{place}\ufdd6": place for place in missing}}}


def _renamed(model: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The model with these tokens under names that no text holds; a character, and what merges make of some, stays."""
    new = {name: f"\ufdd7{place}\ufdd7" for place, name in enumerate(names) if len(name) > 1}
    vocab = model["vocab"]
    if isinstance(vocab, list):
        return {**model, "vocab": [[new.get(token, token), score] for token, score in vocab]}
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model.get("merges", [])]
    for made in {part for pair in merges for part in (*pair, "".join(pair))} & new.keys():
        del new[made]
    return {**model, "vocab": {new.get(token, token): place for token, place in vocab.items()}}


def frame_of(original: Any, source: ForeignFiles) -> tuple[list[int], list[int]]:
    """The special ids that the post-processor puts before and after a text (`add_bos_token` of tokenizer_config.json
    decides nothing where there is a tokenizer.json, in transformers 5 as here).
    """
    ids, probe = original.encode("a", add_special_tokens=True).ids, original.encode("a", add_special_tokens=False).ids
    for start in range(len(ids) - len(probe) + 1):
        if ids[start : start + len(probe)] == probe:
            return ids[:start], ids[start + len(probe) :]
    raise source_error(source, "its post-processor changes the text's own tokens")
