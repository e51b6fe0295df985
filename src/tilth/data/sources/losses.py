"""Files that could not be read, or not to their end: what is said of one, and how many of a source may be.

    damaged(item, outcome)                 the error, for who needs each file whole
    judge(config, files, lost, first)      the error, where too many of a source are

The limit is that of bad rows, `max_bad_rows`, with files in the place of rows: a share of few files says little, but
where nothing can be read something else is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilth.core.errors import DataError
from tilth.data.document import Outcome
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.inputs import Input

JUDGED_FROM = 100  # rows or files; a share of fewer says little


def damaged(item: Input, outcome: Outcome) -> DataError:
    """The error that names the file and says what is wrong with it."""
    return DataError(
        f"{item.path}{outcome.verdicts[-1].detail.removeprefix(item.locator)}",
        "get the file again (`gzip -t`, `zstd -t`, `bzip2 -t` and `xz -t` test packed ones); "
        "`max_bad_rows: 1` counts such files and goes on",
    )


def judge(config: SourceConfig, files: int, lost: int, first: Sequence[str]) -> str | None:
    """What should be said of the `lost` files of a source that has so many; None: nothing.

    Args:
        first: what is wrong with the first few of them.

    Raises:
        DataError: all are lost, or more than `max_bad_rows` of at least 100; never where that is 1.
    """
    limit = config.max_bad_rows
    if not lost:
        return None
    of = "its only file" if files == 1 else f"{lost} of its {files} files"
    named = f"{'the first of them: ' if lost > len(first) else ''}{'; '.join(first)}"
    told = f"{config.source_name}: {of} cannot be read to the end: {named}"
    if limit < 1 and (lost == files or (files >= JUDGED_FROM and lost > limit * files)):
        raise DataError(told, f"get these files again, take them away, or raise `max_bad_rows:` (now {limit:g})")
    return told
