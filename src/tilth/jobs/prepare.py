"""The job behind `tilth prepare`: a recipe's sources to a dataset.

    prepare_data(recipe, …) -> Dataset      does what is not done yet
    find_prepared(recipe, base, …)          the dataset that a recipe led to before, if nothing has changed since
    summary(dataset)                        what `--json` prints

What a recipe led to is written down in `WORKSPACE/prepared/`: so that training needs neither the sources nor a look at
all tasks. A record says which dataset it was, what the sources held, and what else decided it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilth.core.chosen_executor import open_executor
from tilth.core.config import fingerprint
from tilth.core.environment import launched, usable_cpus
from tilth.core.errors import DataError, IntegrityError, StorageError
from tilth.core.executors import ExecutorName, warm_up
from tilth.core.files import FolderLock, disk, read_sealed, storage_errors, write_sealed
from tilth.core.progress import Board
from tilth.core.tasks import OnDone
from tilth.core.words import plural
from tilth.data.chats import ChatDocuments
from tilth.data.dataset import Dataset, open_dataset
from tilth.data.leaks import exam_files
from tilth.data.leftovers import clear_leftovers
from tilth.data.naming import with_numbers
from tilth.data.plans.pipeline import decided_by, prepare
from tilth.data.plans.token_plan import AnyTokenizer, GivenTokenizer
from tilth.data.plans.workshop import Workshop
from tilth.data.sources import Listing, SourceConfig, list_inputs
from tilth.data.sources.hashes import hashing
from tilth.data.sources.listing import list_remembered
from tilth.data.sources.vanished import LastFiles
from tilth.data.stages.rules import RULE_STAGES
from tilth.jobs.base import Base, find_base
from tilth.jobs.chats import encoder_of, tokenizer_of
from tilth.jobs.locate import newest_of
from tilth.jobs.recipe import Recipe

DEFAULT_WORKSPACE = Path("work")
Say = Callable[[str], None]
_RECORD_VERSION = 1


def _silent(note: str) -> None:
    """For who does not listen."""
    del note


def prepare_data(
    recipe: Recipe,
    workspace: Path = DEFAULT_WORKSPACE,
    workers: int | None = None,
    root: Path | None = None,
    on_done: OnDone | None = None,
    executor: ExecutorName = "processes",
    *,
    verify: bool = False,
    say: Say = _silent,
    board: Board | None = None,
    base: Base | None = None,
) -> Dataset:
    """Makes the dataset of a recipe, or opens it when nothing changed since it was made.

    Args:
        workspace: where all intermediate results and the dataset lie; one process at a time.
        workers: processes (default: one for each processor). The result does not depend on it.
        root: where relative paths of sources start (default: the current folder).
        on_done: called after each task, with how many are done of how many.
        executor: `processes` of this machine, or `ray`: a cluster whose nodes all see the workspace and the sources.
        verify: compare the hash of every file of the dataset, and of what it is made of; what was altered is made
            again.
        say: is told what should be known and is no error.
        board: where it is seen how far long work is.
        base: the checkpoint of `model.from`, where it was found already.
    """
    base, root = base or find_base(recipe), root or Path()
    wish, encoder = wished_tokenizer(recipe, base), encoder_of(recipe, base)
    if not os.path.lexists(workspace):
        _something_there(recipe, root, workspace)
    watching = board.watching(workspace.absolute()) if board else contextlib.nullcontext()
    # Under torchrun every process may come here: one does the work, the others wait and find it done.
    with FolderLock(workspace, "the workspace", wait=launched().world_size > 1), watching:
        if cleared := str(clear_leftovers(workspace)):
            say(cleared)
        place = workspace
        if executor == "processes":
            warm_up("tilth.data.server", "tilth.data.plans.pipeline")
        elif executor == "ray":  # its workers start in another folder
            place, root = place.absolute(), root.absolute()
        try:
            listings, against = _listings(recipe, root, place)
        except DataError as error:
            raise _still_there(error, recipe, workspace) from error.__cause__
        last = _last_files(recipe, workspace, root, [*listings, *against])
        for said in filter(None, (files.gone(listing) for files, listing in last)):
            say(said)
        with open_executor(executor, workers or usable_cpus()) as opened:
            shop = Workshop(place, opened, on_done, verify, say)
            dataset = prepare(recipe.data, wish, recipe.name, root, shop, listings, against, encoder)
        for note in (*emptied(dataset), *given_up(dataset)):
            say(note)
        _write_record(
            recipe, workspace, dataset, _decided_by(recipe, wish, encoder), _held(listings, against), sorted(shop.used)
        )
        for files, listing in last:
            files.keep(listing)
        disk.touch(dataset.folder)  # it may be an old one that is meant again: by its date the newest is found
        return dataset


def _last_files(
    recipe: Recipe, workspace: Path, root: Path, listings: Sequence[Listing]
) -> list[tuple[LastFiles, Listing]]:
    """What each source held the last time, with what it holds now."""
    return [
        (LastFiles(workspace, recipe.name, source, root), listing)
        for source, listing in zip(_all_sources(recipe), listings, strict=True)
    ]


def emptied(dataset: Dataset) -> Iterator[str]:
    """The sources of which nothing is left to train on, in words."""
    left = {source["name"]: source["splits"]["train"]["documents"] for source in dataset.facts["shards_by_source"]}
    for name, read in dataset.facts["sources"].items():
        if not left.get(name):
            yield (
                f"nothing of source {name} is left for training ({plural(read['documents'], 'document')} read); "
                "`tilth report` says what was dropped, and why"
            )


def given_up(dataset: Dataset) -> Iterator[str]:
    """The stages whose patterns came to no end with documents that went on all the same, in words."""
    more = {"timeout": "`timeout_seconds` gives it longer", "memory": "a pattern that backtracks less asks for less"}
    for rule, documents in dataset.facts["rules"]["changed"].items():
        stage, _, limit = rule.removeprefix("clean/").partition("/")
        if stage in RULE_STAGES and limit in more:
            yield (
                f"{stage} came to no end with {plural(documents, 'document')}, which went on as if it were not there "
                f"({rule}; one is counted in each such stage): {more[limit]}, `on_timeout: drop` takes them out"
            )


def _all_sources(recipe: Recipe) -> list[SourceConfig]:
    return [*recipe.data.sources, *recipe.data.decontaminate.against]


def _listings(recipe: Recipe, root: Path, workspace: Path) -> tuple[list[Listing], list[Listing]]:
    """The files of the sources, and those that training text is compared with."""
    with storage_errors(workspace):
        of_sources, against = (
            [list_remembered(source, root, workspace) for source in sources]
            for sources in (recipe.data.sources, recipe.data.decontaminate.against)
        )
    return of_sources, against


def _something_there(recipe: Recipe, root: Path, workspace: Path) -> None:
    """DataError when nothing is at a path: a command typed in another folder leaves no workspace there."""
    with hashing(lambda _: ""):
        for source in (source for source in _all_sources(recipe) if source.path is not None):
            list_inputs(source, root, workspace / "downloads")


def _still_there(error: DataError, recipe: Recipe, workspace: Path) -> DataError:
    """An error of a source, which may have been read before, with a word on what was made then."""
    record = _read_record(recipe, workspace)
    if record and (folder := workspace / "datasets" / record["dataset"]).is_dir():
        still = f"what was made of it on {_minute(record['time'])} is in {folder}, and can be trained on"
    elif other := newest_of(recipe.name, workspace):
        still = f"the last dataset of this name, of other settings, is in {other} (of {_minute(other.stat().st_mtime)})"
    else:
        return error
    return error.with_remedy(f"{error.remedy}; {still}")


def _minute(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


@dataclass(frozen=True)
class Prepared:
    """A dataset that was found, and what should be known of how."""

    dataset: Dataset
    note: str = ""


def find_prepared(recipe: Recipe, base: Base | None, workspace: Path, root: Path | None = None) -> Prepared | None:
    """The dataset that this recipe led to before, when its sources hold what they held then, or cannot be had any more;
    arguments as for `prepare_data`.

    Takes as long as it takes to list the sources, for files that are unchanged are not read: see
    data/sources/hashes.py. None when there is no such dataset, or something has changed.
    """
    record = _read_record(recipe, workspace)
    if record is None:
        return None
    folder = workspace / "datasets" / record["dataset"]
    try:
        dataset = open_dataset(folder)
    except DataError:  # it is gone, damaged or of another version
        return None
    try:
        _still_here(recipe, workspace)
        held = _held(*_listings(recipe, root or Path(), workspace))
    except IntegrityError:
        raise
    except DataError as error:
        made = _minute(record["time"])
        note = f"the sources cannot be read ({error.message}): going on with {folder}, made of them on {made}"
        return Prepared(dataset, note)
    decided = _decided_by(recipe, wished_tokenizer(recipe, base), encoder_of(recipe, base))
    if held != record["held"] or record["decided_by"] != decided:
        return None
    disk.touch(folder)  # as when it is prepared
    return Prepared(dataset)


def _still_here(recipe: Recipe, workspace: Path) -> None:
    """DataError when listing a source would download all of it anew, only to find what is prepared already."""
    for source in _all_sources(recipe):
        if source.reach == "brought" and not (workspace / "downloads").is_dir():
            raise DataError(
                f"source {source.source_name}: what was downloaded is gone from {workspace / 'downloads'}",
                "`tilth prepare` downloads it again",
            )


def _held(*listings: Iterable[Listing]) -> str:
    """The fingerprint of what sources hold, of each kind of them."""
    return fingerprint(
        [[[[item.identity() for item in listing], listing.passed_over] for listing in of_kind] for of_kind in listings]
    )


def _record_path(recipe: Recipe, workspace: Path) -> Path:
    # No path of this machine, and no version: a workspace that was carried elsewhere without its sources still serves.
    said = recipe.data.model_dump(mode="json", exclude={"mixture", "packing", "cross_document_attention"})
    base = recipe.model.from_ and [recipe.model.from_, recipe.train.objective]
    key = fingerprint([recipe.name, said, recipe.tokenizer.model_dump(mode="json"), *([base] if base else [])])
    return workspace / "prepared" / f"{recipe.name}-{key[:20]}.json"


def wished_tokenizer(recipe: Recipe, base: Base | None) -> AnyTokenizer:
    """The tokenizer that the recipe asks for: one that is learned, or the checkpoint's."""
    if base is None:
        return tokenizer_of(recipe)
    own = base.tokenizer
    folder, named = base.place.tokenizer.absolute(), tuple(own.named_tokens.items())
    return GivenTokenizer(folder, own.fingerprint, base.special_tokens, tuple(own.opening), named)


def _decided_by(recipe: Recipe, tokenizer: AnyTokenizer, encoder: ChatDocuments | None) -> str:
    return fingerprint([decided_by(recipe.data, tokenizer), encoder.identity if encoder else None])


def _write_record(
    recipe: Recipe, workspace: Path, dataset: Dataset, decided: str, held: str, tasks: Sequence[str]
) -> None:
    path = _record_path(recipe, workspace)
    content = {
        "version": _RECORD_VERSION,
        "dataset": dataset.folder.name,
        "held": held,
        "decided_by": decided,
        "tasks": list(tasks),
    }
    before = _read_record(recipe, workspace)
    if before is None or any(before[key] != value for key, value in content.items()):
        with storage_errors(path):
            disk.make_folder(path.parent)
            write_sealed(path, {**content, "time": time.time()})


def _read_record(recipe: Recipe, workspace: Path) -> dict[str, Any] | None:
    path = _record_path(recipe, workspace)
    try:
        with storage_errors(path):  # a name that is too long: whoever then prepares says so
            record = read_sealed(path) if path.is_file() else {}
    except (IntegrityError, StorageError):
        return None  # it saves time, and is made again
    return record if record.get("version") == _RECORD_VERSION else None


def summary(dataset: Dataset) -> dict[str, Any]:
    """What `tilth prepare --json` prints."""
    facts = dataset.facts
    return {
        "documents": facts["documents"],
        "dropped": facts["rules"]["dropped"],
        "passed_over": with_numbers(facts.get("passed_over", {}), facts["rules"]["dropped"]),
        "evaluation_files": exam_files.in_dataset(facts),
        "tokens": {name: split["tokens"] for name, split in facts["splits"].items()},
        "folder": str(dataset.folder),
    }
