"""The prepared dataset: the folder that `tilth prepare` leaves and that training opens.

    DATASET/manifest.json       identity, counts by rule, tokens by split, hash of every file
    DATASET/tokenizer/          tokenizer.json and its configuration
    DATASET/train/shard-00000/  token shards, and the same under validation/ (and test/)
    DATASET/documents/train/    the documents that these shards hold (Parquet), and the same for the other splits
    DATASET/ledger/             what each stage did to each document (Parquet)
    DATASET/examples/           some of those documents, before and after (Parquet)
    DATASET/clusters/           near-duplicates that went, each beside the one that stays (Parquet)
    DATASET/index/              of every document that came through `clean:`, what it is without its text (Parquet)
    DATASET/origins.json        the tasks that each part went through

Its files are hard links to the results of tasks where the file system has them: nothing lies on the disk twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tilth.core.config import fingerprint
from tilth.core.errors import DataError, IntegrityError
from tilth.core.files import disk, new_folder, read_json, read_manifest, verify_file, write_json
from tilth.core.tasks import Done, Task
from tilth.data.flow import dropped_bytes, flow, read_by_source
from tilth.data.shards import Shard, TokenStream
from tilth.tokenizer import Tokenizer, load_tokenizer

DATASET_VERSION = 3


@dataclass(frozen=True)
class Dataset:
    """A dataset that was opened: sizes were checked, hashes are when a shard is first read."""

    folder: Path
    facts: dict[str, Any]

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
            raise IntegrityError(error.message, remedy) from error
        if tokenizer.fingerprint != self.facts["tokenizer"]:
            raise IntegrityError(f"{self.folder / 'tokenizer'} is not the tokenizer that made these shards", remedy)
        return tokenizer

    @cached_property
    def origins(self) -> list[dict[str, Any]]:
        """Of each part the names of the tasks that it went through: {collected: [task, file], stages: [task]}."""
        verify_file(self.folder, "origins.json", self.facts)
        origins: list[dict[str, Any]] = read_json(self.folder / "origins.json")
        return origins

    def stream(self, split: str) -> TokenStream:
        """The tokens of a split; IntegrityError when a shard was made with another tokenizer."""
        shards = [Shard(self.folder / split / f"shard-{n:05d}") for n in range(self.facts["shards"])]
        for shard in shards:
            made_by = (shard.manifest["tokenizer"], shard.manifest["vocab_size"])
            if made_by != (self.tokenizer.fingerprint, self.tokenizer.vocab_size):
                raise IntegrityError(
                    f"{shard.folder} was made by another tokenizer ({made_by[1]} ids; this one has "
                    f"{self.tokenizer.vocab_size})",
                    f"remove {self.folder} and prepare the data again",
                )
        return TokenStream(shards)


def assemble(
    workspace: Path,
    name: str,
    stages: Mapping[str, Sequence[Done]],
    tokenizer: Done,
    encoded: Sequence[Done],
    splits: Sequence[str],
    origins: Sequence[Origin],
    recipe: Mapping[str, Any],
    more: Mapping[str, Any],
) -> Dataset:
    """Gathers what the tasks made into one folder, if it is not there yet, and opens it.

    Args:
        stages: the tasks of each stage, in the order in which documents go through them.
        origins: of each part, in the order of `encoded`.
        recipe: the sections `data` and `tokenizer` that it was made by, for people to read; of several that make the
            same dataset, the first.
        more: further facts for its manifest.
    """
    tasks = [done.task for done in encoded]
    identity, final = _identity(tokenizer.task, tasks), dataset_folder(workspace, name, tokenizer.task, tasks)
    if is_whole(final, more):
        return open_dataset(final)
    disk.remove(final)  # made of tasks' results, which were checked: it is gathered again
    facts = {**_facts(identity, stages, tokenizer, encoded, splits), "recipe": recipe, **more}
    with new_folder(final, facts) as folder:
        _link(tokenizer.folder, folder / "tokenizer", keep_manifest=False)
        for split in splits:
            disk.make_folder(folder / "documents" / split)
            for number, done in enumerate(encoded):
                _link(done.folder / split, folder / split / f"shard-{number:05d}", keep_manifest=True)
                documents = done.folder / "documents" / f"{split}.parquet"
                disk.link(documents, folder / "documents" / split / f"part-{number:05d}.parquet")
        _write_origins(folder, origins)
        for kind in ("ledger", "examples", "clusters"):
            disk.make_folder(folder / kind)
            for stage, results in stages.items():
                for number, done in enumerate(results):
                    if (done.folder / f"{kind}.parquet").exists():
                        disk.link(done.folder / f"{kind}.parquet", folder / kind / f"{stage}-{number:05d}.parquet")
    return open_dataset(final)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a part went through: where its documents lay when they were read, its stages, and its digests."""

    collected: Path
    stages: tuple[Path, ...]
    digests: Path


def _write_origins(folder: Path, origins: Sequence[Origin]) -> None:
    """Names of tasks, which are the same in any workspace, and a table of all documents."""
    disk.make_folder(folder / "index")
    for number, origin in enumerate(origins):
        disk.link(origin.digests / "digests.parquet", folder / "index" / f"part-{number:05d}.parquet")
    named = [
        {"collected": [origin.collected.parent.name, origin.collected.name], "stages": [s.name for s in origin.stages]}
        for origin in origins
    ]
    write_json(folder / "origins.json", named)


def _identity(tokenizer: Task, encodings: Sequence[Task]) -> str:
    return fingerprint([DATASET_VERSION, tokenizer.key, [task.key for task in encodings]])


def dataset_folder(workspace: Path, name: str, tokenizer: Task, encodings: Sequence[Task]) -> Path:
    """Where the dataset stands that these tasks make."""
    return workspace / "datasets" / f"{name}-{_identity(tokenizer, encodings)[:12]}"


def is_whole(folder: Path, more: Mapping[str, Any]) -> bool:
    """True when a dataset is there, none of its files is missing or of another size, and it says `more`.

    What it says besides may change when its tokens do not: it is then gathered again, under the same name.
    """
    try:
        return folder.exists() and open_dataset(folder).facts.items() >= more.items()
    except IntegrityError:
        return False


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
    identity: str,
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
    return {
        "dataset_version": DATASET_VERSION,
        "fingerprint": identity,
        "tokenizer": tokenizer.facts["fingerprint"],
        "vocab_size": tokenizer.facts["vocab_size"],
        "shards": len(encoded),
        "read": {key: sum(part[key] for part in read) for key in ("documents", "text_bytes")},
        "sources": read_by_source(stages["read"]),
        "flow": flow(stages, len(encoded)),
        "rules": {verdict: dict(sorted(rules.items())) for verdict, rules in counted.items()},
        "dropped_bytes": dropped_bytes(stages),
        "documents": sum(split["documents"] for split in splits.values()) - stages["split"][0].facts["cut"],
        "splits": splits,
    }


_SUMMED = ("documents", "tokens", "text_bytes", "unknown_characters")


def _link(source: Path, target: Path, *, keep_manifest: bool) -> None:
    disk.make_folder(target)
    for path in sorted(source.iterdir()):
        if keep_manifest or path.name != "manifest.json":
            disk.link(path, target / path.name)
