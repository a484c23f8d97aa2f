"""What the feed says of itself: the worst of its connections counts, and what does not work has a name."""

from __future__ import annotations

from typing import Any

import pytest
from tests.clocks import WaitedClock
from tests.level3 import whole_instrument

from krakenbot.adapters.kraken.market_feed import KrakenMarketFeed, MarketFeedSettings
from krakenbot.domain.market.book import L2Book
from krakenbot.domain.market.queue import L3Book
from krakenbot.domain.values import NS_PER_S, Symbol

ABC, XYZ = Symbol("ABC/USD"), Symbol("XYZ/USD")


class Listener:
    """Hears nothing."""

    def __getattr__(self, name) -> Any:
        return lambda *_, **__: None


async def token():
    return "a-token"


@pytest.fixture
def clock():
    return WaitedClock()


@pytest.fixture
def feed(clock):
    settings = MarketFeedSettings(public_symbols=1, level3_symbols=1)
    feed = KrakenMarketFeed(public_url="", level3_url="", clock=clock, token_source=token, settings=settings)
    feed._listener = Listener()
    feed.set_symbols([ABC, XYZ], [ABC, XYZ])
    return feed


async def open_public(feed):
    """Give each public stream a session, as its connection would."""
    for stream in feed._public:
        stream.session = await feed._open_public(stream, None)
    return [stream.session for stream in feed._public]


async def test_oldest_heartbeat_and_longest_lag_of_all_public_connections_count(feed, clock):
    first, second = await open_public(feed)
    second.receive('{"channel":"heartbeat"}', clock.mono())
    clock.at_mono += 7.0
    first.receive('{"channel":"heartbeat"}', clock.mono())
    for session, lag_s in ((first, 4.0), (second, 0.0)):
        for number in range(6):
            late_s = lag_s if number >= 3 else 0.0
            session.lag.observe((100 + number) * NS_PER_S, 2000.0 + number + late_s)
    health = feed.health()

    assert 7.0 == health.heartbeat_age_s
    assert [0.0, 7.0] == [each.heartbeat_age_s for each in health.streams if each.stream.startswith("public")]
    assert health.lag_s == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize(
    ("channel", "refused"),
    [
        ("book", ({ABC: "book: not supported"}, {})),
        ("trade", ({ABC: "trade: not supported"}, {})),
        ("level3", ({}, {ABC: "level3: not supported"})),
    ],
)
def test_symbol_that_is_refused_again_and_again_is_to_be_left_out_of_its_own_layer(feed, clock, channel, refused):
    for _ in range(3):
        feed._state.troubles.failed((channel, ABC), "not supported", clock.mono(), lambda: 0.0, is_refused=True)
    health = feed.health()

    assert refused == (health.refused_l2, health.refused_l3)
    assert [(channel, ABC, True)] == [(each.channel, each.symbol, each.is_refused) for each in health.quarantined]


def test_wanted_symbol_that_the_venue_does_not_list_is_shown_with_its_age_once_it_has_listed_any(feed, clock):
    before = feed.health().quarantined
    feed._state.instruments[ABC] = whole_instrument(ABC)
    clock.at_mono += 30.0
    [found] = feed.health().quarantined

    assert () == before
    assert ("instrument", XYZ, "the venue does not list it", 30.0) == (
        found.channel, found.symbol, found.reason, found.age_s,
    )  # fmt: skip


def test_books_of_symbols_that_are_not_wanted_any_more_go_also_while_their_connection_is_down(feed):
    for symbol in (ABC, XYZ):
        feed._state.books[symbol] = L2Book(price_precision=0, qty_precision=0, depth=10)
        feed._state.queues[symbol] = L3Book(price_precision=0, qty_precision=0, depth=10)
    feed.set_symbols([ABC], [])

    assert [True, False] == [feed.book(symbol) is not None for symbol in (ABC, XYZ)]
    assert [False, False] == [feed.queue(symbol) is not None for symbol in (ABC, XYZ)]
