"""The prepared dataset: the folder that `tilth prepare` leaves and that training opens.

    DATASET/manifest.json       identity, counts by rule, tokens by split, hash of every file
    DATASET/tokenizer/          tokenizer.json and its configuration
    DATASET/train/shard-00000/  token shards, and the same under validation/ (and test/)
    DATASET/documents/train/    the documents that these shards hold (Parquet); the same for other splits that hold any
    DATASET/ledger/             what each stage did to each document (Parquet)
    DATASET/examples/           some of those documents, before and after (Parquet)
    DATASET/clusters/           near-duplicates that went, each beside the one that stays (Parquet)
    DATASET/index/              of every document that came through `clean:`, what it is without its text (Parquet)
    DATASET/origins.json        the tasks that each part went through

Its files are hard links to the results of tasks where the file system has them: nothing lies on the disk twice.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tilth.core.config import fingerprint
from tilth.core.environment import usable_cpus
from tilth.core.errors import DataError, IntegrityError
from tilth.core.files import (
    MANIFEST,
    disk,
    new_folder,
    read_json,
    read_manifest,
    verify_file,
    verify_manifest,
    write_json,
)
from tilth.core.tasks import Done, Task
from tilth.data.naming import first_named, locators
from tilth.data.plans.flow import cut_bytes, dropped_bytes, flow, read_by_source
from tilth.data.shards import Shard, TokenStream
from tilth.tokenizer import Tokenizer, load_tokenizer

DATASET_VERSION = 4


@dataclass(frozen=True)
class Dataset:
    """A dataset that was opened: sizes were checked, hashes are when a file is first read."""

    folder: Path
    facts: dict[str, Any]
    _shards: dict[tuple[str, int], Shard] = field(default_factory=dict, repr=False, compare=False)
    _verified: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """What decides every token in it."""
        return str(self.facts["fingerprint"])

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made its tokens; IntegrityError when the one in the folder is another."""
        remedy = f"remove {self.folder} and prepare the data again"
        try:
            tokenizer = load_tokenizer(self.folder / "tokenizer")
        except IntegrityError as error:
            raise error.with_remedy(remedy) from error
        if tokenizer.fingerprint != self.facts["tokenizer"]:
            raise IntegrityError(f"{self.folder / 'tokenizer'} is not the tokenizer that made these shards", remedy)
        return tokenizer

    def files(self, kind: str) -> list[Path]:
        """Its files below `kind` (`ledger`, `documents` …), sorted; the hash of each is compared with the manifest when
        it is first asked for. What lies there besides is not of the dataset.
        """
        names = sorted(name for name in self.facts["files"] if name.startswith(f"{kind}/"))
        with ThreadPoolExecutor(usable_cpus()) as pool:  # hashing lets go of Python's lock
            list(pool.map(self._verify, names))
        return [self.folder / name for name in names]

    def _verify(self, name: str) -> None:
        if name in self._verified:
            return
        try:
            verify_file(self.folder, name, self.facts)
        except IntegrityError as error:
            remedy = "`tilth prepare RECIPE --verify` finds all that was altered and makes it again"
            raise error.with_remedy(remedy) from error
        self._verified.add(name)

    @cached_property
    def origins(self) -> list[dict[str, Any]]:
        """Of each part the names of the tasks that it went through: {collected: [task, file], stages: [task]}."""
        self._verify("origins.json")
        origins: list[dict[str, Any]] = read_json(self.folder / "origins.json")
        return origins

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps whoever tidies the workspace from removing it while it is read."""
        with (self.folder / MANIFEST).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    def stream(self, split: str, sources: Collection[str] | None = None) -> TokenStream:
        """The tokens of a split, or what some of the sources have in it; IntegrityError when a shard was made with
        another tokenizer.
        """
        wanted = [
            number
            for source in self.facts["shards_by_source"]
            if sources is None or source["name"] in sources
            for number in range(source["first_shard"], source["first_shard"] + source["shards"])
        ]
        shards = [self._shard(split, number) for number in wanted]
        return TokenStream(shards, lambda doc_ids: locators(self.files(f"documents/{split}"), doc_ids))

    def _shard(self, split: str, number: int) -> Shard:
        if (split, number) not in self._shards:
            name = f"{split}/shard-{number:05d}"
            shard = Shard(self.folder / name)
            # Its manifest is sealed, but that of another dataset would be whole too.
            verify_file(self.folder, f"{name}/{MANIFEST}", self.facts)
            made_by, ours = (shard.manifest["tokenizer"], shard.manifest["vocab_size"]), self._tokenizer
            if made_by != ours:
                raise IntegrityError(
                    f"{shard.folder} was made by another tokenizer ({made_by[1]} ids; this one has {ours[1]})",
                    f"remove {self.folder} and prepare the data again",
                )
            self._shards[split, number] = shard
        return self._shards[split, number]

    @cached_property
    def _tokenizer(self) -> tuple[str, int]:
        return self.tokenizer.fingerprint, self.tokenizer.vocab_size


def assemble(
    final: Path,
    stages: Mapping[str, Sequence[Done]],
    tokenizer: Done,
    encoded: Sequence[Done],
    splits: Sequence[str],
    tasks: Sequence[str],
    origins: Sequence[Origin],
    recipe: Mapping[str, Any],
    more: Mapping[str, Any],
    *,
    anew: bool = False,
) -> Dataset:
    """Gathers what the tasks made into the folder `final`, if it is not there yet, and opens it.

    Args:
        stages: the tasks of each stage, in the order in which documents go through them.
        tasks: the names of the folders of all tasks that led here.
        origins: of each part, in the order of `encoded`.
        recipe: the sections `data` and `tokenizer` that it was made by, for people to read; of several that make the
            same dataset, the first.
        more: further facts for its manifest.
        anew: what stands there is not to be trusted.
    """
    if not anew and damage(final) is None:
        return open_dataset(final)
    disk.remove(final)  # made of tasks' results, which were checked: it is gathered again
    said = {"recipe": recipe, "tasks": list(tasks), **more}
    facts = {**_facts(stages, tokenizer, encoded, splits), **said}
    with new_folder(final, facts, replace_damaged=True) as folder:
        _link(tokenizer, "", folder / "tokenizer")
        for split in splits:
            for number, done in enumerate(encoded):
                _link(done, f"{split}/", folder / split / f"shard-{number:05d}")
            if facts["splits"][split]["documents"]:  # of files without a row other tools say that the split has no data
                _link_documents(encoded, split, folder / "documents" / split)
        _write_origins(folder, origins)
        for kind in ("ledger", "examples", "clusters"):
            disk.make_folder(folder / kind, sync=False)
            for stage, results in stages.items():
                for number, done in enumerate(results):
                    if f"{kind}.parquet" in done.facts["files"]:
                        _link_file(done, f"{kind}.parquet", folder / kind / f"{stage}-{number:05d}.parquet")
    return open_dataset(final)


_GATHERED = ("ledger.parquet", "examples.parquet", "clusters.parquet", "digests.parquet")


def altered(results: Iterable[Done]) -> str | None:
    """What is wrong with a file of a task that was found done, among those that become a dataset's: the dataset's own
    manifest would call it right.
    """
    for done in results:
        for name in (name for name in _GATHERED if done.reused and name in done.facts["files"]):
            try:
                verify_file(done.folder, name, done.facts)
            except IntegrityError as error:
                return error.message
    return None


@dataclass(frozen=True, slots=True)
class Origin:
    """What a part went through: where its documents lay when they were read, its stages, and its digests."""

    collected: Path
    stages: tuple[Path, ...]
    digests: Path


def _write_origins(folder: Path, origins: Sequence[Origin]) -> None:
    """Names of tasks, which are the same in any workspace, and a table of all documents."""
    disk.make_folder(folder / "index", sync=False)
    for number, origin in enumerate(origins):
        disk.link(origin.digests / "digests.parquet", folder / "index" / f"part-{number:05d}.parquet")
    named = [
        {"collected": [origin.collected.parent.name, origin.collected.name], "stages": [s.name for s in origin.stages]}
        for origin in origins
    ]
    write_json(folder / "origins.json", named)


def _identity(tokenizer: Task, encodings: Sequence[Task]) -> str:
    return fingerprint([DATASET_VERSION, tokenizer.key, [task.key for task in encodings]])


def dataset_folder(
    workspace: Path,
    name: str,
    tokenizer: Task,
    encodings: Sequence[Task],
    stages: Mapping[str, Sequence[Done]],
    more: Mapping[str, Any],
) -> Path:
    """Where the dataset stands that these tasks make; arguments as for `assemble`.

    Its name is made of all that it says. Two with the same tokens, of which one came about by other rules, have the
    same fingerprint and stand beside each other.
    """
    said = {stage: [_said(done) for done in results] for stage, results in stages.items()}
    mark = fingerprint([_identity(tokenizer, encodings), said, more])[:12]
    return workspace / "datasets" / f"{name}-{mark}"


def _said(done: Done) -> dict[str, Any]:
    """What a task counted, and the hashes of its files, whatever it is called."""
    return {key: value for key, value in done.facts.items() if key not in ("key", "seal")}


def damage(folder: Path, *, verify: bool = False) -> str | None:
    """What is wrong with a dataset: a file that is missing or of another size, with `verify` of another hash; None when
    it is whole; empty when it is not there.
    """
    if not folder.exists():
        return ""
    try:
        _ = verify_dataset(folder) if verify else open_dataset(folder)
    except DataError as error:  # an older version is none either
        return error.message
    return None


def verify_dataset(folder: Path) -> Dataset:
    """A dataset, after the hash of every file in it was compared with its manifest's, or IntegrityError."""
    verify_manifest(folder)
    return open_dataset(folder)


def open_dataset(folder: Path) -> Dataset:
    """A dataset by its folder; DataError when there is none, IntegrityError when a file's size is wrong."""
    if not folder.is_dir():
        raise DataError(f"no dataset at {folder}", "make it with `tilth prepare RECIPE`")
    facts = read_manifest(folder)
    if facts.get("dataset_version") != DATASET_VERSION:
        raise DataError(
            f"{folder} has dataset version {facts.get('dataset_version')}; this tilth reads {DATASET_VERSION}",
            "prepare the data again",
        )
    return Dataset(folder, facts)


def _facts(
    stages: Mapping[str, Sequence[Done]],
    tokenizer: Done,
    encoded: Sequence[Done],
    names: Sequence[str],
) -> dict[str, Any]:
    counted = {verdict: Counter[str]() for verdict in ("changed", "dropped")}
    for done in (done for results in stages.values() for done in results):
        for verdict, rules in done.facts["rules"].items():
            counted[verdict].update(rules)
    splits = {split: {key: sum(done.facts[split][key] for done in encoded) for key in _SUMMED} for split in names}
    read = [part for done in stages["read"] for part in done.facts["parts"]]
    steps = flow(stages, len(encoded), sum(split["text_bytes"] for split in splits.values()))
    divided = stages["split"][0].facts
    return {
        "dataset_version": DATASET_VERSION,
        "fingerprint": _identity(tokenizer.task, [done.task for done in encoded]),
        "tokenizer": tokenizer.facts["fingerprint"],
        "vocab_size": tokenizer.facts["vocab_size"],
        "shards": len(encoded),
        "read": {key: sum(part[key] for part in read) for key in ("documents", "text_bytes")},
        "sources": read_by_source(stages["read"]),
        "flow": steps,
        "rules": {verdict: dict(sorted(rules.items())) for verdict, rules in counted.items()},
        "passed_over": first_named(done.facts.get("passed_over", {}) for done in stages["read"]),
        "dropped_bytes": dropped_bytes(stages),
        "cut_bytes": cut_bytes(stages, steps),
        "documents": sum(split["documents"] for split in splits.values()) - divided["cut"],
        "split": {"by": divided["by"], "together": divided["together"]},
        "splits": splits,
        "shards_by_source": _of_sources(encoded, names),
    }


def _of_sources(encoded: Sequence[Done], names: Sequence[str]) -> list[dict[str, Any]]:
    """What each source has: its shards, which stand together, and what is in them, split by split."""
    sources: list[dict[str, Any]] = []
    for number, done in enumerate(encoded):
        if not sources or sources[-1]["name"] != done.facts["source"]:
            empty = {split: dict.fromkeys(_SUMMED, 0) for split in names}
            sources.append({"name": done.facts["source"], "first_shard": number, "shards": 0, "splits": empty})
        sources[-1]["shards"] += 1
        for split in names:
            for key in _SUMMED:
                sources[-1]["splits"][split][key] += done.facts[split][key]
    return sources


_SUMMED = ("documents", "tokens", "text_bytes", "unknown_characters")


def _link(done: Done, start: str, target: Path) -> None:
    """Files of a task whose names begin with `start`."""
    disk.make_folder(target, sync=False)
    for name in sorted(done.facts["files"]):
        if name.startswith(start):
            _link_file(done, name, target / name.removeprefix(start))


def _link_documents(encoded: Sequence[Done], split: str, target: Path) -> None:
    disk.make_folder(target, sync=False)
    for number, done in enumerate(encoded):
        _link_file(done, f"documents/{split}.parquet", target / f"part-{number:05d}.parquet")


def _link_file(done: Done, name: str, target: Path) -> None:
    """A file of a task, whose hash is not computed again: what changed since the task wrote it is then noticed."""
    disk.link(done.folder / name, target, done.facts["files"][name]["sha256"])
