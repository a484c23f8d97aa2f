"""`krakenbot positions`: what is held, how it is covered, and what it is worth at the last known bid.

Enters: a question. Leaves: a table or JSON of a fixed shape (docs/orders.md).
"""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import asdict, frozen

from krakenbot.apps.settings import Settings
from krakenbot.apps.views.query import FORMAT_VERSION, known_symbol, open_views
from krakenbot.apps.views.tables import Column, clock_time, number, span, table
from krakenbot.domain.execution.covered import CoveredSeconds, covered_seconds
from krakenbot.ports.order_views import PositionView

_COLUMNS = (
    Column("symbol", gives_way=True),
    Column("qty", is_right=True),
    Column("entry+fees", is_right=True),
    Column("bid", is_right=True),
    Column("unrealised", is_right=True),
    Column("realised", is_right=True),
    Column("cover", gives_way=True),
    Column("protected/guarded/bare/unseen s"),
    Column("note", gives_way=True),
)


@frozen(kw_only=True)
class Judged:
    """A position with what follows from it; `unrealized_quote` is None without a bid."""

    view: PositionView
    seconds: CoveredSeconds
    protection: str
    protected_qty: Decimal
    unrealized_quote: Decimal | None
    bid_age_s: float | None
    is_dust: bool


async def print_positions(settings: Settings, symbol: str | None, *, as_json: bool) -> None:
    """Print the positions that are held, dust included and named."""
    async with open_views(settings) as views:
        wanted = await known_symbol(views, symbol)
        now = await views.now()
        found = [judged(view, now) for view in await views.positions(wanted)]
    if as_json:
        print(_dumped(found))
    elif found:
        print("\n".join(table(_COLUMNS, [_row(one) for one in found])))
    else:
        print("no positions" + (f" in {wanted}" if wanted else ""))


def judged(view: PositionView, now: datetime) -> Judged:
    """Return a position with its seconds, its worth and whether it is dust."""
    position = view.position
    opened_at = position.opened_at or now
    last = view.changes[-1] if view.changes else None
    seconds = covered_seconds(
        [(at, protection) for at, protection, _ in view.changes],
        opened_at=opened_at,
        watched_until=view.watched_until or opened_at,
        now=now,
    )
    worth = None if view.bid is None else position.qty * view.bid
    below_qty = view.qty_min is not None and position.qty < view.qty_min
    below_cost = view.cost_min is not None and worth is not None and worth < view.cost_min
    return Judged(
        view=view,
        seconds=seconds,
        protection=last[1].value if last else "not recorded",
        protected_qty=last[2] if last else Decimal(0),
        unrealized_quote=None if worth is None else worth - position.cost_quote,
        bid_age_s=None if view.bid_at is None else (now - view.bid_at).total_seconds(),
        is_dust=below_qty or below_cost,
    )


def position_object(one: Judged) -> dict[str, Any]:
    """Return a position as JSON has it."""
    view, position = one.view, one.view.position
    return {
        "venue_id": view.venue_id,
        "symbol": position.symbol,
        "qty": str(position.qty),
        "average_entry_price": _exact(position.average_price),
        "cost_quote": str(position.cost_quote),
        "realized_quote": str(position.realized_quote),
        "unrealized_quote": _exact(one.unrealized_quote),
        "bid": _exact(view.bid),
        "bid_age_s": one.bid_age_s,
        "opened_at": position.opened_at.isoformat() if position.opened_at else None,
        "entry_id": position.entry_id,
        "protection": one.protection,
        "protected_qty": str(one.protected_qty),
        "seconds": asdict(one.seconds),
        "is_dust": one.is_dust,
    }


def _row(one: Judged) -> tuple[str, ...]:
    position, seconds = one.view.position, one.seconds
    times = (seconds.protected_s, seconds.guarded_s, seconds.bare_s, seconds.unseen_s)
    notes = ["dust: below the venue's minimum"] if one.is_dust else []
    if one.bid_age_s is not None and one.bid_age_s > 60:
        notes.append(f"bid {span(one.bid_age_s)} old")
    notes.append(f"since {clock_time(position.opened_at)}")
    return (
        position.symbol,
        number(position.qty),
        "-" if position.average_price is None else f"{position.average_price:.8g}",
        number(one.view.bid),
        number(one.unrealized_quote, places=2),
        number(position.realized_quote, places=2),
        one.protection,
        "/".join(f"{seconds_s:.0f}" for seconds_s in times),
        ", ".join(notes),
    )


def _exact(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _dumped(found: list[Judged]) -> str:
    return json.dumps({"version": FORMAT_VERSION, "positions": [position_object(one) for one in found]}, indent=2)
