"""A batch of rows on its way to the ingest database, in memory and as the spool keeps it.

Enters: rows and what goes with them. Leaves: head and body as bytes, and back. The head holds everything but the rows,
so that a damaged body can still be named. Called by the COPY writer.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import cast

import msgspec
from attrs import asdict, define, field

from krakenbot.adapters.postgres.copy_rows import TABLES, TRADES, Row, Values
from krakenbot.domain.market.trade_ledger import GapCause, LedgerChanges, TradeGap, TradeHead
from krakenbot.domain.values import RunId, Symbol

_CHUNK_BYTES = 64 << 10
_NO_CHANGES = LedgerChanges(heads={}, gaps=())


@define
class Loss:
    """Periodic samples that are not in their table: how many, and the range of their times in ns."""

    samples: int
    first_at_ns: int
    last_at_ns: int

    def add(self, at_ns: int) -> None:
        """Count one more."""
        self.samples += 1
        self.first_at_ns = min(self.first_at_ns, at_ns)
        self.last_at_ns = max(self.last_at_ns, at_ns)


Losses = dict[tuple[RunId, str, str], Loss]
"""By run, table and cause."""


TradeRange = tuple[RunId, Symbol, int, int, int]
"""Run, symbol, first id, last id, and the time of the first in ns."""


@define
class Batch:
    """Rows on their way; kept whole until it is known that they are committed.

    `writer_id` and `number` are the batch id, committed with the rows. `since_mono` is when its first row came; None
    in a batch of an earlier process. `counts` are rows by table, `repeated` those trades of which the run holds the id.
    """

    writer_id: int
    number: int
    since_mono: float | None
    count: int = 0
    rows: dict[str, list[Row]] = field(factory=lambda: {table.name: [] for table in TABLES})
    counts: dict[str, int] = field(factory=dict)
    symbols: set[tuple[RunId, Symbol]] = field(factory=set)
    runs: set[RunId] = field(factory=set)
    changes: LedgerChanges = _NO_CHANGES
    losses: Losses = field(factory=dict)
    conflicts: int = 0
    repeated: int = 0

    def count_rows(self) -> None:
        """Fill `counts` from the rows."""
        self.counts = {table: len(rows) for table, rows in self.rows.items() if rows}

    def trade_ranges(self) -> list[TradeRange]:
        """Return the trades of the batch as ranges of ids without holes."""
        ids: dict[tuple[RunId, Symbol], dict[int, int]] = {}
        for row in cast("list[Values]", self.rows[TRADES.name]):
            ids.setdefault((row[0], row[1]), {})[row[2]] = row[6]
        ranges: list[TradeRange] = []
        for (run_id, symbol), times in ids.items():
            first = last = None
            for number in sorted(times):
                if first is None or last is None or number != last + 1:
                    ranges.append((run_id, symbol, number, number, times[number]))
                    first = number
                else:
                    ranges[-1] = (run_id, symbol, first, number, ranges[-1][4])
                last = number
        return ranges


class _Gap(msgspec.Struct, array_like=True):
    run_id: int
    symbol: str
    first_id: int
    last_id: int
    cause: GapCause
    noticed_at_ns: int
    since_ns: int
    missing: list[tuple[int, int]]
    refilled_at_ns: int | None
    refilled_from: str | None


class _Head(msgspec.Struct):
    writer_id: int
    number: int
    count: int
    counts: dict[str, int]
    symbols: list[tuple[int, str]]
    runs: list[int]
    gaps: list[_Gap]
    heads: dict[str, tuple[int, int]]
    losses: list[tuple[int, str, str, int, int, int]]
    ranges: list[tuple[int, str, int, int, int]]


class _Body(msgspec.Struct):
    periodic: dict[str, bytes]
    trades: list[tuple[int, str, int, str, Decimal, Decimal, int, int]]


@define
class SpooledHead:
    """What the head of a record says: the batch without its rows, and the ids of its trades."""

    batch: Batch
    ranges: list[TradeRange]


def encode_batch(batch: Batch) -> tuple[bytes, bytes]:
    """Return head and body of a batch for the spool."""
    head = _Head(
        writer_id=batch.writer_id,
        number=batch.number,
        count=batch.count,
        counts=batch.counts,
        symbols=sorted(batch.symbols),
        runs=sorted(batch.runs),
        gaps=[_Gap(**asdict(gap)) for gap in batch.changes.gaps],
        heads={symbol: (head.trade_id, head.at_ns) for symbol, head in batch.changes.heads.items()},
        losses=[(*key, loss.first_at_ns, loss.last_at_ns, loss.samples) for key, loss in batch.losses.items()],
        ranges=list(batch.trade_ranges()),
    )
    body = _Body(
        periodic={
            name: b"".join(cast("list[bytes]", rows))
            for name, rows in batch.rows.items()
            if rows and name != TRADES.name
        },
        trades=cast("list[tuple[int, str, int, str, Decimal, Decimal, int, int]]", batch.rows[TRADES.name]),
    )
    return msgspec.msgpack.encode(head), msgspec.msgpack.encode(body)


def decode_head(text: bytes) -> SpooledHead:
    """Return what a head says; raises ValueError for one that an unknown version wrote."""
    head = msgspec.msgpack.decode(text, type=_Head)
    gaps = tuple(
        TradeGap(
            run_id=RunId(gap.run_id),
            symbol=Symbol(gap.symbol),
            first_id=gap.first_id,
            last_id=gap.last_id,
            cause=gap.cause,
            noticed_at_ns=gap.noticed_at_ns,
            since_ns=gap.since_ns,
            missing=gap.missing,
            refilled_at_ns=gap.refilled_at_ns,
            refilled_from=gap.refilled_from,
        )
        for gap in head.gaps
    )
    heads = {Symbol(symbol): TradeHead(trade_id=last, at_ns=at_ns) for symbol, (last, at_ns) in head.heads.items()}
    batch = Batch(
        writer_id=head.writer_id,
        number=head.number,
        since_mono=None,
        count=head.count,
        counts=head.counts,
        symbols={(RunId(run_id), Symbol(symbol)) for run_id, symbol in head.symbols},
        runs={RunId(run_id) for run_id in head.runs},
        changes=LedgerChanges(heads=heads, gaps=gaps),
        losses={
            (RunId(run_id), kind, cause): Loss(samples, first, last)
            for run_id, kind, cause, first, last, samples in head.losses
        },
    )
    ranges = [(RunId(part[0]), Symbol(part[1]), *part[2:]) for part in head.ranges]
    return SpooledHead(batch=batch, ranges=ranges)


def decode_rows(body: bytes, batch: Batch) -> None:
    """Put the rows of a body into its batch."""
    decoded = msgspec.msgpack.decode(body, type=_Body)
    for name, rows in decoded.periodic.items():
        batch.rows[name] = list(_chunks(rows))
    batch.rows[TRADES.name] = list(decoded.trades)


def _chunks(rows: bytes) -> Iterator[bytes]:
    # COPY reads a stream: where it is cut does not matter.
    for start in range(0, len(rows), _CHUNK_BYTES):
        yield rows[start : start + _CHUNK_BYTES]
