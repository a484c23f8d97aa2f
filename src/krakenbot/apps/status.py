"""`krakenbot status`: what the processes last said of themselves, from the decision database alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from rich.console import Console
from rich.table import Table

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.postgres.embedded import Login
from krakenbot.apps.databases import decision_target
from krakenbot.apps.settings import Settings
from krakenbot.domain.errors import ConfigError, StoreUnavailable

SILENT_AFTER_S = 10.0
_QUERIES = {
    "engine": "SELECT mode, reason, since, latch FROM krakenbot.status_engine",
    # one that waited for the lease and has it leaves a row that waits for nobody
    "processes": "SELECT process, at, body FROM krakenbot.status_processes"
    " WHERE process <> 'execution-waiting' OR body ->> 'waits_for' IS NOT NULL ORDER BY process",
    "epoch": "SELECT epoch_id, status, created_at, reasons FROM krakenbot.status_epochs ORDER BY epoch_id DESC LIMIT 1",
    "lease": "SELECT holder, lease_epoch, expires_at FROM krakenbot.status_leases",
    "positions": "SELECT symbol, qty, cost_quote, realized_quote, opened_at FROM krakenbot.status_positions"
    " WHERE qty > 0 ORDER BY symbol",
    "protection": "SELECT DISTINCT ON (symbol) symbol, protection, protected_qty, reason, at"
    " FROM krakenbot.status_protection ORDER BY symbol, event_no DESC",
    "orders": "SELECT cl_ord_id, symbol, side, role, qty, cum_qty, limit_price, trigger_price, state, created_at"
    " FROM krakenbot.status_orders WHERE state NOT IN"
    " ('filled', 'canceled', 'expired', 'rejected', 'never_accepted') ORDER BY created_at",
    "cycle": "SELECT at, funnel, blockers FROM krakenbot.status_cycles ORDER BY at DESC LIMIT 1",
    "outcomes": "SELECT DISTINCT ON (symbol) symbol, code, value, limit_value, unit, detail, clears_when, since"
    " FROM krakenbot.status_outcomes ORDER BY symbol, at DESC",
}


async def print_status(settings: Settings, *, as_json: bool) -> None:
    """Print the status; raises ConfigError when there is no database to ask."""
    async with _connection(settings) as connection:
        found = {name: await _rows(connection, query) for name, query in _QUERIES.items()}
    if as_json:
        print(json.dumps(found, default=str, indent=2))
    else:
        _render(found, SystemClock().now())


@asynccontextmanager
async def _connection(settings: Settings) -> AsyncIterator[psycopg.AsyncConnection[dict[str, Any]]]:
    target = decision_target(settings, Login.STATUS)
    try:
        connection = await psycopg.AsyncConnection.connect(
            target, row_factory=dict_row, connect_timeout=5, options="-c statement_timeout=5000"
        )
        async with connection:
            yield connection
    except psycopg.errors.QueryCanceled as exc:
        raise StoreUnavailable(f"{_place(target)} takes too long to answer: {exc.diag.message_primary}") from exc
    except psycopg.OperationalError as exc:
        raise StoreUnavailable(f"{_place(target)} does not answer: {exc}") from exc


def _place(target: str) -> str:
    """Return the words for a database and the login that asks it, without its password."""
    parts = conninfo_to_dict(target)
    return f"the decision database {parts.get('dbname')} at {parts.get('host')} (login {parts.get('user')})"


async def _rows(connection: psycopg.AsyncConnection[dict[str, Any]], query: str) -> list[dict[str, Any]]:
    try:
        return await (await connection.execute(query.encode())).fetchall()
    except psycopg.errors.UndefinedTable as exc:
        raise ConfigError("the decision database has no krakenbot schema; run: krakenbot migrate") from exc
    except psycopg.errors.InsufficientPrivilege as exc:
        login = connection.info.user
        raise ConfigError(f"login {login} may not read the status: {exc.diag.message_primary}") from exc


def _render(found: Mapping[str, list[dict[str, Any]]], now: datetime) -> None:
    console = Console(markup=False, highlight=False)  # reasons hold brackets
    engine = found["engine"][0] if found["engine"] else {"mode": "normal", "reason": "", "latch": None}
    console.print(f"engine mode {engine['mode']} {engine['reason'] or ''}{_latch(engine)}")
    for row in found["lease"]:
        console.print(
            f"lease held by {row['holder']}, epoch {row['lease_epoch']}, expires {_age(row['expires_at'], now)}"
            if row["holder"]
            else "lease free"
        )
    for row in found["processes"]:
        age_s = (now - row["at"]).total_seconds()
        if "waits_for" in row["body"]:
            if row["body"]["waits_for"] is not None and age_s <= SILENT_AFTER_S:
                console.print(f"{row['body']['holder']} waits for the lease of {row['body']['waits_for']}")
            continue
        console.print(
            f"{row['process']}: last said anything {age_s:.1f} s ago{' (SILENT)' if age_s > SILENT_AFTER_S else ''}"
        )
        _writer(console, row["body"].get("sink") or {})
        _universe(console, row["body"].get("universe") or {})
        probes = row["body"].get("probes")
        if probes:
            ends = ", ".join(f"{end} {count}" for end, count in sorted(probes["ends"].items()))
            console.print(
                f"queue probes: active {probes['active']}, started {probes['started']}; {ends or 'none ended'}"
            )
    for row in found["epoch"]:
        console.print(
            f"epoch {row['epoch_id']} {row['status']}, {_age(row['created_at'], now)} {'; '.join(row['reasons'])}"
        )
    _feeds(console, found["processes"])
    protection = {row["symbol"]: row for row in found["protection"]}
    _table(
        console,
        "positions",
        ("symbol", "qty", "cost", "realised", "protection"),
        [
            (
                row["symbol"],
                row["qty"],
                row["cost_quote"],
                row["realized_quote"],
                protection.get(row["symbol"], {}).get("protection", "?"),
            )
            for row in found["positions"]
        ],
    )
    _table(
        console,
        "open orders",
        ("id", "symbol", "role", "qty", "filled", "price", "trigger", "state"),
        [
            tuple(
                row[key]
                for key in ("cl_ord_id", "symbol", "role", "qty", "cum_qty", "limit_price", "trigger_price", "state")
            )
            for row in found["orders"]
        ],
    )
    for row in found["cycle"]:
        funnel = ", ".join(f"{name} {count}" for name, count in row["funnel"].items())
        console.print(f"last cycle {_age(row['at'], now)}: {funnel}")
    _table(
        console,
        "why nothing is traded",
        ("symbol", "code", "value", "limit", "unit", "clears when"),
        [
            tuple(row[key] for key in ("symbol", "code", "value", "limit_value", "unit", "clears_when"))
            for row in found["outcomes"]
        ],
    )


def _writer(console: Console, sink: Mapping[str, Any]) -> None:
    """Show what the writer of samples holds back, what gave way by kind, and trades that are missing."""
    if not sink:
        return
    full = ", SPOOL FULL" if sink.get("spool_full") else ""
    console.print(
        f"writer: lag {sink.get('lag_s', 0.0):.1f} s, queued {sink.get('queued', 0)},"
        f" spooled {sink.get('spooled', 0)} rows ({sink.get('spool_bytes', 0)} bytes{full}),"
        f" coalesced {_counts(sink.get('coalesced'))},"
        f" dropped {_counts(sink.get('dropped'))}"
    )
    console.print(
        f"trades: missing {sink.get('trades_missing', 0)} in {sink.get('gaps_open', 0)} gaps,"
        f" refilled {sink.get('trades_refilled', 0)}"
    )


def _universe(console: Console, universe: Mapping[str, Any]) -> None:
    """Show how many symbols are in use, and for each reason how many are not, some of them by name."""
    if not universe:
        return
    console.print(
        f"universe: execution {len(universe['execution'])}, L2 {universe['l2']}, L3 {universe['l3']},"
        f" pool {universe['pool']}, pinned {len(universe['pinned'])}"
    )
    named = universe.get("left_out_first") or {}
    for reason, count in sorted(universe["left_out"].items(), key=lambda item: (-item[1], item[0])):
        symbols = named.get(reason, [])
        names = ", ".join([*symbols, "..."] if count > len(symbols) else symbols)
        console.print(f"  left out {count}: {reason} ({names})")


def _counts(by_kind: Mapping[str, int] | None) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted((by_kind or {}).items())) or "none"


def _feeds(console: Console, processes: list[dict[str, Any]]) -> None:
    """Show the connections of the market feeds, and every subscription that does not work."""
    feeds = [(row["process"], row["body"].get("feed") or row["body"].get("live_feed") or {}) for row in processes]
    streams = [(process, each) for process, feed in feeds for each in feed.get("streams", ())]
    quarantined = [(process, each) for process, feed in feeds for each in feed.get("quarantined", ())]
    columns = ("stream", "connected", "symbols", "heartbeat_age_s", "lag_s", "reconnects")
    _table(
        console,
        "market data connections",
        ("process", *columns),
        [(process, *map(each.get, columns)) for process, each in streams],
    )
    columns = ("channel", "symbol", "reason", "age_s", "attempts", "retry_in_s")
    _table(
        console,
        "quarantine",
        ("process", *columns),
        [(process, *map(each.get, columns)) for process, each in quarantined],
    )


def _table(console: Console, title: str, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    if not rows:
        console.print(f"{title}: none")
        return
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(_cell, row))
    console.print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _age(at: datetime, now: datetime) -> str:
    seconds = (now - at).total_seconds()
    return f"{seconds:.1f} s ago" if seconds >= 0 else f"in {-seconds:.1f} s"


def _latch(engine: Mapping[str, Any]) -> str:
    return f" LATCH {engine['latch']}" if engine.get("latch") else ""
