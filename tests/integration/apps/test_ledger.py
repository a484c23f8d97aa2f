"""`krakenbot ledger accept` on the real decision database: who, why, and only what is shown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import anyio.to_thread
import psycopg
import pytest
from psycopg.types.json import Jsonb

from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import EXECUTION_ROLE
from krakenbot.adapters.postgres.embedded import Login
from krakenbot.adapters.postgres.ledger_store import PostgresLedgerStore
from krakenbot.apps import cli
from krakenbot.domain.execution.ledger import Cause, Cursor, Named
from krakenbot.domain.values import Asset, VenueId

pytestmark = pytest.mark.postgres
VENUE = VenueId("127.0.0.1/test")
AT = datetime(2026, 3, 1, tzinfo=UTC)
STATUS = {
    "venue_id": VENUE,
    "ledger": {"unexplained": {"ABC": "a text"}, "unexplained_amounts": {"ABC": "-0.00010"}},
}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(database_urls: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any) -> Run:
    """Run the command line in this process as the owner."""
    monkeypatch.setenv("DECISION_DATABASE_URL", database_urls.decision)
    monkeypatch.setenv("KRAKENBOT_PROCESS__DATA_DIR", str(tmp_path))

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            sys.exit(cli.app(list(arguments), result_action="return_value"))
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


@pytest.fixture
def told(database_urls: Any) -> None:
    with psycopg.connect(database_urls.decision, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO krakenbot.process_status (process, at, body) VALUES ('execution', now(), %s)", [Jsonb(STATUS)]
        )


def rows(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT asset, amount, who, reason, is_applied, settled_at IS NULL FROM krakenbot.status_ledger_acceptances"
        ).fetchall()


@pytest.mark.usefixtures("told")
async def test_accepted_difference_waits_for_execution_with_who_and_why(run: Run, database_urls: Any) -> None:
    # the command runs a loop of its own
    code, out, err = await anyio.to_thread.run_sync(
        run, "ledger", "accept", "--asset", "abc", "--reason", "sent to a friend", "--by", "ann"
    )
    database = Database(database_urls.decision, name="test", role=EXECUTION_ROLE, max_size=1)
    await database.open()
    try:
        store = PostgresLedgerStore(database)
        (waiting,) = await store.open_acceptances(VENUE)
        named = Named(cause=Cause.ACCEPTED, asset=Asset("ABC"), amount=waiting.amount, count=1, detail="ann: why")
        await store.save_cursor(VENUE, Cursor(at=AT, balances={}), (named,), {waiting.number: True})
    finally:
        await database.close()

    assert (0, "") == (code, err)
    assert "accepted -0.00010 ABC as ann: sent to a friend" in out
    assert (Asset("ABC"), Decimal("-0.00010"), "ann", "sent to a friend") == (
        waiting.asset,
        waiting.amount,
        waiting.who,
        waiting.reason,
    )
    assert [("ABC", Decimal("-0.00010"), "ann", "sent to a friend", True, False)] == rows(database_urls.decision)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("XYZ", "why", "ann"), "--asset XYZ: no difference of it is known; not explained is ABC -0.00010"),
        (("ABC", "  ", "ann"), "--reason: write one line"),
        (("ABC", "two\nlines", "ann"), "--reason: write one line"),
        (("ABC", "x" * 1001, "ann"), "--reason: write one line"),
        (("ABC", "why", " "), "--by: write one line"),
    ],
)
@pytest.mark.usefixtures("told")
def test_what_cannot_be_accepted_is_said_and_writes_nothing(
    run: Run, database_urls: Any, words: tuple[str, str, str], said: str
) -> None:
    asset, reason, by = words
    code, _, err = run("ledger", "accept", "--asset", asset, "--reason", reason, "--by", by)

    assert 2 == code
    assert said in err
    assert [] == rows(database_urls.decision)


def test_database_without_an_execution_knows_no_difference(run: Run) -> None:
    code, _, err = run("ledger", "accept", "--asset", "ABC", "--reason", "why")

    assert 2 == code
    assert "no execution has run on this database" in err


@pytest.mark.usefixtures("told")
def test_login_that_may_only_read_accepts_nothing(
    run: Run, clusters: Any, database_urls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = database_urls.decision.split("?", maxsplit=1)[0].rpartition("/")[2]
    monkeypatch.setenv("DECISION_DATABASE_URL", clusters.decision.url(Login.STATUS, name))
    code, _, err = run("ledger", "accept", "--asset", "ABC", "--reason", "why", "--by", "ann")

    assert 1 == code
    assert "permission denied" in err
    assert "Traceback" not in err
    assert [] == rows(database_urls.decision)
