"""What the commands print while a job runs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tilth.cli.show import in_order


@given(st.lists(st.lists(st.text("ab", min_size=1), max_size=4), min_size=1, max_size=4), st.randoms())
def test_samples_written_at_once_come_out_one_after_another(samples: list[list[str]], random: object) -> None:
    left = [[*pieces, ""] for pieces in samples]
    given_so_far: list[tuple[int, str]] = []

    def written():  # type: ignore[no-untyped-def]
        while any(left):
            sample = random.choice([n for n, pieces in enumerate(left) if pieces])  # type: ignore[attr-defined]
            given_so_far.append((sample, left[sample].pop(0)))
            yield given_so_far[-1]

    shown, open_sample = [""] * len(samples), -1
    for sample, piece in in_order(written()):
        if piece is None:
            assert sample == open_sample + 1, "samples come in their order"
            open_sample = sample
            continue
        assert sample == open_sample
        shown[sample] += piece
        first_open = next((n for n, pieces in enumerate(left) if pieces), None)
        if sample == first_open:  # nothing that may go out already is held back
            assert shown[sample] == "".join(text for n, text in given_so_far if n == sample)
    assert shown == ["".join(pieces) + "\n" for pieces in samples]
