"""Play the recorded frames of one symbol into its market and its feed.

In: decoded envelopes with their connection, in order of receipt. Out: a market that follows the recording, texts to
readers, counts of what did not fit. A snapshot makes its connection the current one of a stream; frames of other
connections, and updates before any snapshot, are dropped.
"""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import Literal

from krakenbot.adapters.local_exchange.feeds import EventTrigger
from krakenbot.adapters.local_exchange.matching.book import Book, Trade
from krakenbot.adapters.local_exchange.matching.venue import Venue
from krakenbot.adapters.local_exchange.playback.feed import PlaybackFeed
from krakenbot.adapters.local_exchange.playback.frames import (
    BookData,
    Level3Data,
    TradeRow,
    decode_ticker,
    scaled,
    time_ns,
)
from krakenbot.adapters.local_exchange.playback.market import PlaybackMarket
from krakenbot.adapters.local_exchange.playback.mirror import Level2Mirror, Level3Mirror, Mirror
from krakenbot.adapters.local_exchange.playback.streams import BookStream

BookChannel = Literal["book", "level3"]


class SymbolPlayer:
    """One recorded symbol. `counts` is shared by all."""

    def __init__(self, market: PlaybackMarket, feed: PlaybackFeed, venue: Venue, counts: Counter[str]) -> None:
        self.market = market
        self.feed = feed
        self.counts = counts
        self.primary: BookStream | None = None
        self._venue = venue
        self._numbers = count(1)
        self._found: dict[str, set[int | str]] = {"book": set(), "level3": set(), "ticker": set()}
        self._has_trades = False
        # Of this round: a snapshot after the first prints is no history.
        self._has_history = False

    def streams(self) -> dict[str, object]:
        """Return what was found recorded so far."""
        return {
            **{channel: sorted(found) for channel, found in self._found.items()},
            "trade": self._has_trades,
            "places_by": "order id" if self.market.places.has_ids else "volume",
        }

    def choose_primary(self, channel: BookChannel, depth: int) -> None:
        """Have the market follow this stream, which must not have begun."""
        self.primary = self._make_stream(channel, depth, is_primary=True)

    def book_frame(
        self,
        channel: BookChannel,
        data: BookData | Level3Data,
        text: str,
        *,
        depth: int,
        connection: str,
        is_snapshot: bool,
        received_ns: int,
    ) -> None:
        """Follow one frame of a book, and hand it on."""
        stream = (self.feed.books if channel == "book" else self.feed.level3).get(depth)
        if stream is None and is_snapshot:
            stream = self._make_stream(channel, depth, is_primary=self.primary is None)
            self.primary = self.primary or stream
        if stream is None or (not is_snapshot and stream.connection != connection):
            self.counts["dropped_without_snapshot"] += 1
            return
        if is_snapshot:
            self.counts["resnapshots"] += stream.connection is not None
            stream.connection = connection
        at_ns = time_ns(data.timestamp) if data.timestamp else received_ns
        if not stream.apply(data, text, is_snapshot=is_snapshot, at_ns=at_ns):
            self.counts["checksum_mismatches"] += 1
        self.counts["frames_played"] += 1
        stream.forward(text, is_snapshot=is_snapshot)
        if stream is self.primary:
            self._open_statistics()
            self.market.show_book(at_ns)
        else:
            stream.mirror.book.drain()

    def trade_frame(self, rows: list[tuple[TradeRow, str]], text: str, *, is_snapshot: bool) -> None:
        """Follow one frame of prints, and hand it on; a first snapshot is history and fills nobody."""
        is_history = is_snapshot and not self._has_history
        self._has_history = self._has_trades = True
        fresh = self.feed.trades.take(rows, text, is_snapshot=is_snapshot)
        if not fresh and rows and not is_snapshot:
            self.counts["trades_repeated"] += 1
            return
        self.counts["frames_played"] += 1
        self.feed.trades.forward(text)
        trades = [self._trade(row) for row in fresh]
        if is_history:
            self.market.trades.extend(trades)
            if trades:
                self.market.open_prices(trades[-1].price_ticks)
        elif trades:
            self.market.open_prices(trades[0].price_ticks)
            self.market.show_trades(trades)

    def ticker_frame(self, row: bytes, text: str, *, trigger: EventTrigger, is_snapshot: bool) -> None:
        """Follow one ticker frame, and hand it on."""
        last = decode_ticker(row).last
        self.counts["frames_played"] += 1
        self._found["ticker"].add(trigger)
        stream = self.feed.ticker(trigger)
        stream.take(row.decode(), text, is_snapshot=is_snapshot)
        stream.forward(text)
        self.market.open_prices(scaled(last, self.market.rules.price_precision))

    def begin_again(self) -> None:
        """Forget connections and prints, so that the recording can be played once more."""
        for stream in (*self.feed.books.values(), *self.feed.level3.values()):
            stream.connection = None
        self.market.places.begin_again()
        self.feed.trades.last_id = 0
        self._has_history = False

    def _make_stream(self, channel: BookChannel, depth: int, *, is_primary: bool) -> BookStream:
        self._found[channel].add(depth)
        book = self.market.book if is_primary else Book()
        next_number = self._venue.next_number if is_primary else self._numbers.__next__
        made: type[Mirror] = Level2Mirror if channel == "book" else Level3Mirror
        mirror = made(book, self.market.rules, depth, next_number)
        stream = BookStream(mirror, self.market.rules, self._venue.order_id_of)
        if channel == "book":
            self.feed.books[depth] = stream
        else:
            self.feed.level3[depth] = stream
        if is_primary:
            self.market.places.depth = depth
            self.market.places.has_ids = channel == "level3"
        return stream

    def _open_statistics(self) -> None:
        bid, ask = self.market.best("buy"), self.market.best("sell")
        if bid is not None and ask is not None:
            self.market.open_prices((bid + ask) // 2)

    def _trade(self, row: TradeRow) -> Trade:
        rules = self.market.rules
        price, lots = scaled(row.price, rules.price_precision), scaled(row.qty, rules.qty_precision)
        return Trade(row.trade_id, row.side, price, lots, row.ord_type, time_ns(row.timestamp))
