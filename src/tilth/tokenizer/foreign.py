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

import importlib.util
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt

from tilth.core.config import fingerprint
from tilth.core.errors import RecipeError
from tilth.core.files import disk, write_file, write_json
from tilth.tokenizer.base import AnyKind, Ids, Tokenizer
from tilth.tokenizer.foreign_engine import (
    added_entries,
    added_token,
    encoding_engine,
    frame_of,
    jobs_of,
    original_engine,
    source_error,
    token_texts,
)
from tilth.tokenizer.foreign_files import FACTS_FILE, ForeignFiles, read_foreign
from tilth.tokenizer.hf_format import CONFIG_FILE, MODEL_FILE
from tilth.tokenizer.labels import Labelled
from tilth.tokenizer.marks import ALIAS, Marked, Names, plain
from tilth.tokenizer.spelling import Spelling


def load_foreign(folder: Path) -> ForeignTokenizer:
    """The tokenizer of a folder that another program wrote.

    Raises:
        DataError: no tokenizer, or one that cannot be used as it is; names the file and the token.
        RecipeError: a library that it needs is not installed.
    """
    if importlib.util.find_spec("tokenizers") is None:
        raise RecipeError(
            f"the tokenizer in {folder} needs tokenizers, which is not installed", "pip install 'tilth[transformers]'"
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
        original = original_engine(source)
        tokens = token_texts(original, source)
        self._named = jobs_of(source, tokens)
        self._added = added_entries(original, set(self._named.values()))
        specials = {entry["content"]: entry["id"] for entry in self._added if entry["special"]}
        self._engine, self._true, ordinary = encoding_engine(source, self._added, specials)
        self.special_tokens = {name: place for name, place in specials.items() if name not in ordinary}
        if self._named["eos_token"] not in self.special_tokens:
            raise source_error(source, f"ordinary text becomes {self._named['eos_token']!r}, which ends texts")
        self.training: dict[str, int] = {}
        self._frame = frame_of(original, source)
        self._spell(tokens)

    def _spell(self, tokens: Mapping[int, str]) -> None:
        try:
            spelling = Spelling(self._source.model.get("decoder"))
        except (KeyError, TypeError, ValueError) as error:
            raise source_error(self._source, str(error)) from None
        specials = set(self.special_tokens.values())
        size = max(tokens) + 1
        self._first, self._shown, self._hidden = [b""] * size, [b""] * size, [b""] * size
        for place, token in tokens.items():
            self._first[place], self._shown[place] = spelling.first_bytes(token), spelling.bytes_of(token)
            self._hidden[place] = b"" if place in specials else self._shown[place]

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
        """The ids of many texts in a row, with what begins and ends each: one call of the engine."""
        begin, end = np.array(self.document_opening, np.uint32), np.array([self.end_of_text], np.uint32)
        parts = [part for ids in self._encoded(texts) for part in (begin, ids, end)]
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
            # A special token takes white space along where the tokenizer says so (Phi 3): an answer's own beginning,
            # of a token that the template wrote before it.
            first += _taken_along(encoding, row.text, first, range(start, end))
            last -= _taken_along(encoding, row.text, last, range(start, end))
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
        original = original_engine(self._source)
        original.add_special_tokens([added_token(name, normalized=False, special=True) for name in names])
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


def _token_at(encoding: Any, places: range) -> int | None:
    """The token of the first of these characters that has one."""
    found = (encoding.char_to_token(place) for place in places)
    return next((token for token in found if token is not None), None)


def _taken_along(encoding: Any, text: str, token: int, span: range) -> bool:
    """Whether it is a special token of which only white space stands in the span, and the name outside."""
    name = ALIAS.search(text, *encoding.token_to_chars(token))
    return name is not None and name.start() not in span
