"""The ledger of trades: every id once, every hole named, whatever order and repetition they come in."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from krakenbot.domain.market.samples import TradeSample
from krakenbot.domain.market.trade_ledger import GAPS_MAX, GapCause, TradeHead, TradeLedger, TradeSource
from krakenbot.domain.values import RunId, Side, Symbol

BTC = Symbol("BTC/USD")
RUN = RunId(1)


def make_trade(trade_id: int, at_ns: int | None = None) -> TradeSample:
    return TradeSample(
        symbol=BTC,
        trade_id=trade_id,
        side=Side.BUY,
        price=Decimal(1),
        qty=Decimal(1),
        at_ns=trade_id if at_ns is None else at_ns,
        received_at_ns=trade_id + 1000,
    )


def taken(ledger: TradeLedger, *ids: int) -> list[int]:
    return [i for i in ids if ledger.take(RUN, make_trade(i), TradeSource.FEED)]


def missing(ledger: TradeLedger) -> set[int]:
    return {i for gap in ledger.gaps() for first, last in gap.missing for i in range(first, last + 1)}


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80))
def test_each_id_is_taken_once_and_the_rest_of_the_range_is_missing(ids: list[int]) -> None:
    ledger = TradeLedger()

    kept = taken(ledger, *ids)

    assert sorted(set(ids)) == sorted(kept)
    assert set(range(min(ids), max(ids) + 1)) - set(ids) == missing(ledger)
    assert len(missing(ledger)) == ledger.missing_count


@given(st.lists(st.integers(1, 40), min_size=1, max_size=40), st.lists(st.integers(1, 40), max_size=40))
def test_what_is_stored_and_loaded_again_knows_the_same(before: list[int], after: list[int]) -> None:
    """Two processes over one store take what one process would, but for ids below the first, which count as held."""
    first = TradeLedger()
    taken(first, *before)
    changes = first.drain()
    second = TradeLedger()
    second.load(changes.heads, changes.gaps)

    kept = taken(second, *after)

    held = set(before) | set(range(1, min(before)))
    assert sorted(set(after) - held) == sorted(kept)
    assert missing(second) == set(range(1, max([*before, *after]) + 1)) - held - set(after)


def test_jump_across_a_restart_is_named_so_and_later_ones_are_jumps() -> None:
    ledger = TradeLedger()
    ledger.load({BTC: TradeHead(trade_id=10, at_ns=10)}, ())

    taken(ledger, 13, 15)

    assert [(11, 12, GapCause.RESTART, 10), (14, 14, GapCause.JUMP, 13)] == [
        (gap.first_id, gap.last_id, gap.cause, gap.since_ns) for gap in sorted(ledger.gaps(), key=lambda g: g.first_id)
    ]


def test_refilled_gap_says_from_where_and_when() -> None:
    ledger = TradeLedger()
    taken(ledger, 1, 4)
    gap = ledger.gaps()[0]
    ledger.drain()

    ledger.take(RUN, make_trade(2), TradeSource.SNAPSHOT)
    ledger.fill(make_trade(3), TradeSource.REST)

    (changed,) = ledger.drain().gaps
    assert [] == ledger.gaps()
    assert (gap.key, [], "rest+snapshot", 1003) == (
        changed.key,
        changed.missing,
        changed.refilled_from,
        changed.refilled_at_ns,
    )
    assert 2 == ledger.refilled


def test_lost_trades_are_one_range_by_cause_and_may_come_again() -> None:
    ledger = TradeLedger()
    taken(ledger, 1, 2, 3, 4, 5)
    for number in (3, 4, 5):
        ledger.lose(RUN, make_trade(number), GapCause.QUEUE_FULL)

    (gap,) = ledger.gaps()
    assert (3, 5, [(3, 5)]) == (gap.first_id, gap.last_id, gap.missing)
    assert [4] == taken(ledger, 1, 2, 4)


def test_losses_next_to_each_other_of_two_causes_stay_two_gaps() -> None:
    ledger = TradeLedger()
    taken(ledger, 1, 2, 3)
    ledger.lose(RUN, make_trade(2), GapCause.REFUSED)
    ledger.lose(RUN, make_trade(3), GapCause.QUEUE_FULL)

    assert {3} == missing(ledger)
    assert [(2, 2, GapCause.REFUSED), (3, 3, GapCause.QUEUE_FULL)] == [
        (gap.first_id, gap.last_id, gap.cause) for gap in ledger.drain().gaps
    ]


def test_refused_trades_stay_named_and_are_not_asked_for() -> None:
    ledger = TradeLedger()
    taken(ledger, 1)
    ledger.lose(RUN, make_trade(1), GapCause.REFUSED)

    assert [] == ledger.gaps()
    assert [GapCause.REFUSED] == [gap.cause for gap in ledger.drain().gaps]


def test_part_of_a_loss_that_is_named_again_takes_nothing_out_of_what_is_missing() -> None:
    ledger = TradeLedger()
    taken(ledger, 1)
    for ids in ((5, 10), (6, 7)):
        ledger.lose_range(RUN, BTC, ids, cause=GapCause.QUEUE_FULL, since_ns=1, noticed_at_ns=1)

    assert set(range(2, 11)) == missing(ledger)
    assert 9 == ledger.missing_count


def test_trade_that_is_newer_than_its_follower_is_not_taken_again_when_it_is_repeated() -> None:
    ledger = TradeLedger()
    ledger.take(RUN, make_trade(1, at_ns=20), TradeSource.FEED)
    ledger.take(RUN, make_trade(2, at_ns=10), TradeSource.FEED)

    assert not ledger.take(RUN, make_trade(1, at_ns=20), TradeSource.SNAPSHOT)
    assert {BTC: TradeHead(trade_id=2, at_ns=20)} == ledger.drain().heads
    assert 0 == ledger.restarts


def test_refilled_trade_that_is_the_newest_of_all_is_not_taken_again_when_it_is_repeated() -> None:
    ledger = TradeLedger()
    taken(ledger, 1, 3)
    ledger.drain()
    late = make_trade(2, at_ns=4)

    assert ledger.take(RUN, late, TradeSource.SNAPSHOT)
    assert not ledger.take(RUN, late, TradeSource.SNAPSHOT)
    assert {BTC: TradeHead(trade_id=3, at_ns=4)} == ledger.drain().heads
    assert 0 == ledger.restarts


def test_ids_that_begin_anew_are_taken_when_their_time_is_newer_than_all_held() -> None:
    ledger = TradeLedger()
    ledger.load({BTC: TradeHead(trade_id=500, at_ns=500)}, ())

    assert not ledger.take(RUN, make_trade(3, at_ns=499), TradeSource.SNAPSHOT)
    assert ledger.take(RUN, make_trade(3, at_ns=501), TradeSource.FEED)
    assert ledger.take(RUN, make_trade(4, at_ns=502), TradeSource.FEED)
    assert 1 == ledger.restarts
    assert {BTC: TradeHead(trade_id=4, at_ns=502)} == ledger.drain().heads


def test_what_is_left_on_disk_names_no_hole_that_a_gap_of_it_names() -> None:
    ledger = TradeLedger()
    ledger.load({BTC: TradeHead(trade_id=4, at_ns=4)}, ())
    other = TradeLedger()
    other.load({BTC: TradeHead(trade_id=6, at_ns=6)}, ())
    taken(other, 9, 10)

    ledger.load_left(other.drain(), [(RUN, BTC, 9, 10, 9)])

    assert [(5, 6), (7, 8)] == [gap.missing[0] for gap in sorted(ledger.gaps(), key=lambda gap: gap.first_id)]
    assert [GapCause.SPOOL_DAMAGED] == [gap.cause for gap in ledger.drain().gaps]


def test_changes_that_could_not_be_stored_come_again_with_the_newer_word() -> None:
    ledger = TradeLedger()
    taken(ledger, 1, 5)
    lost = ledger.drain()
    taken(ledger, 3)

    ledger.put_back(lost)

    changes = ledger.drain()
    assert {BTC: TradeHead(trade_id=5, at_ns=5)} == changes.heads
    assert [[(2, 2), (4, 4)]] == [gap.missing for gap in changes.gaps]
    assert not ledger.has_changes


def test_gaps_in_memory_are_bounded_and_all_of_them_are_stored() -> None:
    ledger = TradeLedger()

    taken(ledger, *range(1, 2 * GAPS_MAX + 20, 2))

    assert GAPS_MAX == len(ledger.gaps())
    assert GAPS_MAX + 9 == len(ledger.drain().gaps)
