"""A folder onto the Hugging Face hub, by `huggingface_hub`.

    make_repository(name, private)      that there is one, and that it may be written: to be asked before the work
    push(folder, name, message)         the whole folder as one commit

Address, login and offline mode are that library's own (hub_client.py); a token is never read here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tilth.core.errors import DataError, RecipeError, first_line
from tilth.data.sources.hub_client import Hub, library

_NAME = re.compile(r"[A-Za-z0-9][\w-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True)
class Pushed:
    """What the hub has now: the repository, the commit (40 hex digits), and where people see it."""

    repository: str
    commit: str
    address: str

    def plain(self) -> dict[str, str]:
        """As plain data."""
        return asdict(self)


def make_repository(name: str, private: bool = False) -> None:
    """Makes the repository of a model where there is none.

    RecipeError for a name that is none and without a login; DataError when the hub is not to be reached or refuses.
    """
    if not _NAME.fullmatch(name) or re.search(r"--|\.\.|\.git$", name):
        raise RecipeError(f"{name!r} cannot name a model on the hub", "give ORG/NAME, for example me/my-model")
    hub = Hub(name, "model")
    if hub.offline:
        raise DataError(f"{name} cannot be made: the hub is not asked (HF_HUB_OFFLINE)", "unset HF_HUB_OFFLINE")
    with _errors(name):
        hub.api.create_repo(name, token=True, private=private or None, exist_ok=True)


def push(folder: Path, name: str, message: str) -> Pushed:
    """Uploads a folder as one commit; files that the repository has besides stay. Errors as of `make_repository`."""
    hub = Hub(name, "model")
    with _errors(name, f"; {folder} is whole: tilth export {folder} --push {name}"), _no_bars():
        commit = hub.api.upload_folder(repo_id=name, folder_path=folder, commit_message=message, token=True)
    return Pushed(name, str(commit.oid), str(commit.commit_url))


@contextlib.contextmanager
def _errors(name: str, again: str = "") -> Iterator[None]:
    """The errors of the library, and of its connection, as ours; `again` says how to go on."""
    import httpx2

    errors: Any = library().errors
    try:
        with _unwrapped():
            yield
    except errors.LocalTokenNotFoundError:
        raise RecipeError(
            f"nobody is logged in to the hub, and {name} cannot be written without",
            "type `hf auth login`, or set HF_TOKEN in the environment, with a token that may write" + again,
        ) from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        said = f"{name}: the hub answers {status}: {first_line(error)}"
        if status in (401, 403, 404):
            remedy = "check the name, and that the token (`hf auth login`, or HF_TOKEN) may write there"
            raise DataError(said, remedy + again) from error
        raise DataError(said, "try again later" + again) from error
    except (httpx2.HTTPError, OSError) as error:
        raise DataError(
            f"{name}: the hub cannot be reached: {first_line(error)}",
            "check the network (and HF_ENDPOINT, where it is set)" + again,
        ) from error


@contextlib.contextmanager
def _unwrapped() -> Iterator[None]:
    """What a thread of the library failed with: it raises a RuntimeError around it."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        raise


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    utils: Any = library().utils
    if utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
