"""Two books of the same trading, taken apart from each other, and what differs between them.

Enters: rows of the decision database, and the exchange's own record. Leaves: counts, hashes and named differences.
The ledger's book never looks at the exchange and the other way round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from decimal import Decimal

from attrs import field, frozen

OPEN, FILLED, CANCELED, EXPIRED = "open", "filled", "canceled", "expired"


@frozen(kw_only=True)
class OrderLine:
    """One order that reached the exchange: its id of ours, its status and what was filled of it."""

    cl_ord_id: str
    status: str
    cum_qty: Decimal

    def text(self) -> str:
        """Return the line in one canonical form."""
        return f"{self.cl_ord_id} {self.status} {_plain(self.cum_qty)}"


@frozen(kw_only=True)
class FillLine:
    """One fill with its fee in the fee's asset."""

    exec_id: str
    cl_ord_id: str
    price: Decimal
    qty: Decimal
    fee: Decimal
    fee_asset: str

    def text(self) -> str:
        """Return the line in one canonical form."""
        return (
            f"{self.exec_id} {self.cl_ord_id} {_plain(self.price)} {_plain(self.qty)} "
            f"{_plain(self.fee)} {self.fee_asset}"
        )


@frozen(kw_only=True)
class TradingBook:
    """Orders, fills and balance changes as one side states them; assets without a change are left out."""

    orders: dict[str, OrderLine] = field(factory=dict)
    fills: dict[str, FillLine] = field(factory=dict)
    balance_changes: dict[str, Decimal] = field(factory=dict)

    def summary(self) -> dict[str, dict[str, object]]:
        """Return counts and hashes of orders, fills and balances."""
        balances = [f"{asset} {_plain(change)}" for asset, change in self.balance_changes.items() if change]
        return {
            "orders": _counted(line.text() for line in self.orders.values()),
            "fills": _counted(line.text() for line in self.fills.values()),
            "balances": _counted(balances),
        }

    def open_orders(self) -> set[str]:
        """Return the ids of orders that this side holds to be open."""
        return {line.cl_ord_id for line in self.orders.values() if line.status == OPEN}


@frozen(kw_only=True)
class Comparison:
    """What differs between the ledger and the exchange.

    `equal` is None when neither side has a fill: then there was nothing to compare.
    """

    equal: bool | None
    orphan_orders: int
    differences: tuple[str, ...]


def compare(ledger: TradingBook, exchange: TradingBook) -> Comparison:
    """Compare the two books line by line; an orphan is an order open on one side only."""
    differences = [
        *_differences("order", ledger.orders, exchange.orders),
        *_differences("fill", ledger.fills, exchange.fills),
    ]
    assets = sorted(ledger.balance_changes.keys() | exchange.balance_changes.keys())
    for asset in assets:
        ours, theirs = (book.balance_changes.get(asset, Decimal(0)) for book in (ledger, exchange))
        if ours != theirs:
            differences.append(f"balance {asset}: ledger {_plain(ours)}, exchange {_plain(theirs)}")
    nothing = not ledger.fills and not exchange.fills
    return Comparison(
        equal=None if nothing and not differences else not differences,
        orphan_orders=len(ledger.open_orders() ^ exchange.open_orders()),
        differences=tuple(differences),
    )


def balance_changes(
    fills: Iterable[tuple[str, str, str, Decimal, Decimal, Decimal, str]],
) -> dict[str, Decimal]:
    """Fold fills of (base, quote, side, qty, cost, fee, fee_asset) to the change of each asset."""
    changes: dict[str, Decimal] = {}
    for base, quote, side, qty, cost, fee, fee_asset in fills:
        sign = 1 if side == "buy" else -1
        changes[base] = changes.get(base, Decimal(0)) + sign * qty
        changes[quote] = changes.get(quote, Decimal(0)) - sign * cost
        changes[fee_asset] = changes.get(fee_asset, Decimal(0)) - fee
    return {asset: change for asset, change in changes.items() if change}


def _differences(
    what: str,
    ledger: Mapping[str, OrderLine] | Mapping[str, FillLine],
    exchange: Mapping[str, OrderLine] | Mapping[str, FillLine],
) -> Iterable[str]:
    for key in sorted(ledger.keys() | exchange.keys()):
        ours, theirs = ledger.get(key), exchange.get(key)
        if ours is None:
            yield f"{what} {key}: not in the ledger"
        elif theirs is None:
            yield f"{what} {key}: not at the exchange"
        elif ours.text() != theirs.text():
            yield f"{what} {key}: ledger '{ours.text()}', exchange '{theirs.text()}'"


def _counted(lines: Iterable[str]) -> dict[str, object]:
    ordered = sorted(lines)
    digest = hashlib.sha256("\n".join(ordered).encode()).hexdigest()[:16]
    return {"count": len(ordered), "hash": digest}


def _plain(number: Decimal) -> str:
    """Return a number in one form whatever its trailing zeros."""
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in {"", "-0"} else text
