"""How much memory glibc's malloc holds for what is asked of it: more than is alive, by holes that nothing fits into.

    heap = Heap()
    heap.take(name, size), heap.give(name)
    heap.resident                       bytes that the process holds

What is modelled (glibc 2.31 to 2.41, malloc/malloc.c): the smallest free chunk that is large enough is taken, and what is
left of it stays free; neighbours are joined when they are given back; what no chunk can hold comes from the top of the
heap, or from a mapping of its own when it is as large as the threshold. The threshold is the largest mapping given back
so far, up to 32 MiB, and twice that much may lie free on top before it goes back to the system. Other systems'
allocators were not looked at.
"""

from __future__ import annotations

from bisect import bisect_left, insort

_ALIGN, _HEAD, _LEAST = 64, 16, 32
_PAD = 128 << 10
_FIRST_THRESHOLD, _LAST_THRESHOLD = 128 << 10, 32 << 20


class Heap:
    """One arena. Chunks are told apart by where they begin."""

    def __init__(self) -> None:
        self.threshold = _FIRST_THRESHOLD
        self.mapped = 0
        self.end = 0
        """Of the heap; what lies between `top` and it is free, and held."""
        self.top = 0
        self._used: dict[int, tuple[int, int]] = {}  # name -> (start, size); start -1: a mapping
        self._free: dict[int, int] = {}  # start -> size
        self._free_ends: dict[int, int] = {}  # end -> start
        self._by_size: list[tuple[int, int]] = []  # (size, start), sorted

    @property
    def resident(self) -> int:
        """Bytes that the process holds: of mappings, and all of the heap, holes too."""
        return self.end + self.mapped

    def take(self, name: int, size: int) -> None:
        """Memory of `size` bytes, to be given back by its name."""
        size = -(-(size + 8) // 16) * 16
        start, found = self._chunk(size + _ALIGN + _LEAST)
        if start < 0:
            self.mapped += found
            self._used[name] = (start, found)
            return
        place = -(-(start + _HEAD) // _ALIGN) * _ALIGN - _HEAD
        if 0 < place - start < _LEAST:
            place += _ALIGN
        if place > start:
            self._put(start, place - start)
        if found - (place - start) - size > _LEAST:
            self._put(place + size, found - (place - start) - size)
        else:
            size = found - (place - start)
        self._used[name] = (place, size)

    def _chunk(self, size: int) -> tuple[int, int]:
        """Where a chunk of that size or a little more begins; -1: in a mapping."""
        place = bisect_left(self._by_size, (size, -1))
        if place < len(self._by_size):
            found, start = self._by_size[place]
            self._unlist(start, found)
            if found - size < _LEAST:
                return start, found
            self._list(start + size, found - size)
            return start, size
        if self.end - self.top < size:
            if size >= self.threshold:
                return -1, size
            self.end = self.top + size + _PAD
        self.top += size
        return self.top - size, size

    def give(self, name: int) -> None:
        """Gives it back."""
        start, size = self._used.pop(name)
        if start < 0:
            self.mapped -= size
            if self.threshold < size <= _LAST_THRESHOLD:
                self.threshold = size
            return
        self._put(start, size)

    def _put(self, start: int, size: int) -> None:
        """Frees a chunk: joined with free neighbours, or with the top."""
        before = self._free_ends.get(start)
        if before is not None:
            self._unlist(before, start - before)
            start, size = before, size + start - before
        after = self._free.get(start + size)
        if after is not None:
            self._unlist(start + size, after)
            size += after
        if start + size < self.top:
            self._list(start, size)
            return
        self.top = start
        if self.end - self.top >= 2 * self.threshold:
            self.end = self.top + _PAD

    def _list(self, start: int, size: int) -> None:
        self._free[start] = size
        self._free_ends[start + size] = start
        insort(self._by_size, (size, start))

    def _unlist(self, start: int, size: int) -> None:
        del self._free[start], self._free_ends[start + size]
        del self._by_size[bisect_left(self._by_size, (size, start))]
