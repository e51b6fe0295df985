"""Files that could not be used, or not to their end: what is said of one, and how many of a source may be.

    UnfitFileError                         a file whose rows or columns are not those that the recipe means
    too_many(bad, of, limit)               whether so many bad ones stop the run: of rows, or of files
    damaged(item, outcome)                 the error, for who needs each file whole
    judge(config, files, lost, first)      the error, where too many of a source are
    nothing_left(config, first)            what to do where they may be lost, and no document is left
    of_files(lost, files)                  how many these are, in words
    pattern_of(config, locator)            what `exclude:` calls a file; beside_others(files, locator): whether it helps
    without_limit(remedy)                  a remedy without the advice to let more of them pass

The limit is that of bad rows, `max_bad_rows`, with files in the place of rows. A share of few says little, so that a
few may be bad whatever share they are; but where none can be read something else is wrong. Files of exams must be
whole: of these no few may.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from tilth.core.errors import DataError
from tilth.core.yaml_texts import in_brackets
from tilth.data.document import Outcome
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.inputs import ARCHIVES, READ_BY, Input, Lost, kind_of, split_suffixes

JUDGED_FROM = 100  # rows or files: where so many are all bad from the first on, no more are read
_OF_A_SOURCE = re.compile(r"`(field|template|map|separator|format|records):")  # keys that say how a file is read
_AGAIN = "get these files again, or take them away"
_WHOLE = ("html", "pdf")  # of such a file nothing is read where its end is missing
_SMALLER = {"file": "paragraph", "paragraph": "line"}  # documents of which some are whole before the damage
FEW = 5  # so many bad ones of any number may be, unless they are all, or none may


class UnfitFileError(DataError):
    """A file that is not what the recipe takes it for: too many of its rows cannot be used, or it lacks the column.

    Args:
        message: begins with the file's path.
        rule: the ledger's word for it.
    """

    def __init__(self, message: str, remedy: str, rule: str = "bad_rows") -> None:
        super().__init__(message, remedy)
        self.rule = rule


def too_many(bad: int, of: int, limit: float, few: int = FEW) -> bool:
    """Whether so many bad rows or files, out of `of`, stop the run: all, or more than a few and than the share `limit`;
    one at a limit of 0, and never at one of 1.
    """
    if not bad or limit >= 1:
        return False
    return bad == of or bad > max(few if limit else 0, limit * of)


def damaged(item: Input, outcome: Outcome) -> DataError:
    """The error that names the file and says what is wrong with it."""
    tests = " (`gzip -t`, `zstd -t`, `bzip2 -t` and `xz -t` test packed ones)" if _is_packed(item) else ""
    again = f"get the file again{tests}, or take it away"
    return DataError(
        f"{item.path}{outcome.verdicts[-1].detail.removeprefix(item.locator)}",
        outcome.remedy or f"{again}; `max_bad_rows: 1` counts such files and goes on",
    )


def _is_packed(item: Input) -> bool:
    return item.kind in ARCHIVES or bool(split_suffixes(item.path.name)[1])


def judge(
    config: SourceConfig,
    files: int,
    lost: int,
    first: Sequence[Lost],
    *,
    in_recipe: bool = True,
    whole: bool = False,
) -> str | None:
    """What should be said of the `lost` files of a source that has so many; None: nothing.

    Args:
        first: the first few of them.
        in_recipe: whether the source stands in one, where a file can have an entry of its own.
        whole: each of its files must be, unless `max_bad_rows: 1` says otherwise.

    Raises:
        DataError: they are `too_many`.
    """
    limit = config.max_bad_rows
    if not lost:
        return None
    remedy = next((one.remedy for one in first if one.remedy), "")
    advice = _apart(config, first[0]) if in_recipe and beside_others(files, first[0].locator) else []
    if files == 1 and remedy and too_many(lost, files, limit):  # the file itself says all
        raise DataError(first[0].said, "; ".join([remedy, *advice[-1:]]))
    named = f"{'the first of them: ' if lost > len(first) else ''}{'; '.join(one.said for one in first)}"
    told = f"{config.source_name}: {of_files(lost, files)} cannot be used, or not whole: {named}"
    if too_many(lost, files, 0 if whole and limit < 1 else limit):
        higher = "set `max_bad_rows: 1`" if whole else f"raise `max_bad_rows:` (now {limit:g})"
        again = f"get these files again, take them away, or {higher}"
        if lost == files and config.document == "file" and _smaller(config, first):
            again = f"{_AGAIN}; `max_bad_rows: 1` with `document: paragraph` goes on with what came before the damage"
        elif lost == files and not whole:  # no share lets all pass
            left = any(_of_archive(one) or _kind(config, one) not in _WHOLE for one in first)
            again = _AGAIN + "; `max_bad_rows: 1` goes on with what can be read of them, if anything" * left
        damaged = any(not one.remedy for one in first)
        remedies = [remedy, *(advice[-1:] if remedy else []), again if damaged or not remedy else ""]
        raise DataError(told, "; ".join(filter(None, remedies)))
    return "; ".join([told, *advice])


def nothing_left(config: SourceConfig, first: Sequence[Lost]) -> str:
    """What to do about the lost files of a source that may all be, where no document is left; `first` are some of
    them.
    """
    known = (without_limit(one.remedy) for one in first)
    smaller = _smaller(config, first)
    kept = f"; `document: {smaller}` keeps what came before the damage" if smaller else ""
    return next(filter(None, known), f"{_AGAIN}{kept}")


def _smaller(config: SourceConfig, lost: Sequence[Lost]) -> str:
    """What `document:` may be where a text among these is damaged, so that what came before is kept; "" where it says
    nothing of any, or can be no smaller.
    """
    kinds = (_kind(config, one) for one in lost if not one.remedy)
    return _SMALLER.get(config.document, "") if any(kind in READ_BY["document"] for kind in kinds) else ""


def _kind(config: SourceConfig, lost: Lost) -> str | None:
    return kind_of(lost.locator) if config.format == "auto" else config.format


def _of_archive(lost: Lost) -> bool:
    """Whether it is one, of whose files some may be whole."""
    return kind_of(lost.locator) in ARCHIVES


def of_files(lost: int, files: int) -> str:
    """How many of the files of a source, in words."""
    return "its only file" if files == 1 else f"{lost:,} of its {files:,} files"


def _apart(config: SourceConfig, lost: Lost) -> list[str]:
    """What to do about a file among others: one that is whole wants to be read otherwise."""
    known = without_limit(lost.remedy)
    if config.path is None:
        return [known] if known else []
    pattern = in_brackets(pattern_of(config, lost.locator))
    if _OF_A_SOURCE.search(lost.remedy):
        packed = _entry_of(lost.locator)
        give = "where its archive holds others too, give this file, unpacked," if packed else "give this file"
        return [f"{give} an entry of its own, and name it under `exclude: [{pattern}]` of this one"]
    return [*filter(None, [known]), f"to do without it, name it under `exclude: [{pattern}]`"]


def pattern_of(config: SourceConfig, locator: str) -> str:
    """What `exclude:` of a source calls one of its files, or one in its archives."""
    entry = _entry_of(locator)
    file = locator.removesuffix(f"!{entry}") if entry else locator
    below = PurePosixPath(file).name if file == config.path_prefix else _below_the_folder(config.path_prefix, file)
    return glob.escape(f"{below}/{entry}" if entry else below)


def _entry_of(locator: str) -> str:
    """What a file in an archive is called there; of others ""."""
    archive, _, entry = locator.partition("!")
    return entry if kind_of(archive) in ARCHIVES else ""


def beside_others(files: int, locator: str) -> bool:
    """Whether a file of a source that has so many can be left out, and others stay."""
    return files > 1 or bool(_entry_of(locator))


def _below_the_folder(prefix: str, locator: str) -> str:
    """A file's place from its source's folder on, which of a pattern is what stands before the first wildcard."""
    if locator.startswith(f"{prefix}/"):  # a folder, whose own name may look like a pattern
        return locator.removeprefix(f"{prefix}/")
    fixed = re.split(r"[^/]*[*?[]", prefix)[0].rstrip("/")
    return locator.removeprefix(f"{fixed}/")


def without_limit(remedy: str) -> str:
    """A remedy without the advice to raise `max_bad_rows`, for where that is not to be had or says nothing new."""
    return re.sub(r"(,? or (raise|set|let them pass with a higher) |[;,] )?`max_bad_rows.*", "", remedy)
