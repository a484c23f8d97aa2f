"""What the venue has told of orders beyond their rows: how much is filled, that one is closed, when it last spoke.

Enters: totals, ends and times of reports and of queries' rows. Leaves: the same, until the order is forgotten. Called
by the tracker, which closes an order only when the ledger holds all that was told.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from attrs import frozen

from krakenbot.domain.execution.order import OrderEvent
from krakenbot.domain.values import ClOrdId, VenueOrderId

_NOTHING = Decimal(0)


@frozen(kw_only=True)
class ToldEnd:
    """The venue's word that an order is closed; `event` is how, `at` when we heard it."""

    event: OrderEvent
    order_id: VenueOrderId
    reason: str | None
    at: datetime


class Told:
    """The venue's last words, by our id."""

    def __init__(self) -> None:
        self._ends: dict[ClOrdId, ToldEnd] = {}
        self._totals: dict[ClOrdId, Decimal] = {}
        self._spoke_at: dict[ClOrdId, datetime] = {}

    def see_total(self, cl_ord_id: ClOrdId, cum_qty: Decimal | None) -> Decimal:
        """Take a filled quantity, None for none told; return the greatest told so far, as older words come late."""
        seen = max(self.total(cl_ord_id), cum_qty or _NOTHING)
        self._totals[cl_ord_id] = seen
        return seen

    def total(self, cl_ord_id: ClOrdId) -> Decimal:
        """Return the filled quantity told; zero when nothing was."""
        return self._totals.get(cl_ord_id, _NOTHING)

    def totals(self) -> dict[ClOrdId, Decimal]:
        """Return the filled quantities told."""
        return dict(self._totals)

    def keep_end(self, cl_ord_id: ClOrdId, end: ToldEnd) -> None:
        """Keep the first word of an end whose fills are missing."""
        self._ends.setdefault(cl_ord_id, end)

    def end(self, cl_ord_id: ClOrdId) -> ToldEnd | None:
        """Return the end that waits for fills."""
        return self._ends.get(cl_ord_id)

    def settle_end(self, cl_ord_id: ClOrdId) -> None:
        """Forget an end: its order is closed."""
        self._ends.pop(cl_ord_id, None)

    def ends(self) -> set[ClOrdId]:
        """Return the orders whose end waits for fills."""
        return set(self._ends)

    def overdue(self, at: datetime, after_s: float) -> list[ClOrdId]:
        """Return orders whose end has waited for `after_s` at least, sorted."""
        horizon = at - timedelta(seconds=after_s)
        return sorted(cl_ord_id for cl_ord_id, end in self._ends.items() if end.at <= horizon)

    def speak(self, cl_ord_id: ClOrdId, at: datetime) -> None:
        """Note when the stream, or the answer to a request, last told how an order is."""
        self._spoke_at[cl_ord_id] = at

    def spoke_at(self, cl_ord_id: ClOrdId) -> datetime | None:
        """Return when that was; None for never."""
        return self._spoke_at.get(cl_ord_id)

    def forget(self, cl_ord_id: ClOrdId) -> None:
        """Drop all that was told of an order."""
        for memory in (self._ends, self._totals, self._spoke_at):
            memory.pop(cl_ord_id, None)
