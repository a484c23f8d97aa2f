"""What settings reach which adapter."""

from __future__ import annotations

import pytest
from attrs import evolve

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.kraken.rest import KrakenRest, RestSettings
from krakenbot.apps.container import ExecutionContainer, IngestContainer
from krakenbot.apps.settings import Settings, VenueSettings


@pytest.mark.parametrize("kind", [IngestContainer, ExecutionContainer])
async def test_share_of_connections_reaches_the_market_feed(kind):
    settings = evolve(Settings(), venue=VenueSettings(market_connections_per_10_min=77))
    clock = SystemClock()
    async with KrakenRest(settings=RestSettings(base_url="http://127.0.0.1:1"), clock=clock) as rest:
        feed = kind(settings=settings, clock=clock, rest=rest).feed()

    assert 77 == feed._settings.attempts_per_10_min
