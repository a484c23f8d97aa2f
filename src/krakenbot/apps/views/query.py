"""What a person asks for: symbol, states, since when, how many; wrong input names the nearest right one.

Enters: texts of the command line. Leaves: filters, or ConfigError. Called by the commands of this package.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import frozen

from krakenbot.adapters.postgres.embedded import Login
from krakenbot.adapters.postgres.order_views import PostgresOrderViews
from krakenbot.apps.databases import decision_database
from krakenbot.apps.settings import Settings
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.execution.order import OrderState
from krakenbot.domain.values import Symbol
from krakenbot.ports.order_views import OrderFilter, OrderViews

FORMAT_VERSION: Final = 1
STATUS_ROLE: Final = "krakenbot_status"
LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 10_000
_SPAN: Final = re.compile(r"(\d{1,6})\s*(s|m|min|h|d)")
_UNIT_S: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_LIVE: Final = frozenset(state for state in OrderState if not state.is_terminal)
_GROUPS: Final = {"live": _LIVE, "closed": frozenset(OrderState) - _LIVE}


@frozen(kw_only=True)
class Question:
    """Filters as typed; None is not given."""

    symbol: str | None = None
    state: str | None = None
    since: str | None = None
    limit: int = LIMIT_DEFAULT


@asynccontextmanager
async def open_views(settings: Settings) -> AsyncIterator[OrderViews]:
    """Open the decision database for reading, as the status role where the login may; raises ConfigError."""
    async with decision_database(
        settings, Login.STATUS, name="views", role=STATUS_ROLE, statement_timeout_s=15.0
    ) as database:
        yield PostgresOrderViews(database)


async def order_filter(views: OrderViews, asked: Question) -> OrderFilter:
    """Return the filter of a question; raises ConfigError with the nearest name for what does not exist."""
    return OrderFilter(
        symbol=await known_symbol(views, asked.symbol),
        states=_states(asked.state),
        since=None if asked.since is None else since_at(asked.since, await views.now()),
        limit=checked_limit(asked.limit),
    )


async def known_symbol(views: OrderViews, text: str | None) -> Symbol | None:
    """Return a symbol that the database knows; raises ConfigError with the nearest one."""
    if text is None:
        return None
    known = await views.symbols()
    wanted = Symbol(text.strip().upper().replace("-", "/"))
    if wanted in known:
        return wanted
    otherwise = f"it knows {len(known)} symbols" if known else "the database knows none yet"
    raise ConfigError(f"--symbol {text}: not known to the database{_near(wanted, known, otherwise)}")


def since_at(text: str, now: datetime) -> datetime:
    """Return the time that "2h", "7d" or an ISO date stands for; a time without zone is UTC."""
    found = _SPAN.fullmatch(text.strip().lower())
    try:
        if found:
            return now - timedelta(seconds=int(found[1]) * _UNIT_S[found[2]])
        at = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--since {text}: write a span such as 30m, 2h or 7d, or a time such as 2026-11-22T10:00"
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def checked_limit(limit: int) -> int:
    """Return a limit in bounds; raises ConfigError."""
    if not 1 <= limit <= LIMIT_MAX:
        raise ConfigError(f"--limit {limit}: allowed are 1 to {LIMIT_MAX}")
    return limit


def no_such_order(text: str, known: Collection[str]) -> ConfigError:
    """Return the error for an id that no order has."""
    return ConfigError(
        f"--id {text}: there is no such order{_near(text, known, '`krakenbot orders` lists the newest')}"
    )


def _states(text: str | None) -> frozenset[OrderState]:
    if text is None:
        return frozenset()
    word = text.strip().lower().replace("-", "_")
    if word in _GROUPS:
        return _GROUPS[word]
    names = [state.value for state in OrderState]
    if word not in names:
        allowed = [*_GROUPS, *names]
        near = _near(word, allowed, f"allowed are {', '.join(allowed)}")
        raise ConfigError(f"--state {text}: no such state{near}")
    return frozenset({OrderState(word)})


def _near(text: str, known: Collection[str], otherwise: str) -> str:
    near = difflib.get_close_matches(text, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; {otherwise}"
