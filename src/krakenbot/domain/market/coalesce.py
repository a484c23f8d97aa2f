"""Two samples of one symbol as one, for a queue that is full.

Enters: a sample and the next one of the same kind and symbol. Leaves: the next one, with what counts "since the last
sample" added up, so that no flow is lost but only its place in time. Called by the sample sinks.
"""

from __future__ import annotations

from typing import TypeVar

from attrs import evolve

from krakenbot.domain.market.samples import BookSample, QueueSample, TickerSample

PeriodicSample = TickerSample | BookSample | QueueSample
P = TypeVar("P", bound=PeriodicSample)
_SUMS: dict[type, tuple[str, ...]] = {
    TickerSample: (),
    BookSample: ("ofi", "updates", "crossed_s", "invalid_s"),
    QueueSample: ("bid_added", "bid_removed", "ask_added", "ask_removed"),
}


def coalesce(older: P, newer: P) -> P:
    """Return the newer sample with the older one's sums added."""
    sums = {name: getattr(older, name) + getattr(newer, name) for name in _SUMS[type(newer)]}
    return evolve(newer, **sums) if sums else newer
