"""One connection of the feed over and over: when it tries, how it waits, what it remembers of a gap."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from attrs import define, field
from tests.clocks import WaitedClock

from krakenbot.adapters.kraken.market_feed import KrakenMarketFeed, MarketFeedSettings
from krakenbot.adapters.kraken.market_streams import MarketStream, Surroundings, assign
from krakenbot.adapters.kraken.protocol.budget import ConnectionBudget
from krakenbot.adapters.kraken.protocol.market_state import MarketState
from krakenbot.domain.errors import VenueRejected, VenueUnavailable
from krakenbot.domain.values import Symbol


@define
class Session:
    """A session that had a frame at some time, or none."""

    last_frame_mono: float | None = None
    closed_for: str = ""

    def closed(self, reason):
        self.closed_for = reason

    def stopped(self):
        self.closed_for = "stopped"

    def follow_symbols(self, symbols, now_mono): ...


@define
class Rig:
    """A stream whose connections last as long as the plan says, each ending with its reason."""

    plan: list[tuple[float, str]]
    clock: WaitedClock = field(factory=WaitedClock)
    state: MarketState = field(factory=MarketState)
    attempts: ConnectionBudget = field(
        factory=lambda: ConnectionBudget(burst=100, per_10_min=100, ban_first_s=30, ban_max_s=600)
    )
    tried_at: list[float] = field(factory=list)
    outages: list[Any] = field(factory=list)
    downs: list[str] = field(factory=list)
    refuse_token: Exception | None = None
    session: Session = field(factory=Session)
    jitter: float = 0.0
    refused_status: int | None = None
    retry_after_s: float = 0.0
    was_open: bool = True
    is_connected: bool = False

    def stream(self, name="level3"):
        around = Surroundings(
            clock=self.clock, state=self.state, attempts=self.attempts, jitter=lambda: self.jitter, carrier=self.carry
        )
        return MarketStream(
            name=name, url="", around=around, open_session=self.open, is_needed=lambda _: bool(self.plan)
        )

    async def open(self, _stream, outage):
        self.tried_at.append(self.clock.at_mono)
        self.outages.append(outage)
        if self.refuse_token is not None:
            self.plan.pop(0)
            raise self.refuse_token
        return Session()

    def carry(self, *, session, **_):
        self.session = session
        return self

    async def run(self):
        lasted_s, reason = self.plan.pop(0)
        self.refused_status = 429 if reason == "429" else None
        self.was_open = self.refused_status is None
        if lasted_s:
            self.clock.at_mono += lasted_s
            self.session.last_frame_mono = self.clock.at_mono
        return reason

    def on_connection(self, _stream, *, up, reason):
        self.downs.append(reason)

    async def play(self, *streams: Any):
        async with anyio.create_task_group() as tasks:
            for stream in streams or (self.stream(),):
                tasks.start_soon(stream.run, self)
            while self.plan:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()

    @property
    def pauses(self):
        return [round(after - before, 3) for before, after in zip(self.tried_at, self.tried_at[1:], strict=False)]


async def test_attempts_of_an_outage_come_ever_more_rarely_but_at_least_every_twenty_seconds():
    rig = Rig(plan=[(0, "refused")] * 12)
    await rig.play()

    assert [0.125, 0.25, 0.5, 1, 2, 4, 8, 10, 10, 10, 10] == rig.pauses


async def test_connection_that_lasted_is_replaced_at_once_and_one_that_did_not_is_not():
    rig = Rig(plan=[(0, "x"), (0, "x"), (0, "x"), (40.0, "dropped"), (5.0, "dropped"), (5.0, "dropped"), (0, "x")])
    await rig.play()

    assert [0.125, 0.25, 0.5, 40.125, 5.25, 5.5] == rig.pauses


async def test_venue_out_of_service_is_not_tried_faster_than_every_five_seconds():
    rig = Rig(plan=[(0, "refused")] * 4)
    rig.state.venue_status = "maintenance"
    await rig.play()

    assert [5, 5, 5] == rig.pauses


async def test_refused_key_is_tried_ever_more_rarely_and_an_absent_venue_as_ever():
    denied = Rig(plan=[(0, "")] * 6, refuse_token=VenueRejected("EAPI:Invalid key"))
    away = Rig(plan=[(0, "")] * 4, refuse_token=VenueUnavailable("EService:Busy"))
    await denied.play()
    await away.play()

    assert [45, 90, 180, 360, 450] == denied.pauses
    assert [0.125, 0.25, 0.5] == away.pauses
    assert "EAPI:Invalid key" in denied.downs[0]


@pytest.mark.parametrize(
    ("rig", "pauses"),
    [
        (Rig(plan=[(0, "refused")] * 4, jitter=0.5), [0.188, 0.375, 0.75]),
        (Rig(plan=[(0, "refused")] * 4, jitter=0.5, state=MarketState(venue_status="cancel_only")), [6.25] * 3),
        (Rig(plan=[(0, "")] * 3, jitter=1.0, refuse_token=VenueRejected("EAPI:Invalid key")), [75, 150]),
    ],
)
async def test_every_pause_is_jittered_so_that_many_clients_do_not_come_back_together(rig, pauses):
    await rig.play()

    assert pauses == rig.pauses


async def test_ban_of_one_connection_holds_back_the_others():
    rig = Rig(plan=[(0, "429"), (1.0, "x"), (1.0, "x"), (1.0, "x")])
    await rig.play(rig.stream("public"), rig.stream("level3"))

    assert rig.pauses[0] >= 30


async def test_gap_begins_with_the_last_frame_and_keeps_its_reason_through_all_attempts():
    rig = Rig(plan=[(50.0, "dropped"), (0, "refused"), (0, "refused"), (3.0, "again"), (0, "refused")])
    await rig.play()
    told = [outage and (outage.since_mono, outage.reason, outage.attempts) for outage in rig.outages]

    assert told[0] is None
    assert [(1050.0, "dropped", count) for count in (1, 2, 3)] == told[1:4]
    assert ("again", 1) == told[4][1:]


def test_symbols_stay_where_they_are_and_new_ones_fill_what_is_free():
    rig = Rig(plan=[])
    streams: list[MarketStream] = []
    names = [Symbol(f"S{number}") for number in range(7)]
    assign(streams, names[:5], 2, rig.stream)
    first = [list(stream.symbols) for stream in streams]
    assign(streams, [*names[1:4], *names[5:]], 2, rig.stream)

    assert [names[0:2], names[2:4], names[4:5]] == first
    assert [[names[1], names[5]], names[2:4], [names[6]]] == [stream.symbols for stream in streams]


@pytest.mark.parametrize(("wanted", "streams"), [(0, 1), (200, 1), (201, 2), (600, 3)])
def test_level3_takes_as_many_connections_as_krakens_limit_of_symbols_asks_for(wanted, streams):
    async def token():
        return ""

    feed = KrakenMarketFeed(
        public_url="", level3_url="", clock=WaitedClock(), token_source=token, settings=MarketFeedSettings()
    )
    symbols = [Symbol(f"S{number}/USD") for number in range(wanted)]
    feed.set_symbols(symbols, symbols)
    level3 = [each for each in feed.health().streams if each.stream.startswith("level3")]

    assert wanted == sum(each.symbols for each in level3)
    assert max((each.symbols for each in level3), default=0) <= 200
    assert streams == max(1, len(level3))
