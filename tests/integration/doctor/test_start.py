"""Execution's own check before it starts, as its process meets it: refused with the fixes and status 2, or warned."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest
from tests.events import Events

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.kraken.preflight import KrakenPreflight
from krakenbot.adapters.local_exchange.pytest_plugin import KrakenExchange
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import EXECUTION_ROLE, Databases
from krakenbot.apps.container import make_rest
from krakenbot.apps.doctor import start
from krakenbot.apps.doctor.start import check_start
from krakenbot.apps.settings import Settings
from krakenbot.domain.errors import ConfigError, VenueUnavailable
from krakenbot.domain.preflight import database as judgement
from krakenbot.domain.preflight.keys import KeyFacts

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("doctor")]
AT = Callable[..., Settings]
Check = Callable[..., Any]


@pytest.fixture(autouse=True)
def durable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' clusters run without fsync; it is judged elsewhere."""
    monkeypatch.setattr(judgement, "_DURABLE", ("full_page_writes", "synchronous_commit"))


@pytest.fixture
async def check(urls: Any) -> AsyncIterator[Check]:
    """Run the check with settings and return the events; like `settings_at` in its databases."""
    async with AsyncExitStack() as stack:
        decision = Database(urls.decision, name="decision", role=EXECUTION_ROLE, max_size=2)
        await decision.open()
        stack.push_async_callback(decision.close)
        opened = Databases(ingest=None, publish=None, decision=decision, records=None, single=False)

        async def run(settings: Settings) -> Events:
            events, clock = Events(), SystemClock()
            keys = settings.keys
            async with make_rest(settings, clock, keys.execution_api_key, keys.execution_api_secret) as rest:
                await check_start(settings, clock, events, rest, opened)
            return events

        yield run


async def test_what_is_in_order_starts_without_a_word(check: Check, exchange: KrakenExchange, settings_at: AT) -> None:
    assert [] == (await check(settings_at(exchange))).rows


async def test_a_key_that_may_withdraw_is_refused_with_its_fix(
    check: Check, exchange: KrakenExchange, settings_at: AT
) -> None:
    with pytest.raises(ConfigError, match=r"does not start: .*may move funds: withdraw-funds.*delete this one"):
        await check(settings_at(exchange, KRAKENBOT_KEYS__EXECUTION_API_KEY="withdraws"))


async def test_every_reason_is_in_one_refusal(
    check: Check, exchange: KrakenExchange, settings_at: AT, database_urls: Any
) -> None:
    async with await psycopg.AsyncConnection.connect(database_urls.decision, autocommit=True) as connection:
        await connection.execute("GRANT UPDATE ON krakenbot.fills TO krakenbot_execution")

    with pytest.raises(ConfigError, match=r"withdraw-funds.*UPDATE on fills"):
        await check(settings_at(exchange, KRAKENBOT_KEYS__EXECUTION_API_KEY="withdraws"))


async def test_warnings_are_events_and_do_not_stop_it(check: Check, exchange: KrakenExchange, settings_at: AT) -> None:
    exchange.operate("mode", system="maintenance")
    try:
        events = await check(
            settings_at(
                exchange,
                KRAKENBOT_KEYS__EXECUTION_API_KEY="window",
                KRAKENBOT_VENUE__WS_PUBLIC_URL=exchange.ws_public_url,
            )
        )
    finally:
        exchange.operate("mode", system="online")

    warned = {fields["check"] for fields in events.of("start_warning")}
    assert {"key.execution.ip_list", "exchange.status"} <= warned


async def test_a_public_stream_that_is_away_is_a_warning_since_a_position_may_need_its_stop(
    check: Check, exchange: KrakenExchange, settings_at: AT
) -> None:
    events = await check(settings_at(exchange, KRAKENBOT_VENUE__WS_PUBLIC_URL="ws://127.0.0.1:1/v2"))

    assert ["exchange.status"] == [fields["check"] for fields in events.of("start_warning")]


async def test_a_venue_that_says_nothing_of_the_key_is_waited_for(
    check: Check, exchange: KrakenExchange, settings_at: AT, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, asked = KrakenPreflight.key, []

    async def away_at_first(self: KrakenPreflight, *names: Any, **options: Any) -> KeyFacts:
        asked.append(names[0])
        if len(asked) < 3:
            raise VenueUnavailable("EService:Unavailable")
        return await key(self, *names, **options)

    monkeypatch.setattr(KrakenPreflight, "key", away_at_first)
    monkeypatch.setattr(start, "KEY_RETRY_S", 0.01)
    events = await check(settings_at(exchange))

    assert [{"step": "api key", "reason": "EService:Unavailable"}] * 2 == events.of("start_waiting")
    assert ["execution"] * 3 == asked
