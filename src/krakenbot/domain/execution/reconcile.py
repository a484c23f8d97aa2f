"""The difference between our rows and the venue, as named corrections.

Enters: own rows, booked exec_ids, and what the venue's queries show. Leaves: corrections in a fixed order, the same for
the same input whatever its order. Pure; the engine applies them. Orders without our prefix, and their fills, appear in
no correction.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from attrs import frozen

from krakenbot.domain.errors import invariant
from krakenbot.domain.execution.fills import assets_of
from krakenbot.domain.execution.ids import is_own
from krakenbot.domain.execution.order import Order, OrderRole, OrderState
from krakenbot.domain.execution.position import Position
from krakenbot.domain.execution.reports import VenueBalance, VenueFill, VenueOrder
from krakenbot.domain.values import Asset, ClOrdId, ExecId, Symbol, VenueOrderId


class CorrectionKind(enum.StrEnum):
    """Kinds of a difference, in the order in which they are applied."""

    BOOK_FILL = "book_fill"
    """A fill of an own order that the ledger lacks."""
    UPDATE_ORDER = "update_order"
    """An own order whose state the venue knows better."""
    CANCEL_ALIVE = "cancel_alive"
    """An own entry that was UNKNOWN or given up, and is alive."""
    CANCEL_STRANGER = "cancel_stranger"
    """An open order with our prefix and no row."""
    PROVEN_ABSENT = "proven_absent"
    """An UNKNOWN order past its horizon that two clean ladders in a row did not show."""
    STILL_UNKNOWN = "still_unknown"
    """An UNKNOWN order that is not shown, and not proven absent either."""
    NOT_SHOWN = "not_shown"
    """A live order that the venue shows neither open nor closed: named, never guessed."""
    UNKNOWN_FILL = "unknown_fill"
    """A fill of a closed own-prefixed order that has no row: named, entries there stop."""


@frozen(kw_only=True)
class Correction:
    """One named difference; which fields are set depends on its kind."""

    kind: CorrectionKind
    symbol: Symbol
    cl_ord_id: ClOrdId | None = None
    order_id: VenueOrderId | None = None
    fill: VenueFill | None = None
    order: VenueOrder | None = None
    detail: str = ""


@frozen(kw_only=True)
class VenueView:
    """What the queries of one ladder showed, all of them answered."""

    at: datetime
    open_orders: tuple[VenueOrder, ...]
    closed_orders: tuple[VenueOrder, ...]
    fills: tuple[VenueFill, ...]


@frozen(kw_only=True)
class Proof:
    """Limits of a proof of absence; seconds. `ladders` clean ladders in a row are needed after the horizon."""

    deadline_s: float = 5.0
    visibility_margin_s: float = 60.0
    ladders: int = 2


@frozen(kw_only=True)
class Reconciliation:
    """The corrections of one ladder, and for each UNKNOWN order how many clean ladders past its horizon it has."""

    corrections: tuple[Correction, ...]
    clean_ladders: dict[ClOrdId, int]


@frozen(kw_only=True)
class Shortfall:
    """A position that the balance does not cover: what we hold by our ledger, and what the venue says is there."""

    symbol: Symbol
    position_qty: Decimal
    balance_qty: Decimal


def proof_at(order: Order, proof: Proof) -> datetime:
    """Return the earliest time at which the absence of an order proves anything.

    An order without a deadline of its own is bounded by when it became UNKNOWN.
    """
    bounds = [bound for bound in (order.deadline_at, order.expire_at) if bound is not None]
    if not bounds:
        bounds = [(order.state_at or order.created_at) + timedelta(seconds=proof.deadline_s)]
    latest = max(bounds) + timedelta(seconds=proof.visibility_margin_s)
    invariant(proof.visibility_margin_s >= 0, "I10", "a negative margin proves nothing")
    invariant(latest >= max(bounds), "I10", f"{order.cl_ord_id}: horizon before its bounds")
    return latest


def diff(
    rows: Iterable[Order],
    booked: Collection[ExecId],
    view: VenueView,
    *,
    clean_ladders: Mapping[ClOrdId, int],
    proof: Proof,
    unripe: Collection[ClOrdId] = (),
) -> Reconciliation:
    """Return what has to change for our rows to agree with the venue.

    `rows` holds all live orders, and the closed ones that the view may speak of. Of `unripe` orders nothing can be
    proven yet, whatever the view's own time says.
    """
    by_id = {row.cl_ord_id: row for row in rows}
    shown = _shown(by_id, view)
    corrections = [
        *_fill_corrections(by_id, shown, booked, view),
        *_order_corrections(by_id, view),
    ]
    clean: dict[ClOrdId, int] = {}
    present = {*shown.values(), *(c.cl_ord_id for c in corrections)}
    for row in by_id.values():
        if row.state.is_terminal or row.cl_ord_id in present:
            continue
        before = clean_ladders.get(row.cl_ord_id, 0)
        found = _absent(row, view.at, before, proof, is_ripe=row.cl_ord_id not in unripe)
        if found is not None:
            correction, count = found
            corrections.append(correction)
            if count:
                clean[row.cl_ord_id] = count
    invariant(
        all(c.cl_ord_id is None or is_own(c.cl_ord_id) for c in corrections), "I10", "a foreign order in a correction"
    )
    invariant(set(clean) <= set(by_id), "I10", "a ladder counted for an order without a row")
    return Reconciliation(corrections=tuple(sorted(corrections, key=_rank)), clean_ladders=clean)


def newest_shown(view: VenueView) -> datetime | None:
    """Return the newest time of the venue's own clock in a view; None when it shows nothing."""
    orders = (*view.open_orders, *view.closed_orders)
    times = [at for order in orders for at in (order.opened_at, order.closed_at) if at is not None]
    return max((*times, *(fill.at for fill in view.fills)), default=None)


def shortfalls(positions: Iterable[Position], balances: Mapping[Asset, VenueBalance]) -> tuple[Shortfall, ...]:
    """Return positions that the balances do not cover; more coins than ours are the user's and no difference."""
    found: list[Shortfall] = []
    owed: dict[Asset, Decimal] = {}
    for position in sorted(positions, key=lambda p: p.symbol):
        base, _ = assets_of(position.symbol)
        owed[base] = owed.get(base, Decimal(0)) + position.qty
        invariant(position.symbol.startswith(base), "I4", f"{position.symbol} does not begin with {base}")
        balance = balances.get(base)
        held = Decimal(0) if balance is None else balance.balance
        if owed[base] > held:
            found.append(Shortfall(symbol=position.symbol, position_qty=position.qty, balance_qty=held))
    invariant(len({f.symbol for f in found}) == len(found), "I4", "a symbol twice")
    return tuple(found)


def _shown(by_id: Mapping[ClOrdId, Order], view: VenueView) -> dict[VenueOrderId, ClOrdId]:
    """Map the venue's ids of own orders to ours, from rows and from what the queries show."""
    known = {row.venue_order_id: row.cl_ord_id for row in by_id.values() if row.venue_order_id is not None}
    named = {
        order.order_id: order.cl_ord_id
        for order in (*view.open_orders, *view.closed_orders)
        if order.cl_ord_id is not None and is_own(order.cl_ord_id)
    }
    seen = {order.order_id for order in (*view.open_orders, *view.closed_orders)}
    seen |= {fill.order_id for fill in view.fills}
    return {order_id: cl for order_id, cl in (known | named).items() if order_id in seen}


def _fill_corrections(
    by_id: Mapping[ClOrdId, Order],
    shown: Mapping[VenueOrderId, ClOrdId],
    booked: Collection[ExecId],
    view: VenueView,
) -> list[Correction]:
    found = {}
    for fill in view.fills:
        cl_ord_id = shown.get(fill.order_id)
        if cl_ord_id is None or fill.exec_id in booked:
            continue
        kind = CorrectionKind.BOOK_FILL if cl_ord_id in by_id else CorrectionKind.UNKNOWN_FILL
        found[fill.exec_id] = Correction(
            kind=kind, symbol=fill.symbol, cl_ord_id=cl_ord_id, order_id=fill.order_id, fill=fill, detail=fill.exec_id
        )
    return list(found.values())


def _order_corrections(by_id: Mapping[ClOrdId, Order], view: VenueView) -> list[Correction]:
    found = []
    by_venue_id = {row.venue_order_id: row for row in by_id.values() if row.venue_order_id is not None}
    closed = {order.order_id for order in view.closed_orders}
    for order in view.open_orders:
        if order.order_id in closed:
            continue
        row = by_id.get(order.cl_ord_id) if order.cl_ord_id else by_venue_id.get(order.order_id)
        if row is not None:
            found += _open_corrections(row, order)
        elif is_own(order.cl_ord_id):
            found.append(_correction(CorrectionKind.CANCEL_STRANGER, order, order.cl_ord_id, "no row"))
    for order in view.closed_orders:
        row = by_id.get(order.cl_ord_id) if order.cl_ord_id else by_venue_id.get(order.order_id)
        if row is not None and not row.state.is_terminal:
            found.append(_correction(CorrectionKind.UPDATE_ORDER, order, row.cl_ord_id, order.status))
    return found


def _open_corrections(row: Order, order: VenueOrder) -> list[Correction]:
    if row.state in {OrderState.NEVER_ACCEPTED, OrderState.REJECTED}:
        return [_correction(CorrectionKind.CANCEL_ALIVE, order, row.cl_ord_id, f"alive after {row.state}")]
    if row.state.is_terminal:
        # Queries lag the stream: an "open" row of an order that we saw closed says nothing.
        return []
    update = _correction(CorrectionKind.UPDATE_ORDER, order, row.cl_ord_id, order.status)
    if row.state is OrderState.UNKNOWN and row.role is OrderRole.ENTRY:
        return [
            update,
            _correction(CorrectionKind.CANCEL_ALIVE, order, row.cl_ord_id, "alive after an unknown outcome"),
        ]
    is_news = row.state in {OrderState.UNKNOWN, OrderState.PENDING_SUBMIT, OrderState.SUBMITTED, OrderState.ACKED}
    is_changed = order.qty != row.qty or order.cum_qty != row.cum_qty or row.venue_order_id != order.order_id
    return [update] if is_news or is_changed or row.state is OrderState.PENDING_AMEND else []


def _absent(row: Order, at: datetime, before: int, proof: Proof, *, is_ripe: bool) -> tuple[Correction, int] | None:
    if row.state is OrderState.UNKNOWN:
        horizon = proof_at(row, proof)
        count = before + 1 if at >= horizon else 0
        if not is_ripe:
            count = 0
        kind = CorrectionKind.PROVEN_ABSENT if count >= proof.ladders else CorrectionKind.STILL_UNKNOWN
        detail = f"{count} clean ladders since {horizon.isoformat()}"
        return Correction(kind=kind, symbol=row.symbol, cl_ord_id=row.cl_ord_id, detail=detail), count
    if row.state in {OrderState.PENDING_SUBMIT, OrderState.SUBMITTED}:
        # In flight in this process, or an intent: its own request will say.
        return None
    correction = Correction(
        kind=CorrectionKind.NOT_SHOWN,
        symbol=row.symbol,
        cl_ord_id=row.cl_ord_id,
        order_id=row.venue_order_id,
        detail=f"{row.state}, neither open nor closed",
    )
    return correction, 0


def _correction(kind: CorrectionKind, order: VenueOrder, cl_ord_id: ClOrdId | None, detail: str) -> Correction:
    return Correction(
        kind=kind, symbol=order.symbol, cl_ord_id=cl_ord_id, order_id=order.order_id, order=order, detail=detail
    )


_KIND_RANK = {kind: rank for rank, kind in enumerate(CorrectionKind)}


def _rank(correction: Correction) -> tuple[int, datetime | None, str, str, str]:
    at = None if correction.fill is None else correction.fill.at
    return (
        _KIND_RANK[correction.kind],
        at,
        correction.symbol,
        correction.cl_ord_id or "",
        correction.order_id or "" if correction.fill is None else correction.fill.exec_id,
    )
