"""Masks for classes of transformers that see less than a whole document in some layers: sliding windows, chunks.

    find_manner(hf, length, apart) -> Manner | None       how a class wants the mask of packed rows, tried out
    prepared(manner, hf, seen, positions, causal) -> …    what its forward pass is then given

A class takes a mask that is made already as it stands, in its windowed layers too. So the window must be in it, and how
that is had differs: a mask for each type of layer, one for all, or the class narrows what it is given by itself. Which
of them a class wants is tried out, with windows that are made small for as long as that takes: a packed row must give
what its documents give alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

Manner = Literal["by type", "window", "whole"]
"""A mask for each type of layer; one, with the window in it; one, of whole documents."""
Apart = Callable[[Manner, int, int], bool]
"""Whether documents of so many tokens give the same in one row, whose mask is made in a manner, as alone."""

_NARROW = 2
_SHORT = (3, 4)
"""Tokens of two documents: both are longer than the narrow window, and the second begins in the midst of a chunk."""
_SLIDING = ("sliding_window", "sliding_window_size", "attention_window_size", "local_attention_window_len",
            "window_size")  # fmt: skip
_CHUNK = "attention_chunk_size"


def find_manner(hf: nn.Module, length: int, apart: Apart) -> Manner | None:
    """The manner in which the class keeps the documents of a row apart; None where there is none.

    Args:
        length: tokens of the longest row; a window that is no shorter changes nothing.
    """
    windows = _windows(hf, length)
    if windows is None:
        return None
    if not windows:
        return "whole" if apart("whole", *_SHORT) else None
    manners: tuple[Manner, ...] = ("by type", "window", "whole")
    with _narrowed(hf, windows):
        found = next((manner for manner in manners if apart(manner, *_SHORT)), None)
    if found == "whole":  # the class made its window when it was built, or has no use for it: it is tried as it is
        first, second = _SHORT[0], max(windows.values()) + _NARROW
        return found if apart(found, first, min(second, length - first)) else None
    return found


def prepared(
    manner: Manner, hf: Any, seen_B1TT: Tensor, positions_BT: Tensor | None, *, causal: bool
) -> Tensor | dict[str, Tensor]:
    """The mask in the form in which the class takes it, made of `seen_B1TT`: boolean, true where a query may look as
    far as documents go.

    Args:
        positions_BT: place of each token in its document.
    """
    views = {"full_attention": seen_B1TT}
    if manner != "whole" and (window := _window(hf.config)):
        views["sliding_attention"] = _within(seen_B1TT, window, causal)
    if manner != "whole" and (chunk := _size(hf.config, _CHUNK)):
        views["chunked_attention"] = _of_one_chunk(seen_B1TT, positions_BT, chunk)
    added = {kind: _added(seen, hf.get_output_embeddings().weight.dtype) for kind, seen in views.items()}
    return added if manner == "by type" else list(added.values())[-1]


def _within(seen_B1TT: Tensor, window: int, causal: bool) -> Tensor:
    """Without what lies further off than transformers' windows reach: `window` tokens that end with the query, or
    `window` to either side of it.
    """
    length = seen_B1TT.shape[-1]
    if length <= window:
        return seen_B1TT
    places = torch.arange(length, device=seen_B1TT.device)
    back_TT = places[:, None] - places
    return seen_B1TT & (back_TT < window if causal else back_TT.abs() <= window)


def _of_one_chunk(seen_B1TT: Tensor, positions_BT: Tensor | None, chunk: int) -> Tensor:
    """Without what lies in another chunk of the document."""
    if positions_BT is None:
        positions_BT = torch.arange(seen_B1TT.shape[-1], device=seen_B1TT.device)[None]
    chunks_BT = positions_BT // chunk
    return seen_B1TT & (chunks_BT[:, None, :, None] == chunks_BT[:, None, None, :])


def _added(seen: Tensor, dtype: torch.dtype) -> Tensor:
    nothing = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return nothing.masked_fill_(~seen, torch.finfo(dtype).min)


def _window(config: Any) -> int | None:
    return next((size for name in _SLIDING if (size := _size(config, name))), None)


def _size(config: Any, name: str) -> int | None:
    size = getattr(config, name, None)
    return size if isinstance(size, int) and size > 0 else None


def turns_by_length(config: Any) -> bool:
    """Whether rotary positions are turned by the length of what is computed together (`longrope`, `dynamic`)."""
    said = [getattr(config, name, None) for name in ("rope_parameters", "rope_scaling")]
    each = [
        one for whole in said if isinstance(whole, dict) for one in (whole, *whole.values()) if isinstance(one, dict)
    ]
    return any(one.get("rope_type", one.get("type")) in ("longrope", "dynamic") for one in each)


def _windows(hf: nn.Module, length: int) -> Mapping[str, int] | None:
    """Those of a class's config that are shorter than a row; None where layers differ in them."""
    try:
        found = {name: _size(hf.config, name) for name in (*_SLIDING, _CHUNK)}
    except RuntimeError:  # what transformers raises where a value is not the same in all layers
        return None
    return {name: size for name, size in found.items() if size is not None and size < length}


@contextlib.contextmanager
def _narrowed(hf: nn.Module, windows: Mapping[str, int]) -> Iterator[None]:
    """Within, the windows of the class's config are narrow; modules share the config, or have copies of it."""
    found: list[Any] = [module.config for module in hf.modules() if hasattr(module, "config")]
    configs = {id(config): config for config in found if all(hasattr(config, name) for name in windows)}
    before = {key: dict(vars(config)) for key, config in configs.items()}
    try:
        for config in configs.values():
            for name in windows:
                setattr(config, name, _NARROW)
        yield
    finally:
        for key, config in configs.items():
            vars(config).update(before[key])
