"""`krakenbot trades`: round trips with fees, net result, how they ended and how the entries turned out.

Enters: a question. Leaves: a table or JSON of a fixed shape (docs/orders.md).
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from krakenbot.apps.settings import Settings
from krakenbot.apps.views.query import FORMAT_VERSION, Question, checked_limit, known_symbol, open_views, since_at
from krakenbot.apps.views.tables import Column, clock_time, number, span, table
from krakenbot.domain.execution.round_trips import RoundTrip, round_trips

_SHOWN_HORIZONS = (5.0, 300.0)
_COLUMNS = (
    Column("opened (UTC)"),
    Column("held", is_right=True),
    Column("symbol", gives_way=True),
    Column("qty", is_right=True),
    Column("entry", is_right=True),
    Column("exit", is_right=True),
    Column("fees", is_right=True),
    Column("net", is_right=True),
    Column("ended by", gives_way=True),
    Column("markout 5 s/300 s", is_right=True, gives_way=True),
)


async def print_trades(settings: Settings, asked: Question, *, as_json: bool) -> None:
    """Print round trips, the oldest first; those that opened or ended since the given time."""
    async with open_views(settings) as views:
        symbol = await known_symbol(views, asked.symbol)
        since = None if asked.since is None else since_at(asked.since, await views.now())
        limit = checked_limit(asked.limit)
        rows = await views.trades(symbol)
    trips = [
        trip
        for trip in round_trips(rows.fills, rows.qty_min, rows.markouts_bps)
        if since is None or trip.is_open or (trip.closed_at or trip.opened_at) >= since
    ]
    shown = trips[-limit:]
    if as_json:
        document = {
            "version": FORMAT_VERSION,
            "is_cut": rows.is_cut or len(shown) < len(trips),
            "trades": [trade_object(trip) for trip in shown],
        }
        print(_dumped(document))
    elif shown:
        print("\n".join(table(_COLUMNS, [_row(trip) for trip in shown])))
        print(_sums(shown))
        if len(shown) < len(trips):
            print(f"the newest {limit} of {len(trips)}; --limit shows more")
        if rows.is_cut:
            print(f"older fills than {clock_time(rows.fills[0].fill.at)} were left out")
    else:
        print("no trades" + (" that fit" if symbol or since else " yet"))


def trade_object(trip: RoundTrip) -> dict[str, Any]:
    """Return a round trip as JSON has it."""
    return {
        "venue_id": trip.venue_id,
        "symbol": trip.symbol,
        "is_open": trip.is_open,
        "opened_at": trip.opened_at.isoformat(),
        "closed_at": trip.closed_at.isoformat() if trip.closed_at else None,
        "qty_bought": str(trip.qty_bought),
        "qty_sold": str(trip.qty_sold),
        "entry_price": _exact(trip.entry_price),
        "exit_price": _exact(trip.exit_price),
        "fees": {asset: str(qty) for asset, qty in trip.fees.items()},
        "realized_quote": str(trip.realized_quote),
        "exit_kind": trip.exit_kind.value if trip.exit_kind else None,
        "entry_ids": list(trip.entry_ids),
        "exit_ids": list(trip.exit_ids),
        "markouts_bps": {f"{horizon:g}": bps for horizon, bps in trip.markouts_bps.items()},
    }


def _row(trip: RoundTrip) -> tuple[str, ...]:
    fees = ", ".join(f"{qty:.4f} {asset}" for asset, qty in trip.fees.items())
    held_s = (trip.closed_at - trip.opened_at).total_seconds() if trip.closed_at else None
    markouts = [trip.markouts_bps.get(horizon) for horizon in _SHOWN_HORIZONS]
    kind = trip.exit_kind.value if trip.exit_kind else ""
    return (
        clock_time(trip.opened_at),
        "open" if held_s is None else span(held_s),
        trip.symbol,
        number(trip.qty_bought),
        _price(trip.entry_price),
        _price(trip.exit_price),
        fees or "-",
        f"{trip.realized_quote:+.4f}",
        f"{kind} (in part)" if trip.is_open and kind else kind or "-",
        "/".join("-" if bps is None else f"{bps:+.1f}" for bps in markouts),
    )


def _sums(trips: list[RoundTrip]) -> str:
    closed = [trip for trip in trips if not trip.is_open]
    quotes = sorted({trip.symbol.partition("/")[2] for trip in trips})
    sums = [
        f"{sum((t.realized_quote for t in trips if t.symbol.endswith('/' + quote)), Decimal(0)):+.4f} {quote}"
        for quote in quotes
    ]
    won = sum(trip.realized_quote > 0 for trip in closed)
    return f"{len(closed)} closed, {won} with a profit, {len(trips) - len(closed)} open; net of fees {', '.join(sums)}"


def _price(price: Decimal | None) -> str:
    return "-" if price is None else f"{price:.8g}"


def _exact(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _dumped(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2)
