"""Two samples as one: the newer state, the sum of what flowed."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import fields

from krakenbot.domain.market.coalesce import coalesce
from krakenbot.domain.market.samples import BookSample, QueueSample, TickerSample


def make(kind: Any, value: int) -> Any:
    sample = kind.__new__(kind)
    for number, field in enumerate(fields(kind)):
        setattr(sample, field.name, value * 100 + number)
    return sample


@pytest.mark.parametrize(
    ("kind", "summed"),
    [
        (TickerSample, set()),
        (BookSample, {"ofi", "updates", "crossed_s", "invalid_s"}),
        (QueueSample, {"bid_added", "bid_removed", "ask_added", "ask_removed"}),
    ],
)
def test_state_is_the_newer_and_flow_is_the_sum(kind: Any, summed: set[str]) -> None:
    older, newer = make(kind, 1), make(kind, 2)

    merged = coalesce(older, newer)

    for field in fields(kind):
        before, after = getattr(older, field.name), getattr(newer, field.name)
        assert (before + after if field.name in summed else after) == getattr(merged, field.name)
    assert 200 + len(fields(kind)) - 1 == getattr(newer, fields(kind)[-1].name)
