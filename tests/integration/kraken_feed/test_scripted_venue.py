"""The feed over real sockets against a scripted venue: what it holds, and how it comes back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import anyio
import pytest
from attrs import define, field, frozen
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.kraken.market_feed import KrakenMarketFeed, MarketFeedSettings
from krakenbot.adapters.kraken.protocol.market_session import SessionSettings
from krakenbot.adapters.kraken.ws import ConnectionSettings
from krakenbot.domain.errors import VenueRejected
from krakenbot.domain.market.views import BookView, QueueView
from krakenbot.domain.values import Side, Symbol

BTC = Symbol("BTC/USD")
PAIR = {
    "symbol": "BTC/USD", "base": "BTC", "quote": "USD", "status": "online", "qty_precision": 8, "price_precision": 1,
    "cost_precision": 5, "price_increment": 0.1, "qty_increment": 1e-08, "qty_min": 5e-05, "cost_min": 0.5,
    "has_index": True,
}  # fmt: skip
AT = "2026-11-22T10:00:00.%06dZ"


def checksum(asks: dict[int, int], bids: dict[int, int]) -> int:
    digits = "".join(f"{ticks}{lots}" for ticks, lots in sorted(asks.items())[:10])
    digits += "".join(f"{ticks}{lots}" for ticks, lots in sorted(bids.items(), reverse=True)[:10])
    return zlib.crc32(digits.encode())


def level_text(ticks: int, lots: int) -> str:
    return f'{{"price":{ticks / 10:.1f},"qty":{lots / 1e8:.8f}}}'


def order_text(ticks: int, lots: int, name: str) -> str:
    stamp = "2026-11-22T10:00:00.000000000Z"
    return f'{{"order_id":"{name}","limit_price":{ticks / 10:.1f},"order_qty":{lots / 1e8:.8f},"timestamp":"{stamp}"}}'


@define
class Venue:
    """Answers subscriptions, sends snapshots, and does what a test scripts."""

    sockets: list[ServerConnection] = field(factory=list)
    requests: list[dict[str, Any]] = field(factory=list)
    asks: dict[int, int] = field(factory=lambda: {1001: 100_000_000, 1003: 5})
    bids: dict[int, int] = field(factory=lambda: {999: 200_000_000, 990: 7})
    refuse: Callable[[dict[str, Any]], str | None] = lambda _: None
    upgrades_refused: int = 0
    retry_after: str = ""
    silent: bool = False
    clock_us: int = 0

    async def serve_socket(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        await socket.send('{"channel":"status","type":"update","data":[{"system":"online","api_version":"v2"}]}')
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.beat, socket)
            async for text in socket:
                request = json.loads(text)
                if request["method"] != "ping":
                    self.requests.append(request)
                    await self.answer(socket, request)
                elif not self.silent:
                    await socket.send(json.dumps({"method": "pong", "req_id": request["req_id"]}))
            tasks.cancel_scope.cancel()

    async def beat(self, socket: ServerConnection) -> None:
        while True:
            if not self.silent:
                await socket.send('{"channel":"heartbeat"}')
            await anyio.sleep(0.05)

    async def answer(self, socket: ServerConnection, request: dict[str, Any]) -> None:
        params = request["params"]
        for symbol in params.get("symbol", [None]):
            error = self.refuse(request)
            reply = {"method": request["method"], "req_id": request["req_id"], "success": error is None}
            if error is None:
                reply["result"] = {"channel": params["channel"], **({"symbol": symbol} if symbol else {})}
            else:
                reply["error"] = error
            await socket.send(json.dumps(reply))
            if error is None and request["method"] == "subscribe":
                await self.snapshot(socket, params["channel"])

    async def snapshot(self, socket: ServerConnection, channel: str) -> None:
        if channel == "instrument":
            data = {"assets": [], "pairs": [PAIR]}
            await socket.send(json.dumps({"channel": "instrument", "type": "snapshot", "data": data}))
        elif channel == "book":
            await self.book(socket, "snapshot", self.bids, self.asks)
        elif channel == "level3":
            await self.level3(socket)

    async def book(
        self, socket: ServerConnection, kind: str, bids: dict[int, int], asks: dict[int, int], *, wrong: int = 0
    ) -> None:
        self.clock_us += 1
        sides = [",".join(level_text(*level) for level in side.items()) for side in (bids, asks)]
        await socket.send(
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"BTC/USD","bids":[{sides[0]}],"asks":[{sides[1]}],'
            f'"checksum":{checksum(self.asks, self.bids) ^ wrong},"timestamp":"{AT % self.clock_us}"}}]}}'
        )

    async def level3(self, socket: ServerConnection) -> None:
        sides = [
            ",".join(order_text(ticks, lots, f"O{ticks}") for ticks, lots in side.items())
            for side in (self.bids, self.asks)
        ]
        await socket.send(
            f'{{"channel":"level3","type":"snapshot","data":[{{"symbol":"BTC/USD","bids":[{sides[0]}],'
            f'"asks":[{sides[1]}],"checksum":{checksum(self.asks, self.bids)},'
            f'"timestamp":"2026-11-22T10:00:00.000000001Z"}}]}}'
        )

    def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.upgrades_refused:
            self.upgrades_refused -= 1
            response = connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "slow down\n")
            if self.retry_after:
                response.headers["Retry-After"] = self.retry_after
            return response
        return None


@define
class Listener:
    events: list[tuple[Any, ...]] = field(factory=list)

    def on_instruments(self, instruments):
        self.events.append(("instruments", [each.symbol for each in instruments]))

    def on_book(self, symbol):
        self.events.append(("book", symbol))

    def on_queue(self, symbol):
        self.events.append(("queue", symbol))

    def on_trades(self, trades, *, is_snapshot):
        self.events.append(("trades", list(trades)))

    def on_ticker(self, ticker):
        self.events.append(("ticker", ticker))

    def on_validity(self, symbol, source, *, valid, reason):
        self.events.append(("validity", source, valid, reason))

    def on_connection(self, stream, *, up, reason):
        self.events.append(("connection", stream, up, reason))

    def on_reconnect(self, reconnect):
        self.events.append(("reconnect", reconnect))

    def of(self, kind):
        return [event[1:] for event in self.events if event[0] == kind]


@frozen
class Rig:
    venue: Venue
    feed: KrakenMarketFeed
    listener: Listener

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        with anyio.move_on_after(8):
            while not condition():
                await anyio.sleep(0.01)
            return
        pytest.fail(f"never: {what}; {self.feed.health()}; {self.listener.events[-12:]}")


async def token() -> str:
    return "secret-token"


@asynccontextmanager
async def rig(*, token_source=token, venue=None, l3=(BTC,), liveness_s=2.0, **limits):
    venue = venue or Venue()
    async with serve(venue.serve_socket, "127.0.0.1", 0, process_request=venue.process_request) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/v2"
        settings = MarketFeedSettings(
            session=SessionSettings(liveness_timeout_s=liveness_s),
            connection=ConnectionSettings(deadline_poll_s=0.02, close_timeout_s=0.2),
            **limits,
        )
        feed = KrakenMarketFeed(
            public_url=url,
            level3_url=url,
            clock=SystemClock(),
            settings=settings,
            token_source=token_source,
            jitter=lambda: 0.0,
        )
        listener = Listener()
        async with anyio.create_task_group() as tasks:
            feed.set_symbols([BTC], list(l3))
            tasks.start_soon(feed.run, listener)
            yield Rig(venue, feed, listener)
            tasks.cancel_scope.cancel()


def is_valid(found: BookView | QueueView | None) -> bool:
    return found is not None and found.is_valid


async def test_books_of_both_kinds_become_valid_and_readable():
    async with rig() as it:
        await it.until(lambda: is_valid(it.feed.book(BTC)) and is_valid(it.feed.queue(BTC)), "both books valid")

        assert (999, 200_000_000) == it.feed.book(BTC).best_bid()
        assert 1001 == it.feed.queue(BTC).best(Side.SELL)
        assert 100_000_000 == it.feed.queue(BTC).position_at(Side.SELL, 1001).ahead_lots
        assert [([BTC],)] == it.listener.of("instruments")
        assert it.feed.health().connected
        assert "online" == it.feed.health().venue_status


async def test_without_a_key_level3_is_off_and_the_rest_works():
    async with rig(token_source=None) as it:
        await it.until(lambda: is_valid(it.feed.book(BTC)), "L2 valid")

        assert not it.feed.health().level3_enabled
        assert it.feed.queue(BTC) is None
        assert {"public"} == {stream for stream, _, _ in it.listener.of("connection")}


async def test_wrong_checksum_drops_the_book_at_once_and_a_fresh_snapshot_mends_it():
    async with rig(l3=()) as it:
        await it.until(lambda: is_valid(it.feed.book(BTC)), "valid")
        await it.venue.book(it.venue.sockets[0], "update", {998: 3}, {}, wrong=1)
        await it.until(lambda: ("l2", False, "checksum mismatch") in it.listener.of("validity"), "dropped")
        await it.until(lambda: is_valid(it.feed.book(BTC)), "valid again")

        asked = [each["method"] for each in it.venue.requests if each["params"]["channel"] == "book"]
        assert ["subscribe", "unsubscribe", "subscribe"] == asked
        health = it.feed.health()
        assert (1, 1, 0) == (health.book_bad, health.resyncs, health.reconnects)


async def test_lost_connection_makes_every_book_invalid_and_comes_back():
    async with rig() as it:
        await it.until(lambda: is_valid(it.feed.book(BTC)) and is_valid(it.feed.queue(BTC)), "valid")
        held = it.feed.book(BTC)
        for socket in list(it.venue.sockets):
            socket.transport.abort()
        await it.until(lambda: len([e for e in it.listener.of("validity") if not e[1]]) == 2, "both invalid")
        await it.until(lambda: is_valid(it.feed.book(BTC)) and is_valid(it.feed.queue(BTC)), "valid again")

        assert held is it.feed.book(BTC)
        assert 2 == it.feed.health().reconnects
        downs = [stream for stream, up, _ in it.listener.of("connection") if not up]
        assert ["level3", "public"] == sorted(downs)


async def test_ban_of_the_address_is_waited_for():
    async with rig(venue=Venue(upgrades_refused=2), l3=(), ban_first_s=0.2) as it:
        began = SystemClock().mono()
        await it.until(lambda: is_valid(it.feed.book(BTC)), "valid")

        refused = [reason for _, up, reason in it.listener.of("connection") if not up]
        assert ["upgrade refused with HTTP 429"] * 2 == refused
        assert SystemClock().mono() - began >= 0.6


@pytest.mark.parametrize(("retry_after", "least_s"), [("1", 1.0), ("Sun, 22 Nov 2026 10:00:00 GMT", 0.05)])
async def test_ban_lasts_at_least_as_long_as_the_venue_asks(retry_after, least_s):
    async with rig(venue=Venue(upgrades_refused=1, retry_after=retry_after), l3=(), ban_first_s=0.05) as it:
        began = SystemClock().mono()
        await it.until(lambda: is_valid(it.feed.book(BTC)), "valid")

        assert SystemClock().mono() - began >= least_s


async def test_silent_connection_is_closed_and_replaced():
    async with rig(l3=(), liveness_s=0.3) as it:
        await it.until(lambda: is_valid(it.feed.book(BTC)), "valid")
        it.venue.silent = True
        await it.until(lambda: it.feed.health().reconnects >= 1, "replaced")
        it.venue.silent = False
        await it.until(lambda: is_valid(it.feed.book(BTC)), "valid again")

        assert any("no frame for" in reason for _, up, reason in it.listener.of("connection") if not up)


async def test_refused_subscription_is_quarantined_while_the_socket_stays():
    def refuse(request):
        return "Subscription depth not supported" if request["params"]["channel"] == "book" else None

    async with rig(venue=Venue(refuse=refuse), l3=()) as it:
        await it.until(lambda: bool(it.feed.health().quarantined), "quarantined")

        [found] = it.feed.health().quarantined
        assert ("book", BTC, "refused: Subscription depth not supported") == (
            found.channel, found.symbol, found.reason,
        )  # fmt: skip
        assert it.feed.health().connected
        assert 0 == it.feed.health().reconnects


async def test_text_that_is_no_json_makes_the_feed_reconnect():
    async with rig(l3=()) as it:
        await it.until(lambda: is_valid(it.feed.book(BTC)), "valid")
        await it.venue.sockets[0].send("CloudFlare WebSocket proxy restarting")
        await it.until(lambda: it.feed.health().reconnects == 1 and is_valid(it.feed.book(BTC)), "valid again")

        assert [(BTC,)] * 2 == it.listener.of("book")


async def test_frame_above_the_limit_closes_the_connection_and_the_feed_returns():
    async with rig(l3=()) as it:
        await it.until(lambda: is_valid(it.feed.book(BTC)), "valid")
        await it.venue.sockets[0].send('{"channel":"heartbeat","x":"' + "x" * 5_000_000 + '"}')
        await it.until(lambda: it.feed.health().reconnects == 1 and is_valid(it.feed.book(BTC)), "valid again")

        assert any("1009" in reason for _, up, reason in it.listener.of("connection") if not up)


async def test_refused_token_is_said_and_l2_goes_on():
    async def no_token():
        raise VenueRejected("EGeneral:Permission denied")

    async with rig(token_source=no_token) as it:
        await it.until(lambda: is_valid(it.feed.book(BTC)), "L2 valid")
        await it.until(lambda: "level3: no token" in it.feed.health().errors, "counted")

        assert it.feed.health().level3_enabled
        assert any("Permission denied" in reason for stream, _, reason in it.listener.of("connection"))


async def test_every_level3_connection_fetches_its_own_token():
    tokens = iter(["token-1", "token-2", "token-3"])

    async def next_token():
        return next(tokens)

    async with rig(token_source=next_token) as it:
        await it.until(lambda: is_valid(it.feed.queue(BTC)), "valid")
        for socket in list(it.venue.sockets):
            socket.transport.abort()
        await it.until(lambda: it.feed.health().reconnects == 2 and is_valid(it.feed.queue(BTC)), "valid again")

        used = [each["params"]["token"] for each in it.venue.requests if each["params"]["channel"] == "level3"]
        assert ["token-1", "token-2"] == used


async def test_symbol_no_longer_wanted_is_unsubscribed_and_forgotten():
    async with rig() as it:
        await it.until(lambda: is_valid(it.feed.book(BTC)) and is_valid(it.feed.queue(BTC)), "valid")
        it.feed.set_symbols([], [])
        left = {("unsubscribe", channel) for channel in ("book", "ticker", "trade", "level3")}
        await it.until(
            lambda: left <= {(each["method"], each["params"]["channel"]) for each in it.venue.requests}, "unsubscribed"
        )

        assert it.feed.book(BTC) is None
        assert it.feed.queue(BTC) is None
