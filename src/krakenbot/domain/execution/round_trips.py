"""Round trips: what was bought and sold between two times at which nothing but dust was held.

Enters: fills of the ledger with the exit kind of their order. Leaves: one round trip after the other, the last one of
a symbol perhaps still open. The fold is that of positions, so the profits of all trips add up to the position's
realised sum exactly; dust that is left over stays in the position with its cost, and is sold with the next trip.
Called by `krakenbot trades`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal

from attrs import Factory, define, frozen

from krakenbot.domain.decision.plan import ExitKind
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.position import Position, apply_fill, flat_position
from krakenbot.domain.values import Asset, ClOrdId, ExecId, Side, Symbol, VenueId

_NOTHING = Decimal(0)
Markouts = Mapping[ExecId, Mapping[float, float]]
"""Markouts in bps of a fill, by horizon in seconds."""


@frozen(kw_only=True)
class LedgerFill:
    """A fill with what its order was for; `exit_kind` None for an entry."""

    fill: Fill
    exit_kind: ExitKind | None


@frozen(kw_only=True)
class RoundTrip:
    """Bought and sold; `closed_at`, `exit_price` and `exit_kind` are None while nothing was sold.

    Prices are averages before fees; `realized_quote` is net of the fees of both sides. `markouts_bps` are those of
    the entry's fills, weighted by quantity, by horizon in seconds.
    """

    venue_id: VenueId
    symbol: Symbol
    is_open: bool
    opened_at: datetime
    closed_at: datetime | None
    qty_bought: Decimal
    qty_sold: Decimal
    entry_price: Decimal | None
    exit_price: Decimal | None
    fees: Mapping[Asset, Decimal]
    realized_quote: Decimal
    exit_kind: ExitKind | None
    entry_ids: tuple[ClOrdId, ...]
    exit_ids: tuple[ClOrdId, ...]
    markouts_bps: Mapping[float, float]


def round_trips(fills: Iterable[LedgerFill], dust: Mapping[Symbol, Decimal], markouts: Markouts) -> list[RoundTrip]:
    """Return the trips of all symbols by the time they opened; `dust` is each symbol's quantity minimum.

    Fills are folded by venue and symbol in the order of their time; a symbol without a minimum has no dust.
    """
    ordered = sorted(fills, key=lambda one: (one.fill.at, one.fill.exec_id))
    held: dict[tuple[VenueId, Symbol], Position] = {}
    under_way: dict[tuple[VenueId, Symbol], _Trip] = {}
    done: list[RoundTrip] = []
    for one in ordered:
        fill = one.fill
        place = fill.venue_id, fill.symbol
        before = held.get(place) or flat_position(fill.symbol)
        trip = under_way.setdefault(place, _Trip(opened_at=fill.at, realized_before=before.realized_quote))
        after = held[place] = apply_fill(before, fill)
        trip.take(one, markouts.get(fill.exec_id, {}))
        if after.qty == 0 or (fill.side is Side.SELL and 0 < after.qty < dust.get(fill.symbol, _NOTHING)):
            done.append(trip.ended(place, after, is_open=False))
            del under_way[place]
    done += [trip.ended(place, held[place], is_open=True) for place, trip in under_way.items()]
    return sorted(done, key=lambda trip: (trip.opened_at, trip.symbol, trip.venue_id))


@define
class _Trip:
    """A trip under way."""

    opened_at: datetime
    realized_before: Decimal
    bought: Decimal = _NOTHING
    sold: Decimal = _NOTHING
    paid: Decimal = _NOTHING
    received: Decimal = _NOTHING
    fees: dict[Asset, Decimal] = Factory(lambda: defaultdict(Decimal))
    entry_ids: dict[ClOrdId, None] = Factory(dict)
    exit_ids: dict[ClOrdId, None] = Factory(dict)
    exit_kind: ExitKind | None = None
    sold_at: datetime | None = None
    sums: dict[float, tuple[float, float]] = Factory(dict)

    def take(self, one: LedgerFill, markouts: Mapping[float, float]) -> None:
        """Add one fill."""
        fill = one.fill
        self.fees[fill.fee_asset] += fill.fee_qty
        if fill.side is Side.SELL:
            self.sold, self.received = self.sold + fill.qty, self.received + fill.cost
            self.exit_ids[fill.cl_ord_id] = None
            self.exit_kind, self.sold_at = one.exit_kind, fill.at
            return
        self.bought, self.paid = self.bought + fill.qty, self.paid + fill.cost
        self.entry_ids[fill.cl_ord_id] = None
        for horizon_s, bps in markouts.items():
            total, weight = self.sums.get(horizon_s, (0.0, 0.0))
            self.sums[horizon_s] = total + bps * float(fill.qty), weight + float(fill.qty)

    def ended(self, place: tuple[VenueId, Symbol], position: Position, *, is_open: bool) -> RoundTrip:
        """Return the trip as it stands."""
        return RoundTrip(
            venue_id=place[0],
            symbol=place[1],
            is_open=is_open,
            opened_at=self.opened_at,
            closed_at=None if is_open else self.sold_at,
            qty_bought=self.bought,
            qty_sold=self.sold,
            entry_price=self.paid / self.bought if self.bought else None,
            exit_price=self.received / self.sold if self.sold else None,
            fees={asset: qty for asset, qty in sorted(self.fees.items()) if qty},
            realized_quote=position.realized_quote - self.realized_before,
            exit_kind=self.exit_kind,
            entry_ids=tuple(self.entry_ids),
            exit_ids=tuple(self.exit_ids),
            markouts_bps={horizon: total / weight for horizon, (total, weight) in sorted(self.sums.items())},
        )
