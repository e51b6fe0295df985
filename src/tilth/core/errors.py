"""Every error that a user can cause, in one tree.

    TilthError
    ├── RecipeError        2   a recipe, an option or a command line that cannot be meant
    ├── DataError          3   text, files or shards that cannot be used as they are
    │   └── IntegrityError 3   bytes that are not the bytes that were written
    ├── StorageError       3   the disk refused: full, read-only, gone
    ├── CheckpointError    4   no checkpoint that verifies, one of another run, or one that could not be saved
    ├── DivergedError      5   the loss is no longer a number
    ├── PeerError          6   another process of this run failed, is gone or does not answer
    ├── Stopped           75   a signal came; the state is saved and the same command goes on
    └── Aborted          130   a second Ctrl-C came; what was done since the last checkpoint is not saved

The number is the process's exit code. Each error carries what is wrong (`message`: the value and the place) and what to
do (`remedy`). Errors that are not in this tree are bugs of tilth, and the command line shows their traceback.
`first_line` is what a message quotes of an error of another library, `interrupted` what is said of a signal.
"""

from __future__ import annotations

import copy
from typing import Self

BETWEEN_FAULTS = "\n  "
"""In the message of a RecipeError that names several faults; other messages are one line, but for names that hold an
end of line.
"""


class TilthError(Exception):
    """Base of all errors that a user can cause and mend.

    Args:
        message: what is wrong, naming the value and the place.
        remedy: what to do about it, as an instruction.
    """

    exit_code = 1
    told = False
    """Whether another process has said already what is wrong."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        # For the trip back from a worker process. What a class makes its message of may be other than these two.
        return _made_again, (type(self), self.args), self.__dict__

    def with_remedy(self, remedy: str) -> Self:
        """The same error, of its class and with all that it carries, with another remedy."""
        other = copy.copy(self)
        other.remedy, other.args = remedy, (self.message, remedy)
        return other

    def __str__(self) -> str:
        return f"{self.message}\n  remedy: {self.remedy}"


def _made_again(kind: type[TilthError], args: tuple[object, ...]) -> TilthError:
    return kind.__new__(kind, *args)


class RecipeError(TilthError):
    """A recipe, an option or a command line that cannot be meant."""

    exit_code = 2


class DataError(TilthError):
    """Text, files or shards that cannot be used as they are."""

    exit_code = 3


class IntegrityError(DataError):
    """Bytes on disk that are not the bytes that were written."""


class StorageError(TilthError):
    """The disk refused to take or give bytes."""

    exit_code = 3


class CheckpointError(TilthError):
    """No checkpoint that verifies, one that belongs to another run, or one that could not be saved."""

    exit_code = 4


class DivergedError(TilthError):
    """The loss or the gradient is no longer a finite number."""

    exit_code = 5


class PeerError(TilthError):
    """Another process of this run failed (this one then leaves with its exit code), is gone, or does not answer."""

    exit_code = 6


class Stopped(TilthError):  # noqa: N818 - not a fault: a signal came, and everything is saved
    """A signal asked the process to stop; the state is saved and can be resumed."""

    exit_code = 75


class Aborted(TilthError):  # noqa: N818 - not a fault: someone could not wait
    """A second Ctrl-C asked the process to stop at once; it is where its last checkpoint was."""

    exit_code = 130


def interrupted(name: str) -> Stopped:
    """What is said of a command that a signal has ended."""
    remedy = "type the same command again: prepare, train and quickstart go on where they were"
    return Stopped(f"{name}: what was finished is kept", remedy)


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line of at most 1,000 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:1000]


def one_line(error: BaseException) -> str:
    """All lines of it as one of at most 1,000 characters, for errors whose first line does not say what is wrong."""
    return (" ".join(str(error).split()) or type(error).__name__)[:1000]
