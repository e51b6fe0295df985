"""Every random draw comes from (seed, purpose, numbers…), and from nothing else.

derive_seed(seed, "dropout", step, micro_batch)     an independent 63-bit seed for that one purpose
Permutation(size, key)                              a keyed shuffle of 0..size-1 that is computed, not stored
draws(seeds, count)                                 64 random bits, so many for each seed
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

ORDER_VERSION = 1
"""Changes when the permutation's formula changes: a run never resumes into another order."""

_ROUNDS = 6


def derive_seed(seed: int, purpose: str, *numbers: int) -> int:
    """A 63-bit seed from (seed, purpose, numbers), by BLAKE2b: unrelated for any two different inputs."""
    text = "/".join([str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


class Permutation:
    """A keyed bijection on 0..size-1: a Feistel network on 2k bits with cycle-walking.

    Source: Black and Rogaway, "Ciphers with arbitrary finite domains" (2002). The domain is the smallest 4^k >= size,
    so a walk takes fewer than four steps on average.
    """

    def __init__(self, size: int, key: int) -> None:
        assert size > 0
        self.size = size
        self._half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
        self._keys = [np.uint64(derive_seed(key, "feistel", r)) for r in range(_ROUNDS)]

    def __call__(self, indexes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The places [n] of the given numbers [n], each in 0..size-1."""
        values = np.asarray(indexes, dtype=np.uint64)
        assert values.size == 0 or int(values.max()) < self.size
        result = self._encrypt(values)
        while (outside := result >= np.uint64(self.size)).any():
            result[outside] = self._encrypt(result[outside])
        return result.astype(np.int64)

    def inverse(self, places: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The numbers [n] that go to the given places [n]: `inverse(permutation(x))` is x."""
        values = np.asarray(places, dtype=np.uint64)
        assert values.size == 0 or int(values.max()) < self.size
        result = self._decrypt(values)  # the same walk, backwards
        while (outside := result >= np.uint64(self.size)).any():
            result[outside] = self._decrypt(result[outside])
        return result.astype(np.int64)

    def _decrypt(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        bits = np.uint64(self._half_bits)
        mask = np.uint64((1 << self._half_bits) - 1)
        left, right = values >> bits, values & mask
        for key in reversed(self._keys):
            left, right = right ^ (_mix(left ^ key) & mask), left
        return (left << bits) | right

    def _encrypt(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        bits = np.uint64(self._half_bits)
        mask = np.uint64((1 << self._half_bits) - 1)
        left, right = values >> bits, values & mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        return (left << bits) | right


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): every input bit changes every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def draws(seeds: npt.ArrayLike, count: int) -> npt.NDArray[np.uint64]:
    """SplitMix64's sequence of each seed [n], its first `count` numbers: uint64 [n, count].

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014). Whole numbers alone, so that
    the same come out on any machine and with any version of numpy.
    """
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return _mix(np.asarray(seeds, np.uint64)[:, None] + steps)
