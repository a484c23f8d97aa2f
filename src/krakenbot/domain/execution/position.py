"""Positions: the fold over fills, with fees.

Enters: fills in the order in which they were seen. Leaves: quantity, cost and realised profit of a symbol. Reports may
come out of order, so a sell can be seen before its buy: the fold then holds a negative quantity for a moment, which
lasts only if more was sold than bought. At every step `realized_quote - cost_quote` is the exact sum of all quote
flows, and `qty` the exact sum of all base flows.
"""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal

from attrs import evolve, frozen

from krakenbot.domain.errors import invariant
from krakenbot.domain.execution.fills import Fill, balance_deltas
from krakenbot.domain.values import ClOrdId, Side, Symbol


class Protection(enum.StrEnum):
    """How a position is covered at this moment."""

    FLAT = "flat"
    PROTECTED = "protected"
    GUARDED = "guarded"
    BARE = "bare"
    UNPROTECTABLE = "unprotectable"


@frozen(kw_only=True)
class Position:
    """The own position in one symbol. `cost_quote` is what the held quantity cost, entry fees included.

    `realized_quote` is the sum of closed profit and loss, net of both sides' fees.
    """

    symbol: Symbol
    qty: Decimal
    cost_quote: Decimal
    realized_quote: Decimal
    opened_at: datetime | None
    entry_id: ClOrdId | None

    @property
    def average_price(self) -> Decimal | None:
        """Return cost per unit including entry fees; None when flat."""
        return self.cost_quote / self.qty if self.qty else None


@frozen(kw_only=True)
class ProtectionEvent:
    """A change of a symbol's protection, kept so that seconds can be counted."""

    symbol: Symbol
    at: datetime
    protection: Protection
    position_qty: Decimal
    protected_qty: Decimal
    reason: str


# Finer than any quote asset's precision, and coarse enough that sums stay exact in 28 digits.
_COST_QUANTUM = Decimal("1e-12")
_NOTHING = Decimal(0)
# Decimal counts with 28 digits; a sum may have one more than its parts.
_DIGITS_MAX = 27
_UNROUNDED = Context(prec=1_000)


def flat_position(symbol: Symbol) -> Position:
    """Return the position of a symbol without fills."""
    return Position(
        symbol=symbol, qty=_NOTHING, cost_quote=_NOTHING, realized_quote=_NOTHING, opened_at=None, entry_id=None
    )


def apply_fill(position: Position, fill: Fill) -> Position:
    """Return the position after one fill: opened, increased, reduced, closed or turned."""
    invariant(position.symbol == fill.symbol, "I4", f"{fill.exec_id}: a fill of {fill.symbol} in {position.symbol}")
    base_delta, quote_delta = balance_deltas(fill)
    after_qty = position.qty + base_delta
    if base_delta == 0:
        # A fee in base that eats the whole fill: only money moved.
        after = evolve(position, realized_quote=position.realized_quote + quote_delta)
    elif position.qty == 0 or (position.qty > 0) == (base_delta > 0):
        after = _increase(position, fill, after_qty, quote_delta)
    elif abs(base_delta) <= abs(position.qty):
        after = _reduce(position, after_qty, quote_delta)
    else:
        after = _turn(position, fill, base_delta, quote_delta)
    invariant(after.qty == after_qty, "I4", f"{fill.exec_id}: quantity {after.qty}, not {after_qty}")
    invariant(
        after.realized_quote - after.cost_quote == position.realized_quote - position.cost_quote + quote_delta,
        "I4",
        f"{fill.exec_id}: quote flows do not add up",
    )
    return after


def is_exact(position: Position, fill: Fill, filled_qty: Decimal) -> bool:
    """Tell whether a fill can be added to a position, and to what is filled of its order, without a digit being lost.

    No real fill comes near the bound. One that is beyond it would break the invariants of the fold.
    """
    money = (position.cost_quote, position.realized_quote, fill.cost, fill.fee_qty, _COST_QUANTUM)
    return all(_span(amounts) <= _DIGITS_MAX for amounts in (money, (position.qty, filled_qty, fill.qty, fill.fee_qty)))


def _span(amounts: tuple[Decimal, ...]) -> int:
    """Return how many digits lie between the highest and the lowest place of some amounts."""
    # Zeros at the end hold no place; in the usual context normalize() would round.
    held = [amount.normalize(_UNROUNDED) for amount in amounts if amount]
    lowest = min((int(amount.as_tuple().exponent) for amount in held), default=0)
    return max((amount.adjusted() + 1 for amount in held), default=0) - lowest


def _increase(position: Position, fill: Fill, after_qty: Decimal, quote_delta: Decimal) -> Position:
    is_new = position.qty == 0
    return evolve(
        position,
        qty=after_qty,
        cost_quote=position.cost_quote - quote_delta,
        opened_at=fill.at if is_new else position.opened_at,
        entry_id=(fill.cl_ord_id if fill.side is Side.BUY else None) if is_new else position.entry_id,
    )


def _reduce(position: Position, after_qty: Decimal, quote_delta: Decimal) -> Position:
    """Close a part: the part's share of the cost leaves with it, entry fees included."""
    if after_qty == 0:
        cost_out = position.cost_quote
    else:
        share = (position.qty - after_qty) / position.qty
        cost_out = (position.cost_quote * share).quantize(_COST_QUANTUM, ROUND_HALF_EVEN)
    invariant(abs(after_qty) < abs(position.qty), "I4", f"{position.symbol}: a reduction to {after_qty}")
    invariant(after_qty != 0 or cost_out == position.cost_quote, "I4", f"{position.symbol}: cost left behind")
    return evolve(
        position,
        qty=after_qty,
        cost_quote=position.cost_quote - cost_out,
        realized_quote=position.realized_quote + quote_delta - cost_out,
        opened_at=position.opened_at if after_qty else None,
        entry_id=position.entry_id if after_qty else None,
    )


def _turn(position: Position, fill: Fill, base_delta: Decimal, quote_delta: Decimal) -> Position:
    """Close all with a part of the fill, and open the other way with the rest."""
    share = -position.qty / base_delta
    quote_close = (quote_delta * share).quantize(_COST_QUANTUM, ROUND_HALF_EVEN)
    flat = _reduce(position, _NOTHING, quote_close)
    invariant(flat.qty == 0, "I4", f"{position.symbol}: not flat between two sides")
    invariant(flat.cost_quote == 0, "I4", f"{position.symbol}: cost left behind")
    return _increase(flat, fill, position.qty + base_delta, quote_delta - quote_close)
