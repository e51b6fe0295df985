"""The process that parses: `python -m tilth.data.extract.worker`, started by `extractor.py`.

It takes {kind, memory} first. Then each message is one document, its options in the header, and each answer what was
found in it. Its memory, its time and its end are those of core/worker.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilth.core.channel import Channel
from tilth.core.worker import Message, serve, timed
from tilth.data.extract.result import Extracted, Fault

Parse = Callable[[bytes, dict[str, Any]], Extracted]


def main() -> None:
    """Serves documents until the input ends."""
    serve(_prepare)


def _prepare(setup: dict[str, Any]) -> Callable[[Channel, Message], bool]:
    parse = _parser(setup["kind"])

    def answer(channel: Channel, message: Message) -> bool:
        options, raw = message
        with timed(options["seconds"]):
            found = _parsed(parse, raw, options)
        header = {**found._asdict(), "text": found.text is not None}
        channel.send(header, (found.text or "").encode("utf-8", "surrogatepass"))
        # What is left of its memory is in pieces: the parent starts another.
        return not (found.faults and found.faults[-1].rule == "memory")

    return answer


def _parser(kind: str) -> Parse:
    """The parser, with its library imported, so that no document pays for that."""
    if kind == "html":
        import trafilatura  # noqa: F401

        from tilth.data.extract import html

        return html.parse
    import pypdfium2  # noqa: F401

    from tilth.data.extract import pdf

    return pdf.parse


def _parsed(parse: Parse, raw: bytes, options: dict[str, Any]) -> Extracted:
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
