"""The ledger's fills: each counted once, by exec_id, refused without a price or a quantity.

Enters: trade rows of the executions feed and of the venue's trade history. Leaves: fills for the ledger and their
effect on two balances. Called by the tracker.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal

from attrs import frozen

from krakenbot.domain.errors import invariant
from krakenbot.domain.execution.order import Order
from krakenbot.domain.execution.reports import ExecutionReport, VenueFill
from krakenbot.domain.values import Asset, ClOrdId, ExecId, Side, Symbol, VenueId, VenueOrderId


@frozen(kw_only=True)
class Fill:
    """One fill of an own order. `fee_qty` is in `fee_asset`; `cost` in the quote asset, as the venue stated it."""

    exec_id: ExecId
    cl_ord_id: ClOrdId
    venue_order_id: VenueOrderId
    venue_id: VenueId
    symbol: Symbol
    side: Side
    price: Decimal
    qty: Decimal
    cost: Decimal
    fee_asset: Asset
    fee_qty: Decimal
    is_maker: bool
    at: datetime
    recorded_at: datetime
    source: str


class FillSource(enum.StrEnum):
    """Where a fill was first seen."""

    STREAM = "stream"
    QUERY = "query"


class BookedFills:
    """The exec_ids of booked fills, the `kept_max` that were booked last.

    What repeats a fill is the stream's snapshot, with the account's newest 50, and a ladder. A ladder may look back
    further than what is kept here, so what it shows is asked of the store first; see `Reconciler`.
    """

    def __init__(self, *, kept_max: int) -> None:
        self._kept: dict[ExecId, None] = {}
        self._kept_max = kept_max

    def __contains__(self, exec_id: ExecId) -> bool:
        """Tell whether a fill is known to be booked."""
        return exec_id in self._kept

    def __iter__(self) -> Iterator[ExecId]:
        """Return the ids, the one booked first first."""
        return iter(self._kept)

    def add(self, exec_id: ExecId) -> None:
        """Take a fill that is booked now."""
        self._kept[exec_id] = None
        while len(self._kept) > self._kept_max:
            del self._kept[next(iter(self._kept))]

    def update(self, exec_ids: Iterable[ExecId]) -> None:
        """Take fills that the store holds."""
        for exec_id in exec_ids:
            self.add(exec_id)


@frozen(kw_only=True)
class FillRefused:
    """A trade row that can't be booked, and why; the venue's trade history has to supply the fill."""

    exec_id: ExecId | None
    reason: str


def assets_of(symbol: Symbol) -> tuple[Asset, Asset]:
    """Return (base, quote) of a Kraken WS v2 symbol."""
    base, slash, quote = symbol.partition("/")
    invariant(slash == "/", "I4", f"{symbol!r} is not BASE/QUOTE")
    invariant(base and quote, "I4", f"{symbol!r} lacks an asset")
    return Asset(base), Asset(quote)


def fill_from_report(order: Order, report: ExecutionReport, recorded_at: datetime) -> Fill | FillRefused:
    """Return the fill of a trade row; refuses one without id, price or quantity, or with fees in two assets."""
    if report.exec_id is None:
        return FillRefused(exec_id=None, reason="a trade without exec_id")
    if report.last_price is None or report.last_price <= 0:
        return FillRefused(exec_id=report.exec_id, reason=f"price {report.last_price}")
    if report.last_qty is None or report.last_qty <= 0:
        return FillRefused(exec_id=report.exec_id, reason=f"quantity {report.last_qty}")
    if report.cost is not None and report.cost < 0:
        return FillRefused(exec_id=report.exec_id, reason=f"cost {report.cost}")
    if report.side is not None and report.side is not order.side:
        return FillRefused(exec_id=report.exec_id, reason=f"side {report.side} of a {order.side} order")
    if report.symbol is not None and report.symbol != order.symbol:
        return FillRefused(exec_id=report.exec_id, reason=f"{report.symbol} of a {order.symbol} order")
    fee_assets = {fee.asset for fee in report.fees}
    if len(fee_assets) > 1:
        return FillRefused(exec_id=report.exec_id, reason=f"fees in {sorted(fee_assets)}")
    fill = Fill(
        exec_id=report.exec_id,
        cl_ord_id=order.cl_ord_id,
        venue_order_id=report.order_id,
        venue_id=order.venue_id,
        symbol=order.symbol,
        side=order.side,
        price=report.last_price,
        qty=report.last_qty,
        cost=report.last_price * report.last_qty if report.cost is None else report.cost,
        fee_asset=next(iter(fee_assets)) if fee_assets else assets_of(order.symbol)[1],
        fee_qty=sum((fee.qty for fee in report.fees), Decimal(0)),
        is_maker=bool(report.is_maker),
        at=report.at,
        recorded_at=recorded_at,
        source=FillSource.STREAM,
    )
    return _checked(fill)


def fill_from_query(order: Order, row: VenueFill, recorded_at: datetime) -> Fill | FillRefused:
    """Return the fill of a row of the venue's trade history; refuses a row without price or quantity."""
    if row.price <= 0:
        return FillRefused(exec_id=row.exec_id, reason=f"price {row.price}")
    if row.qty <= 0:
        return FillRefused(exec_id=row.exec_id, reason=f"quantity {row.qty}")
    if row.cost < 0:
        return FillRefused(exec_id=row.exec_id, reason=f"cost {row.cost}")
    if row.symbol != order.symbol or row.side is not order.side:
        return FillRefused(
            exec_id=row.exec_id, reason=f"{row.side} {row.symbol} of a {order.side} {order.symbol} order"
        )
    fill = Fill(
        exec_id=row.exec_id,
        cl_ord_id=order.cl_ord_id,
        venue_order_id=row.order_id,
        venue_id=order.venue_id,
        symbol=order.symbol,
        side=order.side,
        price=row.price,
        qty=row.qty,
        cost=row.cost,
        fee_asset=row.fee_asset,
        fee_qty=row.fee,
        is_maker=row.is_maker,
        at=row.at,
        recorded_at=recorded_at,
        source=FillSource.QUERY,
    )
    return _checked(fill)


def _checked(fill: Fill) -> Fill:
    invariant(fill.price > 0, "I3", f"{fill.exec_id}: price {fill.price}")
    invariant(fill.qty > 0, "I3", f"{fill.exec_id}: quantity {fill.qty}")
    return fill


def balance_deltas(fill: Fill) -> tuple[Decimal, Decimal]:
    """Return what a fill did to the balances of (base, quote), fees included, exactly.

    A fee in a third asset changes neither.
    """
    invariant(fill.qty > 0, "I3", f"{fill.exec_id}: quantity {fill.qty}")
    invariant(fill.cost >= 0, "I3", f"{fill.exec_id}: cost {fill.cost}")
    base, quote = assets_of(fill.symbol)
    base_fee = fill.fee_qty if fill.fee_asset == base else Decimal(0)
    quote_fee = fill.fee_qty if fill.fee_asset == quote else Decimal(0)
    if fill.side is Side.BUY:
        return fill.qty - base_fee, -fill.cost - quote_fee
    return -fill.qty - base_fee, fill.cost - quote_fee
