"""The doctor at a venue and two databases that really have the fault: each is found, named and has its fix."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.integration.doctor.conftest import SECRET, look

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.kraken.nonce import NonceSource, nonce_state_file
from krakenbot.adapters.kraken.rest import KrakenRest, RestSettings
from krakenbot.adapters.kraken.signing import Credentials
from krakenbot.adapters.local_exchange.pytest_plugin import KrakenExchange
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import EXECUTION_ROLE
from krakenbot.adapters.postgres.inspection import inspect
from krakenbot.adapters.postgres.migrate import DatabasePart
from krakenbot.apps.settings import Settings
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.preflight.database import judge_clusters, judge_databases
from krakenbot.domain.preflight.finding import Finding, Level
from krakenbot.domain.secret import Secret

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("doctor")]
AT = Callable[..., Settings]


def the(found: dict[str, list[Finding]], check: str) -> Finding:
    [finding] = found[check]
    return finding


async def test_what_is_in_order_is_said_with_its_figures(exchange: KrakenExchange, settings_at: AT) -> None:
    found = await look(settings_at(exchange))

    # the tests' clusters run without fsync, and that is what is left to say
    wrong = {check for check, findings in found.items() if any(one.level is not Level.OK for one in findings)}
    assert wrong == {"db.ingest.durability", "db.decision.durability"}
    assert the(found, "db.decision.durability").level is Level.FAIL
    assert the(found, "db.decision.durability").found == "fsync = off"
    assert the(found, "db.ingest.durability").level is Level.WARN
    assert "maker 25 bps, taker 40 bps of 2 symbols" in the(found, "exchange.fees").found
    assert the(found, "account.foreign").found == "not counted, not touched: 1.5 BTC, 2 ETH"
    assert the(found, "key.execution.ip_list").found == "127.0.0.1"
    assert the(found, "db.clusters").found == "two clusters"
    assert the(found, "lease").found == "free, epoch 0"
    assert the(found, "exchange.maintenance").found == "none announced"


@pytest.mark.parametrize(
    ("key", "check", "words"),
    [
        ("withdraws", "rights", "may move funds: withdraw-funds"),
        ("adds", "rights", "may move funds: add-funds"),
        ("cannot-trade", "rights", "lacks query-open-trades, query-closed-trades, modify-trades, close-trades"),
        ("no-token", "token", "EGeneral:Permission denied"),
        ("expires", "expiry", "in 3.0 days"),
        ("elsewhere", "", "EGeneral:Permission denied"),
        ("unknown-key", "", "EAPI:Invalid key"),
    ],
)
async def test_a_key_with_a_fault_is_refused(
    exchange: KrakenExchange, settings_at: AT, key: str, check: str, words: str
) -> None:
    found = await look(settings_at(exchange, KRAKENBOT_KEYS__EXECUTION_API_KEY=key))

    findings = found["key.execution" + (f".{check}" if check else "")]
    failed = [one for one in findings if one.level is Level.FAIL]
    assert any(words in one.found for one in failed), findings
    assert all(one.fix for one in failed)


async def test_an_empty_ip_list_warns_or_refuses_by_the_setting(exchange: KrakenExchange, settings_at: AT) -> None:
    name = "KRAKENBOT_KEYS__EXECUTION_API_KEY"

    warned = await look(settings_at(exchange, **{name: "window"}))
    refused = await look(settings_at(exchange, **{name: "window", "KRAKENBOT_DOCTOR__EMPTY_IP_LIST": "refuse"}))

    assert the(warned, "key.execution.ip_list").level is Level.WARN
    assert the(refused, "key.execution.ip_list").level is Level.FAIL
    assert "window 5000000000" in the(warned, "key.execution.nonce").found


async def test_the_same_key_twice_cannot_even_be_set(exchange: KrakenExchange, settings_at: AT) -> None:
    with pytest.raises(ConfigError, match="ingest_api_key and execution_api_key are the same"):
        settings_at(exchange, KRAKENBOT_KEYS__INGEST_API_KEY="execution-key")


async def test_a_nonce_that_the_venue_has_seen_is_told_from_a_bad_key(
    exchange: KrakenExchange, settings_at: AT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NonceSource, "next", lambda _: 1)

    found = await look(settings_at(exchange))

    assert the(found, "key.execution.nonce").level is Level.FAIL
    assert the(found, "key.execution.nonce").found == "EAPI:Invalid nonce"


async def test_the_doctor_leaves_the_nonces_of_a_running_process_alone(
    exchange: KrakenExchange, settings_at: AT
) -> None:
    settings = settings_at(exchange)
    state_file = nonce_state_file(settings.process.data_dir / "nonces", Secret("execution-key"))
    running = NonceSource(clock=SystemClock(), state_file=state_file)
    running.next()
    ceiling = state_file.read_text()

    found = await look(settings)

    assert the(found, "key.execution.nonce").level is Level.OK
    assert state_file.read_text() == ceiling
    key, secret = settings.keys.execution_api_key, settings.keys.execution_api_secret
    assert key
    assert secret
    rest = KrakenRest(
        settings=RestSettings(base_url=exchange.rest_url),
        clock=SystemClock(),
        credentials=Credentials(api_key=key, private_key=secret),
        nonces=running,
    )
    async with rest:
        info = await rest.api_key_info()
    assert "modify-trades" in info.permissions, "the venue took the running process's next nonce"


async def test_nonces_ahead_of_the_clock_are_not_spent(exchange: KrakenExchange, settings_at: AT) -> None:
    settings = settings_at(exchange)
    state_file = nonce_state_file(settings.process.data_dir / "nonces", Secret("execution-key"))
    state_file.parent.mkdir(parents=True)
    state_file.write_text(str(SystemClock().now_ns() + 3_600_000_000_000))

    found = await look(settings)

    assert "was set back" in the(found, "key.execution").found
    assert "make a new key" in the(found, "key.execution").fix


async def test_a_secret_that_is_none_is_told_from_a_venue_that_is_away(
    exchange: KrakenExchange, settings_at: AT
) -> None:
    found = await look(settings_at(exchange, KRAKENBOT_KEYS__EXECUTION_API_SECRET="not base64!"))

    assert "must be base64" in the(found, "key.execution").found
    assert "Set keys.execution_api_secret as the venue showed it" in the(found, "key.execution").fix


class HourAhead(SystemClock):
    """A clock that nobody set right."""

    def now(self) -> datetime:
        return super().now() + timedelta(hours=1)

    def now_ns(self) -> int:
        return super().now_ns() + 3_600_000_000_000


async def test_a_skewed_clock_is_refused(exchange: KrakenExchange, settings_at: AT) -> None:
    # a key of its own: its nonces are spent for an hour
    keys: dict[str, str | None] = {"KRAKENBOT_KEYS__EXECUTION_API_KEY": "hour-ahead"}
    keys |= dict.fromkeys(("KRAKENBOT_KEYS__INGEST_API_KEY", "KRAKENBOT_KEYS__INGEST_API_SECRET"))

    found = await look(settings_at(exchange, **keys), HourAhead())

    assert the(found, "clock").level is Level.FAIL
    assert "ahead of the venue's" in the(found, "clock").found
    assert "synchronisation" in the(found, "clock").fix


async def test_the_tier_is_what_the_private_stream_states(exchange: KrakenExchange, settings_at: AT) -> None:
    settings = settings_at(exchange, KRAKENBOT_EXECUTION__TIER="pro")

    pro = await look(settings)
    exchange.operate("tier", account="trader", tier="intermediate")
    try:
        lower = await look(settings)
    finally:
        exchange.operate("tier", account="trader", tier="pro")

    assert the(pro, "exchange.tier").found == "pro: 180 points per pair"
    assert the(pro, "exchange.tier").level is Level.OK
    assert the(lower, "exchange.tier").found == "intermediate: 125 points per pair"
    assert the(lower, "exchange.tier").level is Level.WARN
    assert 'execution.tier = "intermediate"' in the(lower, "exchange.tier").fix


async def test_a_private_stream_that_is_away_is_refused(exchange: KrakenExchange, settings_at: AT) -> None:
    found = await look(settings_at(exchange, KRAKENBOT_VENUE__WS_PRIVATE_URL="ws://127.0.0.1:1/v2"))

    assert the(found, "exchange.private_stream").level is Level.FAIL
    assert "venue.ws_private_url" in the(found, "exchange.private_stream").fix


async def test_every_folder_that_is_written_to_is_looked_at(
    exchange: KrakenExchange, settings_at: AT, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    found = await look(
        settings_at(
            exchange,
            KRAKENBOT_EXECUTION__JOURNAL_DIR=str(tmp_path / "file"),
            KRAKENBOT_WRITER__SPOOL_DIR=str(tmp_path / ("long" * 100)),
        )
    )

    assert the(found, "disk.data").level is Level.OK
    assert "not a folder to write to" in the(found, "disk.journal").found
    assert "File name too long" in the(found, "disk.spool").found


async def test_maintenance_now_and_to_come_is_a_warning(exchange: KrakenExchange, settings_at: AT) -> None:
    planned = [{"title": "engine upgrade", "expected_start_utc": "2026-12-01T02:00:00Z"}]
    exchange.operate("mode", system="cancel_only", upcoming_maintenance=planned)
    try:
        found = await look(settings_at(exchange))
    finally:
        exchange.operate("mode", system="online", upcoming_maintenance=[])

    assert the(found, "exchange.status").level is Level.WARN
    assert "engine upgrade, 2026-12-01T02:00:00Z to ?" in the(found, "exchange.maintenance").found


async def test_a_closed_instrument_is_named_and_an_unknown_one_refused_with_its_nearest_name(
    exchange: KrakenExchange, settings_at: AT
) -> None:
    first = exchange.symbols[0]
    exchange.operate("instrument", symbol=first, status="cancel_only")
    try:
        found = await look(settings_at(exchange, KRAKENBOT_INGEST__SYMBOLS=f"{first},{first}X"))
    finally:
        exchange.operate("instrument", symbol=first, status="online")

    levels = {one.level: one for one in found["exchange.instruments"]}
    assert f"{first} cancel_only" in levels[Level.WARN].found
    assert f"{first}X is not listed" in levels[Level.FAIL].found
    assert f"Write {first} in ingest.symbols." in levels[Level.FAIL].fix


async def test_a_venue_that_is_away_is_named_at_each_question(exchange: KrakenExchange, settings_at: AT) -> None:
    found = await look(settings_at(exchange, KRAKENBOT_VENUE__REST_URL="http://127.0.0.1:1"))

    for check in ("key.ingest", "key.execution", "clock", "exchange.instruments"):
        assert the(found, check).level is Level.FAIL
    assert the(found, "exchange.status").level is Level.OK, "the WebSocket is there"


PLANTS = {
    "a schema that is too old": (
        "DELETE FROM schema_migrations WHERE part = 'decision' AND version = 3",
        "schema",
        "older",
    ),
    "a schema that is too new": (
        "INSERT INTO schema_migrations (part, version, name, checksum) VALUES ('decision', 999, '0999_later', 'x')",
        "schema",
        "newer than this program: decision/0999_later",
    ),
    "a migration that was changed": (
        "UPDATE schema_migrations SET checksum = 'x' WHERE part = 'decision' AND version = 1",
        "schema",
        "changed after it was applied: decision/0001_orders",
    ),
    "fills that can be rewritten": (
        "GRANT UPDATE, DELETE ON fills TO krakenbot_execution",
        "roles",
        "krakenbot_execution has too many rights: DELETE on fills, UPDATE on fills",
    ),
    "a column of events that can be rewritten": (
        "GRANT UPDATE (detail) ON execution_order_events TO krakenbot_execution",
        "roles",
        "UPDATE on execution_order_events",
    ),
    "orders that ingest may write": (
        "GRANT INSERT ON execution_orders TO krakenbot_ingest",
        "roles",
        "krakenbot_ingest has too many rights: INSERT on execution_orders",
    ),
    "a status that sees tables": (
        "GRANT SELECT ON account_snapshots TO krakenbot_status",
        "roles",
        "krakenbot_status has too many rights: SELECT on account_snapshots",
    ),
    "a table for everybody": ("GRANT SELECT ON positions TO PUBLIC", "roles", "PUBLIC has too many rights"),
    "fills that cannot be written": (
        "REVOKE INSERT ON fills FROM krakenbot_execution",
        "rights",
        "lacks INSERT on fills",
    ),
}


@pytest.fixture
def decision_url(clusters: Any) -> str:
    """A decision database of the test's own."""
    return str(clusters.migrated(clusters.decision, "kb_decision"))


@pytest.mark.parametrize("plant", sorted(PLANTS))
async def test_each_fault_of_the_decision_database_is_refused(decision_url: str, plant: str) -> None:
    statement, check, words = PLANTS[plant]
    async with await psycopg.AsyncConnection.connect(decision_url, autocommit=True) as connection:
        await connection.execute("SET search_path = krakenbot")
        await connection.execute(statement.encode())

    database = Database(decision_url, name="test", role=EXECUTION_ROLE)
    facts = await inspect(database, name="decision", parts=[DatabasePart.DECISION])

    failed = [
        one for one in judge_databases([facts]) if one.level is Level.FAIL and one.check == f"db.decision.{check}"
    ]
    assert any(words in one.found for one in failed), failed
    assert all(one.fix for one in failed)


async def test_one_cluster_twice_is_refused_and_one_database_is_said(read_only_urls: Any) -> None:
    database = Database(read_only_urls.decision, name="test", role=EXECUTION_ROLE)
    decision = await inspect(database, name="decision", parts=[DatabasePart.DECISION])
    ingest = await inspect(database, name="ingest", parts=[DatabasePart.DECISION])

    [twice] = judge_clusters([ingest, decision])

    assert twice.level is Level.FAIL


async def test_a_database_that_is_away_and_one_without_schema_are_told_apart(
    exchange: KrakenExchange, settings_at: AT, clusters: Any
) -> None:
    away = "postgresql://nobody:secretpassword@127.0.0.1:1/x"

    found = await look(settings_at(exchange, DATABASE_URL=away, DECISION_DATABASE_URL=clusters.decision.superuser_url))

    assert the(found, "db.ingest.reachable").level is Level.FAIL
    assert the(found, "db.decision.schema").level is Level.FAIL
    assert "krakenbot migrate" in the(found, "db.decision.schema").fix
    assert the(found, "db.decision.login").level is Level.WARN, "a superuser"


async def test_the_holder_of_the_lease_is_named(exchange: KrakenExchange, settings_at: AT, database_urls: Any) -> None:
    async with await psycopg.AsyncConnection.connect(database_urls.decision, autocommit=True) as connection:
        await connection.execute(
            "UPDATE krakenbot.leases SET holder = 'execution@elsewhere:7', lease_epoch = 4,"
            " expires_at = clock_timestamp() + interval '1 minute'"
        )

    found = await look(settings_at(exchange))

    assert "held by execution@elsewhere:7 until" in the(found, "lease").found
    assert "epoch 4" in the(found, "lease").found


async def test_without_urls_and_without_a_running_cluster_it_says_what_to_start(
    exchange: KrakenExchange, settings_at: AT
) -> None:
    found = await look(settings_at(exchange, DATABASE_URL=None, DECISION_DATABASE_URL=None))

    assert the(found, "db").level is Level.WARN
    assert not [check for check in found if check.startswith("db.")]


async def test_execution_without_capital_is_refused_and_without_anything_is_ingest_alone(
    exchange: KrakenExchange, settings_at: AT
) -> None:
    capital, key = "KRAKENBOT_EXECUTION__CAPITAL_LIMIT_QUOTE", "KRAKENBOT_KEYS__EXECUTION_API_"

    no_capital = await look(settings_at(exchange, **{capital: None}))
    nothing = await look(settings_at(exchange, **{capital: None, f"{key}KEY": None, f"{key}SECRET": None}))

    assert the(no_capital, "execution.capital").level is Level.FAIL
    assert the(nothing, "execution").level is Level.WARN
    assert SECRET not in str(nothing)
