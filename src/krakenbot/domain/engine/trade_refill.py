"""Refill of trade gaps: what the feed did not bring is asked for, or stays named.

Enters: the gaps that the sink knows. Leaves: trades from history, put into the sink, and events for people. Run by
ingest. A gap first has time to be filled by the snapshot of a new subscription; then history is read page by page, at
the pace of the history's port, one gap at a time. What is too large, refused, or tried too often stays in trade_gaps.
"""

from __future__ import annotations

from attrs import define, field, frozen, validators

from krakenbot.domain.errors import VenueError, VenueRejected
from krakenbot.domain.market.trade_ledger import TradeGap
from krakenbot.domain.values import NS_PER_S, RunId, Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.sample_sink import SampleSink
from krakenbot.ports.trade_history import TradeHistory

_REMEMBERED_MAX = 20_000


@frozen(kw_only=True)
class RefillSettings:
    """How gaps of trade ids are refilled.

    `snapshot_wait_s` is the least age of a gap before history is asked, `pages_max` how many pages may be read for one
    gap (1000 trades each; a gap that needs more is not begun), `tries_max` how often it is tried, `retry_s` the pause
    after the first failed try, doubled with each.
    """

    snapshot_wait_s: float = field(default=5.0, validator=validators.ge(0))
    interval_s: float = field(default=1.0, validator=validators.gt(0))
    pages_max: int = field(default=20, validator=validators.ge(1))
    tries_max: int = field(default=6, validator=validators.ge(1))
    retry_s: float = field(default=5.0, validator=validators.gt(0))


@define
class _Tries:
    count: int = 0
    due_mono: float = 0.0
    is_over: bool = False
    since_ns: int | None = None
    """Where the last try stopped in mid-history; None: from the gap's beginning."""


_PAGE_TRADES = 1000
# Times of neighbouring trades need not rise with their ids; a page begins a little earlier.
_SLACK_NS = NS_PER_S


class TradeRefill:
    """One task that works off gaps."""

    def __init__(
        self, *, clock: Clock, sink: SampleSink, history: TradeHistory, events: EventSink, settings: RefillSettings
    ) -> None:
        self._clock = clock
        self._sink = sink
        self._history = history
        self._events = events
        self._settings = settings
        self._tries: dict[tuple[RunId, Symbol, int], _Tries] = {}

    async def run(self) -> None:
        """Work off gaps until cancelled."""
        while True:
            await self._clock.sleep(self._settings.interval_s)
            await self.refill_due()

    async def refill_due(self) -> None:
        """Try each gap that is due once."""
        gaps = self._sink.gaps()
        open_keys = {gap.key for gap in gaps}
        self._tries = {key: tries for key, tries in self._tries.items() if key in open_keys}
        for gap in gaps[:_REMEMBERED_MAX]:
            tries = self._tries.setdefault(gap.key, _Tries())
            if gap.missing and not tries.is_over and self._is_due(gap, tries):
                await self._try(gap, tries)

    def _is_due(self, gap: TradeGap, tries: _Tries) -> bool:
        age_s = (self._clock.now_ns() - gap.noticed_at_ns) / NS_PER_S
        return age_s >= self._settings.snapshot_wait_s and self._clock.mono() >= tries.due_mono

    async def _try(self, gap: TradeGap, tries: _Tries) -> None:
        missing = gap.missing_count
        # The range counts, not what is missing of it: history is read from its beginning to its end.
        if gap.last_id - gap.first_id + 1 > self._settings.pages_max * _PAGE_TRADES:
            self._leave(gap, tries, "too large")
            return
        tries.count += 1
        reason = ""
        try:
            await self._read(gap, tries)
        except VenueRejected as error:
            tries.count = self._settings.tries_max
            reason = str(error)
        except VenueError as error:
            reason = str(error)
        if not gap.missing_count:
            source = gap.refilled_from or ""
            self._emit("trade_gap_refilled", gap, missing=missing, source=source)
        elif tries.count >= self._settings.tries_max:
            self._leave(gap, tries, reason or "history does not hold them")
        else:
            tries.due_mono = self._clock.mono() + self._settings.retry_s * 2 ** (tries.count - 1)

    async def _read(self, gap: TradeGap, tries: _Tries) -> None:
        """Read history until the gap is full or history is past its end; a next try goes on where this one stopped."""
        since_ns = tries.since_ns or max(1, gap.since_ns - _SLACK_NS)
        for _ in range(self._settings.pages_max):
            page = await self._history.page(gap.symbol, since_ns)
            self._sink.refill(page.trades)
            is_past = bool(page.trades) and page.trades[-1].trade_id > gap.last_id
            if not gap.missing_count or is_past or page.next_since_ns is None:
                tries.since_ns = None
                return
            tries.since_ns = since_ns = page.next_since_ns

    def _leave(self, gap: TradeGap, tries: _Tries, reason: str) -> None:
        tries.is_over = True
        self._emit("trade_gap_left", gap, missing=gap.missing_count, reason=reason)

    def _emit(self, name: str, gap: TradeGap, **fields: object) -> None:
        self._events.emit(
            name, symbol=gap.symbol, first=gap.first_id, last=gap.last_id, cause=gap.cause.value, **fields
        )
