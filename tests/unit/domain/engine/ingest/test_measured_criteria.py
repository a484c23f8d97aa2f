"""What an epoch measures: every criterion is counted of the symbols that it names, and of no others."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field
from tests.feed_health import feed_health

from krakenbot.domain.engine.epochs import measure
from krakenbot.domain.engine.ingest_settings import IngestSettings
from krakenbot.domain.state.epoch import EpochStatus, judge_epoch
from krakenbot.domain.state.universe import UniverseChoice
from krakenbot.domain.values import Symbol
from krakenbot.ports.market_feed import FeedHealth
from krakenbot.ports.sample_sink import SinkStats

NAMES = tuple(Symbol(f"S{number:02d}/USD") for number in range(20))


@define
class View:
    is_valid: bool


@define
class World:
    """A feed and a sink that say what the test wants."""

    bad_books: set[Symbol] = field(factory=set)
    bad_queues: set[Symbol] = field(factory=set)
    heartbeat_age_s: float | None = 1.0
    lag_s: float | None = 0.0
    writer_lag_s: float = 0.5

    def health(self) -> FeedHealth:
        return feed_health(heartbeat_age_s=self.heartbeat_age_s, level3_enabled=True, lag_s=self.lag_s)

    def book(self, symbol: Symbol) -> Any:
        return View(symbol not in self.bad_books)

    def queue(self, symbol: Symbol) -> Any:
        return View(symbol not in self.bad_queues)

    def stats(self) -> SinkStats:
        return SinkStats(lag_s=self.writer_lag_s, queued=0, rows={}, dropped={}, coalesced={}, batches=0, failures=0)


def measured(world: Any, pinned: tuple[Symbol, ...] = NAMES[:2], l3: tuple[Symbol, ...] = NAMES) -> Any:
    universe = UniverseChoice(pool=NAMES, l2=NAMES, l3=l3, execution=NAMES, pinned=pinned, left_out={})
    return measure(world, world, universe, IngestSettings(), wants_l3=True)


@pytest.mark.parametrize(
    ("world", "status", "missed"),
    [
        (World(), EpochStatus.VALID, ()),
        # one book of twenty is within 95 %, and one queue of twenty within 80 %
        (World(bad_books={NAMES[5]}), EpochStatus.VALID, ()),
        (World(bad_queues={NAMES[5]}), EpochStatus.VALID, ()),
        (World(bad_books={NAMES[1]}), EpochStatus.DEGRADED, ("L2 of pinned symbols 1 of 2",)),
        (World(bad_queues={NAMES[1]}), EpochStatus.DEGRADED, ("L3 of pinned symbols 1 of 2",)),
        (World(bad_books=set(NAMES[5:7])), EpochStatus.DEGRADED, ("L2 fresh 18 of 20 < 95 %",)),
        (World(bad_queues=set(NAMES[5:10])), EpochStatus.DEGRADED, ("L3 fresh 15 of 20 < 80 %",)),
        (World(writer_lag_s=5.1), EpochStatus.DEGRADED, ("writer lag 5.1 s > 5 s",)),
    ],
)
def test_a_missed_criterion_is_named_and_costs_the_epoch_its_validity(world, status, missed):
    assert (status, missed) == judge_epoch(measured(world))


@pytest.mark.parametrize(
    ("heartbeat_age_s", "lag_s", "lives"),
    [
        (10.0, 0.0, True),
        (10.1, 0.0, False),
        (6.0, 4.0, True),
        (6.0, 4.1, False),
        (10.0, None, True),
        (None, 0.0, False),
    ],
)
def test_books_are_fresh_up_to_ten_seconds_after_the_last_sign_of_life(heartbeat_age_s, lag_s, lives):
    criteria = measured(World(heartbeat_age_s=heartbeat_age_s, lag_s=lag_s))

    assert (20 * lives, 2 * lives, 20 * lives) == (criteria.l2_fresh, criteria.pinned_l2_fresh, criteria.l3_fresh)
    assert (EpochStatus.VALID if lives else EpochStatus.INVALID) is judge_epoch(criteria)[0]
