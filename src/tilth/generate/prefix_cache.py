"""What a conversation has been read of: the cache of the last call, for one that begins with the same tokens."""

from __future__ import annotations

from tilth.model.kv_cache import KVCache
from tilth.model.wrapped import AnyModel, WrappedCache


class Memory:
    """Keys and values of `ids`, the tokens that were read last; for one model and one sequence.

    Attributes:
        reused: how many tokens of the last prompt were not read again.
        ended: whether the last text came to its own end.
    """

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.reused, self.ended = 0, False
        self._cache: KVCache | WrappedCache | None = None

    def open(self, model: AnyModel, prompt_ids: list[int], capacity: int) -> KVCache | WrappedCache:
        """A cache with room for `capacity` tokens that holds as many of the first of `prompt_ids` as are known; never
        the last one, whose scores are wanted.
        """
        known = _common(self.ids, prompt_ids[:-1])
        if self._cache is None or not self._cache.cut(known):
            self._cache, known = model.new_cache(1, capacity), 0
        self._cache.grow(capacity)
        self.ids, self.reused, self.ended = prompt_ids[:known], known, False
        return self._cache

    def note(self, ids: list[int]) -> None:
        """Further tokens went into the cache."""
        self.ids += ids

    def forget(self) -> None:
        """The cache holds something else now."""
        self.ids, self._cache = [], None


def _common(one: list[int], other: list[int]) -> int:
    """How many tokens both begin with."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
