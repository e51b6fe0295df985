"""Keys and values of the tokens already read, so that generating a token costs one token's work."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tilth.model.config import ModelConfig


class KVCache:
    """Room for `capacity` tokens of `batch` sequences in every layer, allocated once.

    Layers append in turn; the length grows when `advance` is called after all of them did.
    """

    def __init__(
        self, config: ModelConfig, batch: int, capacity: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        shape = (config.num_hidden_layers, batch, config.key_value_heads, capacity, config.head_size)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.capacity = capacity
        self.length = 0

    def append(self, layer: int, k_BKTN: Tensor, v_BKTN: Tensor) -> tuple[Tensor, Tensor]:
        """Stores T new tokens of one layer; returns that layer's keys and values, old and new [B, K, S, N]."""
        end = self.length + k_BKTN.shape[2]
        assert end <= self.capacity, f"{end} tokens do not fit a cache of {self.capacity}"
        self.keys[layer, :, :, self.length : end] = k_BKTN
        self.values[layer, :, :, self.length : end] = v_BKTN
        return self.keys[layer, :, :, :end].to(k_BKTN.dtype), self.values[layer, :, :, :end].to(v_BKTN.dtype)

    def place(self) -> list[tuple[Tensor, Tensor]]:
        """Of each layer where the next token's keys and values go [B, K, N]."""
        assert self.length < self.capacity, f"one more token does not fit a cache of {self.capacity}"
        here = (held.select(3, self.length).unbind(0) for held in (self.keys, self.values))
        return list(zip(*here, strict=True))

    def seen(self) -> list[tuple[Tensor, Tensor]]:
        """Of each layer the keys and values that the next token sees, its own among them [B, K, S, N]."""
        seen = (held.narrow(3, 0, self.length + 1).unbind(0) for held in (self.keys, self.values))
        return list(zip(*seen, strict=True))

    def advance(self, tokens: int) -> None:
        """Counts `tokens` as stored, after every layer appended them."""
        self.length += tokens

    def cut(self, length: int) -> bool:
        """Forgets all tokens but the first `length`; always possible."""
        self.length = min(self.length, length)
        return True

    def take(self, rows: list[int]) -> bool:
        """Holds the sequences of these rows from now on, each as often as it is named; always possible."""
        self.keys, self.values = (_taken(held, rows, self.length) for held in (self.keys, self.values))
        return True

    def grow(self, capacity: int) -> None:
        """Makes room for `capacity` tokens; what is held stays."""
        if capacity > self.capacity:
            missing = capacity - self.capacity
            self.keys, self.values = (F.pad(held, (0, 0, 0, missing)) for held in (self.keys, self.values))
            self.capacity = capacity


def _taken(held_LBKCN: Tensor, rows: list[int], length: int) -> Tensor:
    if rows == sorted(set(rows)):  # moved within the same memory: there may be none for both
        for place, row in enumerate(rows):
            if place < row:
                held_LBKCN[:, place, :, :length] = held_LBKCN[:, row, :, :length]
        return held_LBKCN[:, : len(rows)]
    layers, _, *shape = held_LBKCN.shape
    taken = held_LBKCN.new_zeros(layers, len(rows), *shape)
    taken[..., :length, :] = held_LBKCN[:, rows, :, :length]
    return taken
