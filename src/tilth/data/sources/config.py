"""What a recipe may say of one source of text.

SourceConfig         one entry of `data.sources`: a path, a URL or a built-in collection, and how to read it
.source_name         what its documents are filed under; the same wherever the recipe lies on disk
"""

from __future__ import annotations

import re
import string
from pathlib import PurePosixPath
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tilth.core.config import Config
from tilth.core.no_text import text_of_it, what_it_is
from tilth.data.extract.config import ExtractConfig
from tilth.data.sources.hub_config import HubConfig
from tilth.data.sources.inputs import READ_BY
from tilth.data.sources.matching import GLOB_CHARACTERS
from tilth.data.sources.origins import ORIGINS, Origin, Reach, path_prefix
from tilth.data.sources.row_map import RowMap, template_columns
from tilth.data.sources.synthetic.config import SyntheticConfig
from tilth.data.sources.web.config import CommonCrawlConfig, CrawlConfig

SEPARATORS = frozenset(string.punctuation + " \t") - {'"', "'"}


class SourceConfig(Config):
    """One source: exactly one of `ORIGINS`, and how its text is read."""

    example: ClassVar[str] = "{path: my-text.txt}"

    path: str | None = None
    """A file, a folder (read with all that lies under it) or a glob such as `texts/**/*.md`; relative to the current
    folder.
    """
    exclude: list[str] = []
    """Files and folders below `path` that are left out: patterns as in `path` (no regular expressions, as a crawl has),
    relative to its folder, which of a glob is what stands before the first wildcard: `books.csv`, `**/*.log`, `drafts`
    (with all below it). An archive counts as a folder: `old.zip/notes`.
    """
    url: str | None = None
    """An http or https address of one file; downloaded once, compared with `sha256`."""
    sha256: str | None = None
    """SHA-256 (64 hex digits) of the file at `url`."""
    builtin: Literal["python_docs", "python_questions"] | None = None
    """`python_docs`: the language reference, docstrings and sources of the Python that runs tilth; needs no network.
    `python_questions`: conversations about what the same docstrings say."""
    crawl: CrawlConfig | None = None
    """Pages of the web, fetched politely and kept as WARC."""
    common_crawl: CommonCrawlConfig | None = None
    """WARC or WET files of Common Crawl, whole or single records."""
    hub: HubConfig | None = None
    """A data set of Hugging Face: `ORG/NAME` on the hub, or `folder:`; with `revision`, `config`, `split`, `files`."""
    deeplake: str | None = None
    """The folder of a Deep Lake data set; `field`, `template` or `map` say which of its columns are wanted."""
    synthetic: SyntheticConfig | None = None
    """Documents, or pairs of question and answer, that a model writes."""
    name: str | None = None
    """What the documents are filed under; by default the path, address or built-in as it is written here."""
    license: str | None = None
    """The licence of the texts, such as `CC-BY-4.0`; written on each document."""
    format: Literal[
        "auto", "text", "markdown", "python", "code", "jsonl", "csv", "json", "parquet", "arrow", "html", "pdf", "warc"
    ] = "auto"
    """How to read the files (in an archive: those in it); `auto` goes by their suffix."""
    field: str = "text"
    """The key (JSON) or column (CSV, Parquet) that holds the text; `author.name` is one within another. A list
    with objects that have a `text`, or of lines with their ends, is joined.
    """
    template: str | None = None
    """The text of a row from several columns, such as `"{title}\\n\\n{body}"` or `"{author.name}: {content}"`; instead
    of `field`.
    """
    map: RowMap | None = None
    """The columns that make a conversation: `{prompt: question, completion: answer}` or `{messages: conversations}`;
    instead of `field`.
    """
    separator: str | None = None
    """What stands between the cells of a CSV file, such as `";"` (Excel in much of Europe) or `"\\t"`; by default what
    a first line such as `sep=;` says, else a comma, and a tab in `.tsv`.
    """
    records: str | None = None
    """Where the rows stand in a JSON file that is one object, such as `data.items`; of a list on the way
    (`chats.list.messages`), in each of its items.
    """
    extract: ExtractConfig = ExtractConfig()
    """How HTML and PDF become text."""
    document: Literal["file", "paragraph", "line"] = "file"
    """What is one document in a text file."""
    invalid_utf8: Literal["replace", "drop"] = "replace"
    """A document with bytes that are not UTF-8: put U+FFFD in their place, or drop it. Both are counted."""
    max_bad_rows: float = Field(default=0.01, ge=0, le=1)
    """The share of a file's rows that may be unusable before the file counts as lost, and of a source's files that may
    be lost, lack the column or be damaged before the run stops; five may in any case, unless they are all. 0: none may;
    1: all that can be read is, the rest counted. Whatever share it is, such files are named. Of evaluation files none
    may be lost below 1, nor five rows in any case."""

    @field_validator("path")
    @classmethod
    def _path_is_one(cls, path: str | None) -> str | None:
        if path is not None and not path.strip():
            raise ValueError("the path is empty | name a file, a folder or a glob")
        if path is not None and re.match(r"https?://", path, re.IGNORECASE):
            raise ValueError(f"{path!r} is an address, not a path | write `url:` and its `sha256:`")
        if path is not None and "\0" in path:
            raise ValueError("the path holds a NUL character | remove it")
        return path

    @field_validator("exclude")
    @classmethod
    def _excluded_is_below(cls, patterns: list[str]) -> list[str]:
        found = []
        for pattern in patterns:
            parts = PurePosixPath(pattern).parts
            if not pattern.strip() or not parts or "\0" in pattern or parts[0] in ("/", "~") or ".." in parts:
                raise ValueError(f"{pattern!r} names nothing below the source's folder | write `a.csv` or `**/*.log`")
            once = (part for n, part in enumerate(parts) if part != "**" or parts[n - 1 : n] != ("**",))
            found.append("/".join(once))  # `**/**` says what `**` does
        return list(dict.fromkeys(found))

    @field_validator("url")
    @classmethod
    def _url_is_http(cls, url: str | None) -> str | None:
        if url is None:
            return url
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018 - reading it checks it
        except ValueError as error:
            raise ValueError(f"{url!r} is not an address: {error} | write https://host/file") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s\0]", url):
            raise ValueError(f"{url!r} is not an http or https address | write https://host/file, or use `path:`")
        if parts.username is not None or parts.password is not None:
            # It would be copied into the ledger, the run folder and every document's locator.
            raise ValueError("the address carries a user name or password | download the file and use `path:`")
        return url

    @field_validator("deeplake")
    @classmethod
    def _deeplake_is_here(cls, folder: str | None) -> str | None:
        if folder is not None and (not folder.strip() or "\0" in folder or "://" in folder):
            raise ValueError(f"{folder!r} is no folder | bring the data set here by `deeplake.copy(FROM, TO)`")
        return folder

    @field_validator("sha256")
    @classmethod
    def _sha256_is_hex(cls, sha256: str | None) -> str | None:
        if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
            raise ValueError(f"{sha256!r} is not 64 hex digits | give what `sha256sum FILE` prints")
        return sha256 if sha256 is None else sha256.lower()

    @field_validator("template")
    @classmethod
    def _template_is_one(cls, template: str | None) -> str | None:
        if template is not None:
            template_columns(template)
        return template

    @field_validator("separator")
    @classmethod
    def _separator_is_one(cls, separator: str | None) -> str | None:
        if separator == r"\t":  # as a shell gives it, and YAML without double quotes
            separator = "\t"
        if separator is not None and separator not in SEPARATORS:
            raise ValueError(
                f"{separator!r} cannot stand between cells | write one character that is no letter, digit, quote or "
                'line end, in quotes: ";", "|", or "\\t" for a tab'
            )
        return separator

    @field_validator("name", "field", "records")
    @classmethod
    def _text_is_there(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("it is empty | give it a value, or leave the key out")
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> SourceConfig:
        given = [key for key in ORIGINS if getattr(self, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"a source has one of {', '.join(ORIGINS)}; here: {found} | keep exactly one")
        if self.url is not None and self.sha256 is None:
            raise ValueError("a url needs its sha256 | add `sha256:` with what `sha256sum FILE` prints")
        if self.url is None and self.sha256 is not None:
            raise ValueError("sha256 is for a url | remove it, or name the `url:`")
        if self.exclude and (instead := self.origin.no_exclude):
            raise ValueError(f"exclude is for the files of a `path` | {instead}")
        return self

    @model_validator(mode="after")
    def _one_shape(self) -> SourceConfig:
        # As default it says nothing: a resolved recipe, as it lies in a run folder, has every key.
        fields = type(self).model_fields
        given = [key for key in ("field", "template", "map") if getattr(self, key) != fields[key].default]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} say the same thing | keep one of them")
        of_files = [
            key
            for key in (*given, "format", "separator", "records", "document")
            if getattr(self, key) != fields[key].default
        ]
        if self.builtin is not None and of_files:
            raise ValueError(f"{' and '.join(of_files)} say how files are read | builtin needs none: leave it out")
        return self

    @model_validator(mode="after")
    def _separator_is_for_csv(self) -> SourceConfig:
        other = "" if self.origin.csv else self.origin.key
        if not other and self.format not in ("auto", "csv"):
            other = f"format: {self.format}"
        if self.separator is not None and other:
            raise ValueError(
                f"separator {self.separator!r} is for CSV: it does nothing beside `{other}` | leave it out"
            )
        return self

    @model_validator(mode="after")
    def _holds_text(self) -> SourceConfig:
        named = self.path or self.url or ""
        if self.format == "auto" and (what := what_it_is(named)):  # a folder of such a name is written with / behind
            key = "path" if self.path else "url"
            one = self.path and not GLOB_CHARACTERS & {*named}
            folder = f"; a folder of that name is written with / behind: {named}/" if one else ""
            raise ValueError(f"{key}: {named!r} is {what} | {text_of_it(named)}{folder}")
        return self

    def idle_keys(self, kind: str) -> list[str]:
        """The keys that were given and say nothing about files of this kind, as they are read."""
        fields = type(self).model_fields
        return [k for k, kinds in READ_BY.items() if kind not in kinds and getattr(self, k) != fields[k].default]

    @property
    def origin(self) -> Origin:
        """Where it comes from: the row of `ORIGINS` for the one key that is given."""
        return next(origin for key, origin in ORIGINS.items() if getattr(self, key) is not None)

    @property
    def reach(self) -> Reach:
        """What listing it does."""
        return self.origin.reach(getattr(self, self.origin.key))

    @property
    def wanted(self) -> str:
        """The key that says what is taken of a row, as the recipe writes it."""
        if self.map is not None:
            columns = self.map.model_dump(exclude_none=True, exclude_defaults=True)
            return f"map: {{{', '.join(f'{role}: {column}' for role, column in columns.items())}}}"
        return f"template: {self.template}" if self.template is not None else f"field: {self.field}"

    @property
    def source_name(self) -> str:
        """`name`, or one made from what the recipe says; never from where recipe or data lie on this machine."""
        if self.name is not None:
            return self.name
        return self.origin.title(getattr(self, self.origin.key))

    @property
    def path_prefix(self) -> str:
        """The path as the recipe writes it, in posix form; empty for an absolute one, which names a machine."""
        return "" if self.path is None else path_prefix(self.path)
