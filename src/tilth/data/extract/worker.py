"""The process that parses: `python -m tilth.data.extract.worker`, started by `extractor.py`.

It takes {kind, memory} first, caps its own address space and answers {ready}. Then each message is one document, its
options in the header, and each answer what was found in it. It ends when its input does, so it never outlives its
parent by more than one document. Processor time is counted by a timer whose signal ends the process: nothing in Python
or in a C library can hold that up.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable
from typing import Any

from tilth.data.extract.channel import Channel, ChannelClosedError
from tilth.data.extract.result import Extracted, Fault

LONGEST = 1 << 30


def main() -> None:
    """Serves documents until the input ends."""
    # Whatever a library prints goes to the error output, so that it cannot get between the messages.
    channel = Channel(os.dup(0), os.dup(1), LONGEST)
    os.dup2(2, 1)
    with contextlib.suppress(ChannelClosedError):
        setup, _ = channel.receive()
        _limit(setup["memory"])
        parse = _parser(setup["kind"])
        channel.send({"ready": True})
        while True:
            options, raw = channel.receive()
            signal.setitimer(signal.ITIMER_PROF, options["seconds"])
            found = _parsed(parse, raw, options)
            signal.setitimer(signal.ITIMER_PROF, 0)
            header = {**found._asdict(), "text": found.text is not None}
            channel.send(header, (found.text or "").encode("utf-8", "surrogatepass"))
            if found.faults and found.faults[-1].rule == "memory":
                return  # what is left of its memory is in pieces: the parent starts another


def _limit(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


def _parser(kind: str) -> Callable[[bytes, dict[str, Any]], Extracted]:
    """The parser, with its library imported, so that no document pays for that."""
    if kind == "html":
        import trafilatura  # noqa: F401

        from tilth.data.extract import html

        return html.parse
    import pypdfium2  # noqa: F401

    from tilth.data.extract import pdf

    return pdf.parse


def _parsed(parse: Callable[[bytes, dict[str, Any]], Extracted], raw: bytes, options: dict[str, Any]) -> Extracted:
    try:
        return parse(raw, options)
    except MemoryError:
        fault = Fault("memory", "", "the parser asked for more memory than it may have")
    except RecursionError:
        fault = Fault("too_deep", "", "nested too deeply for the parser")
    except Exception as error:  # a bug of the parser's that this document found: the document is lost, not the run
        fault = Fault("broken", type(error).__name__, f"{type(error).__name__}: {str(error)[:200]}")
    return Extracted(None, faults=(fault,))


if __name__ == "__main__":
    main()
