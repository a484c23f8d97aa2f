"""Read the recorded live session: where it is, its order events and its books.

In: a folder of CSV files (see docs/flow.md). Out: events and book states in ticks and lots. Called by
`RecordedFlow` and by the script that fits flow parameters.
"""

from __future__ import annotations

import csv
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal

from attrs import define, frozen

from krakenbot.adapters.local_exchange.flow.market import InstrumentRules, Side

SESSION = "btc-eth-sol-doge-2024-11-12"
RECORDED_SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD", "DOGE/USD")
Action = Literal["add", "modify", "delete"]
ACTIONS: dict[str, Action] = {"add": "add", "modify": "modify", "delete": "delete"}


@define(kw_only=True)
class OrderEvent:
    """One recorded order event. `at_ns` counts from the first event; `is_old` marks an order placed before it."""

    at_ns: int
    side: Side
    price_ticks: int
    size_lots: int
    action: Action
    order_id: str
    is_old: bool


@define(kw_only=True)
class BookState:
    """The ten best levels a side at `at_ns` (from the first order event, may be negative), best first."""

    at_ns: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]


@frozen(kw_only=True)
class SymbolRecording:
    """What was recorded of one symbol; `trade_count` counts trades inside the window of order events."""

    events: list[OrderEvent]
    states: list[BookState]
    trade_count: int

    def opening_state(self) -> BookState:
        """Return the last book state at or before the first order event, else the first state."""
        earlier = [state for state in self.states if state.at_ns <= 0]
        return earlier[-1] if earlier else self.states[0]


def find_recordings(explicit: Path | None = None) -> Path:
    """Return the folder of recordings: the given one, else $KRAKENBOT_RECORDINGS, else ../shared/kraken.

    Both the folder itself and a parent that holds it as `recordings` are accepted.

    Raises FileNotFoundError when none of them has an instrument snapshot.
    """
    from_environment = os.environ.get("KRAKENBOT_RECORDINGS")  # noqa: TID251  # the one place that looks for it
    if explicit is not None:
        candidates = [explicit]
    elif from_environment:
        candidates = [Path(from_environment)]
    else:
        candidates = [Path("../shared/kraken"), Path(__file__).parents[5].parent / "shared/kraken"]
    for candidate in candidates:
        for folder in (candidate, candidate / "recordings"):
            if (folder / "instrument-snapshot.json").is_file():
                return folder
    looked = ", ".join(str(candidate) for candidate in candidates)
    raise FileNotFoundError(
        f"no recordings in {looked}: set KRAKENBOT_RECORDINGS to the folder that holds instrument-snapshot.json, "
        "or use the seeded flow"
    )


def load_recording(folder: Path, rules: dict[str, InstrumentRules]) -> dict[str, SymbolRecording]:
    """Return the recorded session of each symbol that has rules, on the clock of its order events.

    Order events are played at their time of receipt: it is monotonic, while the venue's own time of an event
    is the order's. The offset between the recorder's clock and the venue's is estimated from deletes.

    Raises FileNotFoundError when the session is not in `folder`.
    """
    session = folder / SESSION
    if not session.is_dir():
        raise FileNotFoundError(f"no session {SESSION} in {folder}: set KRAKENBOT_RECORDINGS")
    rows = _read_rows(session / "L3_ticks.csv")
    start_ns = _receipt_ns(rows[0])
    offsets = sorted(_time_ns(r["ts_event"]) - _receipt_ns(r) for r in rows if r["action"] == "delete")
    venue_start_ns = start_ns + offsets[len(offsets) // 2]
    trades = _read_rows(session / "trades.csv")
    recordings: dict[str, SymbolRecording] = {}
    for symbol in RECORDED_SYMBOLS:
        rule = rules.get(symbol)
        if rule is None:
            continue
        own = [row for row in rows if row["symbol"] == symbol]
        inside = [t for t in trades if t["symbol"] == symbol and _time_ns(t["ts_event"]) >= venue_start_ns]
        recordings[symbol] = SymbolRecording(
            events=[_order_event(row, rule, start_ns, venue_start_ns) for row in own],
            states=_load_states(session, symbol, rule, venue_start_ns),
            trade_count=len(inside),
        )
    return recordings


def _order_event(row: dict[str, str], rule: InstrumentRules, start_ns: int, venue_start_ns: int) -> OrderEvent:
    return OrderEvent(
        at_ns=_receipt_ns(row) - start_ns,
        side="buy" if row["side"] == "b" else "sell",
        price_ticks=_scaled(row["price"], rule.price_precision),
        size_lots=_scaled(row["size"], rule.qty_precision),
        action=ACTIONS[row["action"]],
        order_id=row["order_id"],
        is_old=_time_ns(row["ts_event"]) < venue_start_ns,
    )


def _load_states(session: Path, symbol: str, rule: InstrumentRules, venue_start_ns: int) -> list[BookState]:
    name = f"L2_{symbol.replace('/', '_')}_orderbook.csv"
    return [
        BookState(
            at_ns=_time_ns(row["timestamp"]) - venue_start_ns,
            bids=_ten_levels(row, "b", rule),
            asks=_ten_levels(row, "a", rule),
        )
        for row in _read_rows(session / name)
    ]


def _ten_levels(row: dict[str, str], letter: str, rule: InstrumentRules) -> list[tuple[int, int]]:
    return [
        (
            _scaled(row[f"{letter}p{level}"], rule.price_precision),
            _scaled(row[f"{letter}v{level}"], rule.qty_precision),
        )
        for level in range(10)
    ]


def _scaled(text: str, precision: int) -> int:
    # The recorder's floats left digits beyond the pair's precision.
    return round(Decimal(text).scaleb(precision))


def _receipt_ns(row: dict[str, str]) -> int:
    return _time_ns(row["ts_recv"])


def _time_ns(text: str) -> int:
    """Return nanoseconds since the epoch of an ISO time with up to nine decimals."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    moment = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0"))


def _read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
