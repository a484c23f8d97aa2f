"""Encode the private channels: executions with the venue's sparse rows, and balances.

The venue tells it of every order event and fill; sessions subscribe. Only the first row of an order is complete;
later rows carry what changed. The last trade row still says partially_filled; `filled` is a row of its own.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec
from attrs import define

from krakenbot.adapters.local_exchange.digits import fixed_text, plain_text, rfc3339_us
from krakenbot.adapters.local_exchange.feeds import Reader
from krakenbot.adapters.local_exchange.flow.instruments import load_assets
from krakenbot.adapters.local_exchange.matching.accounts import Account, LedgerEntry
from krakenbot.adapters.local_exchange.matching.listeners import OrderEvent, VenueListener
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, Fill
from krakenbot.adapters.local_exchange.matching.pricing import MILLI
from krakenbot.adapters.local_exchange.matching.settings import BurstOrder

Row = dict[str, Any]
SNAPSHOT_FILLS = 50
DEFAULT_ASSET_PRECISION = 10
ALWAYS_SENT = frozenset({"new", "filled", "canceled", "expired"})
_encode = msgspec.json.Encoder().encode


@define(eq=False, kw_only=True)
class Subscription:
    """One private subscription; its sequence numbers start at 1."""

    reader: Reader
    account: Account
    sequence: int = 0
    order_status: bool = True
    rate_counter: bool = False

    def send(self, channel: str, kind: str, rows: list[bytes]) -> None:
        """Send one frame with the next sequence number."""
        self.sequence += 1
        data = b",".join(rows).decode()
        self.reader.push(f'{{"channel":"{channel}","type":"{kind}","data":[{data}],"sequence":{self.sequence}}}')


class PrivateFeeds(VenueListener):
    """Executions and balances of every account, as one listener of the venue."""

    def __init__(self, burst_order: BurstOrder = "trade_before_filled") -> None:
        self._burst_order = burst_order
        # The last trade of an order, kept back until its `filled` row is out.
        self._kept_back: tuple[ClientOrder, Fill] | None = None
        self._executions: dict[Reader, Subscription] = {}
        self._balances: dict[Reader, Subscription] = {}

    def read_executions(
        self,
        reader: Reader,
        account: Account,
        *,
        snap_orders: bool,
        snap_trades: bool,
        order_status: bool,
        rate_counter: bool = False,
    ) -> None:
        """Subscribe a reader to executions and send the snapshot, which is sequence 1 and may be empty."""
        subscription = Subscription(
            reader=reader, account=account, order_status=order_status, rate_counter=rate_counter
        )
        self._executions[reader] = subscription
        rows: list[bytes] = []
        if snap_orders:
            rows.extend(_encode(snapshot_row(order)) for order in account.open_orders.values())
        if snap_trades:
            # An account that keeps little may have the fill and no longer its order.
            rows.extend(
                _encode(past_trade_row(account.orders[fill.order_id], fill))
                for fill in islice(reversed(account.fills), SNAPSHOT_FILLS)
                if fill.order_id in account.orders
            )
        subscription.send("executions", "snapshot", rows)

    def read_balances(self, reader: Reader, account: Account, *, snapshot: bool) -> None:
        """Subscribe a reader to balances and send the snapshot."""
        subscription = Subscription(reader=reader, account=account)
        self._balances[reader] = subscription
        if snapshot:
            rows = [_encode(balance_row(asset, amount)) for asset, amount in sorted(account.balances.items())]
            subscription.send("balances", "snapshot", rows)

    def reads_executions(self, reader: Reader) -> bool:
        """Tell whether a reader is subscribed to executions."""
        return reader in self._executions

    def reads_balances(self, reader: Reader) -> bool:
        """Tell whether a reader is subscribed to balances."""
        return reader in self._balances

    def leave(self, reader: Reader, channel: str) -> None:
        """End one private subscription."""
        (self._executions if channel == "executions" else self._balances).pop(reader, None)

    def forget(self, reader: Reader) -> None:
        """Drop a closed connection."""
        self._executions.pop(reader, None)
        self._balances.pop(reader, None)

    def on_order(self, event: OrderEvent, order: ClientOrder, now_ns: int) -> None:
        """Send an order's transition to its account's readers."""
        readers = self._of(self._executions, order.account)
        if readers:
            row = order_row(event, order, now_ns)
            self._send([s for s in readers if s.order_status or event in ALWAYS_SENT], order, row, now_ns)
        if event == "filled" and self._kept_back is not None and self._kept_back[0] is order:
            fill = self._kept_back[1]
            self._kept_back = None
            self._send(readers, order, trade_row(order, fill), fill.at_ns)

    def on_fill(self, order: ClientOrder, fill: Fill, entries: tuple[LedgerEntry, LedgerEntry]) -> None:
        """Send a trade row, and one balances frame for each booking."""
        if self._burst_order == "filled_before_trade" and order.remaining_lots == 0:
            self._kept_back = (order, fill)
        elif readers := self._of(self._executions, order.account):
            self._send(readers, order, trade_row(order, fill), fill.at_ns)
        for subscription in self._of(self._balances, order.account):
            for entry in entries:
                subscription.send("balances", "update", [_encode(ledger_row(entry))])

    def on_ledger(self, account: Account, entry: LedgerEntry) -> None:
        """Send a booking that no trade caused."""
        for subscription in self._of(self._balances, account.name):
            subscription.send("balances", "update", [_encode(ledger_row(entry))])

    def _send(self, readers: list[Subscription], order: ClientOrder, row: Row, now_ns: int) -> None:
        """Send one row, with the transaction count to those who asked for it."""
        plain = counted = None
        for subscription in readers:
            if subscription.rate_counter:
                count = subscription.account.counter(order.rules.symbol).count(now_ns)
                counted = counted or _encode(row | {"ratecount": count})
            else:
                plain = plain or _encode(row)
            subscription.send("executions", "update", [(counted if subscription.rate_counter else plain) or b""])

    def _of(self, subscriptions: dict[Reader, Subscription], account: str) -> list[Subscription]:
        return [subscription for subscription in subscriptions.values() if subscription.account.name == account]


def number(text: str) -> msgspec.Raw:
    """Return a JSON number with exactly this text."""
    return msgspec.Raw(text.encode())


def order_row(event: OrderEvent, order: ClientOrder, now_ns: int) -> Row:
    """Return the row of one order event."""
    match event:
        case "pending_new":
            return full_row(order, now_ns) | {"exec_type": "pending_new", "order_status": "pending_new"}
        case "new":
            row: Row = {"timestamp": rfc3339_us(now_ns), "order_status": "new", "exec_type": "new"}
            return row | _ids(order)
        case "amended":
            row = {
                "timestamp": rfc3339_us(now_ns),
                "exec_type": "amended",
                "order_status": order.status,
                "cum_qty": number(order.qty_text(order.filled_lots)),
                "reason": "User requested",
                "amended": True,
                "order_qty": number(order.qty_text(order.qty_lots)),
            }
            return row | _limit(order) | _triggers(order) | _ids(order)
        case "triggered":
            row = {"timestamp": rfc3339_us(now_ns), "exec_type": "status", "order_status": order.status}
            return row | _triggers(order) | _ids(order)
        case "filled" | "canceled" | "expired":
            row = {"timestamp": rfc3339_us(now_ns), "order_status": event, "exec_type": event} | _totals(order)
            if order.reason is not None:
                row |= {"cancel_reason": order.reason, "reason": order.reason}
            return row | _ids(order)


def full_row(order: ClientOrder, at_ns: int) -> Row:
    """Return everything about an order but its status."""
    request = order.request
    row: Row = {
        "order_id": order.order_id,
        "symbol": order.rules.symbol,
        "order_qty": number(order.qty_text(order.qty_lots)),
        "cum_cost": number(plain_text(order.cum_cost)),
        "time_in_force": request.time_in_force.upper(),
        "side": order.side,
        "order_type": request.order_type,
    }
    if request.expire_at_ns is not None:
        row["expire_time"] = rfc3339_us(request.expire_at_ns)
    if request.sender_sub_id is not None:
        row["sender_sub_id"] = request.sender_sub_id
    row |= _ids(order) | _limit(order) | _triggers(order)
    row["stop_price"] = number(order.price_text(order.trigger_ticks or 0))
    row["fee_usd_equiv"] = _fee_usd(order.cum_fee, order)
    row["fee_ccy_pref"] = "fcib" if order.pays_fee_in_base else "fciq"
    row["timestamp"] = rfc3339_us(at_ns)
    return row


def snapshot_row(order: ClientOrder) -> Row:
    """Return the row of an open order in a snapshot."""
    row = full_row(order, order.changed_ns) | _totals(order)
    row |= {"exec_type": "new", "order_status": order.status}
    return row | ({"amended": True} if order.is_amended else {})


def trade_row(order: ClientOrder, fill: Fill) -> Row:
    """Return the row of an execution as it happens; it repeats neither size nor limit of the order."""
    return _fill_figures(order, fill) | {"order_status": "partially_filled"} | _totals(order) | _fees(order, fill)


def past_trade_row(order: ClientOrder, fill: Fill) -> Row:
    """Return the row of an execution in a snapshot: the order's status is that of now."""
    return _fill_figures(order, fill) | {"order_status": order.status} | _fees(order, fill)


def money_text(asset: str, amount: Decimal) -> str:
    """Return an amount with the asset's ledger digits, or more when it has more."""
    known = load_assets().get(asset)
    exponent = amount.as_tuple().exponent
    digits = DEFAULT_ASSET_PRECISION if known is None else known.precision
    return f"{amount:.{max(digits, -exponent if isinstance(exponent, int) else 0)}f}"


def balance_row(asset: str, amount: Decimal) -> Row:
    """Return the balance of one asset: all of it in the spot wallet."""
    balance = number(money_text(asset, amount))
    wallet = {"type": "spot", "id": "main", "balance": balance}
    return {
        "asset": asset,
        "asset_class": "currency",
        "balance": balance,
        "wallets": [wallet],
    }


def ledger_row(entry: LedgerEntry) -> Row:
    """Return one booking as the balances channel shows it."""
    return {
        "ledger_id": entry.ledger_id,
        "ref_id": entry.ref_id,
        "timestamp": rfc3339_us(entry.at_ns),
        "type": entry.kind,
        "asset": entry.asset,
        "asset_class": "currency",
        "category": entry.kind,
        "wallet_type": "spot",
        "wallet_id": "main",
        "amount": number(money_text(entry.asset, entry.amount)),
        "fee": number(money_text(entry.asset, entry.fee)),
        "balance": number(money_text(entry.asset, entry.balance)),
    }


def _ids(order: ClientOrder) -> Row:
    row: Row = {}
    if order.request.cl_ord_id is not None:
        row["cl_ord_id"] = order.request.cl_ord_id
    else:
        row["order_userref"] = order.request.order_userref or 0
    if order.post_only:
        row["post_only"] = True
    row["order_id"] = order.order_id
    return row


def _limit(order: ClientOrder) -> Row:
    if order.limit_ticks is None:
        return {}
    if order.waits_for_trigger and order.limit is not None and order.limit.kind != "static":
        return {"limit_price_type": order.limit.kind, "limit_price": number(plain_text(order.limit.value))}
    return {"limit_price_type": "static", "limit_price": number(order.price_text(order.limit_ticks))}


def _triggers(order: ClientOrder) -> Row:
    trigger = order.trigger
    if order.trigger_ticks is None or trigger is None:
        return {}
    actual = number(order.price_text(order.trigger_ticks))
    triggers: Row = {
        "price": actual if trigger.kind == "static" else number(plain_text(trigger.value)),
        "price_type": trigger.kind,
        "reference": order.request.trigger_reference,
        "status": "triggered" if order.is_triggered else "untriggered",
        "actual_price": actual,
        "last_price": number(_milli_text(order, order.reference_milliticks)),
    }
    if order.trails:
        triggers["peak_price"] = number(_milli_text(order, order.peak_milliticks))
    if order.triggered_ns is not None:
        triggers["timestamp"] = rfc3339_us(order.triggered_ns)
    return {"triggers": triggers}


def _milli_text(order: ClientOrder, milliticks: int) -> str:
    """Return a price in thousandths of a tick, rounded to a tick."""
    return order.price_text((milliticks + MILLI // 2) // MILLI)


def _totals(order: ClientOrder) -> Row:
    return {
        "cum_qty": number(order.qty_text(order.filled_lots)),
        "cum_cost": number(plain_text(order.cum_cost)),
        "fee_usd_equiv": _fee_usd(order.cum_fee, order),
        "avg_price": number(order.avg_price_text()),
    }


def _fill_figures(order: ClientOrder, fill: Fill) -> Row:
    return _ids(order) | {
        "exec_id": fill.exec_id,
        "exec_type": "trade",
        "trade_id": fill.trade_id,
        "symbol": fill.symbol,
        "side": fill.side,
        "last_qty": number(plain_text(fill.qty)),
        "last_price": number(plain_text(fill.price)),
        "liquidity_ind": "m" if fill.is_maker else "t",
        "cost": number(plain_text(fill.cost)),
        "order_type": fill.order_type,
        "timestamp": rfc3339_us(fill.at_ns),
    }


def _fees(order: ClientOrder, fill: Fill) -> Row:
    fee = {"asset": fill.fee_asset, "qty": number(plain_text(fill.fee))}
    return {"fee_usd_equiv": _fee_usd(fill.fee, order), "fees": [fee]}


def _fee_usd(fee: Decimal, order: ClientOrder) -> msgspec.Raw:
    # Only a fee in dollars has an equivalent here: the exchange keeps no conversion rates.
    if order.fee_asset == "USD":
        return number(plain_text(fee))
    return number(fixed_text(0, order.fee_precision))
