"""Raw samples into the ingest database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import frozen

from krakenbot.domain.market.samples import Sample
from krakenbot.domain.values import RunId


@frozen(kw_only=True)
class SinkStats:
    """Counters of the sink since start; `lag_s` is the age of the oldest row not yet written, 0 when none."""

    lag_s: float
    queued: int
    rows: dict[str, int]
    dropped: dict[str, int]
    coalesced: int
    batches: int
    failures: int


class SampleSink(Protocol):
    """A bounded queue in front of COPY.

    Trades are never dropped silently; periodic samples may be coalesced when the queue is full, counted.
    """

    def put(self, run_id: RunId, samples: Sequence[Sample]) -> None:
        """Queue samples of a run; never waits."""

    async def run(self) -> None:
        """Write batches until cancelled; what is queued then is written before this returns."""

    async def flush(self) -> None:
        """Wait until everything queued so far is committed."""

    def stats(self) -> SinkStats:
        """Return the counters."""
