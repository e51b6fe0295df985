"""Any tokenizer of Hugging Face's format, behind tilth's protocol: `tokenizers` encodes, tokenizer.json decides.

    load_foreign(folder)      the tokenizer of a checkpoint, or a DataError that names what tilth cannot honour
    ForeignTokenizer          the same ids as AutoTokenizer(text, add_special_tokens=False), for every text

In tokenizer.json special tokens are cut out of any text that spells them. Here text never becomes a special token: the
engine is given each special token under an alias (marks.py) that no text holds, so that a user's `</s>` is four
characters, and one call encodes a whole conversation with the special tokens that its template wrote. Where the model
itself knows a special token as a piece (Unigram, WordPiece), the piece is renamed as well.

The engine numbers tokens by itself; `_true` maps its ids to those of the file. Ids that no token has decode to nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt

from tilth.core.config import fingerprint
from tilth.core.errors import DataError, RecipeError
from tilth.core.files import disk, write_file, write_json
from tilth.tokenizer.base import AnyKind, Ids, Labelled, Tokenizer
from tilth.tokenizer.foreign_files import FACTS_FILE, ForeignFiles, conventional, read_foreign
from tilth.tokenizer.hf_format import CONFIG_FILE, MODEL_FILE
from tilth.tokenizer.marks import MOST_SPECIALS, Marked, Names, alias, plain
from tilth.tokenizer.spelling import Spelling

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def load_foreign(folder: Path) -> ForeignTokenizer:
    """The tokenizer of a folder that another program wrote.

    Raises:
        DataError: no tokenizer, or one that cannot be used as it is; names the file and the token.
        RecipeError: a library that it needs is not installed.
    """
    if importlib.util.find_spec("tokenizers") is None:
        raise RecipeError(
            f"the tokenizer in {folder} needs tokenizers, which is not installed", "pip install 'tilth[hf]'"
        )
    return ForeignTokenizer(read_foreign(folder))


@final
class ForeignTokenizer(Tokenizer):
    """A tokenizer that was made elsewhere; use `load_foreign` or `load_tokenizer`.

    Attributes:
        special_tokens: name -> id, in the order of ids.
    """

    kind: ClassVar[AnyKind] = "foreign"

    def __init__(self, source: ForeignFiles) -> None:
        self._source = source
        original = _original(source)
        tokens = _token_texts(original, source)
        self._named = _named(source, tokens)
        self._added = _added(original, set(self._named.values()))
        specials = {entry["content"]: entry["id"] for entry in self._added if entry["special"]}
        self._engine, self._true, ordinary = _engine(source, self._added, specials)
        self.special_tokens = {name: place for name, place in specials.items() if name not in ordinary}
        if self._named["eos_token"] not in self.special_tokens:
            raise source_error(source, f"ordinary text becomes {self._named['eos_token']!r}, which ends texts")
        self.training: dict[str, int] = {}
        self._frame = _frame(original, source, self.special_tokens, self._named)
        self._spell(tokens)

    def _spell(self, tokens: Mapping[int, str]) -> None:
        try:
            spelling = Spelling(self._source.model.get("decoder"))
        except (KeyError, TypeError, ValueError) as error:
            raise source_error(self._source, str(error)) from None
        size = max(tokens) + 1
        names = {place: name for name, place in self.special_tokens.items()}
        self._first, self._shown, self._hidden = [b""] * size, [b""] * size, [b""] * size
        for place, token in tokens.items():
            if place in names:
                self._first[place] = self._shown[place] = token.encode()
            else:
                self._shown[place] = self._hidden[place] = spelling.bytes_of(token)
                self._first[place] = spelling.first_bytes(token)

    @property
    def end_of_text(self) -> int:
        """The id that ends a text: the checkpoint's eos, or sep where it has none (BERT)."""
        return self.special_tokens[self._named["eos_token"]]

    @property
    def named_tokens(self) -> dict[str, str]:
        """Special tokens by their jobs."""
        return dict(self._named)

    @property
    def opening(self) -> list[int]:
        """What the tokenizer puts before a text (bos, cls)."""
        return list(self._frame[0])

    @property
    def closing(self) -> list[int]:
        """What the tokenizer puts after a text (eos, sep)."""
        return list(self._frame[1])

    @property
    def added_names(self) -> Names:
        """The added tokens; those that are not special are recognised in texts."""
        others = [entry["content"] for entry in self._added if entry["content"] not in self.special_tokens]
        single = [entry["content"] for entry in self._added if entry["special"] and entry["single_word"]]
        return Names(list(self.special_tokens), others, single)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the parts of tokenizer.json that determine ids, and of the token that ends a text."""
        parts = {key: self._source.model.get(key) for key in ("normalizer", "pre_tokenizer", "model")}
        return fingerprint({"kind": self.kind, **parts, "added": self._added, "end": self.end_of_text})

    @property
    def chat_template(self) -> str | None:
        """The checkpoint's own chat template, if it has one."""
        from tilth.tokenizer.templates import find_template

        return find_template(self._source.files, self._source.config, self._source.place)

    def encode_array(self, text: str | bytes) -> npt.NDArray[np.uint32]:
        """The ids of a text; bytes that are not UTF-8, lone surrogates and U+FDD0 to U+FDEF are read as U+FFFD."""
        return self._encoded([text])[0]

    def encode_documents(self, texts: Sequence[str]) -> npt.NDArray[np.uint32]:
        """The ids of many texts in a row, end-of-text after each: one call of the engine."""
        end = np.array([self.end_of_text], np.uint32)
        parts = [part for ids in self._encoded(texts) for part in (ids, end)]
        return np.concatenate(parts) if parts else np.empty(0, np.uint32)

    def _encoded(self, texts: Sequence[str | bytes]) -> list[npt.NDArray[np.uint32]]:
        read = [plain(text if isinstance(text, str) else text.decode("utf-8", "replace")) for text in texts]
        encodings = self._engine.encode_batch_fast(read, add_special_tokens=False)
        return [self._true[np.array(encoding.ids, np.int64)] for encoding in encodings]

    def encode_marked(self, rows: Sequence[Marked]) -> list[Labelled]:
        """Rendered conversations: one call of the engine."""
        encodings = self._engine.encode_batch([row.text for row in rows], add_special_tokens=False)
        return [self._labelled(encoding, row) for encoding, row in zip(encodings, rows, strict=True)]

    def _labelled(self, encoding: Any, row: Marked) -> Labelled:
        ids = self._true[np.array(encoding.ids, np.int64)]
        trained = np.zeros(len(ids), np.bool_)
        for start, end in row.spans:
            first = _token_at(encoding, range(start, end))
            last = _token_at(encoding, range(end - 1, start - 1, -1))
            if first is None or last is None:
                continue
            while last + 1 < len(ids) and (chars := encoding.token_to_chars(last + 1)) and chars[0] < end:
                last += 1  # one character may be several tokens (bytes)
            trained[first : last + 1] = True
        return Labelled(ids, trained)

    def decode_bytes(self, ids: Ids, skip_special: bool = False, begins: bool = True) -> bytes:
        """The bytes that ids stand for."""
        checked = self._checked(ids)
        table = self._hidden if skip_special else self._shown
        if not begins:
            return b"".join(map(table.__getitem__, checked))
        hidden = set(self.special_tokens.values()) if skip_special else set()
        first = next((n for n, token in enumerate(checked) if token not in hidden), len(checked))
        head = [self._first[token] for token in checked[first : first + 1]]
        return b"".join([*head, *map(table.__getitem__, checked[first + 1 :])])

    def model_json(self) -> dict[str, Any]:
        """The parts of tokenizer.json, as they came."""
        return {key: self._source.model.get(key) for key in ("pre_tokenizer", "decoder", "model")}

    def save(self, folder: Path) -> None:
        """Writes the files as they came, so that AutoTokenizer gives the same ids, and which token does which job."""
        disk.make_folder(folder)
        for name, data in self._source.files.items():
            write_file(folder / name, data)
        write_json(folder / FACTS_FILE, {"fingerprint": self.fingerprint, "named_tokens": self._named})

    def with_special_tokens(self, names: Sequence[str]) -> ForeignTokenizer:
        """The same tokenizer with further special tokens, ids after all others; a token that it has becomes special."""
        original = _original(self._source)
        original.add_special_tokens([_token(name, normalized=False, special=True) for name in names])
        model = json.loads(original.to_str())
        files = {**self._source.files, MODEL_FILE: original.to_str(pretty=True).encode()}
        config = dict(self._source.config)
        if "added_tokens_decoder" in config:  # transformers reads this beside tokenizer.json
            entries = {
                str(entry["id"]): {k: v for k, v in entry.items() if k != "id"} for entry in model["added_tokens"]
            }
            config["added_tokens_decoder"] = {**config["added_tokens_decoder"], **entries}
            files[CONFIG_FILE] = (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
        source = self._source
        return ForeignTokenizer(ForeignFiles(source.place, model, config, dict(self._named), {}, files))


def source_error(source: ForeignFiles, what: str) -> DataError:
    """The error for a tokenizer that cannot be used as it is."""
    return DataError(
        f"the tokenizer in {source.place} cannot be used: {what}",
        "use the tokenizer.json that its authors publish, or mend that entry",
    )


def _original(source: ForeignFiles) -> Any:
    """The engine as the file describes it, with the tokens that transformers adds from tokenizer_config.json."""
    tokenizers = importlib.import_module("tokenizers")
    try:
        engine = tokenizers.Tokenizer.from_str(json.dumps(source.model))
        engine.no_truncation()
        engine.no_padding()
        listed = sorted((int(place), entry) for place, entry in source.config.get("added_tokens_decoder", {}).items())
        same = {_flags_of(token) for token in engine.get_added_tokens_decoder().values()}
        further = [token for _, entry in listed if _flags_of(token := _token(**entry)) not in same]
        engine.add_tokens(further)
        have = {token.content for token in engine.get_added_tokens_decoder().values()}
        missing = [name for name in [*source.jobs.values(), *_extra(source.config)] if name not in have]
        engine.add_special_tokens([_token(name, special=True) for name in dict.fromkeys(missing)])
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


def _token(content: str, **flags: Any) -> Any:
    known = {key: flags[key] for key in (*_FLAGS, "special") if key in flags}
    return importlib.import_module("tokenizers").AddedToken(content, **known)


def _token_texts(engine: Any, source: ForeignFiles) -> dict[int, str]:
    """id -> token; two tokens with one id are refused."""
    texts: dict[int, str] = {}
    for token, place in engine.get_vocab(with_added_tokens=True).items():
        if texts.setdefault(place, token) != token:
            raise source_error(source, f"{token!r} and {texts[place]!r} have the same id, {place}")
    return texts


def _named(source: ForeignFiles, tokens: Mapping[int, str]) -> dict[str, str]:
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


def _added(engine: Any, named: set[str]) -> list[dict[str, Any]]:
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


def _engine(
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
    parts = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "post_processor": None}
    kept = {key: source.model.get(key) for key in ("normalizer", "pre_tokenizer", "decoder")}
    tokenizers = importlib.import_module("tokenizers")
    engine = tokenizers.Tokenizer.from_str(json.dumps({**parts, **kept, "model": model}))
    order = {name: place for place, name in enumerate(specials)}
    spelt = {entry["content"]: _spelt(entry, order) for entry in added}
    for entry in added:
        flags = {**entry, "single_word": entry["single_word"] and not entry["special"]}
        engine.add_tokens([_token(spelt[entry["content"]], **{key: flags[key] for key in (*_FLAGS, "special")})])
    true = np.arange(engine.get_vocab_size(with_added_tokens=True), dtype=np.uint32)
    for entry in added:
        true[engine.token_to_id(spelt[entry["content"]])] = entry["id"]
    for name, place in specials.items():
        ids = engine.encode(spelt[name], add_special_tokens=False).ids
        if place not in true[np.array(ids, np.int64)]:
            raise source_error(source, f"its normalizer takes the special token {name!r} apart")
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
    """The model with these tokens under names that no text holds; a token that merges make stays."""
    new = {name: f"\ufdd7{place}\ufdd7" for place, name in enumerate(names)}
    vocab = model["vocab"]
    if isinstance(vocab, list):
        return {**model, "vocab": [[new.get(token, token), score] for token, score in vocab]}
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model.get("merges", [])]
    for made in {part for pair in merges for part in (*pair, "".join(pair))} & new.keys():
        del new[made]
    return {**model, "vocab": {new.get(token, token): place for token, place in vocab.items()}}


def _frame(
    original: Any, source: ForeignFiles, specials: Mapping[str, int], named: Mapping[str, str]
) -> tuple[list[int], list[int]]:
    """The special ids before and after a text: of the post-processor, or as tokenizer_config.json overrules it."""
    asked = {job: source.config.get(f"add_{job}") for job in ("bos_token", "eos_token")}
    if any(value is not None for value in asked.values()) or original.post_processor is None:
        opening, closing = ([specials[named[job]]] if value and job in named else [] for job, value in asked.items())
        return opening, closing
    ids, probe = original.encode("a", add_special_tokens=True).ids, original.encode("a", add_special_tokens=False).ids
    for start in range(len(ids) - len(probe) + 1):
        if ids[start : start + len(probe)] == probe:
            return ids[:start], ids[start + len(probe) :]
    raise source_error(source, "its post-processor changes the text's own tokens")


def _token_at(encoding: Any, places: range) -> int | None:
    """The token of the first of these characters that has one."""
    found = (encoding.char_to_token(place) for place in places)
    return next((token for token in found if token is not None), None)
