"""What is counted on paper, against what really happens."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tilth.core.environment import Precision, cache_folder
from tilth.data.batches.batch import Batch
from tilth.data.batches.feed import Feed
from tilth.model import pieces
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import apply_adapter
from tilth.model.compiled import compile_layers, layers_on_paper
from tilth.model.config import ModelConfig
from tilth.model.dropout import Dropout, drawing
from tilth.model.precision import DTYPES
from tilth.model.transformer import Transformer, build
from tilth.model.wrapped import empty_model
from tilth.model.wrapped_config import read_wrapped_config
from tilth.training import loss
from tilth.training.config import OptimizerConfig, TrainConfig
from tilth.training.footprint import Footprint, Plan, footprint
from tilth.training.meter import Call, Give, Paper, Peak, Take, play
from tilth.training.optim import make_optimizer, state_bytes
from tilth.training.step import loss_of

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SHAPE = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 64, "context_length": 32, "vocab_size": 300}
CONFIG = ModelConfig(preset="gpt2", **SHAPE)
TRAIN = TrainConfig(steps=1, schedule={"name": "constant"})  # type: ignore[arg-type]


def batch(rows: int = 4) -> Batch:
    ids = np.zeros((rows, 32), np.int64)
    return Batch(ids, ids, ids[:, 0])


def traced(
    config: ModelConfig = CONFIG,
    precision: Precision = "fp32",
    rows: int = 4,
    model: Callable[[ModelConfig], Transformer] = Transformer,
    **changes: object,
) -> Footprint:
    train = TRAIN.model_copy(update=changes)
    return footprint(Plan(lambda: model(config), lambda: Feed.of(batch(rows), CPU), train, precision, CPU))


def adapted(
    config: ModelConfig, precision: Precision, model: Callable[[ModelConfig], Transformer] = Transformer
) -> Transformer:
    made = model(config)
    apply_adapter(made, AdapterConfig(rank=4, dropout=config.dropout), 1, dtype=DTYPES.get(precision))
    return made


def graphed(config: ModelConfig, model: Callable[[ModelConfig], Transformer] = Transformer) -> Transformer:
    """On paper, with its layers as they are when compiled."""
    made = model(config)
    layers_on_paper(made)
    return made


def really_saved(
    precision: Precision, config: ModelConfig = CONFIG, cache: Path | None = None, model: Transformer | None = None
) -> int:
    """Bytes of what autograd keeps of a real forward pass: each storage once, without weights and inputs.

    Args:
        cache: of what is compiled; left out: layers are plain.
    """
    model, feed = (model or build(config, 1)).train(), Feed.of(batch(), CPU)
    if cache is not None:
        compile_layers(model, cache)
    theirs = {p.untyped_storage().data_ptr() for p in model.parameters()}
    theirs |= {feed.input_ids.untyped_storage().data_ptr(), feed.labels.untyped_storage().data_ptr()}
    saved: dict[int, int] = {}
    held = []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held.append(storage)  # else its place is used again
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with drawing(0, 0, 4), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = loss_of(model, feed.hidden(model, precision), feed.labels, precision)
    assert loss.requires_grad
    return sum(size for place, size in saved.items() if place not in theirs)


def counted(config: ModelConfig, precision: Precision, model: Callable[[ModelConfig], Transformer]) -> int:
    """Bytes on paper of what is there when the way back begins."""
    sizes = dict[int, int]()
    for event in traced(config, precision, model=model).step:
        if isinstance(event, Give):
            sizes.pop(event.block)
        elif isinstance(event, Take) and event.part in ("activations", "loss", "batches"):
            sizes[event.block] = event.size if event.part != "batches" else 0
        else:
            break
    return sum(sizes.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_are_those_that_autograd_keeps(precision: Precision) -> None:
    peak = play([traced(precision=precision).step], keeps=False)
    found = peak.parts["activations"] + peak.parts["loss"]
    assert found == pytest.approx(really_saved(precision), rel=0.06), "besides, what the last operation works with"


@pytest.mark.parametrize(
    ("preset", "precision", "dropout", "more", "beside"),
    [
        ("llama-tiny", "fp32", 0.1, 1.05, False),
        ("llama-tiny", "bf16", 0, 1.05, False),
        ("gpt2", "fp32", 0, 1.0, False),
        ("llama-tiny", "fp32", 0.1, 1.0, True),
        ("llama-tiny", "bf16", 0, 1.0, True),
    ],
)
def test_activations_of_compiled_layers_are_those_that_they_keep(
    preset: str, precision: Precision, dropout: float, more: float, beside: bool
) -> None:
    config = ModelConfig(preset=preset, **SHAPE, dropout=dropout)  # type: ignore[arg-type]
    real = adapted(config, precision, lambda config: build(config, 1)) if beside else None
    kept = really_saved(precision, config, cache_folder() / "compiled", real)
    plain = functools.partial(adapted, precision=precision) if beside else Transformer

    # Beside an adapter the first layer's input bears no gradient: of what is made of it a tensor more may be kept.
    off = 0.035 if beside else 0.01
    assert counted(config, precision, lambda config: graphed(config, plain)) == pytest.approx(kept, rel=off)
    if not beside:  # whose products keep as little by themselves
        assert counted(config, precision, plain) > more * kept, "plain ones"


def test_of_dropout_that_torch_draws_a_graph_keeps_no_mask() -> None:
    """As on a GPU: drawn anew on the way back, from a seed."""
    config = ModelConfig(preset="llama-tiny", **SHAPE, dropout=0.1)  # type: ignore[arg-type]

    def bare(model: Transformer) -> Transformer:
        for module in model.modules():
            if isinstance(module, Dropout):
                module.site = ""
        return model

    kept = really_saved("fp32", config, cache_folder() / "compiled", bare(build(config, 1)))
    assert counted(config, "fp32", lambda config: bare(graphed(config))) == pytest.approx(kept, rel=0.01)
    assert counted(config, "fp32", lambda config: bare(Transformer(config))) > 1.1 * kept


def test_weights_gradients_and_state_are_exact() -> None:
    found, model = traced(), build(CONFIG, None)
    size = 4 * sum(p.numel() for p in model.parameters())
    live = Counter[str]()
    blocks: dict[int, Take] = {}
    for event in [*found.before, *found.step]:
        if isinstance(event, Take):
            blocks[event.block] = event
        elif isinstance(event, Give):
            del blocks[event.block]
        else:
            assert event.part == "gradients"
    for block in blocks.values():
        live[block.part] += block.size
    assert live["weights"] == size
    assert live["optimizer"] == state_bytes(OptimizerConfig(), model)
    assert sum(live.values()) - live["weights"] - live["optimizer"] < 256, "all else is given back at a step's end"
    named = {event.block for event in found.step if isinstance(event, Call)}
    assert sum(e.size for e in found.step if isinstance(e, Take) and e.block in named) == size, "gradients"


def test_products_are_as_many_operations_as_torch_counts() -> None:
    model, feed = build(CONFIG, 1).train(), Feed.of(batch(), CPU)
    with FlopCounterMode(display=False) as counter:
        loss_of(model, feed.hidden(model, "fp32"), feed.labels, "fp32").backward()  # type: ignore[no-untyped-call]
    theirs = counter.get_total_flops()  # it knows no attention on a CPU
    ours = sum(kind.flops * calls for kind, calls in traced().micro.items() if kind.name == "product")
    assert ours == theirs > 0


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
def test_a_step_on_paper_is_the_step_of_every_optimizer(name: str) -> None:
    lr = OptimizerConfig(name=name, lr=0.1)  # type: ignore[arg-type]
    found, model = traced(optimizer=lr), build(CONFIG, None)
    kept = sum(e.size for e in found.before if isinstance(e, Take) and e.part == "optimizer")
    kept -= sum(
        taken.size
        for taken in found.before
        if isinstance(taken, Take) and taken.part == "optimizer" and Give(taken.block) in found.before
    )
    assert kept == state_bytes(lr, model)
    assert make_optimizer(lr, model) is not None and found.update


def test_more_rows_longer_rows_and_checkpointing_go_the_right_way() -> None:
    one, two = traced(rows=2).peaks["step"], traced(rows=4).peaks["step"]
    assert one.total < two.total and two.parts["activations"] == pytest.approx(2 * one.parts["activations"], rel=0.02)
    assert traced(precision="bf16").peaks["step"].parts["activations"] < two.parts["activations"]


def test_an_adapter_has_gradients_of_its_own_alone_and_nf4_takes_less() -> None:
    def peak(quantize: str | None) -> Peak:
        def make() -> Transformer:
            model = Transformer(CONFIG)
            apply_adapter(model, AdapterConfig(rank=2, quantize=quantize), 1)  # type: ignore[arg-type]
            return model

        return footprint(Plan(make, lambda: Feed.of(batch(), CPU), TRAIN, "fp32", CPU)).peaks["step"]

    plain, small = peak(None), peak("nf4")
    whole = traced().peaks["step"]
    assert plain.parts["optimizer"] < whole.parts["optimizer"] / 8
    assert small.parts["weights"] < plain.parts["weights"]


def test_a_mask_has_no_values_on_paper() -> None:
    config = CONFIG.model_copy(update={"context_length": 512, "max_position_embeddings": 512})
    ids = np.zeros((1, 512), np.int64)
    apart = Batch(ids, ids, ids[:, 0], np.ones((1, 512), np.int32), ids)
    found = footprint(Plan(lambda: Transformer(config), lambda: Feed.of(apart, CPU), TRAIN, "fp32", CPU))
    attention = sum(calls for kind, calls in found.micro.items() if kind.name == "attention")
    assert attention == 2 * 2 * 4, "forward and back, two layers, four chunks of a row"


def test_a_window_alone_is_computed_on_paper_too() -> None:
    ids, work = np.zeros((1, 512), np.int64), []
    for window in (100, 511):
        config = ModelConfig(preset="llama-tiny", **{**SHAPE, "context_length": 512}, sliding_window=window)
        model, feed = functools.partial(Transformer, config), lambda: Feed.of(Batch(ids, ids, ids[:, 0]), CPU)
        found = footprint(Plan(model, feed, TRAIN, "fp32", CPU)).micro.items()
        work.append([(calls, calls * kind.flops) for kind, calls in found if kind.name == "attention"])
        assert sum(calls for calls, _ in work[-1]) == 2 * 2 * 4
    narrow, wide = (sum(flops for _, flops in one) for one in work)
    assert narrow / wide == pytest.approx((128 + 3 * 227) / (128 * 10)), "keys that a chunk looks at"


def test_weights_that_are_drawn_until_they_fit_are_not_drawn_on_paper(tmp_path: Path) -> None:
    """ModernBERT draws from a normal distribution again what lies too far out; on paper that has no end."""
    config = transformers.ModernBertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=32, pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3,
    )  # fmt: skip
    transformers.ModernBertForMaskedLM(config).save_pretrained(tmp_path)
    read = read_wrapped_config(tmp_path)
    ids = np.zeros((2, 32), np.int64)
    masked = Batch(ids, ids, ids[:, 0], causal=False)
    found = footprint(Plan(lambda: empty_model(read, CPU), lambda: Feed.of(masked, CPU), TRAIN, "fp32", CPU))
    assert found.peaks["step"].parts["weights"] == pytest.approx(4 * read.parameters, rel=0.01)


def test_what_is_played_is_the_most_that_is_alive() -> None:
    large = 50 << 20
    tape = [Take(1, 10, "weights"), Take(2, 5, "activations"), Call(2, "gradients"), Give(1), Take(3, large, "loss")]
    parts = {"weights": 0, "activations": 0, "gradients": 5, "loss": large}
    assert play([tape], keeps=False) == Peak(large + 5, parts, 0, 0)
    assert play([tape], keeps=True) == Peak(large + 5, parts, 0, 10), "the allocator has the ten still"
    both = [[Take(1, 8, "loss")], [Take(2, 4, "working")]]
    assert play(both, keeps=True) == Peak(12, {"loss": 8, "working": 4}, 12, 0)


def test_small_blocks_stay_and_large_ones_go_back() -> None:
    small, large = 10 << 20, 60 << 20
    step = [Take(1, small, "activations"), Take(2, small, "activations"), Give(1), Give(2)]
    step += [Take(3, large, "loss"), Give(3), Take(4, large, "loss")]
    assert play([[], step], keeps=True) == Peak(large, {"activations": 0, "loss": large}, 0, 2 * small)
    assert play([step], keeps=False).idle == 0
    first, again = step[:4], [Take(3, small, "loss")]
    assert play([first, again], keeps=True).idle == 0, "between a step and an evaluation they go back"
    assert play([[*first, *again]], keeps=True).total == 2 * small, "what has stayed is used again"


def test_pieces_of_the_loss_that_are_alike_are_run_on_paper_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 300 * 64)
    gone_over, real = list[int](), loss._piece
    monkeypatch.setattr(loss, "_piece", lambda *asked: gone_over.append(1) or real(*asked))
    found = traced(rows=33)  # 4 products of 256 positions, each gone over in 4 parts, and one of 32
    assert len(gone_over) == 3 + 3 + 1
    monkeypatch.setattr(loss, "alike", lambda starts, tensor: iter(starts))
    every = traced(rows=33)
    assert len(gone_over) == 7 + 4 * 4 + 1 and found.micro == every.micro and found.peaks["step"] == every.peaks["step"]


def test_nothing_is_allocated_and_numbers_are_made_up() -> None:
    with Paper() as meter:
        huge = torch.ones(1 << 40)
        assert float(huge.sum()) == 0 and bool((huge > 2).any())
        assert meter.tape[0] == Take(0, 4 << 40, "other")


@pytest.mark.parametrize("into", [False, True])
def test_a_product_is_counted_by_what_it_sums_over(into: bool) -> None:
    with Paper() as meter:
        left, right, out = torch.ones(3, 7), torch.ones(7, 5), torch.ones(3, 5)
        meter.begin("working")
        torch.mm(left, right, out=out) if into else torch.mm(left, right)
        torch.addmm(out, left, right)
        torch.baddbmm(out[None], left[None], right[None])
    assert [kind.flops for kind in meter.work.elements()] == [2 * 3 * 7 * 5] * 3
