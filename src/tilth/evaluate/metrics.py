"""What is measured of a language model on text, from three sums."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures of one full pass.

    Attributes:
        loss: mean negative log-likelihood of a token, in nats.
        perplexity: exp(loss).
        bits_per_byte: all the pass's loss in bits over the UTF-8 bytes of the text; comparable between tokenizers and
            with compressors. None where only some tokens of a text are predicted.
        accuracy: share of tokens that were the model's first choice.
        tokens: how many tokens were predicted (end-of-text included).
    """

    loss: float
    perplexity: float
    bits_per_byte: float | None
    accuracy: float
    tokens: int

    @classmethod
    def from_sums(cls, loss_sum: float, correct: int, tokens: int, text_bytes: int) -> Metrics:
        """From the summed loss (nats), the right first choices, the tokens predicted and the bytes they stand for."""
        loss = loss_sum / tokens
        return cls(
            loss=loss,
            perplexity=math.exp(min(loss, 700.0)),  # exp overflows beyond; such a model is lost anyway
            bits_per_byte=loss_sum / math.log(2) / text_bytes if text_bytes else None,
            accuracy=correct / tokens,
            tokens=tokens,
        )

    def plain(self) -> dict[str, float]:
        """As plain data; what does not apply is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}
