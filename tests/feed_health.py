"""The health of a feed that is well."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from krakenbot.ports.market_feed import FeedHealth

WELL = FeedHealth(
    connected=True,
    venue_status="online",
    heartbeat_age_s=0.5,
    frames={},
    errors={},
    book_ok=0,
    book_bad=0,
    level3_ok=0,
    level3_bad=0,
    resyncs=0,
    reconnects=0,
    level3_enabled=False,
)


def feed_health(**changes: Any) -> FeedHealth:
    return evolve(WELL, **changes)
