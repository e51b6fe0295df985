"""The real tasks over a sample; what follows from them for the whole is reckoned in reckon.py.

    foretell(config, tokenizer, root, workspace, shop, terms) -> Forecast

The sample of each source is dealt out to groups, and each group is a part of its own, so that what the tasks say of
their parts shows how much groups differ. It is read and cleaned in three goes, of a quarter, a quarter and a half of
the groups: their times are compared, a go that would take too long is left out, and duplicates are looked for in a
quarter, a half and all of it, for they do not grow in line with the text, and training text that stands in what is held
out likewise. A BPE tokenizer that learned from a sample
suits that sample better than it will suit the whole: so another one learns from half of the sample, and is tried on the
other half.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tilth.core.errors import DataError
from tilth.core.files import disk, hash_file
from tilth.core.tasks import Done, Task
from tilth.data.config import DataConfig
from tilth.data.conversations import Encoder, check_encoded
from tilth.data.forecast.estimate import Stratum
from tilth.data.forecast.groups import Group, Terms, counted, disk_of, drawn_groups, tokens_of
from tilth.data.forecast.notes import of_empty_splits, of_lost_files, shown_by_samples, sources_of
from tilth.data.forecast.reckon import Forecast, Seen, Taken, reckon
from tilth.data.forecast.units import Found, look
from tilth.data.leaks import exam_files, exam_words
from tilth.data.plans import dividing, leak_plan
from tilth.data.plans.clean_plan import clean_parts
from tilth.data.plans.token_plan import AnyTokenizer, GivenTokenizer, encode_task, tokenizer_task
from tilth.data.plans.workshop import Cleaned, Compared, Workshop
from tilth.data.sources import Input, Listing, SourceConfig, list_inputs
from tilth.data.tasks import collect
from tilth.data.tasks.split import AssignedPart

_GOES = ((0,), (2,), (1, 3))  # the groups of each go, by their number modulo 4
_ONE_PART = 1 << 60


def foretell(
    config: DataConfig,
    tokenizer: AnyTokenizer,
    root: Path,
    workspace: Path,
    shop: Workshop,
    terms: Terms,
    encoder: Encoder | None = None,
) -> Forecast:
    """What `prepare` would make of these sources.

    Args:
        workspace: where downloads lie; nothing is written there.
        shop: its workspace is a scratch folder on the disk that will be used.
        encoder: how documents become tokens, where they are more than a text.

    Raises:
        DataError: nothing can be sampled, nothing is left of the sample, or where all was sampled a split is empty.
    """
    config = dividing.whole_documents(config) if encoder else config
    found = [look(source, root, workspace) for source in config.sources]
    groups = drawn_groups(found, terms)
    if not groups:
        reasons = "; ".join(f"{one.source.source_name}: {why}" for one in found for why in one.missing)
        raise DataError(f"nothing of these sources can be sampled: {reasons}", "run `tilth prepare` without --dry-run")
    told, notes = shown_by_samples(config, workspace)
    trial = _Trial(told, tokenizer, encoder, shop, terms, found, groups, notes)
    if told.decontaminate.against:
        against = [list_inputs(source, root, workspace / "downloads") for source in told.decontaminate.against]
        trial.index(against)
    return trial.run()


class _Trial:
    """The sample on its way through the tasks, and the clock."""

    def __init__(
        self,
        config: DataConfig,
        tokenizer: AnyTokenizer,
        encoder: Encoder | None,
        shop: Workshop,
        terms: Terms,
        found: Sequence[Found],
        groups: Sequence[Group],
        notes: Sequence[str] = (),
    ) -> None:
        self.config, self.tokenizer, self.encoder = config, tokenizer, encoder
        self.shop, self.terms, self.found = shop, terms, found
        self.drawn = list(groups)
        self.groups: list[Group] = []
        self.rates: list[float] = []
        """Of each go: seconds of one worker for a byte that is covered."""
        self.clock: dict[str, float] = {}
        self.comparing: dict[int, float] = {}
        """Seconds that comparing a sub-sample of so many groups took, and keeping apart what is held out of it."""
        self.per_part = 0.0
        self.of_all = 0
        """Bytes of what is not of single parts, in the largest sub-sample: what compares and divides documents."""
        self.notes = [*notes, *(said for one in found for said in one.notes)]
        self.items: Done | None = None
        (shop.workspace / "slices").mkdir(parents=True, exist_ok=True)

    def index(self, against: Sequence[Listing]) -> None:
        """Takes in the evaluation files, all of them."""
        task = leak_plan.items_task(self.config.decontaminate, against)
        self.items = items = self._timed("items", lambda: self.shop.run_one(task))
        exams = exam_files.sources_of(self.config.decontaminate.against, against, items.facts["sources"])
        self.notes += [said for listing in against for said in listing.notes]
        self.notes += [*exam_files.faults(exams), *exam_words.passed_over(exams)]

    def run(self) -> Forecast:
        self._timed("start", self._empty_parts)
        began = time.perf_counter()
        self._empty_parts()
        self.per_part = time.perf_counter() - began  # for each worker one, at the same time
        self._goes()
        self.notes += of_lost_files(self.found, self.groups)
        compared = self._compare()
        parts = self._parts(self.groups)
        split, of_all, whole = self.config.split, compared[-1][2], self.encoder is not None
        assigned = dividing.assign_splits(split, parts, of_all, self.shop, self.encoder)
        self._look(lambda: dividing.every_split(split, assigned, of_all, whole=whole))
        leaked = self._leaks(compared)
        left = leaked[-1][1] if leaked else assigned
        encoded = self._encode(parts, left)
        worse = self._held_out(parts, left, encoded)
        strata = self._strata(encoded)
        self.of_all += disk_of(assigned.folder)
        covered = {size: sum(group.covered for group in go) for size, go in self._sub_samples()}
        comparing = [(covered[size] / max(1, max(covered.values())), spent) for size, spent in self.comparing.items()]
        workers, number = self.shop.executor.workers, len(self.groups)
        taken = Taken(self.rates, self.clock, comparing, self.per_part, workers, number, self.of_all)
        by_tail = assigned.facts["by"] == "tail" and len(self.groups) > 1
        anew = by_tail or not all(unit.whole for group in self.groups for unit in group.units)
        seen = Seen(self.config, self.found, strata, compared, assigned, leaked, worse, self._learns, anew, taken)
        return reckon(seen, sources_of(self.found, self.groups), self.notes)

    def _look(self, at: Callable[[], None]) -> None:
        self.notes += of_empty_splits(at, self.found, self.groups)

    def _empty_parts(self) -> None:
        """Parts with next to nothing in them, one for each worker: the first time they start, and load what tasks need;
        after that they take the time that a part takes for being one.
        """
        source = SourceConfig(path="nothing", name=f"nothing {len(self.clock)}")
        path = self.shop.workspace / "slices" / "nothing.txt"
        disk.write(path, [b"Some words, so that there is one document in it that most stages leave alone.\n"])
        item = Input(source.source_name, "text", path, "nothing", path.stat().st_size, hash_file(path))
        numbered = [replace(item, locator=f"nothing-{n}") for n in range(self.shop.executor.workers)]
        done = self.shop.run([_collect_task(source, [one]) for one in numbered])
        clean_parts(self.config, [(one, one.facts["parts"][0]["file"]) for one in done], self.shop, self.items)

    def _timed(self, name: str, run: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = run()
        self.clock[name] = self.clock.get(name, 0.0) + time.perf_counter() - began
        return result

    def _goes(self) -> None:
        began, before = time.perf_counter(), 0.0
        for number, own in enumerate(_GOES):
            go = [group for n, group in enumerate(self.drawn) if n % 4 in own]
            spent = time.perf_counter() - began
            if number and spent + (spent - before) * number > self.terms.seconds:
                left = sum(
                    unit.covered for n, group in enumerate(self.drawn) if not _before(n, number) for unit in group.units
                )
                self.notes.append(f"after {spent:.0f} s {left:,} bytes of the sample were left out: they take too long")
                break
            if not go:
                continue
            before = spent
            self._go(go)

    def _go(self, go: list[Group]) -> None:
        began = time.perf_counter()
        tasks = [self._collect_task(group) for group in go]
        for group, done in zip(go, self.shop.run(tasks), strict=True):
            group.collected = done
        read = [group for group in go if group.collected and group.collected.facts["parts"]]
        parts = [(group.collected, group.collected.facts["parts"][0]["file"]) for group in read if group.collected]
        for group, cleaned in zip(read, clean_parts(self.config, parts, self.shop, self.items), strict=True):
            group.cleaned = cleaned
        busy, took = min(self.shop.executor.workers, len(go)), time.perf_counter() - began
        # At least a fifth was for the text: the time of an empty part is uncertain too.
        work = max(took - self.per_part * len(go) / busy, took / 5)
        self.rates.append(work * busy / max(1, sum(group.covered for group in go)))
        self.groups += go

    def _collect_task(self, group: Group) -> Task:
        source = self.found[group.source].source
        inputs = []
        for unit in group.units:
            item, covered = unit.make(self.shop.workspace / "slices")
            inputs.append(item)
            group.covered += covered
        return _collect_task(source, inputs)

    def _parts(self, groups: Sequence[Group]) -> list[Cleaned]:
        parts = [group.cleaned for group in groups if group.cleaned is not None]
        if not sum(part.digests.facts["documents"] for part in parts):
            raise DataError("no document of the sample is left", "sample more (--sample SIZE), or prepare as it is")
        return parts

    def _compare(self) -> list[tuple[int, int, Compared]]:
        """(groups, documents, what was found) of sub-samples, the whole sample last."""
        results, sizes = [], self._sub_samples()
        for size, go in sizes:
            parts = [group.cleaned for group in go if group.cleaned is not None]
            documents = sum(part.digests.facts["documents"] for part in parts)
            if documents:
                began, before = time.perf_counter(), disk_of(self.shop.workspace)
                results.append((size, documents, dividing.compare_parts(self.config, parts, self.shop)))
                self.comparing[size] = time.perf_counter() - began
                self.of_all = disk_of(self.shop.workspace) - before
        self.groups = sizes[-1][1]
        self._parts(self.groups)
        return results

    def _sub_samples(self) -> list[tuple[int, list[Group]]]:
        """The groups of a quarter, a half and all of the sample, so far as they differ, with their number."""
        goes = [
            [g for n, g in enumerate(self.drawn) if _before(n, number) and g in self.groups] for number in (1, 2, 3)
        ]
        return sorted({len(go): go for go in goes if go}.items())

    def _leaks(self, compared: Sequence[tuple[int, int, Compared]]) -> list[tuple[int, Done]]:
        """(documents, what took out training text that is held out) of the same sub-samples; [] where none is."""
        results: list[tuple[int, Done]] = []
        if not self.config.keeps_held_out_apart:
            return results
        groups, compared_bytes = dict(self._sub_samples()), self.of_all
        for size, documents, found in compared:
            parts = [group.cleaned for group in groups[size] if group.cleaned is not None]
            assigned = dividing.assign_splits(self.config.split, parts, found, self.shop, self.encoder)
            began, before = time.perf_counter(), disk_of(self.shop.workspace)
            try:
                apart = dividing.keep_apart(self.config, parts, assigned, None, self.shop, self.encoder)
            except DataError as error:  # so much of it that preparing would stop
                if size == compared[-1][0]:  # of a part of the sample it says less
                    self.notes.append(f"of {documents:,} documents of the sample: {error.message}; {error.remedy}")
                    return []
                continue
            self.comparing[size] += time.perf_counter() - began
            self.of_all = compared_bytes + disk_of(self.shop.workspace) - before
            results.append((documents, apart.assigned))
        return results

    def _divided(self, parts: Sequence[Cleaned], assigned: Done) -> list[AssignedPart]:
        names = self.config.split.names
        return [AssignedPart(part.part, n, assigned.folder, names) for n, part in enumerate(parts)]

    def _encode(self, parts: Sequence[Cleaned], assigned: Done) -> list[Done]:
        divided = self._divided(parts, assigned)
        trained = self._timed("tokenizer", lambda: self._learned(divided, parts, assigned))
        tasks = [encode_task(d, p, assigned, trained, 1, self.encoder) for d, p in zip(divided, parts, strict=True)]
        encoded = list(self._timed("encode", lambda: self.shop.run(tasks)))
        if self.encoder is not None:
            check_encoded(encoded)
            self._look(lambda: dividing.every_split_encoded(self.config.split, encoded))
        return encoded

    def _learned(self, divided: Sequence[AssignedPart], parts: Sequence[Cleaned], assigned: Done) -> Done:
        return self.shop.run_one(tokenizer_task(self.tokenizer, divided, parts, assigned, 1))

    @property
    def _learns(self) -> bool:
        return not isinstance(self.tokenizer, GivenTokenizer) and self.tokenizer.kind == "bpe"

    def _held_out(self, parts: Sequence[Cleaned], assigned: Done, encoded: Sequence[Done]) -> float:
        """How many times more tokens a text has that the tokenizer did not learn from."""
        if not self._learns or len(parts) < 2:
            return 1.0
        divided = self._divided(parts, assigned)
        halves = [slice(0, None, 2), slice(1, None, 2)]
        try:
            trained = self._timed(
                "half a tokenizer", lambda: self._learned(divided[halves[0]], parts[halves[0]], assigned)
            )
        except DataError:  # nothing to learn from
            return 1.0
        pairs = zip(divided[halves[1]], parts[halves[1]], strict=True)
        again = self.shop.run([encode_task(d, p, assigned, trained, 1, self.encoder) for d, p in pairs])
        learned, held_out = (sum(tokens_of(done) for done in dones) for dones in (encoded[halves[1]], again))
        return max(1.0, held_out / learned) if learned else 1.0

    def _strata(self, encoded: Sequence[Done]) -> list[Stratum]:
        strata: dict[tuple[int, str], Stratum] = {}
        done = iter(encoded)
        for group in self.groups:
            name = f"{self.found[group.source].source.source_name} ({group.kind})"
            stratum = strata.setdefault((group.source, group.kind), Stratum(name, group.whole, files=group.files))
            stratum.covered.append(group.covered)
            stratum.sampled.append(len(group.units))
            stratum.groups.append(counted(group, next(done) if group.cleaned is not None else None))
        return list(strata.values())


def _collect_task(source: SourceConfig, inputs: Sequence[Input]) -> Task:
    """All of these files as one part."""
    arguments = {"source": source, "inputs": inputs, "skipped": (), "part_bytes": _ONE_PART}
    identity = [source.source_name, [item.identity() for item in inputs]]
    return Task("collect", collect.collect, arguments, identity, collect.VERSION)


def _before(group: int, goes: int) -> bool:
    return any(group % 4 in own for own in _GOES[:goes])
