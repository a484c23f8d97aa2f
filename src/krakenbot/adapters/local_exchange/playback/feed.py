"""Serve one recorded symbol's public channels and level3: recorded texts while it plays, its own frames after it.

A `SymbolFeed` whose subscriptions go to recorded streams. What was not recorded is refused (books) or made from the
replayed market (ticker at another trigger, trades).
"""

from __future__ import annotations

from krakenbot.adapters.local_exchange.digits import rfc3339_ns, rfc3339_us
from krakenbot.adapters.local_exchange.feeds import EventTrigger, Reader, SymbolFeed
from krakenbot.adapters.local_exchange.matching.book import Changes
from krakenbot.adapters.local_exchange.matching.venue import Venue
from krakenbot.adapters.local_exchange.playback.market import PlaybackMarket
from krakenbot.adapters.local_exchange.playback.rows import Rows
from krakenbot.adapters.local_exchange.playback.streams import BookStream, TickerStream, TradeStream


class PlaybackFeed(SymbolFeed):
    """The frames of one recorded symbol. The player fills the streams."""

    def __init__(self, market: PlaybackMarket, venue: Venue) -> None:
        super().__init__(market, venue)
        self._playback = market
        self.books: dict[int, BookStream] = {}
        self.level3: dict[int, BookStream] = {}
        self.trades = TradeStream()
        self.tickers: dict[EventTrigger, TickerStream] = {}
        # Readers of tickers that were not recorded.
        self._made_tickers: dict[EventTrigger, dict[Reader, None]] = {"trades": {}, "bbo": {}}
        self._made_bbo = self._best_levels()
        self._held: list[tuple[str, Rows, list[Reader]]] = []

    def offers(self, channel: str, depth: int) -> bool:
        """Tell whether a book of this depth was recorded or can be made from a deeper one."""
        if self._playback.is_live or channel not in ("book", "level3"):
            return True
        return self._stream(channel, depth) is not None

    def publish(self, changes: Changes, now_ns: int) -> None:
        """Send what is not recorded; after the seam, everything."""
        if self._playback.is_live:
            super().publish(changes, now_ns)
            return
        wanted: list[EventTrigger] = ["trades"] if changes.trades else []
        if (best := self._best_levels()) != self._made_bbo:
            self._made_bbo = best
            wanted.append("bbo")
        for trigger in wanted:
            if self._made_tickers[trigger]:
                frame = self.ticker_frame("update", now_ns)
                for reader in list(self._made_tickers[trigger]):
                    reader.push(frame)

    def read_book(self, reader: Reader, depth: int, now_ns: int) -> str:
        """Subscribe a reader to the book; return the snapshot."""
        stream = None if self._playback.is_live else self._stream("book", depth)
        return stream.read(reader, depth) if stream is not None else super().read_book(reader, depth, now_ns)

    def leave_book(self, reader: Reader, depth: int) -> None:
        """End a book subscription."""
        super().leave_book(reader, depth)
        for stream in self.books.values():
            stream.leave(reader)

    def read_level3(self, reader: Reader, depth: int, now_ns: int) -> str:
        """Subscribe a reader to level3; return the snapshot."""
        stream = None if self._playback.is_live else self._stream("level3", depth)
        return stream.read(reader, depth) if stream is not None else super().read_level3(reader, depth, now_ns)

    def leave_level3(self, reader: Reader, depth: int) -> None:
        """End a level3 subscription."""
        super().leave_level3(reader, depth)
        for stream in self.level3.values():
            stream.leave(reader)

    def read_trades(self, reader: Reader) -> str:
        """Subscribe a reader to trades; return the snapshot of the last 50."""
        return super().read_trades(reader) if self._playback.is_live else self.trades.read(reader)

    def leave_trades(self, reader: Reader) -> None:
        """End a trade subscription."""
        super().leave_trades(reader)
        self.trades.readers.pop(reader, None)

    def read_ticker(self, reader: Reader, trigger: EventTrigger, now_ns: int) -> str:
        """Subscribe a reader to the ticker; return the snapshot."""
        if self._playback.is_live:
            return super().read_ticker(reader, trigger, now_ns)
        if trigger in self.tickers:
            return self.tickers[trigger].read(reader)
        self._made_tickers[trigger][reader] = None
        return self.ticker_frame("snapshot", now_ns)

    def leave_ticker(self, reader: Reader) -> None:
        """End a ticker subscription of either trigger."""
        super().leave_ticker(reader)
        for readers in (*self._made_tickers.values(), *(stream.readers for stream in self.tickers.values())):
            readers.pop(reader, None)

    def forget(self, reader: Reader) -> None:
        """Drop a closed connection."""
        super().forget(reader)
        for stream in (*self.books.values(), *self.level3.values()):
            stream.leave(reader)

    def ticker(self, trigger: EventTrigger) -> TickerStream:
        """Return the recorded ticker of a trigger; the first call takes over the readers of a made one."""
        stream = self.tickers.get(trigger)
        if stream is None:
            stream = self.tickers[trigger] = TickerStream()
            stream.readers, self._made_tickers[trigger] = self._made_tickers[trigger], {}
        return stream

    def hold(self) -> None:
        """Remember what the readers of every book hold, before the market changes at the seam."""
        for channel, streams in (("book", self.books), ("level3", self.level3)):
            for stream in streams.values():
                for depth, readers in ((stream.depth, stream.readers), *stream.derived.items()):
                    rows = stream.rows(depth)
                    rows.hold(stream.mirror.book)
                    self._held.append((channel, rows, list(readers)))

    def go_live(self, now_ns: int) -> int:
        """Hand every reader over to the live market; return how many books differed and were sent as updates."""
        differing = 0
        for channel, rows, readers in self._held:
            is_book = channel == "book"
            frame = rows.update(self._playback.book, rfc3339_us(now_ns) if is_book else rfc3339_ns(now_ns))
            differing += frame is not None
            for reader in readers:
                if is_book:
                    super().read_book(reader, rows.depth, now_ns)
                else:
                    super().read_level3(reader, rows.depth, now_ns)
                if frame is not None:
                    reader.push(frame)
        for reader in self.trades.readers:
            super().read_trades(reader)
        for trigger, made in self._made_tickers.items():
            for reader in (*made, *self.ticker(trigger).readers):
                super().read_ticker(reader, trigger, now_ns)
        self._held, self.books, self.level3, self.tickers = [], {}, {}, {}
        self.trades = TradeStream()
        self._made_tickers = {"trades": {}, "bbo": {}}
        return differing

    def _stream(self, channel: str, depth: int) -> BookStream | None:
        """Return the recorded book of this depth, else the next deeper one."""
        streams = self.books if channel == "book" else self.level3
        return min(
            (stream for stream in streams.values() if stream.depth >= depth),
            key=lambda stream: stream.depth,
            default=None,
        )

    def _best_levels(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        return self._playback.levels("buy", 1), self._playback.levels("sell", 1)
