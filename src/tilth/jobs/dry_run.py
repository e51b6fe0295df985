"""The job behind `tilth prepare --dry-run`: the real tasks over a sample, in a scratch folder that is removed."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from tilth.core.chosen_executor import open_executor
from tilth.core.environment import usable_cpus
from tilth.core.errors import StorageError
from tilth.core.executors import ExecutorName
from tilth.core.files import FolderLock, disk
from tilth.core.tasks import OnDone
from tilth.data.forecast import Forecast, Terms, foretell
from tilth.data.plans.workshop import Workshop
from tilth.jobs.base import find_base
from tilth.jobs.chats import encoder_of
from tilth.jobs.prepare import DEFAULT_WORKSPACE, wished_tokenizer
from tilth.jobs.recipe import Recipe

_TRIAL = ".trial.tmp"


def forecast_data(
    recipe: Recipe,
    workspace: Path = DEFAULT_WORKSPACE,
    workers: int | None = None,
    root: Path | None = None,
    terms: Terms = Terms(),  # noqa: B008 - frozen
    on_done: OnDone | None = None,
    executor: ExecutorName = "processes",
) -> Forecast:
    """What `prepare_data` would make of a recipe; arguments as there. The workspace is left as it was."""
    place, root = workspace, root or Path()
    if executor == "ray":  # its workers start in another folder
        place, root = place.absolute(), root.absolute()
    base = find_base(recipe)
    wish, encoder = wished_tokenizer(recipe, base), encoder_of(recipe, base)
    scratch = place / "forecast"
    with _held(scratch):
        try:
            disk.remove(scratch / _TRIAL)  # of one that was killed
            with open_executor(executor, workers or usable_cpus()) as opened:
                shop = Workshop(scratch / _TRIAL, opened, on_done)
                return foretell(recipe.data, wish, root, place, shop, terms, encoder)
        finally:
            disk.remove(scratch)
            with contextlib.suppress(OSError):  # it was there before, and is not empty
                place.rmdir()


@contextlib.contextmanager
def _held(scratch: Path) -> Iterator[None]:
    """The folder of forecasts, for one process; the remedy says that one is needed, though nothing is kept."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(FolderLock(scratch, "the folder of forecasts"))
        except StorageError as error:
            if getattr(error.__cause__, "errno", None) not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            remedy = "the sample's results lie there until it ends: name a folder that can be written with --workspace"
            raise error.with_remedy(remedy) from error.__cause__
        yield
