"""Play a recording into the exchange at the spacing of its times of receipt; implements `Flow`.

In: a recording, a venue with playback markets, the exchange's public feeds. Out: books, prints and frames as they
were received, then what `at_end` says: seeded flow from the books as they stand, silence, or the recording once more.
Time is the venue's: a faster clock plays faster.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Final, Literal

from krakenbot.adapters.local_exchange.feeds import PublicFeeds
from krakenbot.adapters.local_exchange.flow.instruments import load_reference_prices
from krakenbot.adapters.local_exchange.flow.market import Market
from krakenbot.adapters.local_exchange.flow.parameters import Profile
from krakenbot.adapters.local_exchange.flow.recorded import take_over
from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.matching.venue import Venue
from krakenbot.adapters.local_exchange.playback.catalog import Catalog
from krakenbot.adapters.local_exchange.playback.dispatch import Dispatcher
from krakenbot.adapters.local_exchange.playback.feed import PlaybackFeed
from krakenbot.adapters.local_exchange.playback.market import PlaybackMarket
from krakenbot.adapters.local_exchange.playback.player import SymbolPlayer
from krakenbot.adapters.local_exchange.playback.recording_format import FrameLine, RecordingError
from krakenbot.adapters.local_exchange.playback.seam import go_live

AtEnd = Literal["seeded", "stop", "loop"]
NEVER_NS: Final = 2**63 - 1
AHEAD_FRAMES: Final = 20_000
AHEAD_NS: Final = 20_000_000_000
"""How far the playback looks for first snapshots, so that a subscriber before its start gets them at once."""
LOOP_PAUSE_NS: Final = 1_000_000_000


def make_playback_markets(venue: Venue) -> None:
    """Have every market of a new venue follow a recording; nothing may know the old markets yet."""
    for symbol, market in list(venue.markets.items()):
        venue.markets[symbol] = PlaybackMarket(market.rules, venue)
        venue.gate(venue.markets[symbol])


class PlaybackFlow:
    """The recording as everybody who trades besides the clients.

    `starts_after_ns` is how long the books stand at their first snapshots before the playback starts.

    Raises RecordingError when seeded flow cannot go on with a recorded symbol.
    """

    def __init__(
        self,
        venue: Venue,
        feeds: PublicFeeds,
        catalog: Catalog,
        *,
        at_end: AtEnd,
        seed: int,
        profile: Profile,
        starts_after_ns: int = 0,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._venue = venue
        self._catalog = catalog
        self._at_end: AtEnd = at_end
        self._seed = seed
        self._profile: Profile = profile
        self._starts_after_ns = starts_after_ns
        self._players: dict[str, SymbolPlayer] = {}
        for symbol, market in venue.markets.items():
            if isinstance(market, PlaybackMarket):
                feed = PlaybackFeed(market, venue)
                feeds.symbols[symbol] = feed
                self._players[symbol] = SymbolPlayer(market, feed, venue, self.counts)
        if at_end == "seeded":
            self._check_prices()
        self._dispatcher = Dispatcher(self._players, self.counts)
        self._seeded: SeededFlow | None = None
        self._seam: dict[str, dict[str, object]] = {}
        self._opened_at_ns = 0
        self._next_at_ns = NEVER_NS
        self._has_ended = False
        self._frames: Iterator[FrameLine] = catalog.recording.frames()
        self._ahead: deque[FrameLine] = deque()
        self._last_t = 0
        self._look_ahead()

    @property
    def seam(self) -> dict[str, dict[str, object]]:
        """Return per symbol what happened when seeded flow took over; empty before it."""
        return self._seam

    def open(self, now_ns: int) -> None:
        """Set the time at which the playback starts."""
        self._begin(now_ns + self._starts_after_ns)
        self._opened_at_ns = now_ns

    def next_at_ns(self) -> int:
        """Return when the next frame is due, or after the seam the next event."""
        return self._seeded.next_at_ns() if self._seeded is not None else self._next_at_ns

    def step(self, now_ns: int) -> None:
        """Carry out everything due at or before `now_ns`."""
        while self._seeded is None and self._next_at_ns <= now_ns:
            self._play_next(now_ns)
        if self._seeded is not None:
            self._seeded.step(now_ns)

    def last_price_ticks(self, symbol: str) -> int:
        """Return the last traded price of the recording, else the mid; 0 before anything is known."""
        if self._seeded is not None:
            return self._seeded.last_price_ticks(symbol)
        return self._venue.markets[symbol].stats.last_ticks

    def parameters(self) -> dict[str, object]:
        """Return what is played, what did not fit, and the seam as far as it is known."""
        catalog = self._catalog
        return {
            "flow": "playback",
            "notice": "recorded market; own orders have no impact on it and no place in its public frames",
            "recording": {
                "frames": catalog.frames,
                "seconds": round((catalog.last_at_ns - catalog.first_at_ns) / 1e9, 3),
                "cut_off": [{"part": cut.part, "lines": cut.lines} for cut in catalog.cut_offs],
            },
            "streams": {symbol: player.streams() for symbol, player in self._players.items()},
            "at_end": self._at_end,
            "has_ended": self._has_ended,
            "counts": dict(sorted(self.counts.items())),
            "seam": self._seam,
            **({} if self._seeded is None else {"seeded": self._seeded.parameters()}),
        }

    def _begin(self, at_ns: int) -> None:
        """Have the first frame due at `at_ns` and the others after it at their recorded spacing."""
        self._started_at_ns = at_ns
        self._first_t = self._ahead[0].t if self._ahead else 0
        self._next_at_ns = at_ns

    def _look_ahead(self) -> None:
        """Buffer the beginning, and set every book, ticker and list of prints to its first snapshot."""
        for frame in self._frames:
            self._ahead.append(frame)
            if len(self._ahead) >= AHEAD_FRAMES or frame.t - self._ahead[0].t > AHEAD_NS:
                break
        self._dispatcher.prime(self._ahead)

    def _play_next(self, now_ns: int) -> None:
        if not self._ahead:
            self._end(now_ns)
            return
        self._dispatcher.play(self._ahead.popleft())
        if not self._ahead and (following := next(self._frames, None)) is not None:
            self._ahead.append(following)
        if self._ahead:
            following_t = self._ahead[0].t
            self.counts["time_ran_back"] += following_t < self._last_t
            self._last_t = max(self._last_t, following_t)
            due_ns = self._started_at_ns + following_t - self._first_t
            self._next_at_ns = max(self._next_at_ns, due_ns)

    def _end(self, now_ns: int) -> None:
        self.counts["times_played"] += 1
        if self._at_end == "loop":
            self._dispatcher.begin_again()
            self._frames = self._catalog.recording.frames()
            self._ahead.extend(frame for frame in [next(self._frames, None)] if frame is not None)
            self._last_t = 0
            self._begin(now_ns + LOOP_PAUSE_NS)
            return
        self._has_ended = True
        self._next_at_ns = NEVER_NS
        if self._at_end == "seeded":
            self._hand_over(now_ns)

    def _hand_over(self, now_ns: int) -> None:
        """Let seeded participants take over every book, and every reader go on with live frames."""
        markets: dict[str, Market] = dict(self._venue.markets)
        seeded = SeededFlow(markets, profile=self._profile, seed=self._seed)
        for symbol, player in self._players.items():
            market, feed = player.market, player.feed
            before = _mid_ticks(market)
            feed.hold()
            deepest = max(feed.books, default=0)
            deeper = feed.books[deepest].mirror.book if market.places.has_ids and deepest else None
            seam = go_live(market, deeper, feed.trades.last_id)
            differing = feed.go_live(now_ns)
            after = _mid_ticks(market)
            flow = seeded.symbols[symbol]
            if after is None:
                flow.open(now_ns)
            else:
                flow = seeded.make_symbol_flow(market, flow.parameters, after)
                seeded.symbols[symbol] = flow
                take_over(flow, now_ns, after, seam.resting)
            self._seam[symbol] = {
                "at_s": round((now_ns - self._opened_at_ns) / 1e9, 3),
                "mid_before_ticks": before,
                "mid_after_ticks": after,
                "adopted_orders": len(seam.resting),
                "client_orders": seam.entered,
                "withdrawn_crossing_lots": seam.withdrawn_lots,
                "deeper_levels": seam.deeper_levels,
                "books_with_differences": differing,
            }
        self._seeded = seeded

    def _check_prices(self) -> None:
        known = load_reference_prices()
        for player in self._players.values():
            rules = player.market.rules
            for asset in (rules.base, rules.quote):
                if asset not in known:
                    raise RecordingError(f"{rules.symbol}: no reference price of {asset}; use --at-end stop or loop")


def _mid_ticks(market: PlaybackMarket) -> float | None:
    bid, ask = market.best("buy"), market.best("sell")
    return None if bid is None or ask is None else (bid + ask) / 2
