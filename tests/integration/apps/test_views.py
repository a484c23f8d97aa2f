"""`krakenbot orders`, `positions` and `trades` from rows that the real stores wrote."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, get_type_hints

import anyio
import msgspec
import psycopg
import pytest
from attrs import evolve
from tests.decision_rows import ABC, VENUE, entry_row, publish_gate, stop_row
from tests.integration.apps import view_schema

from krakenbot.adapters.postgres import order_views
from krakenbot.adapters.postgres.cycle_store import PostgresCycleStore
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import EXECUTION_ROLE, INGEST_ROLE
from krakenbot.adapters.postgres.embedded import Login
from krakenbot.adapters.postgres.lease import PostgresLease
from krakenbot.adapters.postgres.order_store import PostgresOrderStore
from krakenbot.apps import cli
from krakenbot.domain.decision.plan import ExitKind
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import Order, OrderRole, OrderState, OrderType
from krakenbot.domain.execution.position import Position, Protection, ProtectionEvent, apply_fill, flat_position
from krakenbot.domain.values import Asset, ExecId, Side, Symbol, VenueOrderId
from krakenbot.ports.order_store import EntryGate, OrderChange, OrderEventRow

pytestmark = pytest.mark.postgres
DUST = Symbol("DUST/USD")
RECORD: dict[str, object] = {
    "regime": "range",
    "strategy": "liquidity",
    "surplus": {"surplus_bps": 7.25, "se_bps": 1.5, "m_bps": 12.0},
    "fill": {"p_fill": 0.42, "source": "l3"},
    "size": {"notional_quote": "100"},
    "note": "long " * 60,
}


def order(cl_ord_id: str, at: datetime, symbol: Symbol = ABC, **changes: Any) -> Order:
    return entry_row(cl_ord_id, at, symbol=symbol, state_at=at, **({"record": RECORD} | changes))


def stop(cl_ord_id: str, at: datetime, parent: str, symbol: Symbol = ABC) -> Order:
    return stop_row(cl_ord_id, at, parent, symbol=symbol, state_at=at, record={"reason": "protective intent"})


def fill(exec_id: str, placed: Order, qty: str, price: str, at: datetime) -> Fill:
    cost = Decimal(qty) * Decimal(price)
    return Fill(
        exec_id=ExecId(exec_id),
        cl_ord_id=placed.cl_ord_id,
        venue_order_id=VenueOrderId(f"O{placed.cl_ord_id}"),
        venue_id=VENUE,
        symbol=placed.symbol,
        side=placed.side,
        price=Decimal(price),
        qty=Decimal(qty),
        cost=cost,
        fee_asset=Asset("USD"),
        fee_qty=cost * Decimal("0.0025"),
        is_maker=True,
        at=at,
        recorded_at=at,
        source="stream",
    )


def event(placed: Order, at: datetime, name: str, was: str, now: str) -> OrderEventRow:
    return OrderEventRow(
        cl_ord_id=placed.cl_ord_id, at=at, event=name, from_state=was, to_state=now, detail={"reason": "test"}
    )


def covered(symbol: Symbol, protection: Protection, at: datetime) -> ProtectionEvent:
    return ProtectionEvent(
        symbol=symbol,
        at=at,
        protection=protection,
        position_qty=Decimal(1),
        protected_qty=Decimal(protection is Protection.PROTECTED),
        reason="test",
    )


async def write_ledger(ingest_url: str, decision_url: str, at: datetime) -> None:
    ingest = Database(ingest_url, name="ingest", role=INGEST_ROLE)
    publish = Database(decision_url, name="publish", role=INGEST_ROLE)
    decision = Database(decision_url, name="decision", role=EXECUTION_ROLE)
    lease = PostgresLease(decision)
    try:
        for pool in (ingest, publish, decision):
            await pool.open()
        gate = evolve(
            await publish_gate(ingest, publish, decision, at),
            lease_epoch=await lease.acquire("test", 60),
            max_generation_age_s=600,
            max_epoch_age_s=600,
        )
        await write_orders(decision, gate, at)
    finally:
        await lease.aclose()
        for pool in (ingest, publish, decision):
            await pool.close()
    async with await psycopg.AsyncConnection.connect(decision_url, autocommit=True) as owner:
        for symbol in (ABC, DUST):
            await owner.execute(
                "INSERT INTO krakenbot.instruments VALUES"
                " (%s, 'X', 'USD', 'online', 2, 8, 5, 0.01, 0.0001, 0.01, 0.5, false)",
                [symbol],
            )
        await owner.execute(
            "INSERT INTO krakenbot.run_symbol_state (lineage_id, run_id, symbol, generation_id, computed_at, bid,"
            " bid_markout_count, ask_markout_count, norm_minutes, l2_samples, l3_samples, trades, crossed_s, invalid_s,"
            " feature_complete) SELECT lineage_id, 1, 'ABC/USD', generation_id, now(), 99.5, 0, 0, 0, 0, 0, 0, 0, 0,"
            " true FROM krakenbot.state_generations ORDER BY generation_id DESC LIMIT 1"
        )


async def write_orders(decision: Database, gate: EntryGate, at: datetime) -> None:
    """One round trip that is over, a protected position, dust of another symbol, and an order at rest."""
    orders = PostgresOrderStore(decision, venue_id=VENUE)
    first, sale = order("kbefirst", at), order("kbmsale", at + timedelta(seconds=30), side=Side.SELL)
    sale = evolve(
        sale,
        role=OrderRole.MARKET_EXIT,
        order_type=OrderType.MARKET,
        limit_price=None,
        post_only=False,
        parent_id=first.cl_ord_id,
        exit_kind=ExitKind.TIME_STOP,
        record={"reason": "time"},
    )
    second, dusty = order("kbesecond", at + timedelta(minutes=2)), order("kbedust", at + timedelta(minutes=3), DUST)
    resting = order("kberesting", at + timedelta(minutes=4))
    for entry in (first, second, dusty, resting):
        await orders.insert_entry(entry, stop(f"kbs{entry.cl_ord_id[3:]}", at, entry.cl_ord_id, entry.symbol), gate)
    await orders.apply(OrderChange(inserts=(sale,)), gate.lease_epoch)
    position, other = flat_position(ABC), flat_position(DUST)

    async def book(placed: Order, before: Position, *fills: Fill, state: OrderState, cover: Protection) -> Position:
        after = before
        for one in fills:
            after = apply_fill(after, one)
        filled = evolve(
            placed, state=state, cum_qty=sum((f.qty for f in fills), Decimal(0)), venue_order_id=fills[0].venue_order_id
        )
        change = OrderChange(
            orders=(filled,),
            events=(
                event(placed, placed.created_at, "submit_sent", "pending_submit", "submitted"),
                event(placed, fills[-1].at, "trade", "submitted", state.value),
            ),
            fills=fills,
            positions=(after,),
            protection=(
                covered(placed.symbol, Protection.BARE, fills[0].at),
                covered(placed.symbol, cover, fills[0].at + timedelta(seconds=1)),
            ),
        )
        await orders.apply(change, gate.lease_epoch)
        return after

    bought = [fill("E1", first, "0.4", "100", at), fill("E2", first, "0.6", "101", at + timedelta(seconds=2))]
    position = await book(first, position, *bought, state=OrderState.FILLED, cover=Protection.PROTECTED)
    sold = fill("E3", sale, "1", "104", at + timedelta(seconds=31))
    position = await book(sale, position, sold, state=OrderState.FILLED, cover=Protection.FLAT)
    again = fill("E4", second, "1", "98", second.created_at)
    position = await book(second, position, again, state=OrderState.FILLED, cover=Protection.PROTECTED)
    crumb = fill("E5", dusty, "0.001", "50", dusty.created_at)
    await book(dusty, other, crumb, state=OrderState.PARTIALLY_FILLED, cover=Protection.UNPROTECTABLE)
    for exec_id, bps in (("E1", 6.0), ("E2", -4.0)):
        await orders.record_markout(ExecId(exec_id), 5.0, bps, at, VENUE)
    cycles = PostgresCycleStore(decision)
    await cycles.publish_status("execution", second.created_at + timedelta(seconds=61), {})


@pytest.fixture(scope="module")
def ledger(clusters: Any) -> str:
    """The URL of the status login of a decision database with a ledger, written once."""
    at = datetime.now(UTC) - timedelta(minutes=5)  # noqa: TID251  # the server judges by its own clock
    ingest = clusters.migrated(clusters.ingest, "kb_ingest")
    decision = clusters.migrated(clusters.decision, "kb_decision")
    anyio.run(write_ledger, ingest, decision, at)
    return str(clusters.decision.url(Login.STATUS, decision.split("?", maxsplit=1)[0].rpartition("/")[2]))


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(ledger: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any) -> Run:
    """Run the command line in this process as a user with the status login."""
    monkeypatch.setenv("DECISION_DATABASE_URL", ledger)
    monkeypatch.setenv("KRAKENBOT_PROCESS__DATA_DIR", str(tmp_path))

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            sys.exit(cli.app(list(arguments)))
        shown = capsys.readouterr()
        assert all(len(line) <= 120 for line in shown.out.splitlines()) or "--json" in arguments
        return int(ended.value.code or 0), shown.out, shown.err

    return call


def test_orders_are_listed_with_what_was_decided_and_what_became_of_them(run: Run) -> None:
    status, out, _ = run("orders")

    assert status == 0
    lines = out.splitlines()
    assert len(lines) == 1 + 9
    [first] = [line for line in lines if " kbefirst " in line]
    assert "liquidity, range" in first
    assert " filled " in first
    [sale] = [line for line in lines if " kbmsale " in line]
    assert "time_stop" in sale
    assert " market " in sale


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (("--symbol", "dust/usd"), {"kbedust", "kbsdust"}),
        (("--state", "filled"), {"kbefirst", "kbesecond", "kbmsale"}),
        (("--state", "partially-filled"), {"kbedust"}),
        (("--state", "closed", "--symbol", "ABC/USD"), {"kbefirst", "kbesecond", "kbmsale"}),
        (("--since", "150s"), {"kbedust", "kberesting"}),
        (("--limit", "1"), {"kberesting"}),
        (("--state", "rejected"), set()),
    ],
)
def test_filters_leave_what_fits(run: Run, arguments: tuple[str, ...], ids: set[str]) -> None:
    status, out, _ = run("orders", "--json", *arguments)

    assert status == 0
    assert ids == {row["cl_ord_id"] for row in json.loads(out)["orders"]}


def test_one_order_is_shown_with_its_whole_record(run: Run) -> None:
    status, out, _ = run("orders", "--id", "kbefirst")

    assert status == 0
    for words in (
        "surplus_bps  7.25",
        "p_fill  0.42",
        "notional_quote  100",
        "+0.000 s  submit_sent: pending_submit -> submitted",
        "+2.000 s  trade: submitted -> filled",
        "5 s +6.0",
        "0.1 USD",
        "related orders",
        "kbsfirst",
        "kbmsale",
    ):
        assert words in out, words


def test_positions_name_cover_worth_and_dust(run: Run) -> None:
    status, out, _ = run("positions", "--json")

    assert status == 0
    held = {row["symbol"]: row for row in json.loads(out)["positions"]}
    abc = held["ABC/USD"]
    assert Decimal("98.245") == Decimal(abc["average_entry_price"])
    assert Decimal("1.255") == Decimal(abc["unrealized_quote"])
    assert "protected" == abc["protection"]
    assert abc["seconds"]["bare_s"] == pytest.approx(1.0, abs=0.01)
    assert abc["seconds"]["protected_s"] == pytest.approx(60.0, abs=0.01)
    assert abc["seconds"]["unseen_s"] > 100
    assert not abc["is_dust"]
    assert held["DUST/USD"]["is_dust"]
    assert held["DUST/USD"]["unrealized_quote"] is None
    assert "dust: below" in run("positions")[1]


def test_a_position_with_too_many_changes_of_cover_shows_the_last(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_views, "_CHANGES_MAX", 1)

    _, out, _ = run("positions", "--symbol", "ABC/USD", "--json")

    [abc] = json.loads(out)["positions"]
    assert "protected" == abc["protection"]
    assert 0.0 == abc["seconds"]["bare_s"]


def test_trades_are_round_trips_net_of_fees(run: Run) -> None:
    status, out, _ = run("trades", "--json")

    assert status == 0
    over, held, dust = json.loads(out)["trades"]
    assert (False, True, True) == (over["is_open"], held["is_open"], dust["is_open"])
    assert Decimal("100.6") == Decimal(over["entry_price"])
    assert Decimal("3.4") - Decimal("0.5115") == Decimal(over["realized_quote"])
    assert {"USD": "0.511500"} == over["fees"] or Decimal(over["fees"]["USD"]) == Decimal("0.5115")
    assert "time_stop" == over["exit_kind"]
    assert {"5": pytest.approx(0.0)} == over["markouts_bps"]
    assert "1 closed, 1 with a profit, 2 open; net of fees +2.8885 USD" in run("trades")[1]


@pytest.mark.parametrize(
    ("arguments", "schema"),
    [
        (("orders",), view_schema.Orders),
        (("orders", "--id", "kbefirst"), view_schema.Record),
        (("positions",), view_schema.Positions),
        (("trades",), view_schema.Trades),
    ],
)
def test_json_has_exactly_the_documented_fields(run: Run, arguments: tuple[str, ...], schema: type) -> None:
    _, out, _ = run(*arguments, "--json")

    found: Any = msgspec.json.decode(out, type=schema)
    assert found.version == 1
    rows = next(
        getattr(found, name) for name in get_type_hints(schema) if name in {"orders", "positions", "trades", "order"}
    )
    assert rows


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("orders", "--symbol", "ABC/USDD"), "did you mean ABC/USD?"),
        (("positions", "--symbol", "DST/USD"), "did you mean DUST/USD?"),
        (("trades", "--symbol", "nothing"), "--symbol nothing: not known"),
        (("orders", "--state", "canceld"), "did you mean canceled?"),
        (
            ("orders", "--state", "flying"),
            "no such state; allowed are live, closed, pending_submit, submitted, unknown,",
        ),
        (("orders", "--id", "zzz"), "--id zzz: there is no such order; `krakenbot orders` lists the newest"),
        (("trades", "--symbol", "nothing"), "not known to the database; it knows "),
        (("orders", "--since", "yesterday"), "--since yesterday: write a span such as 30m"),
        (("trades", "--since", "999999d"), "--since 999999d: write a span such as 30m"),
        (("orders", "--id", "kbefirst", "--state", "live"), "--id shows one order: leave out --symbol, --state"),
        (("orders", "--limit", "0"), "--limit 0: allowed are 1 to 10000"),
        (("orders", "--id", "kbefirts"), "did you mean kbefirst?"),
    ],
)
def test_bad_input_is_one_message_with_the_nearest_name_and_status_2(
    run: Run, arguments: tuple[str, ...], words: str
) -> None:
    status, out, err = run(*arguments)

    assert status == 2
    assert words in err
    assert err.count("krakenbot: ") == 1
    assert out == ""


def test_an_empty_database_says_so(run: Run, database_urls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECISION_DATABASE_URL", database_urls.decision)

    assert (0, "no orders yet\n", "") == run("orders")
    assert (0, "no positions\n", "") == run("positions")
    assert (0, "no trades yet\n", "") == run("trades")
    assert {"version": 1, "orders": []} == json.loads(run("orders", "--json")[1])
    status, _, err = run("orders", "--symbol", "BTC/USD")
    assert (2, True) == (status, "--symbol BTC/USD: not known to the database; the database knows none yet" in err)


def test_a_login_without_rights_is_told_so(
    run: Run, clusters: Any, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = ledger.split("?", maxsplit=1)[0].rpartition("/")[2]
    monkeypatch.setenv("DECISION_DATABASE_URL", clusters.decision.url(Login.INGEST, name))

    status, _, err = run("orders")

    assert status == 2
    assert "login krakenbot_ingest may not read the status: permission denied" in err
