"""What is measured of a language model on text, from three sums."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace


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
        pseudo_perplexity: of a masked language model, where it was asked for: exp of the mean negative log-likelihood
            of a token when it alone is hidden (Salazar et al. 2020, equations 1 and 2).
        pseudo_tokens: of how many tokens.
    """

    loss: float
    perplexity: float
    bits_per_byte: float | None
    accuracy: float
    tokens: int
    pseudo_perplexity: float | None = None
    pseudo_tokens: int | None = None

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

    def with_pseudo(self, other: Metrics) -> Metrics:
        """These figures, and the pseudo-perplexity that `other` was measured for: one token hidden at a time."""
        return replace(self, pseudo_perplexity=other.perplexity, pseudo_tokens=other.tokens)

    def plain(self) -> dict[str, float]:
        """As plain data; what does not apply is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}
