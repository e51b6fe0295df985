"""A model as a Hugging Face folder: config.json, generation_config.json, weights (in shards where large), tokenizer.

    export_hf(config, tensors, out, …)     what `AutoModelForCausalLM` (or MaskedLM) and `AutoTokenizer` load

The folder appears whole or not at all, with a manifest of its hashes. Weights are made tensor by tensor as they are
written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from tilth.checkpoint.hf_weights import entries
from tilth.checkpoint.safetensors_files import INDEX, SINGLE
from tilth.checkpoint.tensors import Entry, write_entries
from tilth.core.errors import RecipeError
from tilth.core.files import disk, new_folder, write_json
from tilth.model.config import ModelConfig
from tilth.model.families import family_of, write_hf_config
from tilth.tokenizer.chat_files import GENERATION_FILE
from tilth.tokenizer.hf_format import TOKENIZER_FILES

DtypeName = Literal["float32", "bfloat16", "float16"]
SHARD_BYTES = 5 << 30


@dataclass(frozen=True)
class Exported:
    """What was written where."""

    folder: Path
    architecture: str
    parameters: int
    files: tuple[str, ...]


def export_hf(
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    out: Path,
    beside: Path,
    *,
    special: Mapping[str, Any] | None = None,
    dtype: DtypeName | None = None,
    dtypes: Mapping[str, torch.dtype] = MappingProxyType({}),
    max_shard_bytes: int = SHARD_BYTES,
    more: Mapping[str, bytes] | None = None,
) -> Exported:
    """Writes the folder. RecipeError when no class of Hugging Face computes this model, naming the option in the way.

    Args:
        tensors: the model's state, by its own names.
        beside: a folder whose tokenizer files (and generation_config.json) are copied as they are.
        special: bos_token_id, eos_token_id and pad_token_id, as far as there are such.
        dtype: of the weights; left out: their own, or of each what `dtypes` has for its name in the folder.
        max_shard_bytes: of one file of weights; a single larger tensor has a file of its own.
        more: further files by their names, in the place of those copied where they have the same.
    """
    if out.exists():
        raise RecipeError(f"{out} exists", "name a folder that does not exist yet")
    wanted = getattr(torch, dtype) if dtype else None
    found = entries(config, tensors, wanted)
    if wanted is None:
        found = [replace(entry, dtype=dtypes.get(entry.name, entry.dtype)) for entry in found]
    found.sort(key=lambda entry: -entry.dtype.itemsize)  # the widest types first, so that all stay aligned
    numbers: dict[torch.dtype, int] = defaultdict(int)
    for entry in found:
        numbers[entry.dtype] += entry.bytes // entry.dtype.itemsize
    # config.json names one, which others load all in: that of the most numbers.
    kind = str(max(numbers, key=lambda dtype: numbers[dtype])).removeprefix("torch.")
    with new_folder(out, {"format": "huggingface"}) as folder:
        write_json(folder / "config.json", write_hf_config(config, special, kind))
        _write_weights(folder, found, max_shard_bytes)
        copy_files(folder, beside, more or {})
        if not (folder / GENERATION_FILE).exists():
            write_json(
                folder / GENERATION_FILE, {key: value for key, value in (special or {}).items() if value is not None}
            )
    files = tuple(sorted(path.name for path in out.iterdir()))
    return Exported(out, family_of(config).architecture, sum(numbers.values()), files)


def _write_weights(folder: Path, found: Sequence[Entry], max_shard_bytes: int) -> None:
    shards = list(_shards(found, max_shard_bytes))
    if len(shards) == 1:
        write_entries(folder / SINGLE, found)
        return
    names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        write_entries(folder / name, shard)
    table = {entry.name: name for name, shard in zip(names, shards, strict=True) for entry in shard}
    total = sum(entry.bytes for entry in found)
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": table})


def _shards(found: Sequence[Entry], most: int) -> Iterator[list[Entry]]:
    """Runs of tensors that fill `most` bytes at the most, in order."""
    shard: list[Entry] = []
    for entry in found:
        if shard and sum(other.bytes for other in shard) + entry.bytes > most:
            yield shard
            shard = []
        shard.append(entry)
    yield shard


def copy_files(folder: Path, beside: Path, more: Mapping[str, bytes]) -> None:
    """Copies the files of a tokenizer, and generation_config.json, and writes `more`, in their place where it has
    files of the same names.
    """
    for name in (*TOKENIZER_FILES, GENERATION_FILE):
        if (beside / name).is_file() and name not in more:
            disk.make_folder((folder / name).parent)
            disk.write(folder / name, [(beside / name).read_bytes()])
    for name, data in more.items():
        disk.write(folder / name, [data])
