"""`krakenbot status` from a real decision database: what it says, and what it must not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from attrs import asdict

from krakenbot.adapters.postgres.cycle_store import PostgresCycleStore
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import EXECUTION_ROLE
from krakenbot.adapters.postgres.embedded import Login
from krakenbot.adapters.postgres.safety_store import PostgresSafetyStore
from krakenbot.apps import status
from krakenbot.apps.settings import Settings, load_settings
from krakenbot.apps.status import print_status
from krakenbot.domain.errors import ConfigError, StoreUnavailable
from krakenbot.domain.state.safety import EngineMode, EngineState
from krakenbot.domain.values import Symbol
from krakenbot.ports.cycle_store import CycleRow, OutcomeRow
from krakenbot.ports.market_feed import FeedHealth, Quarantine, StreamHealth
from krakenbot.ports.sample_sink import SinkStats

pytestmark = pytest.mark.postgres
FEED = FeedHealth(
    connected=True,
    venue_status="online",
    heartbeat_age_s=0.4,
    frames={},
    errors={},
    book_ok=1,
    book_bad=0,
    level3_ok=1,
    level3_bad=0,
    resyncs=0,
    reconnects=1,
    level3_enabled=True,
    quarantined=(
        Quarantine(
            channel="level3",
            symbol=Symbol("BAD/USD"),
            reason="refused: Currency pair not supported BAD/USD",
            age_s=31.5,
            attempts=2,
            is_refused=True,
            retry_in_s=28.0,
        ),
    ),
    streams=(
        StreamHealth(stream="level3-2", connected=True, symbols=200, heartbeat_age_s=0.4, lag_s=None, reconnects=1),
    ),
)
SINK = SinkStats(
    lag_s=7.25,
    queued=12,
    rows={},
    dropped={"trade_samples": 3},
    coalesced={"ticker_samples": 5, "l2_snap_metrics": 4},
    batches=1,
    failures=2,
    spooled=900,
    spool_bytes=4096,
    spool_full=True,
    gaps_open=2,
    trades_missing=31,
    trades_refilled=8,
)
UNIVERSE = {
    "pool": 3,
    "l2": 3,
    "l3": 2,
    "execution": ["ABC/USD"],
    "pinned": [],
    "left_out": {"24 h volume under the minimum": 7, "book [late]": 1},
    "left_out_first": {"24 h volume under the minimum": ["A/USD", "B/USD"], "book [late]": ["C/USD"]},
}
BRACKETS = 'reasons ["start"] [/red] [bold]x'


def settings_for(url: str) -> Settings:
    return load_settings(None, {"DECISION_DATABASE_URL": url, "KRAKENBOT_KEYS__INGEST_API_KEY": "canaryKey"} | SECRET)[
        0
    ]


SECRET = {"KRAKENBOT_KEYS__INGEST_API_SECRET": "canarySecret"}


@pytest.fixture
async def url(database_urls: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database in which execution has said something."""
    monkeypatch.setenv("COLUMNS", "200")
    now = datetime.now(UTC)  # noqa: TID251  # ages count from now
    database = Database(database_urls.decision, name="test", role=EXECUTION_ROLE)
    await database.open()
    try:
        await PostgresSafetyStore(database).set_engine_state(
            EngineState(mode=EngineMode.NO_NEW_ENTRIES, reason=BRACKETS, since=now)
        )
        cycles = PostgresCycleStore(database)
        await cycles.publish_status("execution", now, {"feed": {}})
        await cycles.publish_status(
            "ingest", now - timedelta(minutes=1), {"feed": asdict(FEED), "sink": asdict(SINK), "universe": UNIVERSE}
        )
        outcome = OutcomeRow(
            symbol=Symbol("ABC/USD"),
            code="SURPLUS",
            value=1.23456,
            limit=5.0,
            unit="bps",
            detail=BRACKETS,
            clears_when="the [surplus] grows",
            since=now,
            record=None,
        )
        await cycles.record_cycle(
            CycleRow(
                at=now,
                generation_id=None,
                epoch_id=None,
                funnel={"symbols": 7, "executable": 1},
                blockers={"SURPLUS": 6},
                duration_s=0.1,
                outcomes=[outcome],
            )
        )
    finally:
        await database.close()
    return str(database_urls.decision)


async def test_a_person_reads_mode_silence_funnel_and_blockers(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    await print_status(settings_for(url), as_json=False)

    shown = capsys.readouterr().out
    assert f"engine mode {EngineMode.NO_NEW_ENTRIES.value} {BRACKETS}" in shown
    assert "symbols 7, executable 1" in shown
    assert "the [surplus] grows" in shown
    assert "1.235" in shown
    assert "positions: none" in shown
    silent = [line for line in shown.splitlines() if "(SILENT)" in line]
    assert [line.split(":")[0] for line in silent] == ["ingest"]
    assert "canary" not in shown
    [connection] = [line for line in shown.splitlines() if "level3-2" in line]
    assert ["ingest", "level3-2", "True", "200", "0.4", "1"] == connection.replace("│", " ").split()
    [quarantined] = [line for line in shown.splitlines() if "BAD/USD" in line]
    assert "refused: Currency pair not supported" in quarantined
    assert "31.5" in quarantined


@pytest.mark.parametrize(
    ("waits_for", "age_s", "expected"),
    [("host-1", 0.0, ["host-2 waits for the lease of host-1"]), ("host-1", 60.0, []), (None, 0.0, [])],
    ids=["waits", "is gone", "leads"],
)
async def test_a_standby_is_shown_while_it_waits_and_never_called_silent(
    url: str, capsys: pytest.CaptureFixture[str], waits_for: str | None, age_s: float, expected: list[str]
) -> None:
    at = datetime.now(UTC) - timedelta(seconds=age_s)  # noqa: TID251  # ages count from now
    database = Database(url, name="test", role=EXECUTION_ROLE)
    await database.open()
    body: dict[str, object] = {"waits_for": waits_for, "holder": "host-2"}
    await PostgresCycleStore(database).publish_status("execution-waiting", at, body)
    await database.close()

    await print_status(settings_for(url), as_json=False)

    shown = capsys.readouterr().out.splitlines()
    assert expected == [line for line in shown if "waits for the lease" in line]
    assert not [line for line in shown if "execution-waiting" in line]


async def test_a_machine_reads_the_same_as_json(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    await print_status(settings_for(url), as_json=True)

    shown = capsys.readouterr().out
    found = json.loads(shown)
    assert found["engine"][0]["reason"] == BRACKETS
    assert [row["process"] for row in found["processes"]] == ["execution", "ingest"]
    assert found["outcomes"][0]["code"] == "SURPLUS"
    assert found["orders"] == []
    assert "canary" not in shown


async def test_the_login_for_status_is_enough(url: str, clusters: Any, capsys: pytest.CaptureFixture[str]) -> None:
    name = url.split("?", maxsplit=1)[0].rpartition("/")[2]

    await print_status(settings_for(clusters.decision.url(Login.STATUS, name)), as_json=False)

    assert "engine mode" in capsys.readouterr().out


async def test_a_login_without_rights_is_told_so(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("REVOKE SELECT ON krakenbot.status_engine FROM krakenbot_status")
        await connection.execute("REVOKE SELECT ON krakenbot.status_engine FROM krakenbot_owner")

    with pytest.raises(ConfigError, match="login krakenbot_owner may not read the status: permission denied"):
        await print_status(settings_for(url), as_json=False)


@pytest.mark.parametrize("place", ["127.0.0.1:1", "no-such-host.invalid:5432"])
async def test_a_database_that_is_not_there_is_named_with_its_login_and_no_password(place: str) -> None:
    with pytest.raises(StoreUnavailable) as told:
        await print_status(settings_for(f"postgresql://ann:hunter22@{place}/books"), as_json=False)

    host = place.split(":", maxsplit=1)[0]
    assert f"the decision database books at {host} (login ann) does not answer" in str(told.value)
    assert "hunter22" not in str(told.value)


async def test_a_status_that_takes_too_long_is_not_taken_for_a_database_that_is_away(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(status._QUERIES, "engine", "SET LOCAL statement_timeout = 10; SELECT pg_sleep(1)")

    with pytest.raises(StoreUnavailable, match="takes too long to answer: canceling statement due to"):
        await print_status(settings_for(url), as_json=False)


async def test_what_the_universe_leaves_out_is_shown_by_reason_and_some_by_name(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await print_status(settings_for(url), as_json=False)

    shown = capsys.readouterr().out
    assert "universe: execution 1, L2 3, L3 2, pool 3, pinned 0" in shown
    assert "left out 7: 24 h volume under the minimum (A/USD, B/USD, ...)" in shown
    assert "left out 1: book [late] (C/USD)" in shown


async def test_what_the_writer_holds_back_and_what_gave_way_is_shown_by_kind(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await print_status(settings_for(url), as_json=False)

    shown = capsys.readouterr().out
    assert "writer: lag 7.2 s, queued 12, spooled 900 rows (4096 bytes, SPOOL FULL)" in shown
    assert "coalesced l2_snap_metrics 4, ticker_samples 5, dropped trade_samples 3" in shown
    assert "trades: missing 31 in 2 gaps, refilled 8" in shown
