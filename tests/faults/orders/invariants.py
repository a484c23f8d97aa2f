"""The invariants of RELIABILITY.md that concern orders, as pure functions over both sides.

Enters: the exchange's record of an account, and what the decision database holds. Leaves: findings, in words, each
beginning with the invariant's id; none means that it holds. Nothing here reads a log of ours. The checkers are shown
to complain in tests/unit/faults.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

from attrs import frozen
from tests.faults.orders.ledger import Ledger
from tests.faults.orders.record import Truth, TruthOrder

from krakenbot.adapters.postgres.rows import FILL_COLUMNS, fill_of
from krakenbot.domain.execution.position import Position, apply_fill, flat_position

TERMINAL = frozenset({"filled", "canceled", "expired", "rejected", "never_accepted"})
NEVER_THERE = frozenset({"rejected", "never_accepted"})
DEPOSIT = Decimal(25_000)
TOTAL_SHARE, SYMBOL_SHARE, OPEN_ENTRIES, ENTRIES_PER_MIN = Decimal("0.30"), Decimal("0.10"), 10, 10
"""The defaults of the risk gate; shares are of equity."""
EQUITY_ROOM = Decimal("1.02")
"""Equity moves with prices; what is bought within a case is compared with a little more than the deposit."""
RATE_ERRORS = ("EOrder:Rate limit", "EAPI:Rate limit")
NS = 10**9


@frozen(kw_only=True)
class Away:
    """A window in which the decision database was away, ns of the machine's clock."""

    since_ns: int
    until_ns: int


def rows_first(truth: Truth, ledger: Ledger, away: Sequence[Away] = ()) -> list[str]:
    """I1: each order at the exchange has a row that was committed before it arrived.

    While the database is away a sell may go by the journal; its row must be there in the end.
    """
    findings = []
    for order in truth.orders.values():
        row = ledger.births.get(order.cl_ord_id or "")
        if row is None:
            findings.append(f"I1: {order.cl_ord_id or order.order_id} at the exchange has no row")
            continue
        is_journalled = order.side == "sell" and any(w.since_ns <= order.accepted_ns <= w.until_ns for w in away)
        if _ns(row["committed_at"]) > order.accepted_ns and not is_journalled:
            late_ms = (_ns(row["committed_at"]) - order.accepted_ns) / 1e6
            findings.append(f"I1: the row of {order.cl_ord_id} came {late_ms:.1f} ms after the order")
    return findings


def no_duplicates(truth: Truth, ledger: Ledger) -> list[str]:
    """I2: at most one order at the exchange per cl_ord_id, and one entry per symbol and generation."""
    ids, plans = defaultdict(list), defaultdict(list)
    for order in truth.orders.values():
        ids[order.cl_ord_id].append(order.order_id)
        row = ledger.orders.get(order.cl_ord_id or "")
        if row is not None and row["role"] == "entry":
            plans[row["symbol"], row["generation_id"]].append(order.cl_ord_id)
    return [
        *(f"I2: {len(found)} orders at the exchange are {name}" for name, found in ids.items() if len(found) > 1),
        *(f"I2: {len(found)} entries of one plan for {plan[0]}" for plan, found in plans.items() if len(found) > 1),
    ]


def same_fills(truth: Truth, ledger: Ledger) -> list[str]:
    """I3: the same executions on both sides, to the digit."""
    findings = []
    for exec_id in sorted(truth.fills.keys() | ledger.fills.keys()):
        theirs, ours = truth.fills.get(exec_id), ledger.fills.get(exec_id)
        if theirs is None or ours is None:
            findings.append(f"I3: fill {exec_id} is not {'at the exchange' if theirs is None else 'in the ledger'}")
            continue
        told = (theirs.cl_ord_id, theirs.side, theirs.qty, theirs.price, theirs.cost, theirs.fee, theirs.fee_asset)
        held = tuple(ours[name] for name in ("cl_ord_id", "side", "qty", "price", "cost", "fee_qty", "fee_asset"))
        if told != held:
            findings.append(f"I3: fill {exec_id} is {told} at the exchange and {held} here")
    return findings


def same_balances(truth: Truth, ledger: Ledger) -> list[str]:
    """I4: position = sum of fills = balance change, fees included, without tolerance."""
    theirs = {asset: amount for asset, amount in truth.changes.items() if amount}
    ours = ledger.balance_changes()
    findings = [
        f"I4: {asset} changed by {theirs.get(asset)} at the exchange, by {ours.get(asset)} here"
        for asset in sorted(theirs.keys() | ours.keys())
        if theirs.get(asset) != ours.get(asset)
    ]
    sums: defaultdict[str, list[Decimal]] = defaultdict(lambda: [Decimal(0), Decimal(0)])
    for fill in ledger.fills.values():
        sign = 1 if fill["side"] == "buy" else -1
        in_base = fill["fee_asset"] == fill["symbol"].split("/")[0]
        sums[fill["symbol"]][0] += sign * fill["qty"] - (fill["fee_qty"] if in_base else 0)
        sums[fill["symbol"]][1] -= sign * fill["cost"] + (0 if in_base else fill["fee_qty"])
    for symbol in sorted(sums.keys() | ledger.positions.keys()):
        row = ledger.positions.get(symbol, {"qty": Decimal(0), "cost_quote": Decimal(0), "realized_quote": Decimal(0)})
        qty, quote = sums[symbol]
        if row["qty"] != qty:
            findings.append(f"I4: position {symbol} is {row['qty']}, its fills sum to {qty}")
        if row["realized_quote"] - row["cost_quote"] != quote:
            flows = row["realized_quote"] - row["cost_quote"]
            findings.append(f"I4: position {symbol} says {flows} of the quote, its fills {quote}")
    return findings


def replayed(ledger: Ledger) -> list[str]:
    """I18, as far as it goes here: stored fills, folded again in the order of their commits, give each position."""
    positions: dict[str, Position] = {}
    for row in ledger.fills.values():
        fill = fill_of([row[name] for name in FILL_COLUMNS.split(", ")])
        positions[fill.symbol] = apply_fill(positions.get(fill.symbol, flat_position(fill.symbol)), fill)
    findings = []
    for symbol, position in positions.items():
        stored = ledger.positions.get(symbol)
        held = stored and (stored["qty"], stored["cost_quote"], stored["realized_quote"])
        if held != (position.qty, position.cost_quote, position.realized_quote):
            again = (position.qty, position.cost_quote, position.realized_quote)
            findings.append(f"I18: position {symbol} is {held}, its fills folded again give {again}")
    return findings


def same_orders(truth: Truth, ledger: Ledger, *, is_proven: bool) -> list[str]:
    """I10, its end: the same orders are open on both sides, and those that ended ended alike.

    A row of unknown outcome whose order the exchange never had is exposure until the proof of absence, which waits for
    the order's own expiry; `is_proven` asks for that proof.
    """
    findings = []
    theirs = {order.cl_ord_id: order for order in truth.orders.values() if order.cl_ord_id}
    for name, order in theirs.items():
        row = ledger.orders.get(name)
        if row is None:
            continue  # I1 names it
        status = row["state"] if row["state"] in TERMINAL or row["state"] == "unknown" else "open"
        if status != order.status:
            findings.append(f"I10: {name} is {order.status} at the exchange and {row['state']} here")
        if row["cum_qty"] != order.filled_qty:
            findings.append(f"I10: {name} has {order.filled_qty} filled at the exchange and {row['cum_qty']} here")
    for name, row in ledger.orders.items():
        unsent = row["state"] == "pending_submit" and row["venue_order_id"] is None
        unproven = row["state"] == "unknown" and not is_proven
        if name not in theirs and not unsent and not unproven and row["state"] not in NEVER_THERE:
            findings.append(f"I10: {name} is {row['state']} here and was never at the exchange")
    return findings


def no_entry_before_clean(truth: Truth, ledger: Ledger, started_ns: Sequence[int]) -> list[str]:
    """I10, its order: after a start no entry is placed before what happened earlier is committed."""
    findings = []
    for start_ns in started_ns:
        entries = [
            order.accepted_ns for order in truth.orders.values() if order.side == "buy" and order.accepted_ns > start_ns
        ]
        if not entries:
            continue
        first_ns = min(entries)
        for fill in truth.fills.values():
            row = ledger.fills.get(fill.exec_id)
            if fill.at_ns < start_ns and (row is None or _ns(row["committed_at"]) > first_ns):
                findings.append(f"I10: an entry was placed before fill {fill.exec_id} of before the start was booked")
        for order in truth.orders.values():
            if order.ended_ns is None or order.ended_ns >= start_ns:
                continue
            closed = [
                _ns(step["committed_at"])
                for step in ledger.steps
                if step["cl_ord_id"] == order.cl_ord_id and step["new_state"] in TERMINAL
            ]
            if not closed or min(closed) > first_ns:
                findings.append(f"I10: an entry was placed before the end of {order.cl_ord_id} was committed")
    return findings


def states_stay(ledger: Ledger) -> list[str]:
    """I7: terminal states are never left, and each step begins where the last one ended."""
    findings = []
    last: dict[str, str] = {}
    for event in ledger.events:
        name, before, after = event["cl_ord_id"], event["from_state"], event["to_state"]
        if before in TERMINAL and after != before:
            findings.append(f"I7: {name} left {before} for {after}")
        if last.get(name, before) != before:
            findings.append(f"I7: {name} went from {before} after it was {last[name]}")
        last[name] = after
    for name, state in last.items():
        row = ledger.orders.get(name)
        if row is not None and row["state"] != state:
            findings.append(f"I7: the row of {name} is {row['state']}, its last event says {state}")
    findings += [
        f"I7: the row of {step['cl_ord_id']} left {step['old_state']} for {step['new_state']}"
        for step in ledger.steps
        if step["old_state"] in TERMINAL and step["new_state"] != step["old_state"]
    ]
    return findings


def monotone(ledger: Ledger) -> list[str]:
    """I8: cum_qty, lease_epoch and generation never decrease."""
    findings = [
        f"I8: cum_qty of {step['cl_ord_id']} fell from {step['old_cum']} to {step['new_cum']}"
        for step in ledger.steps
        if step["old_cum"] is not None and step["new_cum"] < step["old_cum"]
    ]
    findings += [
        f"I8: {later['cl_ord_id']} of lease {later['lease_epoch']} was inserted after lease {earlier['lease_epoch']}"
        for earlier, later in pairwise([step for step in ledger.steps if step["is_birth"]])
        if later["lease_epoch"] < earlier["lease_epoch"]
    ]
    findings += [
        f"I8: a cycle of generation {later} followed one of {earlier}"
        for earlier, later in pairwise(ledger.generations)
        if later < earlier
    ]
    return findings


def one_leader(truth: Truth, ledger: Ledger) -> list[str]:
    """I9: no two lease epochs whose accepted orders interleave at the exchange."""
    sent = sorted(truth.orders.values(), key=lambda order: order.accepted_ns)
    epochs = [
        (order, ledger.orders[name]["lease_epoch"]) for order in sent if (name := order.cl_ord_id) in ledger.orders
    ]
    return [
        f"I9: {later[0].cl_ord_id} of lease {later[1]} arrived after one of lease {earlier[1]}"
        for earlier, later in pairwise(epochs)
        if later[1] < earlier[1]
    ]


def within_limits(truth: Truth) -> list[str]:
    """I11: exposure, open entries and entries per minute, as the exchange saw them, after every event of the record."""
    open_entries: dict[str, TruthOrder] = {}
    left: dict[str, Decimal] = {}
    price: dict[str, Decimal] = {}
    held: defaultdict[str, Decimal] = defaultdict(Decimal)
    bought: defaultdict[str, Decimal] = defaultdict(Decimal)
    accepted: list[int] = []
    findings: dict[str, None] = {}
    for event in truth.events:
        name = event.get("order_id", "")
        match event["kind"]:
            case "accepted" if event["side"] == "buy":
                open_entries[name] = truth.orders[name]
                left[name], price[name] = Decimal(event["qty"]), Decimal(event["limit_price"] or 0)
                accepted.append(event["at_ns"])
            case "amended" if name in open_entries:
                left[name] = Decimal(event["qty"]) - Decimal(event["filled_qty"])
                price[name] = Decimal(event["limit_price"] or 0)
            case "traded":
                symbol, qty, cost = event["symbol"], Decimal(event["qty"]), Decimal(event["cost"])
                if event["side"] == "buy":
                    held[symbol] += qty
                    bought[symbol] += cost
                    left[name] = left.get(name, qty) - qty
                else:
                    share = min(Decimal(1), qty / held[symbol]) if held[symbol] else Decimal(1)
                    bought[symbol] -= bought[symbol] * share
                    held[symbol] -= qty
            case "filled" | "cancelled" | "expired":
                open_entries.pop(name, None)
            case _:
                continue
        exposure = defaultdict(Decimal, bought)
        for name_, order in open_entries.items():
            exposure[order.symbol] += left[name_] * price[name_]
        if sum(exposure.values()) > DEPOSIT * TOTAL_SHARE * EQUITY_ROOM:
            findings[f"I11: exposure above {TOTAL_SHARE:%} of the capital"] = None
        for symbol, amount in exposure.items():
            if amount > DEPOSIT * SYMBOL_SHARE * EQUITY_ROOM:
                findings[f"I11: {amount:.2f} in {symbol}, above {SYMBOL_SHARE:%} of the capital"] = None
            if held[symbol] < 0:
                findings[f"I11: more of {symbol} was sold than bought"] = None
        if len(open_entries) > OPEN_ENTRIES:
            findings[f"I11: {len(open_entries)} entries open at once"] = None
        recent = [at for at in accepted if at > event["at_ns"] - 60 * NS]
        if len(recent) > ENTRIES_PER_MIN:
            findings[f"I11: {len(recent)} entries within a minute"] = None
    return list(findings)


def no_rate_errors(truth: Truth, rest_refused: int, restarts: int) -> list[str]:
    """I12: the exchange itself never refused an order or a private REST call for its rate.

    What a script refuses is in neither count: the record and the counters are the venue's own. A process that starts
    can't know what the one before it used of the key's counter; it may learn that by one refused call.
    """
    errors = [row["error"] for row in truth.refusals if row["error"].startswith(RATE_ERRORS)]
    calls = f"I12: {rest_refused} private REST calls refused for their rate, after {restarts} restarts"
    return [
        *([f"I12: {len(errors)} times {errors[0]}"] if errors else []),
        *([calls] if rest_refused > restarts else []),
    ]


def compared(truth: Truth, without_orders: str) -> list[str]:
    """Say that a case compared nothing: no order came to the exchange, and no reason is named for that."""
    return [] if truth.orders or without_orders else ["suite: no order to compare"]


def no_secrets(texts: Mapping[str, str], secrets: Collection[str]) -> list[str]:
    """I15: no secret in what a process printed, published or stored; `texts` by where they are from."""
    return [
        f"I15: a secret is in {place}" for place, text in texts.items() if any(secret in text for secret in secrets)
    ]


def judge(
    truth: Truth, ledger: Ledger, *, started_ns: Sequence[int], away: Sequence[Away], rest_refused: int, is_proven: bool
) -> list[str]:
    """Return every finding of one case at quiet; `started_ns` are the starts after the first, `rest_refused` calls that
    the exchange itself refused for their rate."""
    return [
        *rows_first(truth, ledger, away),
        *no_duplicates(truth, ledger),
        *agreement(truth, ledger, is_proven=is_proven),
        *states_stay(ledger),
        *monotone(ledger),
        *replayed(ledger),
        *one_leader(truth, ledger),
        *no_entry_before_clean(truth, ledger, started_ns),
        *within_limits(truth),
        *no_rate_errors(truth, rest_refused, len(started_ns)),
    ]


def agreement(truth: Truth, ledger: Ledger, *, is_proven: bool) -> list[str]:
    """Return what differs between both sides at this moment: I3, I4, and the end of I10."""
    orders = same_orders(truth, ledger, is_proven=is_proven)
    return [*same_fills(truth, ledger), *same_balances(truth, ledger), *orders]


def _ns(at: datetime) -> int:
    return round(at.timestamp() * 1e6) * 1000
