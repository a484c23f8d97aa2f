"""`--probe-holds` at exchanges of both kinds: what it learns, and that nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from tests.integration.doctor.conftest import EXECUTION, QUICK

from krakenbot.adapters.kraken.order_gateway import KrakenOrderGateway
from krakenbot.adapters.local_exchange.pytest_plugin import KrakenExchange, running_exchange
from krakenbot.adapters.postgres import databases
from krakenbot.apps.doctor.holds import probe_holds
from krakenbot.apps.settings import Settings
from krakenbot.domain.engine import holds_probe
from krakenbot.domain.errors import OutcomeUnknown
from krakenbot.domain.execution.order import Order
from krakenbot.domain.preflight.finding import Level
from krakenbot.domain.values import ClOrdId, Symbol, VenueOrderId

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(60)]  # clusters and an exchange start within the first
BTC = Symbol("BTC/USD")
KEY = "KRAKENBOT_KEYS__EXECUTION_API_KEY"
START = Callable[..., KrakenExchange]
AT = Callable[..., Settings]


@pytest.fixture(autouse=True)
def without_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' clusters run without fsync, which a process refuses."""

    async def passes(connection: object) -> None:
        pass

    monkeypatch.setattr(databases, "_check_durability", passes)
    monkeypatch.setattr(holds_probe, "_LOOK_S", 0.2)


def account_of(key: str, **balances: str) -> dict[str, Any]:
    return {"name": key, "keys": [{**EXECUTION, "api_key": key}], "balances": {"USD": "100", **balances}}


@pytest.fixture(scope="module")
def exchange() -> Iterator[KrakenExchange]:
    """An exchange whose stops reserve, with an account for each test."""
    owners = [account_of(key, BTC="1") for key in ("tells", "answer-lost", "cancel-lost")]
    with running_exchange(**QUICK, accounts=[account_of("poor"), *owners]) as running:
        yield running


def at_venue(exchange: KrakenExchange, key: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    [account] = [one for one in exchange.truth()["accounts"] if one["name"] == key]
    alive = [order for order in account["orders"] if order["status"] in {"pending_new", "new", "partially_filled"}]
    return account, alive


async def rows(url: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        found = await connection.execute("SELECT cl_ord_id, state, order_type FROM krakenbot.execution_orders")
        return await found.fetchall()


async def assert_told(exchange: KrakenExchange, settings: Settings, key: str, words: str, url: str) -> None:
    [finding] = await probe_holds(settings, BTC)

    assert finding.level is Level.OK
    assert f"an untriggered stop {words}" in finding.found
    account, alive = at_venue(exchange, key)
    assert [] == alive
    [order] = account["orders"]
    assert order["cl_ord_id"].startswith("kbs")
    assert order["order_type"] == "stop-loss"
    assert [(order["cl_ord_id"], "canceled", "stop-loss")] == await rows(url)


async def test_where_a_stop_reserves_a_minimal_one_tells_and_is_gone_afterwards(
    exchange: KrakenExchange, settings_at: AT, database_urls: Any
) -> None:
    settings = settings_at(exchange, **{KEY: "tells"})

    await assert_told(exchange, settings, "tells", "reserves its coins", database_urls.decision)


async def test_where_a_stop_reserves_nothing_a_minimal_one_tells_that_too(
    start_exchange: START, settings_at: AT, database_urls: Any
) -> None:
    free = start_exchange(accounts=[account_of("free", BTC="1")], stop_holds="none_reject_at_trigger")
    settings = settings_at(free, **{KEY: "free"})

    await assert_told(free, settings, "free", "does not reserve its coins", database_urls.decision)


async def test_without_the_coin_or_with_a_leader_nothing_is_sent(
    exchange: KrakenExchange, settings_at: AT, database_urls: Any
) -> None:
    settings = settings_at(exchange, **{KEY: "poor"})

    [poor] = await probe_holds(settings, BTC)
    async with await psycopg.AsyncConnection.connect(database_urls.decision, autocommit=True) as connection:
        await connection.execute(
            "UPDATE krakenbot.leases SET holder = 'execution@here', expires_at = clock_timestamp() + interval '1 hour',"
            " lease_epoch = 77"
        )
        # what a living leader holds
        await connection.execute("SELECT pg_advisory_lock(%s, 77)", [0x6B62])
        [led] = await probe_holds(settings, BTC)

    assert "that is free, there is 0" in poor.found
    assert "held by execution@here" in led.found
    assert {Level.WARN} == {poor.level, led.level}
    assert [] == at_venue(exchange, "poor")[0]["orders"]


async def test_a_stop_whose_answer_is_lost_is_cancelled_all_the_same(
    exchange: KrakenExchange, settings_at: AT, database_urls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = KrakenOrderGateway.submit

    async def loses(self: KrakenOrderGateway, order: Order) -> VenueOrderId:
        await submit(self, order)
        raise OutcomeUnknown(order.cl_ord_id, "the answer was lost")

    monkeypatch.setattr(KrakenOrderGateway, "submit", loses)

    [finding] = await probe_holds(settings_at(exchange, **{KEY: "answer-lost"}), BTC)

    assert "the outcome of the stop is not known" in finding.found
    assert finding.level is Level.WARN
    assert [] == at_venue(exchange, "answer-lost")[1]
    [(_, state, _)] = await rows(database_urls.decision)
    assert state == "canceled"


async def test_a_stop_that_cannot_be_cancelled_is_said(
    exchange: KrakenExchange, settings_at: AT, monkeypatch: pytest.MonkeyPatch
) -> None:

    async def loses(self: KrakenOrderGateway, cl_ord_id: ClOrdId) -> None:
        raise OutcomeUnknown(cl_ord_id, "lost")

    monkeypatch.setattr(KrakenOrderGateway, "cancel", loses)

    findings = await probe_holds(settings_at(exchange, **{KEY: "cancel-lost"}), BTC)

    assert [("holds.cancel", Level.FAIL), ("holds", Level.OK)] == [(one.check, one.level) for one in findings]
    assert 1 == len(at_venue(exchange, "cancel-lost")[1])
