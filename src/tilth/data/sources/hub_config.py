"""What a recipe may say of a data set in the form that Hugging Face's hub and `datasets` library use."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import field_validator, model_validator

from tilth.core.config import Config

# As the hub has them: `squad`, `allenai/c4`; no `..`, no leading or trailing `-` or `.`.
_DATASET = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}")


class HubConfig(Config):
    """A data set on the hub (`dataset`), or a folder of one on this machine (`folder`); and which part of it."""

    dataset: str | None = None
    """`ORG/NAME` on the hub. `hub: ORG/NAME` is short for `hub: {dataset: ORG/NAME}`."""
    folder: str | None = None
    """A folder that `datasets` saved (`save_to_disk`), or one laid out like a data set on the hub; relative to the
    current folder.
    """
    revision: str = "main"
    """A branch, a tag or a commit. The commit that it is the first time is written down in the workspace, and kept."""
    config: str | None = None
    """Which configuration, for a data set that has several."""
    split: str | None = None
    """Which split; by default `train`, or the only one there is."""
    files: list[str] = []
    """The files themselves, as globs (`**` goes through folders): instead of `config` and `split`."""
    streaming: bool = False
    """Read the columns that are wanted from Parquet files on the hub, and keep no file."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"dataset": value} if isinstance(value, str) else value

    @field_validator("dataset")
    @classmethod
    def _dataset_is_a_name(cls, dataset: str | None) -> str | None:
        if dataset is not None and (not _DATASET.fullmatch(dataset) or ".." in dataset or "--" in dataset):
            raise ValueError(
                f"{dataset!r} is no data set's name | write ORG/NAME, or `folder:` for one on this machine"
            )
        return dataset

    @field_validator("revision")
    @classmethod
    def _revision_is_a_name(cls, revision: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][\w./-]{0,199}", revision) or ".." in revision:
            raise ValueError(f"{revision!r} is no branch, tag or commit | write `main`, a tag, or 40 hex digits")
        return revision

    @field_validator("folder", "config", "split")
    @classmethod
    def _text_is_there(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or "\0" in value):
            raise ValueError("it is empty or holds a NUL | give it a value, or leave the key out")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> HubConfig:
        if (self.dataset is None) == (self.folder is None):
            raise ValueError("it needs one of `dataset` and `folder` | keep exactly one")
        if self.folder is not None and (self.revision != "main" or self.streaming):
            raise ValueError("revision and streaming are for a data set on the hub | remove them, or name `dataset:`")
        if self.files and (self.config is not None or self.split is not None):
            raise ValueError("files are named by `files:`, or by config and split | keep one of the two")
        return self

    @property
    def name(self) -> str:
        """What its documents are filed under: the data set's name, or the folder's; never a path of this machine."""
        if self.dataset is not None:
            return self.dataset
        folder = PurePosixPath(Path(self.folder or "").as_posix())
        if folder.is_absolute() or str(folder).startswith("~"):
            return folder.name or "hub"
        return folder.as_posix()
