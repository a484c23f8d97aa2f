"""Write the record of truth: one JSON line for everything accepted, refused, filled, amended, ended and paid.

The venue tells it of every event; `truth` answers the control port. Same seed and same inputs give the same
bytes, because every time in it is the venue's.
"""

from __future__ import annotations

import fcntl
import io
import stat
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from krakenbot.adapters.local_exchange.digits import plain_text
from krakenbot.adapters.local_exchange.matching.accounts import Account, LedgerEntry
from krakenbot.adapters.local_exchange.matching.book import Changes
from krakenbot.adapters.local_exchange.matching.claims import needs
from krakenbot.adapters.local_exchange.matching.listeners import VenueListener
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, Fill
from krakenbot.adapters.local_exchange.matching.venue import OrderEvent, Venue

_encode = msgspec.json.Encoder(order="deterministic").encode
RECORD_KINDS = {
    "pending_new": "accepted",
    "new": "opened",
    "filled": "filled",
    "canceled": "cancelled",
    "expired": "expired",
    "amended": "amended",
    "triggered": "triggered",
}


def open_record(path: Path) -> BinaryIO:
    """Open a file to append a record to, for this process alone.

    A line that a crash cut off stays, and the record goes on in the next one. Raises ValueError when another
    exchange has the file open, OSError when it cannot be written; so does, with its name, every later write.
    """
    raw = _RecordFile(path, "ab")
    file = io.BufferedWriter(raw)
    if not stat.S_ISREG(path.stat().st_mode):
        return file
    try:
        fcntl.flock(raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ValueError(f"{path}: another exchange is writing this record") from None
    with path.open("rb") as before:
        size = before.seek(0, io.SEEK_END)
        before.seek(max(size - 1, 0))
        if before.read(1) not in (b"", b"\n"):
            file.write(b"\n")
    return file


class _RecordFile(io.FileIO):
    """A file whose failed writes say which file it was: a full disk has no name of its own."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = str(self.name)
            raise


class RecordOfTruth(VenueListener):
    """Append every event to a file, if one is given, and count it."""

    def __init__(self, venue: Venue, file: BinaryIO | None) -> None:
        self._venue = venue
        self._file = file
        self.sequence = 0
        self.counts: Counter[str] = Counter()

    def deposits(self) -> None:
        """Record the opening balances of every account."""
        for account in self._venue.accounts.values():
            for asset, amount in sorted(account.balances.items()):
                row = {"account": account.name, "asset": asset, "amount": amount}
                self._write("deposited", self._venue.now_ns, row)

    def on_book(self, market: VenueMarket, changes: Changes, now_ns: int) -> None:  # noqa: ARG002, a listener
        """Count public trades; the books themselves are no client's business."""
        if changes.trades:
            self.counts["public_trades"] += len(changes.trades)

    def on_order(self, event: OrderEvent, order: ClientOrder, now_ns: int) -> None:
        """Record an order's transition, with what it holds afterwards."""
        asset, amount = needs(order)
        held = {"asset": asset, "amount": plain_text(amount)} if order.is_open else None
        row = order_fields(order)
        if event == "pending_new":
            row["request_stp"] = order.request.stp_type
        self._write(RECORD_KINDS[event], now_ns, row | {"account": order.account, "held": held})

    def on_fill(self, order: ClientOrder, fill: Fill, entries: tuple[LedgerEntry, LedgerEntry]) -> None:
        """Record an execution and what was paid for it."""
        self._write("traded", fill.at_ns, fill_fields(fill) | {"account": order.account})
        for entry in entries:
            self._paid(order.account, entry)

    def on_refusal(self, account: Account, action: str, detail: dict[str, str], error: str, now_ns: int) -> None:
        """Record a refused request."""
        row = {"account": account.name, "action": action, "error": error, "request": detail}
        self._write("rejected", now_ns, row)

    def on_ledger(self, account: Account, entry: LedgerEntry) -> None:
        """Record a booking that no trade caused."""
        self._paid(account.name, entry)

    def on_operator(self, action: str, detail: dict[str, str], now_ns: int) -> None:
        """Record what the venue's operator does."""
        self._write("operated", now_ns, {"action": action, "detail": detail})

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        if self._file is not None:
            self._file.flush()

    def truth(self) -> dict[str, Any]:
        """Return the state of every account, numbers as decimal texts."""
        accounts = list(self._venue.accounts.values())
        return {
            "sequence": self.sequence,
            "at_ns": self._venue.now_ns,
            "counts": {
                "orders": sum(len(account.orders) + account.dropped["orders"] for account in accounts),
                "open_orders": sum(len(account.open_orders) for account in accounts),
                "fills": sum(len(account.fills) + account.dropped["fills"] for account in accounts),
            }
            | dict(sorted(self.counts.items())),
            "accounts": [account_fields(account) for account in accounts],
        }

    def _paid(self, account: str, entry: LedgerEntry) -> None:
        row = {
            "account": account,
            "ledger_id": entry.ledger_id,
            "ref_id": entry.ref_id,
            "asset": entry.asset,
            "amount": entry.amount,
            "fee": entry.fee,
            "balance": entry.balance,
        }
        self._write("paid", entry.at_ns, row)

    def _write(self, kind: str, at_ns: int, fields: dict[str, Any]) -> None:
        self.sequence += 1
        self.counts[kind] += 1
        if self._file is not None:
            texts = {k: plain_text(v) if isinstance(v, Decimal) else v for k, v in fields.items()}
            self._file.write(_encode({"seq": self.sequence, "at_ns": at_ns, "kind": kind} | texts) + b"\n")


def account_fields(account: Account) -> dict[str, Any]:
    """Return one account as the control port shows it."""
    assets = sorted(account.balances)
    return {
        "name": account.name,
        "balances": {asset: plain_text(account.balances[asset]) for asset in assets},
        "holds": {asset: plain_text(amount) for asset, amount in account.holds().items()},
        "orders": [order_fields(order) for order in account.orders.values()],
        "fills": [fill_fields(fill) for fill in account.fills],
        "dropped": {kind: account.dropped[kind] for kind in ("orders", "fills", "ledger")},
    }


def order_fields(order: ClientOrder) -> dict[str, Any]:
    """Return an order with its figures as texts; None where it has none."""
    request = order.request
    return {
        "order_id": order.order_id,
        "cl_ord_id": request.cl_ord_id,
        "order_userref": request.order_userref,
        "symbol": order.rules.symbol,
        "side": order.side,
        "order_type": request.order_type,
        "status": order.status,
        "reason": order.reason,
        "time_in_force": request.time_in_force,
        "post_only": order.post_only,
        "qty": order.qty_text(order.qty_lots),
        "filled_qty": order.qty_text(order.filled_lots),
        "limit_price": None if order.limit_ticks is None else order.price_text(order.limit_ticks),
        "trigger_price": None if order.trigger_ticks is None else order.price_text(order.trigger_ticks),
        "is_triggered": order.is_triggered,
        "cost": plain_text(order.cum_cost),
        "fee": plain_text(order.cum_fee),
        "fee_asset": order.fee_asset,
        "opened_at_ns": order.opened_ns,
        "closed_at_ns": order.closed_ns,
        "exec_ids": list(order.exec_ids),
    }


def fill_fields(fill: Fill) -> dict[str, Any]:
    """Return a fill with its figures as texts."""
    return {
        "exec_id": fill.exec_id,
        "trade_id": fill.trade_id,
        "order_id": fill.order_id,
        "cl_ord_id": fill.cl_ord_id,
        "symbol": fill.symbol,
        "side": fill.side,
        "qty": plain_text(fill.qty),
        "price": plain_text(fill.price),
        "cost": plain_text(fill.cost),
        "fee": plain_text(fill.fee),
        "fee_asset": fill.fee_asset,
        "liquidity": "maker" if fill.is_maker else "taker",
        "at_ns": fill.at_ns,
    }
