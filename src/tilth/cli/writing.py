"""The commands that have a model write: `generate` and `chat`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tilth.cli.options import AdapterOption, CheckpointOption, RunArgument, WeightTypeOption, WrappedOption, which
from tilth.core.errors import RecipeError

Temperature = Annotated[float, typer.Option(min=0.0, help="0: always the likeliest token.")]
TopK = Annotated[int | None, typer.Option(min=1, help="Choose among the k likeliest.")]
TopP = Annotated[float | None, typer.Option(help="Choose among those that hold this probability.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same text.")]
System = Annotated[str | None, typer.Option(metavar="TEXT", help="The system prompt of a conversation.")]


def generate(
    run: RunArgument,
    prompt: Annotated[str, typer.Option(help="What the text begins with; empty: a new document.")] = "",
    chat: Annotated[bool, typer.Option("--chat", help="The prompt is a message: the model answers it.")] = False,
    system: System = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to write at most.")] = 200,
    temperature: Temperature = 0.8,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = 1,
    stop: Annotated[list[str] | None, typer.Option(help="Stop before this text; may be given several times.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="How many texts, written at once.")] = 1,
    adapter: AdapterOption = None,
    checkpoint: CheckpointOption = "final",
    wrapped: WrappedOption = False,
    dtype: WeightTypeOption = "float32",
) -> None:
    """Write text with a trained model."""
    from tilth.cli.output import results
    from tilth.cli.show import say_not_the_end, stream_generated
    from tilth.jobs.load import load

    if (chat or system is not None) and not prompt.strip():
        raise RecipeError("there is no message to answer", "give one with --prompt, or talk with `tilth chat`")
    options = _options(max_new_tokens, samples, stop, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    language_model = load(run, which(checkpoint), wrapped=wrapped or None, adapter=adapter, dtype=dtype)
    say_not_the_end(run, which(checkpoint), language_model.path)
    asked: Any = prompt
    if chat or system is not None:
        asked = [{"role": "system", "content": system}] if system else []
        asked += [{"role": "user", "content": prompt}]
    with results():
        stream_generated(language_model, asked, options)


def chat(
    run: Annotated[
        str, typer.Argument(metavar="RUN|FOLDER|ID", help="A run, a model's folder, or ORG/NAME of the hub.")
    ],
    system: System = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 512,
    temperature: Temperature = 0.8,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = 1,
    adapter: AdapterOption = None,
    checkpoint: CheckpointOption = "final",
    wrapped: WrappedOption = False,
    dtype: WeightTypeOption = "float32",
) -> None:
    """Talk with a model, on a terminal or piped.

    A line is a message, /help lists the commands.
    """
    from tilth.cli.chat import run_chat
    from tilth.cli.output import results
    from tilth.cli.show import say_not_the_end
    from tilth.jobs.load import load
    from tilth.jobs.talk import Talk

    options = _options(max_new_tokens, 1, None, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    language_model = load(run, which(checkpoint), wrapped=wrapped or None, adapter=adapter, dtype=dtype)
    say_not_the_end(run, which(checkpoint), language_model.path)
    with results(), Talk(language_model, options, system) as talk:
        run_chat(talk)


def _options(max_new_tokens: int, samples: int, stop: list[str] | None, **sampling: Any) -> Any:
    """How a text is written."""
    from tilth.core.config import parse
    from tilth.generate.config import SamplingConfig
    from tilth.generate.text import TextOptions

    return TextOptions(max_new_tokens, samples, tuple(stop or ()), parse(SamplingConfig, sampling, "generate"))
