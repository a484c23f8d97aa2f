"""Compare what the exchange published with what we hold, and what was said with what was so.

Enters: both sides, at a moment when the exchange's flow rests, or a window of time. Leaves: findings, in words; none
means that it holds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal

import anyio
from attrs import define, field, frozen
from tests.faults.fault import Dark
from tests.faults.held import Row, Sets, covered, utc
from tests.faults.venue import Depth, Published
from tests.faults.world import CLOCK, World

from krakenbot.domain.values import NS_PER_S

AGREE_WAIT_S = 15.0
POLL_S = 0.5
NAMED = 3
EPOCH_INTERVAL_S = 10.0
"""The default of ingest."""
CYCLE_INTERVAL_S = 2.0


@frozen(kw_only=True)
class Compared:
    """Figures of one comparison, and what is wrong."""

    books: int = 0
    queues: int = 0
    quarantined: int = 0
    trades: int = 0
    stored: int = 0
    in_gaps: int = 0
    twice_after_restart: int = 0
    findings: tuple[str, ...] = ()


@define
class TradeLedger:
    """Every trade that the exchange published since the run began and that is not accounted for yet.

    `since_ns` is the exchange's time from which stored trades are read; the trades of a comparison go back as far as
    the one before.
    """

    since_ns: int
    seen: dict[str, int] = field(factory=dict)
    owed: dict[tuple[str, int], Published] = field(factory=dict)
    """Trades that were in gaps when they were looked for."""

    def begin(self, published: Mapping[tuple[str, int], Published]) -> None:
        """Take what was published before the run as not ours to hold."""
        for symbol, trade_id in published:
            self.seen[symbol] = max(trade_id, self.seen.get(symbol, 0))

    def new(self, published: Mapping[tuple[str, int], Published]) -> dict[tuple[str, int], Published]:
        """Return what is new since the last call."""
        fresh = {key: trade for key, trade in published.items() if key[1] > self.seen.get(key[0], 0)}
        self.begin(fresh)
        return fresh


async def compare_books(world: World, sets: Sets, asked: Collection[tuple[str, str]]) -> Compared:
    """Compare the newest samples with the resting books; `asked` are the quarantines that must be there.

    A symbol without a sample must be in quarantine with a reason. One with a sample must be right, whatever else.
    `sets` are the symbols that ran before any fault: one that left the universe since is not forgotten.
    """
    before = await world.venue.depths(tuple({*sets.execution, *sets.l3}))
    since_ns = CLOCK.now_ns()
    with anyio.move_on_after(AGREE_WAIT_S):
        while True:
            books = await world.held.newest_books(since_ns)
            queues = await world.held.newest_queues(since_ns)
            quarantine = await world.held.quarantine()
            wrong_books = _wrong(sets.execution, before, books, book_difference, quarantine=quarantine, channel="book")
            wrong_queues = _wrong(sets.l3, before, queues, queue_difference, quarantine=quarantine, channel="level3")
            absent = {key for key in asked if key not in quarantine}
            if not wrong_books and not wrong_queues and not absent:
                break
            await anyio.sleep(POLL_S)
    # What moved while it was compared (an order of ours that was cancelled) proves nothing.
    after = await world.venue.depths(tuple({*wrong_books, *wrong_queues}))
    moved = {symbol for symbol, depth in after.items() if depth != before[symbol]}
    findings = [
        *(f"L2 {symbol}: {text}" for symbol, text in wrong_books.items() if symbol not in moved),
        *(f"L3 {symbol}: {text}" for symbol, text in wrong_queues.items() if symbol not in moved),
        *(f"{channel} of {symbol} is not in quarantine" for channel, symbol in sorted(absent)),
    ]
    return Compared(
        books=sum(symbol in books for symbol in sets.execution),
        queues=sum(symbol in queues for symbol in sets.l3),
        quarantined=len(quarantine),
        findings=_shortened(findings),
    )


async def compare_trades(world: World, ledger: TradeLedger) -> Compared:
    """Account for every trade that the exchange published since the last comparison."""
    fresh = ledger.new(await world.venue.new_trades())
    since_ns, ledger.since_ns = ledger.since_ns, CLOCK.now_ns()
    with anyio.move_on_after(AGREE_WAIT_S):
        while True:
            # A minute earlier: a trade is older than the moment at which it was read.
            rows = await world.held.trades(since_ns - 60 * NS_PER_S)
            gaps = await world.held.open_gaps()
            stored = {(row["symbol"], row["trade_id"]): row for row in rows}
            missing = [key for key in fresh if key not in stored]
            lost = [key for key in missing if not covered(gaps, *key)]
            if not lost:
                break
            await anyio.sleep(POLL_S)
    ledger.owed |= {key: fresh[key] for key in missing}
    copies = Counter((row["lineage_id"], row["symbol"], row["trade_id"]) for row in rows)
    lineages = Counter((row["symbol"], row["trade_id"]) for row in rows)
    findings = [
        *(f"trade {trade_id} of {symbol} is neither stored nor in trade_gaps" for symbol, trade_id in lost),
        *(f"trade {key[2]} of {key[1]} is stored {count} times" for key, count in copies.items() if count > 1),
        *(
            f"trade {key[1]} of {key[0]}: {text}"
            for key, trade in fresh.items()
            if key in stored and (text := trade_difference(trade, stored[key]))
        ),
    ]
    return Compared(
        trades=len(fresh),
        stored=len(fresh) - len(missing),
        in_gaps=len(missing) - len(lost),
        twice_after_restart=sum(count > 1 for count in lineages.values()),
        findings=_shortened(findings),
    )


async def compare_owed(world: World, ledger: TradeLedger, wait_s: float) -> Compared:
    """Look once more for the trades that were in gaps, and over everything for trades that are stored twice."""
    with anyio.move_on_after(wait_s):
        while True:
            rows = await world.held.trades(0)
            gaps = await world.held.open_gaps()
            stored = {(row["symbol"], row["trade_id"]): row for row in rows}
            missing = [key for key in ledger.owed if key not in stored]
            if not missing:
                break
            await anyio.sleep(POLL_S)
    copies = Counter((row["lineage_id"], row["symbol"], row["trade_id"]) for row in rows)
    lost = [key for key in missing if not covered(gaps, *key)]
    findings = [
        *(f"trade {trade_id} of {symbol} is in no gap any more, and not stored" for symbol, trade_id in lost),
        *(f"trade {key[2]} of {key[1]} is stored {count} times" for key, count in copies.items() if count > 1),
        *(
            f"trade {key[1]} of {key[0]}: {text}"
            for key, trade in ledger.owed.items()
            if key in stored and (text := trade_difference(trade, stored[key]))
        ),
    ]
    return Compared(
        trades=len(ledger.owed),
        stored=len(ledger.owed) - len(missing),
        in_gaps=len(missing) - len(lost),
        findings=_shortened(findings),
    )


async def check_told(world: World, dark: Dark, struck_ns: int, ended_ns: int) -> tuple[str, tuple[str, ...]]:
    """Return what epochs and cycles said while it was dark, in short, and what they should not have said."""
    said: list[str] = []
    findings: list[str] = []
    if dark.epoch_after_s is not None:
        since_ns = struck_ns + int(dark.epoch_after_s * NS_PER_S)
        epochs = await world.held.epochs(utc(since_ns), utc(ended_ns))
        said.append("epochs " + (_counted(row["status"] for row in epochs) or "none"))
        if valid := [row for row in epochs if row["status"] == "valid"]:
            findings.append(f"{len(valid)} epochs were valid while it was dark, the first at {valid[0]['created_at']}")
        if dark.is_told and not epochs:
            findings.append(f"no epoch in {(ended_ns - since_ns) / NS_PER_S:.0f} s of darkness")
    if dark.blocked_after_s is not None:
        since_ns = struck_ns + int(dark.blocked_after_s * NS_PER_S)
        # A cycle that began before the end may have read what came after it.
        until_ns = ended_ns - int(CYCLE_INTERVAL_S * NS_PER_S)
        cycles = await world.held.cycles(utc(since_ns), utc(until_ns))
        codes: Counter[str] = Counter()
        for row in cycles:
            codes.update(row["blockers"])
        said.append("blocked by " + (", ".join(f"{code} {count}" for code, count in codes.most_common()) or "nothing"))
        if foreign := sorted(codes.keys() - {code.value for code in dark.codes}):
            findings.append(f"symbols were blocked by {', '.join(foreign)} instead of {', '.join(sorted(dark.codes))}")
        if not cycles:
            findings.append("no decision cycle was recorded while it was dark")
        if entries := await world.held.entries(utc(since_ns), utc(until_ns)):
            findings.append(f"entries were made in {', '.join(entries)}")
    return "; ".join(said), tuple(findings)


def _wrong(
    symbols: tuple[str, ...],
    truth: Mapping[str, Depth],
    rows: Mapping[str, Row],
    difference: Callable[[Depth, Row], str],
    *,
    quarantine: Mapping[tuple[str, str], str],
    channel: str,
) -> dict[str, str]:
    found = {}
    for symbol in symbols:
        if symbol in rows:
            text = difference(truth[symbol], rows[symbol])
        elif quarantine.get((channel, symbol)):
            text = ""
        else:
            text = "no sample, and no quarantine says why"
        if text:
            found[symbol] = text
    return found


def book_difference(truth: Depth, row: Row) -> str:
    """Return in which figures an L2 sample differs from the exchange's book; nothing when it does not."""
    if not truth.bids or not truth.asks:
        return f"a sample, and the exchange has no {'ask' if truth.bids else 'bid'}"
    (bid, bid_qty), (ask, ask_qty) = truth.bids[0], truth.asks[0]
    bid_5, ask_5 = (sum(qty for _, qty in side[:5]) for side in (truth.bids, truth.asks))
    figures = {"bid": bid, "bid_qty": bid_qty, "ask": ask, "ask_qty": ask_qty}
    figures["imbalance_5"] = (bid_5 - ask_5) / (bid_5 + ask_5)
    return _difference(figures, row)


def queue_difference(truth: Depth, row: Row) -> str:
    """Return in which figures an L3 sample differs from the exchange's touch; nothing when it does not."""
    if not truth.bids or not truth.asks:
        return f"a sample, and the exchange has no {'ask' if truth.bids else 'bid'}"
    (bid, bid_qty), (ask, ask_qty) = truth.bids[0], truth.asks[0]
    figures = {"bid_volume": bid_qty, "bid_notional": bid * bid_qty}
    figures |= {"ask_volume": ask_qty, "ask_notional": ask * ask_qty}
    return _difference(figures, row)


def trade_difference(trade: Published, row: Row) -> str:
    """Return how a stored trade differs from the published one; nothing when it does not."""
    ours = (row["side"], Decimal(row["price"]), Decimal(row["qty"]))
    theirs = (trade.side, Decimal(trade.price), Decimal(trade.qty))
    return "" if ours == theirs else f"stored as {ours}, published as {theirs}"


def _difference(figures: Mapping[str, float], row: Row) -> str:
    return ", ".join(
        f"{name} {row[name]:g}, at the exchange {value:g}"
        for name, value in figures.items()
        if not math.isclose(row[name], value, rel_tol=1e-9, abs_tol=1e-12)
    )


def _counted(words: object) -> str:
    return ", ".join(f"{word} {count}" for word, count in Counter(words).items())  # type: ignore[call-overload]  # any words


def _shortened(findings: list[str]) -> tuple[str, ...]:
    more = len(findings) - NAMED
    return (*findings[:NAMED], f"and {more} more of this kind") if more > 0 else tuple(findings)
