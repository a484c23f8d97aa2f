"""The exchange's record of truth, read on from its file; one account of it as the judges need it.

Enters: lines of the record. Leaves: orders, fills, balance changes and refusals of an account, times in ns of the
exchange's clock, which is the machine's.
"""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from attrs import define, field

ENDED = {"filled": "filled", "cancelled": "canceled", "expired": "expired"}


@define(kw_only=True)
class TruthOrder:
    """One order that the exchange accepted; `status` is open, filled, canceled or expired."""

    order_id: str
    cl_ord_id: str | None
    symbol: str
    side: str
    order_type: str
    qty: Decimal
    limit_price: Decimal | None
    accepted_ns: int
    status: str = "open"
    ended_ns: int | None = None
    filled_qty: Decimal = Decimal(0)
    amended: int = 0


@define(kw_only=True)
class TruthFill:
    """One execution."""

    exec_id: str
    order_id: str
    cl_ord_id: str | None
    symbol: str
    side: str
    qty: Decimal
    price: Decimal
    cost: Decimal
    fee: Decimal
    fee_asset: str
    at_ns: int


@define(kw_only=True)
class Truth:
    """One account, as the exchange recorded it."""

    orders: dict[str, TruthOrder] = field(factory=dict)
    fills: dict[str, TruthFill] = field(factory=dict)
    changes: dict[str, Decimal] = field(factory=dict)
    """Balance changes by asset since the opening deposit."""
    refusals: list[dict[str, Any]] = field(factory=list)
    events: list[dict[str, Any]] = field(factory=list)

    def take(self, row: dict[str, Any]) -> None:
        """Take one line of the record."""
        match row["kind"]:
            case "accepted":
                self.orders[row["order_id"]] = TruthOrder(
                    order_id=row["order_id"],
                    cl_ord_id=row["cl_ord_id"],
                    symbol=row["symbol"],
                    side=row["side"],
                    order_type=row["order_type"],
                    qty=Decimal(row["qty"]),
                    limit_price=None if row["limit_price"] is None else Decimal(row["limit_price"]),
                    accepted_ns=row["at_ns"],
                )
            case "traded":
                self.fills[row["exec_id"]] = TruthFill(
                    exec_id=row["exec_id"],
                    order_id=row["order_id"],
                    cl_ord_id=row["cl_ord_id"],
                    symbol=row["symbol"],
                    side=row["side"],
                    qty=Decimal(row["qty"]),
                    price=Decimal(row["price"]),
                    cost=Decimal(row["cost"]),
                    fee=Decimal(row["fee"]),
                    fee_asset=row["fee_asset"],
                    at_ns=row["at_ns"],
                )
                self.orders[row["order_id"]].filled_qty += Decimal(row["qty"])
            case "filled" | "cancelled" | "expired":
                order = self.orders[row["order_id"]]
                order.status, order.ended_ns = ENDED[row["kind"]], row["at_ns"]
            case "amended":
                order = self.orders[row["order_id"]]
                order.qty = Decimal(row["qty"])
                order.amended += 1
            case "paid":
                asset = row["asset"]
                # A fee is taken from the amount's asset beside it.
                moved = Decimal(row["amount"]) - Decimal(row["fee"])
                self.changes[asset] = self.changes.get(asset, Decimal(0)) + moved
            case "rejected":
                self.refusals.append(row)
            case _:
                return
        self.events.append(row)


class Record:
    """The record's file, read on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._accounts: defaultdict[str, Truth] = defaultdict(Truth)

    def of(self, account: str) -> Truth:
        """Return what is recorded of an account by now."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            row = json.loads(line)
            if "account" in row:
                self._accounts[row["account"]].take(row)
        return self._accounts[account]
