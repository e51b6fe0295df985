"""The parent's side of extraction: one worker process, watched, killed and replaced.

A document that kills its worker is dropped with `timeout`, `memory` or `crashed`. What it asked for is judged in a
process that has seen no other document: one that failed in a used worker is tried once more in a fresh one, so that the
outcome does not depend on what came before it.
"""

from __future__ import annotations

import importlib.util
import re
import signal
import time
from typing import Any, Literal

from tilth.core.channel import ChannelClosedError, LateError
from tilth.core.errors import RecipeError
from tilth.core.worker import PATIENCE, Worker, WorkerOwner, ending, out_of_time
from tilth.data.extract.config import ExtractConfig
from tilth.data.extract.result import Extracted, Fault

Kind = Literal["html", "pdf"]

_NEEDS = {"html": ("trafilatura", "web"), "pdf": ("pypdfium2", "pdf")}
_LONGEST_STATED = 1000  # characters of a title
_SURROGATE = re.compile("[\ud800-\udfff]")


def require(kind: str) -> None:
    """RecipeError when the library that parses files of this kind is not installed; other kinds need none."""
    library, extra = _NEEDS.get(kind, ("json", ""))
    if importlib.util.find_spec(library) is None:
        raise RecipeError(
            f"reading {kind.upper()} needs {library}, which is not installed", f"pip install 'tilth[{extra}]'"
        )


class Extractor(WorkerOwner):
    """Extracts documents of one kind, one after another; close it, or use it as a context manager.

    Not for several threads at a time: each takes its own, and with it a process of its own.
    """

    def __init__(self, kind: Kind, options: ExtractConfig | None = None) -> None:
        """Starts nothing yet.

        Raises:
            RecipeError: the library that parses this kind is not installed.
        """
        require(kind)
        self.kind, self.options = kind, options or ExtractConfig()

    def extract(self, raw: bytes, locator: str, *, charset: str | None = None) -> Extracted:
        """The text of one document, or why there is none; always an answer, within ten times `seconds`.

        Args:
            raw: the file's bytes.
            locator: what the details of faults call it.
            charset: the encoding that a server stated for a page.
        """
        if len(raw) > self.options.max_bytes:
            why = f"{len(raw)} bytes, more than {self.options.max_bytes}"
            return _named(Extracted(None, faults=(Fault("too_large", str(len(raw)), why),)), locator)
        used = self._worker is not None
        found = self._try(raw, charset)
        if used and found.text is None and found.faults[-1].rule in ("memory", "crashed"):
            found = self._try(raw, charset)
        return _named(found, locator)

    def _try(self, raw: bytes, charset: str | None) -> Extracted:
        if self._worker is None:
            setup = {"kind": self.kind, "memory": self.options.memory}
            self._worker = Worker("tilth.data.extract.worker", f"reads {self.kind.upper()}", setup)
        found = _parse(self._worker, raw, {**self.options.model_dump(), "charset": charset})
        if self.kind == "pdf" and found.faults == _ABORTED:  # PDFium does not say that it got no more memory
            why = f"the parser asked for more memory than it may have ({self.options.memory} bytes), and gave up"
            found = Extracted(None, faults=(Fault("memory", "", why),))
        if found.text is None and found.faults[-1].rule in ("memory", "crashed", "timeout"):
            self.close()
        return found


class Extractors:
    """One extractor of each kind, made when it is first asked for; close them, or use it as a context manager."""

    def __init__(self, options: ExtractConfig | None = None) -> None:
        self.options = options or ExtractConfig()
        self._made: dict[Kind, Extractor] = {}

    def of(self, kind: Kind) -> Extractor:
        """The extractor of this kind; RecipeError as for `Extractor`."""
        if kind not in self._made:
            self._made[kind] = Extractor(kind, self.options)
        return self._made[kind]

    def __enter__(self) -> Extractors:
        return self

    def __exit__(self, *_: object) -> None:
        for extractor in self._made.values():
            extractor.close()


def _parse(worker: Worker, raw: bytes, options: dict[str, Any]) -> Extracted:
    """The answer to one document, or the fault that says how the process ended."""
    deadline = time.monotonic() + options["seconds"] * PATIENCE
    try:
        worker.channel.send(options, raw, deadline)
        return _answer(*worker.channel.receive(deadline))
    except LateError:
        worker.kill()
        why = f"no answer within {options['seconds'] * PATIENCE:g} seconds"
    except ChannelClosedError:
        status = worker.ended()
        if not out_of_time(status):
            return Extracted(None, faults=_died(status))
        why = f"more than {options['seconds']:g} seconds of processor time"
    return Extracted(None, faults=(Fault("timeout", f"{options['seconds']:g}", why),))


def _died(status: int) -> tuple[Fault]:
    return (Fault("crashed", str(status), f"the parser died: {ending(status)}"),)


_ABORTED = _died(-signal.SIGABRT)


def _answer(header: dict[str, Any], body: bytes) -> Extracted:
    """The worker's message as a result; ChannelClosedError when it is none: a document may have its hand in it."""
    try:
        faults = tuple(Fault(*(str(part) for part in fault)) for fault in header["faults"])
        title, date, license = (_stated(header[key]) for key in ("title", "date", "license"))
        text = body.decode("utf-8", "surrogatepass") if header["text"] is True else None
    except (KeyError, TypeError, ValueError) as error:
        raise ChannelClosedError from error
    if text is None and not faults:
        raise ChannelClosedError
    if text and (lone := len(_SURROGATE.findall(text))):  # no encoding can write them
        text = _SURROGATE.sub("\ufffd", text)
        faults = (*faults, Fault("surrogate", str(lone), "lone surrogates became U+FFFD"))
    return Extracted(text, title, date, license, faults)


def _stated(value: object) -> str | None:
    text = _SURROGATE.sub("\ufffd", str(value)).replace("\0", "").strip() if value is not None else ""
    return text[:_LONGEST_STATED] or None


def _named(found: Extracted, locator: str) -> Extracted:
    """The same, with the document's place in front of each detail."""
    faults = (Fault(fault.rule, fault.value, f"{locator}: {fault.detail}") for fault in found.faults)
    return found._replace(faults=tuple(faults))
