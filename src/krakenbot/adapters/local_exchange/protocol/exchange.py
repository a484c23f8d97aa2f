"""Hold the parts of a running exchange that every connection and endpoint shares."""

from __future__ import annotations

from collections import Counter
from typing import Any

from krakenbot.adapters.local_exchange.executions import PrivateFeeds
from krakenbot.adapters.local_exchange.faults.plan import FaultPlan
from krakenbot.adapters.local_exchange.faults.player import VenuePlayer
from krakenbot.adapters.local_exchange.feeds import PublicFeeds
from krakenbot.adapters.local_exchange.keys import KeyRing
from krakenbot.adapters.local_exchange.limits.limiter import Limiter
from krakenbot.adapters.local_exchange.limits.settings import LimitSettings
from krakenbot.adapters.local_exchange.matching.venue import Venue
from krakenbot.adapters.local_exchange.protocol.announcements import Announcements, OpenSession
from krakenbot.adapters.local_exchange.record import RecordOfTruth
from krakenbot.adapters.local_exchange.venue_clock import VenueClock


class Exchange:
    """The venue with its feeds, keys, limits, record and clock, and the counters of the server."""

    def __init__(
        self,
        venue: Venue,
        keys: KeyRing,
        record: RecordOfTruth,
        clock: VenueClock,
        limits: LimitSettings | None = None,
    ) -> None:
        self.venue = venue
        self.keys = keys
        self.record = record
        self.clock = clock
        self.clock_ns = clock.now_ns
        self.step_s = 0
        """How far the clock that clients see stands beside the venue's."""
        self.limits = Limiter(limits or LimitSettings())
        self.public = PublicFeeds(venue)
        self.private = PrivateFeeds(venue.settings.burst_order)
        self.counters: Counter[str] = Counter()
        self.announcements = Announcements()
        self.faults = FaultPlan(venue.settings.seed, clock)
        player = VenuePlayer(self, self.faults)
        self.faults.use(player, player.names)
        self.upcoming_maintenance: list[dict[str, Any]] = []
        # The record comes first: what a reader is told has already been written down.
        venue.listeners.extend((record, self.public, self.private, self.announcements))
        self._connection_number = 0

    @property
    def sessions(self) -> list[OpenSession]:
        """Return the open WS connections."""
        return self.announcements.sessions

    def next_connection_id(self) -> int:
        """Return a connection id beyond 2^53, as the venue's are."""
        self._connection_number += 1
        return 2**63 + 1_000_003 * self._connection_number

    def catch_up(self) -> int:
        """Bring the venue to now, within bounds, and return the venue's time."""
        self.venue.advance(self.clock_ns(), max_steps=20)
        return self.venue.now_ns
