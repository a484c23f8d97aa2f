"""Run the recorder as a process: `krakenbot record FOLDER`.

Connects as ingest does, with the same sessions: books are verified, and a bad one is asked for anew, so that a
recording heals. Needs no database. The command line registers `record`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
from attrs import asdict, field, frozen, validators

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.kraken.market_feed import KrakenMarketFeed, MarketFeedSettings
from krakenbot.adapters.kraken.protocol.market_session import SessionSettings
from krakenbot.adapters.kraken.recorder import FrameRecorder
from krakenbot.adapters.kraken.recording_parts import RecordingParts
from krakenbot.adapters.kraken.ws import MIB
from krakenbot.apps.container import make_events, make_token_source
from krakenbot.apps.lifecycle import run_until_signal
from krakenbot.apps.process_memory import map_large_blocks
from krakenbot.apps.processes import open_ingest_rest
from krakenbot.apps.settings import Settings
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.sampler import DEPTH_LEVELS
from krakenbot.domain.market.trade import PublicTrade, Ticker
from krakenbot.domain.values import Symbol
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.market_feed import Reconnect

STATUS_INTERVAL_S = 10.0


@frozen(kw_only=True)
class RecordOptions:
    """What is recorded and how it is rotated; without symbols those of `ingest.symbols`, `duration_s` None is for ever.

    The depth of the books is ingest's: only a recorded depth is played back frame by frame.
    """

    folder: Path
    symbols: tuple[Symbol, ...] = ()
    part_mib: int = field(default=256, validator=validators.in_(range(1, 65_537)))
    part_age_s: float = field(default=3600.0, validator=validators.ge(1.0))
    duration_s: float | None = None
    book_depth: int = field(default=DEPTH_LEVELS, validator=validators.in_((10, 25, 100, 500, 1000)))
    level3_depth: int = field(default=10, validator=validators.in_((10, 100, 1000)))


async def record(settings: Settings, options: RecordOptions) -> None:
    """Record until a signal comes or the time is over.

    Raises ConfigError when there is nothing to record, StoreUnavailable when the disk is full or failing.
    """
    symbols = options.symbols or settings.ingest.symbols
    if not symbols:
        raise ConfigError("nothing to record: name symbols with --symbol, or set ingest.symbols")
    map_large_blocks()
    parts = RecordingParts(options.folder, part_bytes=options.part_mib * MIB, part_age_s=options.part_age_s)
    clock = SystemClock()
    events = make_events(settings, clock, "record")
    recorder = FrameRecorder(parts=parts, clock=clock)

    async def work() -> None:
        async with AsyncExitStack() as stack:
            rest = await open_ingest_rest(settings, clock, events, stack, doing="recording")
            feed = KrakenMarketFeed(
                public_url=settings.venue.ws_public_url,
                level3_url=settings.venue.ws_level3_url,
                clock=clock,
                settings=MarketFeedSettings(
                    session=SessionSettings(book_depth=options.book_depth, level3_depth=options.level3_depth)
                ),
                token_source=make_token_source(rest, settings.keys.ingest_api_key),
                carrier=recorder.connection,
            )
            stack.push_async_callback(recorder.finish)
            with anyio.move_on_after(math.inf if options.duration_s is None else options.duration_s):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(recorder.run)
                    tasks.start_soon(_tell, recorder, parts, clock, events)
                    await feed.run(_Listener(feed=feed, recorder=recorder, events=events, wanted=symbols))

    reason = await run_until_signal(work)
    events.emit(
        "recording_ended", reason=reason, frames=dict(recorder.frames), part=parts.part, text_bytes=parts.text_bytes
    )


async def _tell(recorder: FrameRecorder, parts: RecordingParts, clock: SystemClock, events: EventSink) -> None:
    while True:
        await clock.sleep(STATUS_INTERVAL_S)
        events.emit(
            "recording",
            frames=dict(recorder.frames),
            part=parts.part,
            text_bytes=parts.text_bytes,
            waiting_bytes=recorder.waiting_bytes,
        )


class _Listener:
    """Asks for the symbols once the venue has listed them, and tells what went wrong."""

    def __init__(
        self, *, feed: KrakenMarketFeed, recorder: FrameRecorder, events: EventSink, wanted: Sequence[Symbol]
    ) -> None:
        self._feed = feed
        self._recorder = recorder
        self._events = events
        self._wanted = tuple(dict.fromkeys(wanted))
        self._has_begun = False

    def on_instruments(self, instruments: Sequence[Instrument]) -> None:
        """Begin at the first snapshot; raises ConfigError when none of the symbols is listed."""
        if self._has_begun:
            return
        listed = self._feed.instruments()
        symbols = [symbol for symbol in self._wanted if symbol in listed]
        missing = [symbol for symbol in self._wanted if symbol not in listed]
        if not symbols:
            raise ConfigError(f"the venue lists none of {', '.join(missing)}")
        self._recorder.begin(symbols)
        self._has_begun = True
        self._feed.set_symbols(symbols, symbols)
        self._events.emit("recording_begun", symbols=len(symbols), not_listed=missing, instruments=len(instruments))

    def on_book(self, symbol: Symbol) -> None:
        """Do nothing: frames are kept before they are read."""

    def on_queue(self, symbol: Symbol) -> None:
        """Do nothing."""

    def on_trades(self, trades: Sequence[PublicTrade], *, is_snapshot: bool) -> None:
        """Do nothing."""

    def on_ticker(self, ticker: Ticker) -> None:
        """Do nothing."""

    def on_validity(self, symbol: Symbol, source: str, *, valid: bool, reason: str) -> None:
        """Say that a book went wrong; the feed asks for it anew."""
        if not valid:
            self._events.emit("book_invalid", symbol=symbol, source=source, reason=reason)

    def on_connection(self, stream: str, *, up: bool, reason: str) -> None:
        """Say that a connection came up or went down."""
        self._events.emit("connection_up" if up else "connection_down", stream=stream, reason=reason)

    def on_reconnect(self, reconnect: Reconnect) -> None:
        """Say that a lost connection is whole again."""
        self._events.emit("reconnected", **asdict(reconnect))
