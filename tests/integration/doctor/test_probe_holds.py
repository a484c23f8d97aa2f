"""`--probe-holds` at exchanges of both kinds: what it learns, and that nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from tests.integration.doctor.conftest import QUICK, probe_account

from krakenbot.adapters.kraken.order_gateway import KrakenOrderGateway
from krakenbot.adapters.kraken.venue_query import KrakenVenueQuery
from krakenbot.adapters.local_exchange.pytest_plugin import KrakenExchange, running_exchange
from krakenbot.adapters.postgres import databases
from krakenbot.adapters.postgres.order_store import PostgresOrderStore
from krakenbot.apps.doctor.holds import probe_holds
from krakenbot.apps.settings import Settings
from krakenbot.domain.engine import holds_probe
from krakenbot.domain.errors import OutcomeUnknown, StoreUnavailable
from krakenbot.domain.execution.change import OrderChange
from krakenbot.domain.execution.order import Order
from krakenbot.domain.preflight.finding import Level
from krakenbot.domain.values import ClOrdId, LeaseEpoch, Symbol, VenueOrderId

# clusters and an exchange start within the first
pytestmark = [pytest.mark.postgres, pytest.mark.timeout(60), pytest.mark.xdist_group("doctor")]
BTC = Symbol("BTC/USD")
KEY = "KRAKENBOT_KEYS__EXECUTION_API_KEY"
AT = Callable[..., Settings]


@pytest.fixture(autouse=True)
def without_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' clusters run without fsync, which a process refuses."""

    async def passes(connection: object) -> None:
        pass

    monkeypatch.setattr(databases, "_check_durability", passes)
    monkeypatch.setattr(holds_probe, "_LOOK_S", 0.2)


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


async def test_where_a_stop_reserves_nothing_a_minimal_one_tells_that_too(settings_at: AT, database_urls: Any) -> None:
    options = {"accounts": [probe_account("free", BTC="1")], "stop_holds": "none_reject_at_trigger"}
    with running_exchange(**QUICK, **options) as free:
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
    exchange: KrakenExchange, settings_at: AT, database_urls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loses(self: KrakenOrderGateway, cl_ord_id: ClOrdId) -> None:
        raise OutcomeUnknown(cl_ord_id, "lost")

    monkeypatch.setattr(KrakenOrderGateway, "cancel", loses)

    findings = await probe_holds(settings_at(exchange, **{KEY: "cancel-lost"}), BTC)

    assert [("holds.cancel", Level.FAIL), ("holds", Level.OK)] == [(one.check, one.level) for one in findings]
    assert 1 == len(at_venue(exchange, "cancel-lost")[1])
    [(_, state, _)] = await rows(database_urls.decision)
    assert state == "open"


async def test_a_list_that_does_not_show_the_stop_yet_does_not_prove_that_it_is_gone(
    exchange: KrakenExchange, settings_at: AT, database_urls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loses(self: KrakenOrderGateway, cl_ord_id: ClOrdId) -> None:
        raise OutcomeUnknown(cl_ord_id, "lost")

    async def lags(self: KrakenVenueQuery) -> list[Any]:
        return []

    monkeypatch.setattr(KrakenOrderGateway, "cancel", loses)
    monkeypatch.setattr(KrakenVenueQuery, "open_orders", lags)

    findings = await probe_holds(settings_at(exchange, **{KEY: "unproven"}), BTC)

    assert [("holds.cancel", Level.FAIL), ("holds", Level.OK)] == [(one.check, one.level) for one in findings]
    assert 1 == len(at_venue(exchange, "unproven")[1])
    assert 1 == len(await rows(database_urls.decision))


async def test_a_database_that_goes_away_leaves_no_stop_and_is_one_finding(
    exchange: KrakenExchange, settings_at: AT, database_urls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, apply = KrakenOrderGateway.submit, PostgresOrderStore.apply
    is_away = False

    async def sends(self: KrakenOrderGateway, order: Order) -> VenueOrderId:
        nonlocal is_away
        is_away = True
        return await submit(self, order)

    async def applies(self: PostgresOrderStore, change: OrderChange, epoch: LeaseEpoch) -> None:
        if is_away:
            raise StoreUnavailable("gone")
        await apply(self, change, epoch)

    monkeypatch.setattr(KrakenOrderGateway, "submit", sends)
    monkeypatch.setattr(PostgresOrderStore, "apply", applies)

    [finding] = await probe_holds(settings_at(exchange, **{KEY: "unbooked"}), BTC)

    assert finding.level is Level.WARN
    assert "gone" in finding.found
    assert [] == at_venue(exchange, "unbooked")[1]
    assert 1 == len(await rows(database_urls.decision))
