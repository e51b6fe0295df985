"""Where a model lies: its weights, what is said of it, its tokenizer.

    locate(path, which) -> Place      of a run, a checkpoint in it, a model's folder, or a model of the hub
    seal_identity(run)                hashes of what is said of a run's checkpoints beside them; `Place.verify` compares
    read_config(path)                 a config.json that tilth wrote

Nothing large is read here, and no torch is needed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tilth.checkpoint.peft_config import CONFIG as ADAPTER_CONFIG
from tilth.core.config import parse
from tilth.core.errors import CheckpointError, IntegrityError, RecipeError
from tilth.core.faults import short
from tilth.core.files import disk, hash_file, read_json, read_sealed, safe_join, verify_manifest, write_sealed
from tilth.jobs.hub_models import hub_folder, names_hub_model
from tilth.model.config import ModelConfig
from tilth.model.families import FAMILIES, WRAPPED_CONTEXT, read_json_config

Which = Literal["final", "latest", "best"] | int
MODEL_TYPE = "tilth"
BASE_FILE = "base.json"
"""Beside an adapter's weights: which base they belong to."""
IDENTITY = "identity.json"
"""In a run folder: the hashes of configuration, tokenizer and `base.json`, which all its checkpoints share. It is no
part of them, for the same command under a newer tilth may write these files otherwise: the checkpoints stay good."""
_WRITTEN_AGAIN = "type the command that trained it: such files are written again"
_SAID_OF_BASE = {
    **dict.fromkeys(("from", "fingerprint"), str),
    **dict.fromkeys(("context_length", "seed"), int),
    "special_tokens": list,
    "adapter": dict,
}


@dataclass(frozen=True)
class Place:
    """Where a model lies.

    Attributes:
        asked: the folder that was named.
        weights: the folder with the weights.
        about: the one with config.json.
    """

    asked: Path
    weights: Path
    about: Path

    @property
    def foreign(self) -> bool:
        """Whether its config.json is one of Hugging Face's, not of tilth's own."""
        return read_json_config(self.about).get("model_type") != MODEL_TYPE

    @property
    def wrapped(self) -> bool:
        """Whether it keeps transformers' class: tilth has no model of its own for it, or it was trained through that
        class.
        """
        values = read_json_config(self.about)
        return values.get("model_type") not in {MODEL_TYPE, *FAMILIES} or WRAPPED_CONTEXT in values

    @property
    def tokenizer(self) -> Path:
        """The folder of its tokenizer: beside the configuration, of a run below it."""
        below = self.about / "tokenizer"
        return below if below.is_dir() else self.about

    @property
    def adapter(self) -> Path | None:
        """The folder that says beside which base its weights belong, where they are an adapter's."""
        return self.about if (self.about / BASE_FILE).exists() else None

    @property
    def base(self) -> dict[str, Any]:
        """What an adapter says of its base: `from`, `fingerprint`, and the sections of the recipe that made it."""
        return read_base(self.about)

    def verify(self) -> None:
        """Compares hashes where there is a manifest; a folder from elsewhere may have none."""
        try:
            if self.weights != self.asked or (self.weights / "manifest.json").exists():
                verify_manifest(self.weights)
        except IntegrityError as error:
            raise CheckpointError(
                error.message, "it was altered: use another checkpoint (--checkpoint latest)"
            ) from error
        if self.weights != self.about:
            _verify_identity(self.about)


def seal_identity(run: Path) -> None:
    """Writes down the hashes of what a run folder says of its checkpoints, once all of it is there."""
    files = [run / "config.json", run / BASE_FILE, *(run / "tokenizer").iterdir()]
    found = {path.relative_to(run).as_posix(): hash_file(path) for path in sorted(files) if _is_named(path)}
    write_sealed(run / IDENTITY, {"files": found})


def unseal_identity(run: Path) -> None:
    """Takes the hashes away, before the files are written anew."""
    if (run / IDENTITY).exists():
        disk.remove(run / IDENTITY)


def _is_named(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")  # those are half-made


def _verify_identity(run: Path) -> None:
    """IntegrityError when one of these files is not what was written; a run of an earlier tilth has no hashes."""
    if not (run / IDENTITY).exists():
        return
    try:
        files = read_sealed(run / IDENTITY)["files"]
    except IntegrityError as error:
        raise error.with_remedy(_WRITTEN_AGAIN) from error
    for name, digest in files.items():
        path = safe_join(run, name)
        if not path.is_file():
            raise IntegrityError(f"{path} is missing", _WRITTEN_AGAIN)
        if hash_file(path) != digest:
            raise IntegrityError(f"{path} is not what was written: its hash is another", _WRITTEN_AGAIN)


def locate(path: Path | str, which: Which = "final", checkpoint: Callable[[Path, Which], Path] | None = None) -> Place:
    """Where the model of a path lies, or of ORG/NAME[@REVISION] of the hub, where no folder of that name is.

    Args:
        which: of a run folder: `final` (or the latest checkpoint, while the run has not ended), `latest`, `best`, or
            a step.
        checkpoint: finds one of a run's checkpoints; left out: only what has ended is a model.
    """
    asked = hub_folder(str(path)) if not Path(path).exists() and names_hub_model(str(path)) else Path(path)
    weights, about = _find(asked, which, checkpoint)
    if (weights / ADAPTER_CONFIG).exists() and not (about / BASE_FILE).exists():
        named = _named_base(weights)
        told = f"the base that it names, {short(named)}, is not looked for" if named else "it names no base"
        raise CheckpointError(
            f"{weights} is an adapter that tilth did not train; {told}",
            "name the base, and the adapter beside it: tilth.load(BASE, adapter=FOLDER), or BASE --adapter FOLDER",
        )
    return Place(asked, weights, about)


def _named_base(folder: Path) -> str:
    """What PEFT says of an adapter's base: a name that was good where it was trained, of a folder or of the hub. No one
    asked for what it would bring here; "" where there is none.
    """
    try:
        said = read_json(folder / ADAPTER_CONFIG)
    except IntegrityError:
        return ""
    name = said.get("base_model_name_or_path") if isinstance(said, dict) else None
    return name if isinstance(name, str) else ""


def read_base(folder: Path) -> dict[str, Any]:
    """What stands beside an adapter of its base (start.py: write_base); CheckpointError where it is damaged."""
    said: Any = read_json(folder / BASE_FILE)
    values = said if isinstance(said, dict) else {}
    wrong = [key for key, kind in _SAID_OF_BASE.items() if not isinstance(values.get(key), kind)]
    if wrong := wrong + [key for key in ("wrapped",) if not isinstance(values.get(key), (bool, type(None)))]:
        raise CheckpointError(
            f"{folder / BASE_FILE} is damaged: {', '.join(wrong)} missing or of a wrong kind",
            "get the folder again, or load the base with the adapter beside it, without this file",
        )
    return values


def read_config(path: Path) -> ModelConfig:
    """The model's configuration from a `config.json` that tilth wrote."""
    try:
        data = read_json(path)
    except IntegrityError as error:
        raise CheckpointError(error.message, "name a run folder or its final/ folder") from error
    if not isinstance(data, dict) or data.get("model_type") != MODEL_TYPE:
        kind = data.get("model_type") if isinstance(data, dict) else type(data).__name__
        raise CheckpointError(
            f"{path} is of model type {kind!r}, not {MODEL_TYPE!r}", "name a model that tilth trained"
        )
    return parse(ModelConfig, {k: v for k, v in data.items() if k != "model_type"}, str(path))


def _find(path: Path, which: Which, checkpoint: Callable[[Path, Which], Path] | None) -> tuple[Path, Path]:
    """The folder with the weights, and the one with configuration and tokenizer."""
    if not path.is_dir():
        raise RecipeError(f"no run folder or model at {path}", _nearest_folder(path))
    if (path / "recipe.json").exists():
        if which == "final" and (path / "final").is_dir():
            return path / "final", path / "final"
        if which == "final" and (path / "result.json").exists():
            raise CheckpointError(f"{path / 'final'} is missing", "type the command that trained it: it is made again")
        if checkpoint is None:
            raise RecipeError(f"the run in {path} has not ended: it has no final model", "let it end first")
        return checkpoint(path / "checkpoints", which), path
    if which != "final":
        raise RecipeError(
            f"{path} is no run folder: it holds no {which if isinstance(which, str) else f'step {which}'} to choose",
            "name the run folder, or leave the choice of a checkpoint out",
        )
    if re.fullmatch(r"step-\d{8,}", path.name) and (path.parent.parent / "config.json").exists():
        return path, path.parent.parent
    if any((path / name).exists() for name in ("model.safetensors", "config.json", ADAPTER_CONFIG)):
        return path, path
    raise RecipeError(f"{path} holds no model", "name a run folder made by `tilth train`, or its final/ folder")


def _nearest_folder(path: Path) -> str:
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return f"a recipe stands there; name the folder of its run, runs/NAME, or train it first: tilth train {path}"
    there = sorted(p.name for p in path.parent.iterdir() if p.is_dir()) if path.parent.is_dir() else []
    if close := difflib.get_close_matches(path.name, there, n=1):
        return f"did you mean {path.parent / close[0]}?"
    if (path.parent / "runs" / path.name / "recipe.json").exists():
        return f"did you mean {path.parent / 'runs' / path.name}?"
    runs = [str(path.parent / name) for name in there if (path.parent / name / "recipe.json").exists()]
    known = f"there are {', '.join(runs[:5])}; " if runs else "train first: `tilth train RECIPE`; "
    hub = "a model of the hub is ORG/NAME"
    if len(path.parts) == 1 and not path.suffix:  # many know it by its last name alone
        return f"{hub}, as openai-community/gpt2; for one of your own {known.removesuffix('; ')}"
    return f"{known}{hub}"
