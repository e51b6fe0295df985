"""A folder with a tokenizer of another program: its files, and what they say.

    read_foreign(folder)      tokenizer.json, made by transformers' converters where only older files are there;
                              which tokens do which job; the files as they came
    is_foreign(folder)        whether another program than tilth wrote it

Which token ends a text is read from tokenizer_config.json, special_tokens_map.json, config.json (by id), in this
order, and where none of them says so (BERT's and GPT-2's first checkpoints) from the conventions of their families.
What was found is kept in `tilth_tokenizer.json` beside the saved files, since config.json is not among them.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tilth.core.errors import DataError, IntegrityError, RecipeError
from tilth.tokenizer.hf_format import CONFIG_FILE, MODEL_FILE

FACTS_FILE = "tilth_tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"
_OLDER = ("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
FILES = (
    MODEL_FILE,
    CONFIG_FILE,
    "special_tokens_map.json",
    "added_tokens.json",
    TEMPLATE_FILE,
    "chat_template.json",
    *_OLDER,
)
JOBS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
LARGEST_FILE = 1 << 29

_BERT = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
_GPT2 = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
_SENTENCEPIECE = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_T5 = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_CONVENTIONS = (_BERT, _GPT2, _SENTENCEPIECE, _T5)


@dataclass(frozen=True)
class ForeignFiles:
    """What a folder holds.

    Attributes:
        place: the folder, for errors.
        model: tokenizer.json.
        config: tokenizer_config.json; empty where there is none.
        jobs: `eos_token` and the like -> the token's text.
        ids: jobs that only config.json gives, by id.
        files: name -> bytes, of all files of the tokenizer as they came.
    """

    place: Path
    model: dict[str, Any]
    config: dict[str, Any]
    jobs: dict[str, str]
    ids: dict[str, int]
    files: dict[str, bytes] = field(repr=False)


def is_foreign(folder: Path) -> bool:
    """Whether the tokenizer in a folder was written by another program.

    Without tokenizer_config.json the folder must be a checkpoint of another program: one of tilth's that lost the file
    is damaged, and not foreign.
    """
    if (folder / CONFIG_FILE).exists():
        return "tilth" not in _object(folder / CONFIG_FILE)
    if (folder / FACTS_FILE).exists():
        return True
    return (folder / "config.json").exists() and _object(folder / "config.json").get("model_type") != "tilth"


def read_foreign(folder: Path) -> ForeignFiles:
    """All that a folder says about its tokenizer.

    Raises:
        DataError: no tokenizer there, or a file that is none; names it.
        RecipeError: transformers, which converts older files, is not installed.
    """
    files = {name: _bytes(folder / name) for name in FILES if (folder / name).is_file()}
    if MODEL_FILE not in files:
        files[MODEL_FILE] = _converted(folder, [name for name in _OLDER if name in files])
    model = _parsed(files[MODEL_FILE], folder / MODEL_FILE)
    if not isinstance(model.get("model"), dict) or "vocab" not in model["model"]:
        raise DataError(
            f"{folder / MODEL_FILE} has no model with a vocabulary", "copy the tokenizer's files again, from its origin"
        )
    config = _parsed(files[CONFIG_FILE], folder / CONFIG_FILE) if CONFIG_FILE in files else {}
    jobs, ids = _jobs(folder, config, files)
    return ForeignFiles(folder, model, config, jobs, ids, files)


def conventional(tokens: set[str]) -> dict[str, str]:
    """The jobs of tokens by the conventions of the families, for checkpoints whose files say nothing."""
    for jobs in _CONVENTIONS:
        needed = {name for job, name in jobs.items() if job in ("eos_token", "bos_token", "cls_token", "sep_token")}
        if needed <= tokens:
            return {job: name for job, name in jobs.items() if name in tokens}
    return {}


def _jobs(folder: Path, config: Mapping[str, Any], files: Mapping[str, bytes]) -> tuple[dict[str, str], dict[str, int]]:
    kept = folder / FACTS_FILE
    if kept.is_file():
        return {str(job): str(name) for job, name in _object(kept)["named_tokens"].items()}, {}
    older = files.get("special_tokens_map.json")
    said = [config, {} if older is None else _parsed(older, folder / "special_tokens_map.json")]
    jobs = {job: name for source in reversed(said) for job in JOBS if (name := _content(source.get(job)))}
    model = _object(folder / "config.json") if (folder / "config.json").is_file() else {}
    ids = {job: value for job in JOBS if job not in jobs and (value := _first(model.get(f"{job}_id"))) is not None}
    return jobs, ids


def _content(value: object) -> str | None:
    """A token's text, which files give plainly or in an object."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) and text else None


def _first(value: object) -> int | None:
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _converted(folder: Path, older: list[str]) -> bytes:
    """tokenizer.json out of older files, by transformers."""
    if not older:
        raise DataError(
            f"{folder} has no {MODEL_FILE}, nor older files of a tokenizer ({', '.join(_OLDER)})",
            "copy the tokenizer's files into the folder, or name the folder that has them",
        )
    if importlib.util.find_spec("transformers") is None:
        raise RecipeError(
            f"{folder} has {', '.join(older)} but no {MODEL_FILE}; transformers, which converts them, is not installed",
            "pip install 'tilth[transformers]'",
        )
    import transformers

    try:
        loaded = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        text: str = loaded.backend_tokenizer.to_str()
    except Exception as error:  # whatever a library says about files that are not what they seem
        raise DataError(
            f"{folder}: transformers cannot convert {', '.join(older)}: {str(error)[:300]}",
            f"make a {MODEL_FILE} where the tokenizer came from; a sentencepiece model needs `pip install sentencepiece"
            " protobuf` as well",
        ) from None
    return text.encode()


def _bytes(path: Path) -> bytes:
    if path.stat().st_size > LARGEST_FILE:
        raise DataError(
            f"{path} has {path.stat().st_size} bytes; no tokenizer is larger than {LARGEST_FILE}", "look what it is"
        )
    return path.read_bytes()


def _object(path: Path) -> dict[str, Any]:
    return _parsed(_bytes(path), path)


def _parsed(data: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is damaged: {error}", "copy the tokenizer's files again") from None
    if not isinstance(value, dict):
        raise IntegrityError(f"{path} is damaged: no JSON object", "copy the tokenizer's files again")
    return value
