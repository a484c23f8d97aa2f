"""How each position is covered, second by second, and what the monitor remembers of it.

Enters: what the monitor sees at each look. Leaves: protection events for the store, and sums for the status.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from attrs import define

from krakenbot.domain.decision.plan import ExitProfile
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.execution.change import OrderChange
from krakenbot.domain.execution.exits import ExitSettings, Holding, protection_of
from krakenbot.domain.execution.order import Order
from krakenbot.domain.execution.position import Position, Protection, ProtectionEvent
from krakenbot.domain.values import ClOrdId
from krakenbot.ports.event_sink import EventSink


@define(kw_only=True)
class Cover:
    """What the monitor remembers of one symbol while it holds something."""

    entry_id: ClOrdId | None = None
    profile: ExitProfile | None = None
    entry_price: Decimal = Decimal(0)
    opened_at: datetime | None = None
    learn_again_mono: float | None = None
    peak_bid: Decimal | None = None
    floor_price: Decimal | None = None
    bare_since: datetime | None = None
    stop_changed_at: datetime | None = None
    amend_failing_since: datetime | None = None
    take_profit_id: ClOrdId | None = None
    take_profit_since: datetime | None = None
    take_profit_ended_at: datetime | None = None
    protection: Protection = Protection.FLAT
    protected_qty: Decimal = Decimal(0)
    since: datetime | None = None
    failures: int = 0
    rest_until_mono: float = 0.0
    trails_failed: int = 0
    trail_after_mono: float = 0.0
    use_balance: bool = False

    def note_take_profit(self, order: Order | None, at: datetime) -> None:
        """Note since when a take-profit has been seen; None when there is none."""
        if order is None:
            self.take_profit_id = self.take_profit_since = None
        elif order.cl_ord_id != self.take_profit_id:
            self.take_profit_id, self.take_profit_since = order.cl_ord_id, at


class ProtectionCounter:
    """Counts seconds by protection and how long each bare spell lasted."""

    def __init__(self, *, recorder: Recorder, settings: ExitSettings, event_sink: EventSink) -> None:
        self._recorder = recorder
        self._settings = settings
        self._sink = event_sink
        self.seconds = {protection.value: 0.0 for protection in Protection}
        self.within_s: list[float] = []

    def count(self, cover: Cover, holding: Holding) -> None:
        """Add the seconds since the last look to how the position was covered, and record a change."""
        protection, protected_qty = protection_of(holding, self._settings)
        at = holding.at
        if cover.since is not None:
            self.seconds[cover.protection] += max(0.0, (at - cover.since).total_seconds())
        cover.since = at
        if protection is Protection.BARE:
            cover.bare_since = cover.bare_since or at
        elif cover.bare_since is not None:
            self.within_s.append((at - cover.bare_since).total_seconds())
            del self.within_s[:-10_000]
            cover.bare_since = None
            cover.amend_failing_since = None
        if protection is cover.protection and protected_qty == cover.protected_qty:
            return
        event = ProtectionEvent(
            symbol=holding.position.symbol,
            at=at,
            protection=protection,
            position_qty=holding.position.qty,
            protected_qty=protected_qty,
            reason=_why(holding, protection),
        )
        self._recorder.put(OrderChange(protection=(event,)))
        if protection is not cover.protection:
            self._sink.emit(
                "protection",
                symbol=event.symbol,
                protection=protection,
                position=str(event.position_qty),
                protected=str(protected_qty),
                reason=event.reason,
            )
        cover.protection, cover.protected_qty = protection, protected_qty

    def close(self, cover: Cover, position: Position, at: datetime) -> None:
        """Record that a position is closed."""
        if cover.since is not None:
            self.seconds[cover.protection] += max(0.0, (at - cover.since).total_seconds())
        event = ProtectionEvent(
            symbol=position.symbol,
            at=at,
            protection=Protection.FLAT,
            position_qty=position.qty,
            protected_qty=Decimal(0),
            reason="closed",
        )
        self._recorder.put(OrderChange(protection=(event,)))
        self._sink.emit("position_closed", symbol=position.symbol, realized=str(position.realized_quote))


def _why(holding: Holding, protection: Protection) -> str:
    if protection is Protection.BARE:
        return "no stop" if holding.stop is None else f"stop {holding.stop.state} for {holding.stop.qty}"
    if protection is Protection.FLAT:
        if holding.unsold_qty <= 0:
            return "sold, not all of it booked yet"
        return "dust"
    return protection.value
