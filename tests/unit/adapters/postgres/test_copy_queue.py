"""The queue in front of COPY: what has no room, what is held back, and what is still to be said of a lost batch."""

# mypy: disable-error-code="arg-type, index, no-any-return"
from __future__ import annotations

from decimal import Decimal

import pytest

from krakenbot.adapters.postgres.copy_batch import Batch, decode_head, encode_batch
from krakenbot.adapters.postgres.copy_queue import CopyQueue
from krakenbot.adapters.postgres.copy_rows import TRADES
from krakenbot.domain.market.samples import TickerSample, TradeSample
from krakenbot.domain.market.trade_ledger import GapCause, TradeSource
from krakenbot.domain.values import Side

BTC = "BTC/USD"


def make_trade(trade_id, at_ns=None):
    return TradeSample(
        symbol=BTC,
        trade_id=trade_id,
        side=Side.BUY,
        price=Decimal(1),
        qty=Decimal(1),
        at_ns=trade_id if at_ns is None else at_ns,
        received_at_ns=trade_id,
    )


def make_ticker(number):
    return TickerSample(symbol=BTC, at_ns=number, received_at_ns=number, bid=1.0, ask=2.0, last=1.5, volume_24h=1.0)


def queue_of(rows_max=100):
    queue = CopyQueue(writer_id=1, batch_rows=1_000, rows_max=rows_max, on_sealed=lambda: None)
    queue.take_early()
    return queue


def sealed(queue) -> Batch:
    queue.seal()
    return queue.sealed[-1]


def test_refilled_trade_without_room_stays_missing():
    queue = queue_of(rows_max=2)
    queue.put(1, [make_trade(1), make_trade(9)], TradeSource.FEED)
    taken = queue.refill([make_trade(i) for i in (2, 3, 4)])

    assert 2 == taken
    assert [[(4, 8)]] == [gap.missing for gap in queue.ledger.gaps()]


def test_symbol_is_written_with_every_batch_until_one_that_holds_it_is_committed():
    queue = queue_of()
    queue.put(1, [make_trade(1)], TradeSource.FEED)
    first = sealed(queue)
    queue.put(1, [make_trade(2)], TradeSource.FEED)
    second = sealed(queue)
    queue.remember(first)
    queue.put(1, [make_trade(3)], TradeSource.FEED)

    assert [{(1, BTC)}, {(1, BTC)}, set()] == [first.symbols, second.symbols, sealed(queue).symbols]


def test_gap_of_a_batch_that_is_given_up_is_stored_with_the_next_beside_its_own_trades():
    queue = queue_of()
    queue.put(1, [make_trade(1), make_trade(5)], TradeSource.FEED)
    lost = sealed(queue)
    queue.name_lost(lost, lost.trade_ranges(), GapCause.REFUSED)
    changes = sealed(queue).changes
    named = {(gap.first_id, gap.last_id, gap.cause) for gap in changes.gaps}

    assert {"trade_samples": 2} == queue.dropped
    assert (2, 4, GapCause.JUMP) in named
    assert {1, 5} == {i for first, last, cause in named if cause is GapCause.REFUSED for i in range(first, last + 1)}
    assert 5 == changes.heads[BTC].trade_id


def test_sample_held_back_of_the_run_before_is_merged_into_the_first_of_the_next():
    queue = queue_of(rows_max=1)
    queue.put(1, [make_ticker(1), make_ticker(2)], TradeSource.FEED)
    queue.seal()
    queue.remove_first()
    queue.put(2, [make_ticker(3)], TradeSource.FEED)
    queue.settle()

    assert {"ticker_samples": 1} == queue.coalesced
    assert 1 == queue.count
    assert {2} == sealed(queue).runs


def test_rows_of_runs_long_gone_leave_nothing_in_the_encoder():
    queue = queue_of()
    for run_id in range(1, 8):
        queue.put(run_id, [make_ticker(run_id)], TradeSource.FEED)

    assert {4, 5, 6, 7} == {key[0] for key in queue._encoder._heads}


@pytest.mark.parametrize("refilled", [(), (2, 3), (2, 3, 4)])
def test_head_of_a_spooled_batch_says_all_of_its_gaps(refilled):
    queue = queue_of()
    queue.put(1, [make_trade(1), make_trade(5)], TradeSource.FEED)
    queue.refill([make_trade(i) for i in refilled])
    batch = sealed(queue)
    head, _ = encode_batch(batch)

    assert batch.changes == decode_head(head).batch.changes
    assert batch.trade_ranges() == decode_head(head).ranges
    assert 2 + len(refilled) == batch.counts[TRADES.name]
    assert (len(refilled) == 3) == (batch.changes.gaps[0].refilled_at_ns is not None)
