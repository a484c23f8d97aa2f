"""Look through a recording before it is played: is it whole, what is in it, which instruments does it name.

In: a `Recording`. Out: counts, the span of time, and the rules of every recorded symbol. One pass over all lines, one
line in memory; the price of refusing a corrupt recording before anybody trades on it.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
from attrs import frozen
from msgspec import Struct

from krakenbot.adapters.local_exchange.flow.market import InstrumentRules
from krakenbot.adapters.local_exchange.playback.frames import NOTHING, decode_envelope, scaled
from krakenbot.adapters.local_exchange.playback.reader import CutOff, Recording
from krakenbot.adapters.local_exchange.playback.recording_format import RecordingError

INSTRUMENT_MARK = '"channel":"instrument"'


class PairRow(Struct):
    """One pair of an instrument snapshot."""

    symbol: str
    base: str
    quote: str
    status: str
    price_precision: int
    qty_precision: int
    cost_precision: int
    price_increment: Decimal
    qty_increment: Decimal
    qty_min: Decimal
    cost_min: Decimal
    has_index: bool = False


class InstrumentData(Struct):
    """The data of an instrument frame; assets are not needed."""

    pairs: list[PairRow] = []


@frozen(kw_only=True)
class Catalog:
    """A recording that was looked through. Times are ns since the epoch, 0 in an empty one."""

    recording: Recording
    frames: int
    first_at_ns: int
    last_at_ns: int
    cut_offs: list[CutOff]
    rules: dict[str, InstrumentRules]


def survey(recording: Recording) -> Catalog:
    """Read a recording once and return what it holds.

    Raises RecordingError when a line is corrupt, no symbol is recorded, or a symbol has no instrument.
    """
    frames, first_ns, last_ns = 0, 0, 0
    data = recording.header.instruments
    for frame in recording.frames():
        frames += 1
        first_ns = first_ns or frame.t
        last_ns = max(last_ns, frame.t)
        # The mark is a cheap sieve: one frame in millions is the snapshot.
        if data == NOTHING and frame.d == "in" and INSTRUMENT_MARK in frame.f[:200]:
            envelope = decode_envelope(frame.f)
            data = envelope.data if envelope.type == "snapshot" else data
    if not recording.header.symbols:
        raise RecordingError("the recording's header names no symbol")
    return Catalog(
        recording=recording,
        frames=frames,
        first_at_ns=first_ns,
        last_at_ns=last_ns,
        cut_offs=list(recording.cut_offs),
        rules=_rules(recording.header.symbols, data),
    )


def _rules(symbols: list[str], data: msgspec.Raw) -> dict[str, InstrumentRules]:
    if data == NOTHING:
        raise RecordingError("the recording has no instrument snapshot, neither in its header nor among its frames")
    try:
        rows = {row.symbol: row for row in msgspec.json.decode(data, type=InstrumentData).pairs}
    except msgspec.DecodeError as error:
        raise RecordingError(f"the recording's instrument snapshot: {error}") from error
    missing = [symbol for symbol in symbols if symbol not in rows]
    if missing:
        raise RecordingError(f"the recording's instrument snapshot lacks {', '.join(missing)}")
    return {symbol: _rule(rows[symbol]) for symbol in symbols}


def _rule(row: PairRow) -> InstrumentRules:
    return InstrumentRules(
        symbol=row.symbol,
        base=row.base,
        quote=row.quote,
        status=row.status,
        price_precision=row.price_precision,
        qty_precision=row.qty_precision,
        cost_precision=row.cost_precision,
        price_increment_ticks=scaled(row.price_increment, row.price_precision),
        qty_increment_lots=scaled(row.qty_increment, row.qty_precision),
        qty_min_lots=scaled(row.qty_min, row.qty_precision),
        cost_min=f"{row.cost_min:f}",
        has_index=row.has_index,
    )
