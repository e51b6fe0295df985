"""Files that could not be used, or not to their end: what is said of one, and how many of a source may be.

    UnfitFileError                         a file whose rows or columns are not those that the recipe means
    too_many(bad, of, limit)               whether so many bad ones stop the run: of rows, or of files
    damaged(item, outcome)                 the error, for who needs each file whole
    judge(config, files, lost, first)      the error, where too many of a source are
    of_files(lost, files)                  how many these are, in words
    without_limit(remedy)                  a remedy without the advice to let more of them pass

The limit is that of bad rows, `max_bad_rows`, with files in the place of rows. A share of few says little, so that a
few may be bad whatever share they are; but where none can be read something else is wrong. Files of exams must be
whole: of these no few may.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tilth.core.errors import DataError
from tilth.data.document import Outcome
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.inputs import ARCHIVES, Input, split_suffixes

JUDGED_FROM = 100  # rows or files: where so many are all bad from the first on, no more are read
_PLAIN_NAME = re.compile(r"[\w./ -]+\.\w+(?=[:#!,@])")  # of a file, as a message begins with it
_OF_A_SOURCE = re.compile(r"`(field|template|map|separator|format|records):")  # keys that say how a file is read
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
    first: Sequence[tuple[str, str]],
    *,
    in_recipe: bool = True,
    whole: bool = False,
) -> str | None:
    """What should be said of the `lost` files of a source that has so many; None: nothing.

    Args:
        first: what is wrong with the first few of them, and what to do about it ("": nothing is known).
        in_recipe: whether the source stands in one, where a file can have an entry of its own.
        whole: each of its files must be, unless `max_bad_rows: 1` says otherwise.

    Raises:
        DataError: they are `too_many`.
    """
    limit = config.max_bad_rows
    if not lost:
        return None
    remedy = next((remedy for _, remedy in first if remedy), "")
    if files == 1 and remedy and too_many(lost, files, limit):  # the file itself says all
        raise DataError(first[0][0], remedy)
    advice = _apart(config, *first[0]) if files > 1 and in_recipe else []
    named = f"{'the first of them: ' if lost > len(first) else ''}{'; '.join(said for said, _ in first)}"
    told = f"{config.source_name}: {of_files(lost, files)} cannot be used, or not whole: {named}"
    if too_many(lost, files, 0 if whole and limit < 1 else limit):
        higher = "set `max_bad_rows: 1`" if whole else f"raise `max_bad_rows:` (now {limit:g})"
        again = f"get these files again, take them away, or {higher}"
        damaged = any(not known for _, known in first)
        remedies = [remedy, *(advice[-1:] if remedy else []), again if damaged or not remedy else ""]
        raise DataError(told, "; ".join(filter(None, remedies)))
    return "; ".join([told, *advice])


def of_files(lost: int, files: int) -> str:
    """How many of the files of a source, in words."""
    return "its only file" if files == 1 else f"{lost:,} of its {files:,} files"


def _apart(config: SourceConfig, said: str, remedy: str) -> list[str]:
    """What to do about a file among others of which `said` is said: one that is whole wants to be read otherwise."""
    if config.path is None:
        return [known] if (known := without_limit(remedy)) else []
    name = _PLAIN_NAME.match(said)
    folder = re.split(r"[^/]*[*?[]", config.path_prefix)[0].rstrip("/")
    pattern = name[0].removeprefix(f"{folder}/") if name else "…"
    if _OF_A_SOURCE.search(remedy):
        return [f"give this file an entry of its own, and name it under `exclude: [{pattern}]` of this one"]
    return [*filter(None, [without_limit(remedy)]), f"to do without it, name it under `exclude: [{pattern}]`"]


def without_limit(remedy: str) -> str:
    """A remedy without the advice to raise `max_bad_rows`, for where that is not to be had or says nothing new."""
    return re.sub(r"(,? or (raise|set|let them pass with a higher) |[;,] )?`max_bad_rows.*", "", remedy)
