"""The feed at the local exchange while it fails by script: what breaks, what is told, and how everything comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from attrs import define, field
from tests.integration.kraken_feed.conftest import feed_at_exchange, is_whole

from krakenbot.adapters.kraken.market_feed import KrakenMarketFeed, MarketFeedSettings
from krakenbot.adapters.kraken.protocol.market_session import SessionSettings
from krakenbot.adapters.kraken.protocol.quarantine import QuarantineSettings
from krakenbot.adapters.kraken.protocol.subscriptions import SubscriptionSettings
from krakenbot.adapters.local_exchange.latency import LatencySettings
from krakenbot.domain.values import Symbol
from krakenbot.ports.market_feed import Reconnect

SYMBOLS = 5


@define
class Rig:
    """A feed at an exchange, what it told, and the way to its script of faults."""

    feed: KrakenMarketFeed
    symbols: list[Symbol]
    http: httpx.AsyncClient
    validity: list[tuple[Symbol, str, bool, str]] = field(factory=list)
    connections: list[tuple[str, bool, str]] = field(factory=list)
    reconnects: list[Reconnect] = field(factory=list)

    def on_validity(self, symbol: Symbol, source: str, *, valid: bool, reason: str) -> None:
        self.validity.append((symbol, source, valid, reason))

    def on_connection(self, stream: str, *, up: bool, reason: str) -> None:
        self.connections.append((stream, up, reason))

    def on_reconnect(self, reconnect: Reconnect) -> None:
        self.reconnects.append(reconnect)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *_, **__: None

    async def script(self, *lines: str) -> None:
        answer = await self.http.post("/control/faults", content="\n".join(lines))

        assert answer.status_code == 200, answer.text

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        with anyio.move_on_after(12):
            while not condition():
                await anyio.sleep(0.02)
            return
        pytest.fail(f"never {what}: {self.feed.health()} {self.validity[-5:]} {self.connections[-5:]}")

    async def until_whole(self) -> None:
        await self.until(lambda: self.is_whole, "whole")

    @property
    def is_whole(self) -> bool:
        return is_whole(self.feed, self.symbols)


@asynccontextmanager
async def rig(*lines: str, session: SessionSettings | None = None, **limits: Any) -> AsyncIterator[Rig]:
    """Start an exchange with a script of faults and a feed for all its symbols."""
    latency = LatencySettings(median_ms=1.0, p99_ms=5.0)
    settings = MarketFeedSettings(session=session or SessionSettings(), **limits)
    async with feed_at_exchange(SYMBOLS, latency, settings) as (feed, symbols, rest_url):
        http = httpx.AsyncClient(base_url=rest_url, trust_env=False, timeout=5)
        it = Rig(feed, symbols, http)
        async with http, anyio.create_task_group() as tasks:
            if lines:
                await it.script(*lines)
            feed.set_symbols(symbols, symbols)
            tasks.start_soon(feed.run, it)
            yield it
            tasks.cancel_scope.cancel()


async def test_symbols_are_spread_over_connections_and_a_lost_one_costs_only_its_own():
    async with rig(public_symbols=2, level3_symbols=2) as it:
        await it.until_whole()
        names = [(each.stream, each.symbols) for each in it.feed.health().streams]
        await it.script("on 2nd level3.update: drop")
        await it.until(lambda: bool(it.reconnects), "told of the reconnect")
        await it.until_whole()
        health = it.feed.health()

        assert [
            ("public", 2),
            ("public-2", 2),
            ("public-3", 1),
            ("level3", 2),
            ("level3-2", 2),
            ("level3-3", 1),
        ] == names
        [lost] = [stream for stream, up, _ in it.connections if not up]
        held = {each.stream: each.symbols for each in health.streams}
        assert held[lost] == len({symbol for symbol, _, valid, _ in it.validity if not valid})
        assert {"level3": held[lost]} == it.reconnects[0].refetched
        assert (lost, 1) == (it.reconnects[0].stream, it.reconnects[0].attempts)
        assert 0 < it.reconnects[0].gap_s < 5
        assert health.connected
        assert 1 == health.reconnects


async def test_refused_and_lost_answers_and_damage_leave_the_socket_and_heal():
    faults = (
        'once at public.subscribe of book: refuse "EGeneral:Internal error"',
        "on 5th public.subscribe.ack: lose",
        "on 100th book.update: corrupt checksum",
        "on 100th level3.update: corrupt checksum",
        "on 20th book.update: duplicate",
        "on 30th book.update: truncate",
        "on 40th ticker.update: bloat to 1024 kb",
        'on 50th ticker.update: set data.0.last to "text"',
        "on 3rd heartbeat: set data to 7",
    )
    quick = SessionSettings(subscriptions=SubscriptionSettings(ack_timeout_s=1.0))
    async with rig(*faults, session=quick) as it:
        await it.until(lambda: it.feed.health().book_bad > 0 and it.feed.health().level3_bad > 0, "resynced")
        await it.until_whole()
        health = it.feed.health()

        assert 0 == health.reconnects
        assert {True} == {up for _, up, _ in it.connections}
        assert health.resyncs >= 3
        assert {"public: malformed ticker", "public: subscribe refused"} <= set(health.errors)
        assert {} == health.refused_l2


async def test_wrong_checksums_for_ever_put_one_symbol_into_quarantine_until_they_end():
    quick = QuarantineSettings(after=2, retry_s=0.5, stable_after_s=60)
    async with rig(quarantine=quick) as it:
        await it.until_whole()
        bad = it.symbols[0]
        await it.script(f"at book of {bad}: corrupt checksum")
        await it.until(lambda: bool(it.feed.health().quarantined), "quarantined")
        [found] = it.feed.health().quarantined
        others = [book.is_valid for symbol in it.symbols[1:] if (book := it.feed.book(symbol)) is not None]
        await it.http.delete("/control/faults")
        await it.until_whole()

        assert ("book", bad, "checksum mismatch", False) == (
            found.channel, found.symbol, found.reason, found.is_refused,
        )  # fmt: skip
        assert found.attempts >= 2
        assert [True] * 4 == others
        assert () == it.feed.health().quarantined
        assert 0 == it.feed.health().reconnects


async def test_book_that_no_longer_comes_while_tickers_do_is_noticed():
    async with rig(session=SessionSettings(silence_patience_s=1.0)) as it:
        await it.until_whole()
        dead = it.symbols[0]
        await it.script(f"at book.update of {dead}: lose")
        await it.until(lambda: (dead, "l2", False, "silent while the market moved") in it.validity, "noticed")
        await it.http.delete("/control/faults")
        await it.until_whole()
        await it.until(lambda: it.feed.health().clock_offset_s is not None, "measured")
        health = it.feed.health()

        assert 0 == health.reconnects
        # one clock on both sides
        assert abs(health.clock_offset_s or 0.0) < 0.5
        assert (health.lag_s or 0.0) < 2


async def test_bans_silence_and_dead_tokens_are_overcome():
    faults = ("2 times at public.upgrade: answer 429", "once at level3.subscribe: expire tokens")
    async with rig(*faults, ban_first_s=0.2, session=SessionSettings(liveness_timeout_s=1.5)) as it:
        await it.until_whole()
        reasons = [reason for _, up, reason in it.connections if not up]
        await it.script("on 1st heartbeat: silence public")
        await it.until(lambda: "public" in {each.stream for each in it.reconnects}, "replaced")
        await it.until_whole()

        assert ["upgrade refused with HTTP 429"] * 2 == reasons[:2]
        assert any(reason.startswith("token refused") for reason in reasons)
        replaced = next(each for each in it.reconnects if each.stream == "public")
        assert replaced.reason.startswith("no frame for ")
        assert replaced.gap_s > 1.5
        assert {"instrument": 1, "book": 5, "ticker": 5, "trade": 5} == replaced.refetched


async def test_changed_tick_begins_both_books_of_the_symbol_anew():
    async with rig() as it:
        await it.until_whole()
        changed = it.symbols[0]
        increment = it.feed.instruments()[changed].price_increment * 5
        await it.script(f"after 1 ms: instrument {changed} price step {increment:f}")
        await it.until(lambda: it.feed.instruments()[changed].price_increment == increment, "told")
        await it.until_whole()

        lost = {(symbol, source, reason) for symbol, source, valid, reason in it.validity if not valid}
        assert {(changed, "l2", "increment changed"), (changed, "l3", "increment changed")} == lost
        assert () == it.feed.health().quarantined
