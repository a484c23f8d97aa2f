from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from krakenbot.domain.market.samples import BookSample, QueueSample, TickerSample, TradeSample
from krakenbot.domain.state.features import (
    MinuteValue,
    SymbolRows,
    compute_state,
    markout,
    minute_values,
    norms_as_of,
    ofi_z,
    touch_rates,
)
from krakenbot.domain.state.movement import (
    QUANTILE_BOUND,
    binned,
    bipower_sigma_bps_sqrt_min,
    drift_t,
    jumps,
    median_and_mad,
    percentile,
    sigma_bps_sqrt_min,
)
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.state.windows import Windows, grid_of, is_usable, ns_of, rows_within, window_span_s
from krakenbot.domain.values import NS_PER_S, GenerationId, LineageId, RunId, Side, Symbol

SYMBOL = Symbol("TEST/USD")
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
AT_NS = ns_of(AT)


def book(second: float, mid: float = 100.0, *, half_bps: float = 10.0, ofi: float = 0.0) -> BookSample:
    """Make a row `second` seconds before AT."""
    half = mid * half_bps / 10_000
    return BookSample(
        symbol=SYMBOL,
        at_ns=AT_NS - round(second * NS_PER_S),
        bid=mid - half,
        ask=mid + half,
        bid_qty=1.0,
        ask_qty=1.0,
        mid=mid,
        spread_bps=2 * half_bps,
        microprice_dev_bps=0.0,
        imbalance_5=0.0,
        bid_depth_10_quote=1.0,
        bid_depth_25_quote=2.0,
        bid_depth_50_quote=3.0,
        ask_depth_10_quote=1.0,
        ask_depth_25_quote=2.0,
        ask_depth_50_quote=3.0,
        ofi=ofi,
        updates=1,
        crossed_s=0.0,
        invalid_s=0.25,
    )


def trade(second: float, side: Side, price: str = "99.9", qty: str = "2", trade_id: int = 1) -> TradeSample:
    at_ns = AT_NS - round(second * NS_PER_S)
    return TradeSample(
        symbol=SYMBOL,
        trade_id=trade_id,
        side=side,
        price=Decimal(price),
        qty=Decimal(qty),
        at_ns=at_ns,
        received_at_ns=at_ns,
    )


def queue(second: float, *, added: float = 0.0, removed: float = 0.0) -> QueueSample:
    return QueueSample(
        symbol=SYMBOL,
        at_ns=AT_NS - round(second * NS_PER_S),
        bid_volume=5.0,
        bid_orders=3,
        bid_notional=500.0,
        ask_volume=6.0,
        ask_orders=4,
        ask_notional=600.0,
        bid_added=added,
        bid_removed=removed,
        ask_added=0.0,
        ask_removed=0.0,
        bid_mean_age_s=9.0,
        ask_mean_age_s=8.0,
        bid_largest_share=0.5,
        ask_largest_share=0.4,
    )


def state_of(rows: SymbolRows, windows: Windows | None = None) -> SymbolState:
    return compute_state(
        lineage_id=LineageId(1),
        run_id=RunId(2),
        generation_id=GenerationId(3),
        symbol=SYMBOL,
        at=AT,
        windows=windows or Windows(),
        rows=rows,
    )


def walk(seconds: int, step_bps: float, seed: int = 7) -> list[BookSample]:
    rng = random.Random(seed)
    mid = 100.0
    rows = []
    for second in range(seconds - 1, -1, -1):
        mid *= math.exp(rng.gauss(0, step_bps / 10_000))
        rows.append(book(second, mid))
    return rows


def test_nothing_known_gives_none_and_is_not_complete() -> None:
    state = state_of(SymbolRows())

    assert state.mid is None
    assert state.sigma_bps_sqrt_min is None
    assert state.sell_volume_quote is None
    assert not state.feature_complete


def test_sigma_of_a_random_walk_is_its_own_volatility() -> None:
    grid = grid_of(walk(6000, 2.0))

    assert pytest.approx(2.0 * math.sqrt(60), rel=0.1) == sigma_bps_sqrt_min(grid)
    assert pytest.approx(2.0 * math.sqrt(60), rel=0.1) == bipower_sigma_bps_sqrt_min(grid)
    assert jumps(grid) == 0


def test_sigma_by_hand() -> None:
    grid = grid_of([book(10, 100.0), book(5, 101.0), book(0, 100.0)] + [book(s, 100.0) for s in (20, 15, 25, 30)])
    one_percent = math.log(1.01)

    expected = math.sqrt(2 * one_percent**2 / 6 * 12) * 10_000

    assert pytest.approx(expected) == sigma_bps_sqrt_min(grid)


def test_missing_second_takes_its_pairs_with_it() -> None:
    rows = [book(s, 100.0 + s) for s in range(10)]
    with_gap = [row for row in rows if row.at_ns != AT_NS - 4 * NS_PER_S]

    assert sigma_bps_sqrt_min(grid_of(rows)) is not None
    assert sigma_bps_sqrt_min(grid_of(with_gap)) is None


def test_one_jump_counts_once_although_five_returns_show_it() -> None:
    rows = walk(300, 0.5)
    jumped = [evolve_mid(row, 1.03) if index > 150 else row for index, row in enumerate(rows)]

    assert jumps(grid_of(rows)) == 0
    assert jumps(grid_of(jumped)) == 1


def evolve_mid(row: BookSample, factor: float) -> BookSample:
    changed = book(0, row.mid * factor)
    changed.at_ns = row.at_ns
    return changed


def test_flicker_inside_the_spread_is_no_jump() -> None:
    rows = [book(s, 100.0) for s in range(299, -1, -1)]
    rows[150] = evolve_mid(rows[150], 1.001)

    assert jumps(grid_of(rows)) == 0


def test_drift_is_seen_in_a_trend_and_not_in_a_walk() -> None:
    trend = [evolve_mid(row, math.exp(index * 0.0003)) for index, row in enumerate(walk(300, 2.0))]
    still = [book(s) for s in range(300)]
    strength = drift_t(grid_of(trend))
    chance = drift_t(grid_of(walk(300, 2.0)))

    assert strength is not None
    assert strength > 10
    assert chance is not None
    assert abs(chance) < 3
    assert drift_t(grid_of(sorted(still, key=lambda row: row.at_ns))) == 0.0


def test_hac_error_by_hand() -> None:
    mids = [100.0, 101.0, 100.0, 102.0, 103.0, 103.0, 102.0]
    grid = grid_of([book(len(mids) - 1 - i, mid) for i, mid in enumerate(mids)])
    r = [math.log(b / a) for a, b in pairwise(mids)]
    n = len(r)
    mean = sum(r) / n
    d = [x - mean for x in r]
    g = [sum(d[i] * d[i - k] for i in range(k, n)) / n for k in range(6)]
    variance = max(g[0], g[0] + 2 * sum((1 - k / 6) * g[k] for k in range(1, 6)))

    assert pytest.approx(mean / math.sqrt(variance / n)) == drift_t(grid)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 1))
def test_percentile_lies_between_its_neighbours(values: list[float], share: float) -> None:
    got = percentile(values, share)

    assert got is not None
    assert min(values) - 1e-9 <= got <= max(values) + 1e-9


def test_percentile_interpolates_as_percentile_cont() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert pytest.approx(3.7) == percentile([4.0, 1.0, 3.0, 2.0], 0.9)
    assert percentile([], 0.5) is None


def test_mad_is_plain_and_needs_enough_values() -> None:
    assert median_and_mad([1.0, 2.0, 4.0, 9.0, 2.0], 5) == (2.0, 1.0)
    assert median_and_mad([1.0], 2) == (None, None)


def test_window_begins_with_a_whole_bucket_and_ends_at_its_time() -> None:
    at_ns = AT_NS + 3 * NS_PER_S
    rows = [book(0), book(60), book(60.001), book(-3), book(-3.001)]

    assert [60, 0, -3] == [(AT_NS - row.at_ns) / NS_PER_S for row in rows_within(rows, at_ns, 60.0)]
    assert 63.0 == window_span_s(at_ns, 60.0)
    assert [60.001, 60, 0, -3] == [(AT_NS - row.at_ns) / NS_PER_S for row in rows_within(rows, at_ns, 60.0, lead_s=10)]


def test_returns_that_end_in_the_window_look_back_before_it() -> None:
    rows = walk(40, 3.0)
    grid = grid_of(rows)
    first = AT_NS // NS_PER_S - 9
    later = grid_of(rows[25:])

    assert sigma_bps_sqrt_min(grid, first) == sigma_bps_sqrt_min(later, first)
    assert sigma_bps_sqrt_min(grid, first) != sigma_bps_sqrt_min(grid_of(rows[30:]))


@given(st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=50), st.floats(0, 1))
def test_quantile_of_the_histogram_is_within_its_bound(spreads: list[float], share: float) -> None:
    exact = percentile(spreads, share)
    read = percentile([binned(spread) for spread in spreads], share)

    assert exact == pytest.approx(read, rel=QUANTILE_BOUND * 1.01)


def test_last_row_of_a_second_stands_for_it_and_crossed_rows_do_not() -> None:
    crossed = book(0, 100.0)
    crossed.bid = crossed.ask
    grid = grid_of(rows_within([book(0, 102.0), book(0.5, 101.0), book(1, 100.0), crossed], AT_NS, 60))

    assert [row.mid for row in list(grid.values())[-2:]] == [101.0, 102.0]
    assert {row.at_ns // NS_PER_S for row in (book(0), book(0.5))} == set(grid)


def test_flow_of_the_medium_window_splits_by_taker() -> None:
    rows = SymbolRows(
        books=[book(s) for s in range(300)],
        trades=[
            trade(10, Side.SELL, "100", "3", 1),
            trade(20, Side.BUY, "100", "1", 2),
            trade(400, Side.BUY, "100", "9", 0),
        ],
    )
    state = state_of(rows)

    assert state.sell_volume_quote == 300.0
    assert state.buy_volume_quote == 100.0
    assert state.sell_to_bid_per_s_quote == 1.0
    assert pytest.approx(0.4) == state.trades_per_min
    assert state.trade_size_mean_quote == 200.0
    assert state.trade_size_m2_quote == 50_000.0
    assert state.trades == 2
    assert state.trade_age_s == 10.0


def test_quiet_symbol_has_zero_rates_and_unseen_one_none() -> None:
    books = [book(s) for s in range(300)]
    quiet = state_of(SymbolRows(books=books, trades=[trade(5000, Side.BUY)]))
    unseen = state_of(SymbolRows(books=books))

    assert quiet.sell_volume_quote == 0.0
    assert quiet.trade_size_mean_quote is None
    assert quiet.feature_complete
    assert unseen.sell_volume_quote is None
    assert not unseen.feature_complete


@pytest.mark.parametrize(("seconds", "complete"), [(270, True), (269, False)])
def test_complete_needs_nine_tenths_of_the_seconds(seconds: int, complete: bool) -> None:
    state = state_of(SymbolRows(books=[book(s) for s in range(seconds)], trades=[trade(1, Side.BUY)]))

    assert complete is state.feature_complete


def test_ofi_z_by_hand() -> None:
    medium = [book(s, ofi=float(s % 2)) for s in range(20)]
    short = medium[:5]
    sd = math.sqrt(20 * 0.25 / 19)

    assert pytest.approx(2 / (sd * math.sqrt(5))) == ofi_z(medium, short)
    assert ofi_z([book(s) for s in range(9)], [book(s) for s in range(9)]) == 0.0
    assert ofi_z(medium, short[:4]) is None


def test_cancels_are_what_left_the_touch_and_was_not_traded() -> None:
    queues = [queue(20, added=99, removed=99), queue(10, added=10, removed=7), queue(0, added=0, removed=5)]
    trades = [trade(20, Side.SELL, qty="50"), trade(10, Side.SELL, qty="4"), trade(5, Side.BUY, qty="3")]
    rates = touch_rates(queues, trades, Side.BUY, 0)

    assert rates is not None
    assert rates.add_per_s == 0.5
    assert pytest.approx(8 / 20) == rates.cancel_per_s
    assert touch_rates(queues[:1], trades, Side.BUY, 0) is None


def test_row_after_a_gap_states_no_rate() -> None:
    queues = [queue(60, added=99), queue(30, added=40), queue(20, added=10), queue(15, added=5)]
    rates = touch_rates(queues, [], Side.BUY, AT_NS - 20 * NS_PER_S)

    assert rates is not None
    assert 15 / 15 == rates.add_per_s


def test_queue_rates_are_stated_in_quote_units() -> None:
    rows = SymbolRows(books=[book(0)], queues=[queue(10), queue(0, added=10)])
    state = state_of(rows)

    assert state.bid is not None
    assert pytest.approx(state.bid) == state.bid_add_per_s_quote
    assert state.bid_queue_quote == 500.0
    assert state.l3_samples == 2
    assert state.l3_age_s == 0.0


def test_markout_of_a_falling_mid_is_a_loss_at_the_bid_and_a_gain_at_the_ask() -> None:
    rows = rows_within([book(s, 100.0 if s > 20 else 99.0) for s in range(60)], AT_NS, 100)
    hit = [trade(22.5, Side.SELL, "99.9"), trade(22.5, Side.BUY, "100.1")]
    bid = markout(hit, rows, Side.BUY, 5)
    ask = markout(hit, rows, Side.SELL, 5)

    assert pytest.approx(-100.0) == bid.mean_bps
    assert pytest.approx(100.0) == ask.mean_bps
    assert bid.count == ask.count == 1


@pytest.mark.parametrize(
    ("hit", "why"),
    [
        (trade(22.5, Side.SELL, "99.7"), "deeper than half the spread below the bid"),
        (trade(2.0, Side.SELL, "99.9"), "younger than the horizon"),
        (trade(80.0, Side.SELL, "99.9"), "no row before it"),
    ],
)
def test_trade_without_a_fair_reference_has_no_markout(hit: TradeSample, why: str) -> None:
    books = rows_within([book(s) for s in range(60)], AT_NS, 100)

    assert markout([hit], books, Side.BUY, 5).count == 0, why


def test_markout_counts_in_the_window_in_which_it_came_due() -> None:
    books = rows_within([book(s) for s in range(60)], AT_NS, 100)
    hit = trade(40, Side.SELL)

    assert markout([hit], books, Side.BUY, 30, hit.at_ns + 30 * NS_PER_S).count == 1
    assert markout([hit], books, Side.BUY, 30, hit.at_ns + 30 * NS_PER_S + 1).count == 0


def test_gap_after_the_horizon_drops_the_trade() -> None:
    rows = [book(s) for s in range(60) if not 10 < s < 20]
    books = [row for row in rows_within(rows, AT_NS, 100) if is_usable(row)]

    assert markout([trade(23, Side.SELL)], books, Side.BUY, 5).count == 0
    assert markout([trade(30, Side.SELL)], books, Side.BUY, 5).count == 1


def test_norms_need_an_hour_of_minutes() -> None:
    as_of = norms_as_of(SYMBOL, AT_NS)
    minutes = [MinuteValue(minute=as_of - m, spread_bps=float(m % 3), sigma_bps=5.0) for m in range(60)]
    minutes.append(MinuteValue(minute=as_of + 1, spread_bps=900.0, sigma_bps=900.0))
    enough = state_of(SymbolRows(minutes=minutes))
    short = state_of(SymbolRows(minutes=minutes[1:]))

    assert (enough.spread_norm_bps, enough.spread_mad_bps) == (1.0, 1.0)
    assert (enough.sigma_norm_bps, enough.sigma_mad_bps) == (5.0, 0.0)
    assert short.sigma_norm_bps is None
    assert short.norm_minutes == 59


def test_norms_are_renewed_in_the_minutes_of_their_symbol() -> None:
    minutes = [norms_as_of(SYMBOL, AT_NS + minute * 60 * NS_PER_S) for minute in range(30)]

    assert {minute % 10 for minute in minutes} == {sum(SYMBOL.encode()) % 10}
    assert all(0 <= AT_NS // (60 * NS_PER_S) + n - 1 - minute < 10 for n, minute in enumerate(minutes))


def test_minutes_are_whole_and_over() -> None:
    values = minute_values([book(s) for s in range(-30, 150)], AT_NS + 30 * NS_PER_S)

    assert [AT_NS // (60 * NS_PER_S) - k for k in (3, 2, 1)] == [value.minute for value in values]
    assert [pytest.approx(value.spread_bps) for value in values] == [20.0, 20.0, 20.0]


def test_quality_sums_and_ages() -> None:
    ticker = TickerSample(
        symbol=SYMBOL, at_ns=1, received_at_ns=AT_NS - 3 * NS_PER_S, bid=1, ask=2, last=2.0, volume_24h=500.0
    )
    state = state_of(SymbolRows(books=[book(s) for s in range(4, 8)], tickers=[ticker]))

    assert state.l2_age_s == 4.0
    assert state.invalid_s == 1.0
    assert state.ticker_age_s == 3.0
    assert state.volume_24h_quote == 1000.0


def test_rows_after_the_time_do_not_exist_yet() -> None:
    rows = SymbolRows(books=[book(s) for s in range(300)], trades=[trade(5, Side.BUY)])
    later = SymbolRows(books=[*rows.books, book(-1, 500.0)], trades=[*rows.trades, trade(-1, Side.SELL)])

    assert state_of(rows) == state_of(later)


@given(st.randoms(use_true_random=False))
def test_order_of_rows_changes_nothing(rng: random.Random) -> None:
    rows = SymbolRows(
        books=walk(60, 3.0),
        queues=[queue(s, added=s, removed=s) for s in range(30)],
        trades=[trade(s, Side.SELL, trade_id=s) for s in range(1, 40, 3)],
    )
    books, queues, trades = list(rows.books), list(rows.queues), list(rows.trades)
    rng.shuffle(books)
    rng.shuffle(queues)
    rng.shuffle(trades)

    assert state_of(rows) == state_of(evolve(rows, books=books, queues=queues, trades=trades))


def test_windows_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="short_s <= medium_s"):
        Windows(short_s=100.0, medium_s=50.0)


def test_rehearsal_windows_know_movement_after_twenty_seconds() -> None:
    windows = Windows(short_s=10, medium_s=20, long_s=40, complete_after_s=20)
    state = state_of(SymbolRows(books=walk(40, 3.0), trades=[trade(1, Side.BUY)]), windows)

    assert state.sigma_bps_sqrt_min is not None
    assert state.jumps is not None
    assert state.drift_t is not None
    assert state.feature_complete


def test_time_to_ns_is_exact() -> None:
    assert ns_of(AT + timedelta(microseconds=1)) - AT_NS == 1000
