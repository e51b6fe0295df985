"""The adapter_config.json of PEFT: read with nothing passed over that changes what an adapter computes, and written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex  # type: ignore[import-untyped]

from tilth.core.errors import CheckpointError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
OURS = "tilth.json"
LARGEST_CONFIG = 1 << 20
PATIENCE = 0.2  # seconds for one pattern, which somebody else wrote

# What says where, how and by whom an adapter was trained. Which layers it is at, its tensors say (and peft_targets.py
# holds the rest to them).
_HARMLESS = {
    *("auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "exclude_modules", "fan_in_fan_out"),
    *("inference_mode", "layers_pattern", "layers_to_transform", "megatron_core", "modules_to_save", "peft_version"),
    *("qalora_group_size", "revision", "target_modules", "task_type", "eva_config"),
}
_READ = {"peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern"}
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Ways to begin (`init_lora_weights`) that leave the base as it is; the others subtract something from it."""


@dataclass(frozen=True, slots=True)
class Base:
    """Which base a model is, as far as it is known: its Hub id, and its fingerprint
    (`checkpoint/trainable.py: base_fingerprint`).
    """

    name: str | None = None
    fingerprint: str | None = None


UNKNOWN = Base()


@dataclass(frozen=True)
class PeftConfig:
    """What of it decides the computation, and what says where it belongs."""

    rank: int
    alpha: float
    dropout: float
    rslora: bool
    dora: bool
    ranks: Mapping[str, float]
    alphas: Mapping[str, float]
    targets: frozenset[str] | str | None
    """Names that modules end with, or one pattern."""
    narrowed: bool
    """Whether not all that `targets` names is meant."""
    tied: bool
    base_name: str | None
    place: Path

    def rank_of(self, path: str) -> int:
        """The rank at a module of theirs."""
        return int(self._at(path, "rank_pattern", self.ranks, self.rank))

    def alpha_of(self, path: str) -> float:
        """alpha at a module of theirs."""
        return self._at(path, "alpha_pattern", self.alphas, self.alpha)

    def _at(self, path: str, key: str, table: Mapping[str, float], usual: float) -> float:
        """That of the first pattern that the path ends with, as in PEFT."""
        for pattern, value in table.items():
            try:
                if regex.match(rf"(.*\.)?({pattern})$", path, timeout=PATIENCE):
                    return value
            except (regex.error, TimeoutError) as error:
                raise _fault(self.place, key, pattern, f"cannot be used: {error}") from None
        return usual


def read_config(folder: Path) -> PeftConfig:
    """The configuration of an adapter in PEFT's format; CheckpointError names the key that cannot be honoured."""
    place = folder / CONFIG
    values = _read_json(place)
    if values.get("peft_type") != "LORA":
        raise _fault(place, "peft_type", values.get("peft_type"), "is no LoRA, the kind that tilth has")
    for key, value in values.items():
        plain = value in (None, False, "none") or value == {} or value == []
        if key == "init_lora_weights":
            plain = value in _PLAIN_STARTS
        if not (plain or key in _HARMLESS or key in _READ):
            raise _fault(place, key, value, "changes what the adapter computes in a way that tilth lacks")
    name = values.get("base_model_name_or_path")
    return PeftConfig(
        rank=int(_number(values, "r", place, least=1, default=8)),
        alpha=_number(values, "lora_alpha", place, default=8),
        dropout=_number(values, "lora_dropout", place, default=0.0),
        rslora=values.get("use_rslora") is True,
        dora=values.get("use_dora") is True,
        ranks=_table(values, "rank_pattern", place, least=1),
        alphas=_table(values, "alpha_pattern", place),
        targets=_targets(values.get("target_modules"), place),
        narrowed=any(values.get(key) not in (None, [], "") for key in ("exclude_modules", "layers_to_transform")),
        tied=values.get("ensure_weight_tying") is True,
        base_name=name if isinstance(name, str) and name else None,
        place=place,
    )


def _read_json(place: Path) -> dict[str, Any]:
    remedy = "it must be an adapter as PEFT saves it: get the folder again"
    try:
        if place.stat().st_size > LARGEST_CONFIG:
            raise CheckpointError(f"{place} is larger than {LARGEST_CONFIG} bytes", remedy)
        values = json.loads(place.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{place} is missing", remedy) from None
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(f"{place} cannot be read: {error}", remedy) from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{place} holds no table", remedy)
    return values


def _table(values: Mapping[str, Any], key: str, place: Path, least: float = 0) -> dict[str, float]:
    table = values.get(key) or {}
    if not isinstance(table, dict):
        raise _fault(place, key, table, "is no table")
    return {pattern: _number(table, pattern, place, least=least) for pattern in table}


def _targets(value: object, place: Path) -> frozenset[str] | str | None:
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _fault(place, "target_modules", value, "is neither a list of names nor a pattern")
    return frozenset(value)


def _number(
    values: Mapping[str, Any], key: str, place: Path, *, least: float = 0, default: float | None = None
) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < 1e9:
        raise _fault(place, key, value, f"is no number of {least} or more")
    return value


def _fault(place: Path, key: str, value: object, why: str) -> CheckpointError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "…"
    return CheckpointError(f"{place}: {key} {shown} {why}", _remedy(place, key))


def _remedy(place: Path, key: str) -> str:
    """What helps: PEFT itself saves no layers that are there twice, and merges no bias into a layer without one."""
    if key == "layer_replication":
        return "use another adapter"
    where = " where every layer that it is at has a bias" if key == "lora_bias" else ""
    return f"use another adapter, or{where} {merging(place.parent)}"


def merging(folder: Path, *, tied: bool = False) -> str:
    """How PEFT makes one model of a base and an adapter that tilth cannot put beside it.

    Args:
        tied: the adapter is at one of two matrices that the base ties: merged, it would change both.
    """
    calls = [f"peft.PeftModel.from_pretrained(base, {str(folder)!r}).merge_and_unload().save_pretrained('MERGED')"]
    if tied:
        own = "output = base.get_output_embeddings(); output.weight = torch.nn.Parameter(output.weight.clone())"
        calls = ["base.config.tie_word_embeddings = False", own, *calls]
    return (
        f"merge it with PEFT, base being the model as transformers loads it: `{'; '.join(calls)}`; copy the "
        "tokenizer's files beside it, and load MERGED"
    )


def write_config(
    ranks: Mapping[str, int],
    alphas: Mapping[str, float],
    whole: list[str],
    there: list[str],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """adapter_config.json of an adapter.

    Args:
        ranks, alphas: by their module. whole: modules trained whole. there: all linear modules of their model.
        options: further keys, as they are to stand there.
    """
    rank, alpha = (_commonest(table) for table in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted(short_names(lambda path: path in ranks, there)),
        "modules_to_save": whole or None,
        "rank_pattern": _others(ranks, rank, there),
        "alpha_pattern": _others(alphas, alpha, there),
        "bias": "none",
        "inference_mode": True,
        "init_lora_weights": True,
        **options,
    }


def _commonest(table: Mapping[str, Any]) -> Any:
    counts: dict[Any, int] = {}
    for value in table.values():
        counts[value] = counts.get(value, 0) + 1
    # PEFT's own configs have whole numbers here.
    value = max(counts, key=lambda key: counts[key])
    return int(value) if float(value).is_integer() else value


def _others(table: Mapping[str, Any], usual: Any, there: list[str]) -> dict[str, Any]:
    """What differs from the usual value, by the shortest names that PEFT tells apart."""
    found: dict[str, Any] = {}
    for value in dict.fromkeys(value for value in table.values() if value != usual):
        names = short_names(lambda path, value=value: table.get(path) == value, there)  # type: ignore[misc]
        found |= dict.fromkeys(names, int(value) if float(value).is_integer() else value)
    return found


def short_names(chosen: Callable[[str], bool], there: list[str]) -> list[str]:
    """Names by which PEFT finds the chosen paths and no others: ends such as `attn.c_proj` where all layers are chosen,
    whole paths where not.
    """
    names: dict[str, None] = {}
    for path in filter(chosen, there):
        end = regex.split(r"(?:^|\.)\d+\.", path)[-1]
        alike = [other for other in there if other == end or other.endswith(f".{end}")]
        names[end if all(map(chosen, alike)) else path] = None
    return list(names)
