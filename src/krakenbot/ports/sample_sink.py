"""Raw samples into the ingest database, and what is known of trades that are missing there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import frozen

from krakenbot.domain.market.samples import Sample, TradeSample
from krakenbot.domain.market.trade_ledger import TradeGap, TradeSource
from krakenbot.domain.values import RunId


@frozen(kw_only=True)
class SinkStats:
    """Counters of the sink since start; mappings are by table.

    `lag_s` is the age of the oldest row of this process not yet committed, 0 when none; `queued` rows wait in memory,
    `spooled` rows on disk (`spool_bytes`; those of an earlier process included). `dropped` rows are lost, `coalesced`
    ones were merged into the next of their symbol. `trades_missing` are ids that are known to be missing,
    `trades_refilled` ids that were and came. `spool_full` says that the disk takes no more.
    """

    lag_s: float
    queued: int
    rows: dict[str, int]
    dropped: dict[str, int]
    coalesced: dict[str, int]
    batches: int
    failures: int
    spooled: int = 0
    spool_bytes: int = 0
    spool_full: bool = False
    replayed: int = 0
    gaps_open: int = 0
    trades_missing: int = 0
    trades_refilled: int = 0
    last_failure: str = ""


class SampleSink(Protocol):
    """A bounded queue in front of the database; each row is written once.

    Trades are never dropped silently: what has no room is named as a gap. Periodic samples are coalesced when the
    queue is full, counted by kind.
    """

    def put(self, run_id: RunId, samples: Sequence[Sample], *, source: TradeSource = TradeSource.FEED) -> None:
        """Queue samples of a run; never waits. Trades that are held already are left out, holes of ids noticed."""

    def gaps(self) -> Sequence[TradeGap]:
        """Return the ranges of trade ids that are missing and may be asked for, the oldest first."""

    def refill(self, trades: Sequence[TradeSample]) -> int:
        """Queue trades from history, those that are missing only; return how many these were."""

    async def run(self) -> None:
        """Write batches until cancelled; what is queued then is written, or spooled, before this returns."""

    async def flush(self) -> None:
        """Wait until everything queued so far is committed."""

    def stats(self) -> SinkStats:
        """Return the counters."""
