"""Bring recorded frames to the players of their symbols, with the depth and trigger that their connection asked for.

In: lines of a recording in order. Out: calls of `SymbolPlayer`. A frame does not say its depth, the acks do; without
an ack it is the smallest depth that holds the snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Raw

from krakenbot.adapters.local_exchange.feeds import EventTrigger
from krakenbot.adapters.local_exchange.playback.frames import (
    BookData,
    Envelope,
    FrameError,
    Level3Data,
    decode_ack,
    decode_book,
    decode_envelope,
    decode_level3,
    decode_rows,
    decode_ticker,
    decode_trade,
)
from krakenbot.adapters.local_exchange.playback.player import BookChannel, SymbolPlayer
from krakenbot.adapters.local_exchange.playback.recording_format import FrameLine, RecordingError

BOOK_DEPTHS: Final[dict[BookChannel, tuple[int, ...]]] = {"book": (10, 25, 100, 500, 1000), "level3": (10, 100, 1000)}
StreamKey = tuple[str, str, int | str]


class Dispatcher:
    """What each recorded connection is subscribed to, and where its frames go."""

    def __init__(self, players: Mapping[str, SymbolPlayer], counts: Counter[str]) -> None:
        self._players = players
        self._counts = counts
        # (connection, channel, symbol) -> depth or trigger
        self._asked: dict[tuple[str, str, str], int | str] = {}
        self._primed: set[int] = set()

    def prime(self, lines: Iterable[FrameLine]) -> None:
        """Play the first snapshot of every stream that begins with one, ahead of its time; `play` then skips it.

        Raises RecordingError when one of them does not fit its instrument.
        """
        begun: set[StreamKey] = set()
        found: list[tuple[FrameLine, Envelope, StreamKey]] = []
        for line in lines:
            try:
                envelope = self._envelope(line)
            except msgspec.DecodeError:
                # Counted when its time comes.
                continue
            key = None if envelope is None else self._key(line, envelope)
            if envelope is None or key is None or key in begun:
                continue
            begun.add(key)
            if envelope.type == "snapshot":
                found.append((line, envelope, key))
        # The market follows level3 if there is any, else the deepest book.
        best: dict[str, tuple[bool, int]] = {}
        for _, _, (channel, symbol, depth) in found:
            if isinstance(depth, int):
                best[symbol] = max(best.get(symbol, (False, 0)), (channel == "level3", depth))
        for symbol, (has_ids, depth) in best.items():
            self._players[symbol].choose_primary("level3" if has_ids else "book", depth)
        for line, envelope, (channel, symbol, asked) in found:
            self._primed.add(id(line))
            self._asked[line.c, channel, symbol] = asked
            try:
                self._rows(line, envelope)
            except (msgspec.DecodeError, FrameError) as error:
                raise RecordingError(f"the first {channel} snapshot of {symbol}: {error}") from error
        self._asked.clear()

    def play(self, line: FrameLine) -> None:
        """Play one line; what cannot be played is counted."""
        if line.d == "close":
            self._counts["connections_closed"] += 1
            for key in [key for key in self._asked if key[0] == line.c]:
                del self._asked[key]
            return
        try:
            envelope = self._envelope(line)
        except msgspec.DecodeError:
            self._counts["not_understood"] += 1
            return
        if envelope is None:
            return
        if id(line) in self._primed:
            self._primed.discard(id(line))
            self._key(line, envelope)
            return
        self._channel(line, envelope)

    def begin_again(self) -> None:
        """Forget what the connections asked for, so that the recording can be played once more."""
        self._asked.clear()
        for player in self._players.values():
            player.begin_again()

    def _envelope(self, line: FrameLine) -> Envelope | None:
        """Return a received frame that is not private; acks are taken in on the way.

        Raises msgspec.DecodeError when the text is no such frame.
        """
        if line.d != "in" or line.p == "private":
            return None
        envelope = decode_envelope(line.f)
        if envelope.method in ("subscribe", "unsubscribe") and envelope.success:
            self._ack(line.c, envelope)
        return envelope if envelope.channel in ("book", "level3", "trade", "ticker") else None

    def _ack(self, connection: str, envelope: Envelope) -> None:
        ack = decode_ack(envelope.result)
        if ack.symbol is None:
            return
        key = (connection, ack.channel, ack.symbol)
        if envelope.method == "unsubscribe":
            self._asked.pop(key, None)
        elif ack.channel in ("book", "level3"):
            self._asked[key] = ack.depth or 10
        elif ack.channel == "ticker":
            self._asked[key] = ack.event_trigger

    def _key(self, line: FrameLine, envelope: Envelope) -> StreamKey | None:
        """Return which stream a frame belongs to; None when that cannot be told."""
        channel = envelope.channel or ""
        try:
            rows = decode_rows(envelope.data)
            if not rows:
                return None
            if channel == "book":
                book = decode_book(rows[0])
                return self._book_key(line, "book", book, is_snapshot=envelope.type == "snapshot")
            if channel == "level3":
                orders = decode_level3(rows[0])
                return self._book_key(line, "level3", orders, is_snapshot=envelope.type == "snapshot")
            symbol = decode_ticker(rows[0]).symbol if channel == "ticker" else decode_trade(rows[0]).symbol
        except msgspec.DecodeError:
            return None
        if symbol not in self._players:
            return None
        return (channel, symbol, self._asked.get((line.c, channel, symbol), "trades") if channel == "ticker" else "")

    def _book_key(
        self, line: FrameLine, channel: BookChannel, data: BookData | Level3Data, *, is_snapshot: bool
    ) -> StreamKey | None:
        if data.symbol not in self._players:
            return None
        asked = (line.c, channel, data.symbol)
        if asked not in self._asked and is_snapshot:
            levels = max(_level_count(data.bids), _level_count(data.asks))
            fitting = [depth for depth in BOOK_DEPTHS[channel] if depth >= levels]
            self._asked[asked] = fitting[0] if fitting else levels
        depth = self._asked.get(asked)
        return None if depth is None else (channel, data.symbol, depth)

    def _channel(self, line: FrameLine, envelope: Envelope) -> None:
        try:
            self._rows(line, envelope)
        except (msgspec.DecodeError, FrameError):
            self._counts["not_understood"] += 1

    def _rows(self, line: FrameLine, envelope: Envelope) -> None:
        is_snapshot = envelope.type == "snapshot"
        rows = decode_rows(envelope.data)
        match envelope.channel:
            case "book":
                for row in rows:
                    self._book(line, "book", decode_book(row), is_snapshot=is_snapshot)
            case "level3":
                for row in rows:
                    self._book(line, "level3", decode_level3(row), is_snapshot=is_snapshot)
            case "trade":
                self._trades(line, rows, is_snapshot=is_snapshot)
            case _:
                self._ticker(line, rows, is_snapshot=is_snapshot)

    def _book(self, line: FrameLine, channel: BookChannel, data: BookData | Level3Data, *, is_snapshot: bool) -> None:
        key = self._book_key(line, channel, data, is_snapshot=is_snapshot)
        if key is None or not isinstance(key[2], int):
            self._counts["dropped_without_snapshot" if data.symbol in self._players else "symbol_not_listed"] += 1
            return
        self._players[data.symbol].book_frame(
            channel,
            data,
            line.f,
            depth=key[2],
            connection=line.c,
            is_snapshot=is_snapshot,
            received_ns=line.t,
        )

    def _trades(self, line: FrameLine, rows: list[Raw], *, is_snapshot: bool) -> None:
        trades = [(decode_trade(row), bytes(row).decode()) for row in rows]
        player = self._players.get(trades[0][0].symbol) if trades else None
        if player is None:
            self._counts["symbol_not_listed"] += bool(trades)
        elif any(row.symbol != trades[0][0].symbol for row, _ in trades):
            raise FrameError("prints of several symbols in one frame")
        else:
            player.trade_frame(trades, line.f, is_snapshot=is_snapshot)

    def _ticker(self, line: FrameLine, rows: list[Raw], *, is_snapshot: bool) -> None:
        for row in rows:
            symbol = decode_ticker(row).symbol
            player = self._players.get(symbol)
            if player is None:
                self._counts["symbol_not_listed"] += 1
                continue
            asked = self._asked.get((line.c, "ticker", symbol), "trades")
            trigger: EventTrigger = "bbo" if asked == "bbo" else "trades"
            player.ticker_frame(bytes(row), line.f, trigger=trigger, is_snapshot=is_snapshot)


def _level_count(rows: Iterable[object]) -> int:
    """Return how many prices the rows of a side name."""
    return len({getattr(row, "price", None) or getattr(row, "limit_price", None) for row in rows})
