"""The features of a symbol, each defined once as a pure function over sample rows.

Enters: rows of one symbol and one lineage, in any order. Leaves: a `SymbolState`. Called by the in-memory store and
by tests; the SQL refresh computes the same and is compared with this. Windows, gaps, ties and late rows are ruled in
`windows`, volatility and quantiles in `movement`. None means not known, never zero.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from attrs import evolve, frozen

from krakenbot.domain.market.samples import BookSample, QueueSample, TickerSample, TradeSample
from krakenbot.domain.state.movement import (
    bipower_sigma_bps_sqrt_min,
    drift_bps_per_min,
    drift_t,
    jumps,
    median_and_mad,
    percentile,
    return_bps,
    sigma_bps_sqrt_min,
)
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.state.windows import (
    BUCKET_NS,
    BUCKET_S,
    MARKOUT_HORIZONS_S,
    Windows,
    grid_of,
    is_usable,
    ns_of,
    rows_within,
    window_from_ns,
    window_span_s,
)
from krakenbot.domain.values import BPS, NS_PER_S, GenerationId, LineageId, RunId, Side, Symbol

COMPLETE_SHARE = 0.9
MARKOUT_SLACK_S = 2
MIN_OFI_ROWS = 5
NORM_MINUTES = 1440
NORM_MINUTES_MIN = 60
NORM_SLOTS = 10


@frozen(kw_only=True)
class MinuteValue:
    """One whole UTC minute of a symbol; `minute` is unix seconds // 60. `sigma_bps` None: too few returns in it."""

    minute: int
    spread_bps: float
    sigma_bps: float | None


@frozen(kw_only=True)
class SymbolRows:
    """Rows of one symbol and lineage.

    `books`, `queues` and `trades` reach back `Windows.raw_reach_s`; `trades` hold the newest older one as well if
    there is one: a symbol with no trade in the window is quiet (rates 0), one with no trade ever seen is unknown
    (None). Trades are unique by `trade_id`. `tickers` need only hold the newest. `minutes` are those of the last
    24 h. `trade_gaps` counts the holes in its trade ids that nobody has refilled.
    """

    books: Sequence[BookSample] = ()
    queues: Sequence[QueueSample] = ()
    trades: Sequence[TradeSample] = ()
    tickers: Sequence[TickerSample] = ()
    minutes: Sequence[MinuteValue] = ()
    trade_gaps: int = 0


@frozen(kw_only=True)
class Flow:
    """Trades of a window in quote units; the size moments are None when there was none."""

    trades_per_min: float
    buy_volume_quote: float
    sell_volume_quote: float
    trade_size_mean_quote: float | None
    trade_size_m2_quote: float | None


@frozen(kw_only=True)
class TouchRates:
    """Volume that comes to and is cancelled from one touch, base units per second."""

    add_per_s: float
    cancel_per_s: float


@frozen(kw_only=True)
class Markout:
    """Mean mid move after trades at one touch, bps, signed for the maker; None without trades."""

    mean_bps: float | None
    count: int


def compute_state(
    *,
    lineage_id: LineageId,
    run_id: RunId,
    generation_id: GenerationId,
    symbol: Symbol,
    at: datetime,
    windows: Windows,
    rows: SymbolRows,
) -> SymbolState:
    """Compute one row of run_symbol_state at a time from the rows of its symbol and lineage."""
    at_ns = ns_of(at)
    state = SymbolState(
        lineage_id=lineage_id, run_id=run_id, symbol=symbol, generation_id=generation_id, computed_at=at
    )
    state = _with_touch(state, rows, at_ns, windows)
    state = _with_flow(state, rows, at_ns, windows)
    state = _with_queue(state, rows, at_ns, windows)
    state = _with_markouts(state, rows, at_ns, windows)
    state = _with_norms(state, rows, at_ns)
    return _with_quality(state, rows, at_ns, windows)


def is_complete(rows: SymbolRows, at_ns: int, windows: Windows, sigma: float | None) -> bool:
    """Tell whether the state may carry an entry.

    True when at least COMPLETE_SHARE of the seconds of the last `complete_after_s` have a usable book row, sigma is
    known, and at least one trade of the symbol was seen in the lineage (else the trade rates are unknown).
    """
    seconds = len(grid_of(rows_within(rows.books, at_ns, windows.complete_after_s)))
    has_trade = any(row.at_ns <= at_ns for row in rows.trades)
    return seconds >= COMPLETE_SHARE * windows.complete_after_s and sigma is not None and has_trade


def trade_flow(trades: Sequence[TradeSample], span_s: float) -> Flow:
    """Return counts and volumes over a window; rates divide by its whole length, also when history is shorter."""
    sizes = [float(trade.price * trade.qty) for trade in trades]
    count = len(sizes)
    return Flow(
        trades_per_min=count / span_s * 60,
        buy_volume_quote=math.fsum(s for s, trade in zip(sizes, trades, strict=True) if trade.side is Side.BUY),
        sell_volume_quote=math.fsum(s for s, trade in zip(sizes, trades, strict=True) if trade.side is Side.SELL),
        trade_size_mean_quote=math.fsum(sizes) / count if count else None,
        trade_size_m2_quote=math.fsum(size * size for size in sizes) / count if count else None,
    )


def ofi_z(medium: Sequence[BookSample], short: Sequence[BookSample]) -> float | None:
    """Return the sum of OFI over the short window in units of what chance gives.

    `sum(ofi, short) / (sd(ofi, medium) * sqrt(rows in short))`, sd with n - 1 about its mean (stddev_samp), over all
    rows, usable or not. 0 if every OFI of the medium window is 0; None under MIN_OFI_ROWS rows in either window, or
    when all are equal otherwise (sd at most 1e-9 of the greatest).
    """
    if min(len(medium), len(short)) < MIN_OFI_ROWS:
        return None
    values = [row.ofi for row in medium]
    greatest = max(abs(value) for value in values)
    if greatest == 0.0:
        return 0.0
    mean = math.fsum(values) / len(values)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    if sd <= 1e-9 * greatest:
        return None
    return math.fsum(row.ofi for row in short) / (sd * math.sqrt(len(short)))


def touch_rates(
    queues: Sequence[QueueSample], trades: Sequence[TradeSample], side: Side, from_ns: int
) -> TouchRates | None:
    """Return what came to and was cancelled from a touch (BUY: the bid), over rows at or after `from_ns`.

    `queues` in order of time, with one bucket before `from_ns`. A row's counts are of the time since its predecessor;
    a row counts if that one lies in the same bucket or the one before. Cancelled = removed less the base volume of
    takers of the other side in that time, over all, at least 0. None without any such time.
    """
    is_bid = side is Side.BUY
    covered_ns, added, removed, traded = 0, 0.0, 0.0, 0.0
    for before, row in pairwise(queues):
        if row.at_ns < from_ns or row.at_ns // BUCKET_NS - before.at_ns // BUCKET_NS > 1:
            continue
        covered_ns += row.at_ns - before.at_ns
        added += row.bid_added if is_bid else row.ask_added
        removed += row.bid_removed if is_bid else row.ask_removed
        traded += math.fsum(
            float(trade.qty)
            for trade in trades
            if trade.side is side.opposite and before.at_ns < trade.at_ns <= row.at_ns
        )
    if covered_ns == 0:
        return None
    span_s = covered_ns / NS_PER_S
    return TouchRates(add_per_s=added / span_s, cancel_per_s=max(0.0, removed - traded) / span_s)


def markout(
    trades: Sequence[TradeSample], books: Sequence[BookSample], side: Side, horizon_s: int, from_ns: int = 0
) -> Markout:
    """Return the mean mid move after trades that hit one touch (BUY: sells into the bid), unweighted.

    `books` are usable rows in order of time. A trade at t counts when it came due, at t + horizon, at or after
    `from_ns`: from the mid of the last row at or before t to that of the first at or after t + horizon, over the
    former, in bps; the sign makes a loss of the maker negative. Both rows at most MARKOUT_SLACK_S from t and
    t + horizon, else the trade does not count: nor does one younger than the horizon. At the touch means at most half
    the spread of the former row beyond its best price, which leaves out the deep part of a sweep.
    """
    times_ns = [row.at_ns for row in books]
    slack_ns = MARKOUT_SLACK_S * NS_PER_S
    moves: list[float] = []
    for trade in trades:
        due_ns = trade.at_ns + horizon_s * NS_PER_S
        if trade.side is not side.opposite or due_ns < from_ns:
            continue
        before = bisect_right(times_ns, trade.at_ns) - 1
        after = bisect_left(times_ns, due_ns)
        if before < 0 or after == len(times_ns):
            continue
        if trade.at_ns - times_ns[before] > slack_ns or times_ns[after] - due_ns > slack_ns:
            continue
        was, then = books[before], books[after]
        reach = (was.ask - was.bid) / 2
        price = float(trade.price)
        if price < was.bid - reach if side is Side.BUY else price > was.ask + reach:
            continue
        move = (then.mid - was.mid) / was.mid * BPS
        moves.append(move if side is Side.BUY else -move)
    return Markout(mean_bps=math.fsum(moves) / len(moves) if moves else None, count=len(moves))


def minute_values(books: Sequence[BookSample], at_ns: int) -> list[MinuteValue]:
    """Return the whole minutes in the rows: median spread, and sigma from 5 s returns that end inside the minute.

    The minute of `at_ns` is not over and is left out. A minute without a usable row has no value.
    """
    grid = grid_of(sorted(books, key=lambda row: row.at_ns))
    by_minute: dict[int, list[int]] = {}
    for second in grid:
        by_minute.setdefault(second // 60, []).append(second)
    values: list[MinuteValue] = []
    for minute, seconds in by_minute.items():
        own = {second: grid[second] for second in range(minute * 60 - BUCKET_S, minute * 60 + 60) if second in grid}
        spread = percentile([grid[second].spread_bps for second in seconds], 0.5)
        if minute < at_ns // (60 * NS_PER_S) and spread is not None:
            sigma = sigma_bps_sqrt_min(own, minute * 60)
            values.append(MinuteValue(minute=minute, spread_bps=spread, sigma_bps=sigma))
    return values


def norms_as_of(symbol: Symbol, at_ns: int) -> int:
    """Return the last minute that a symbol's norms count: whole, and of the symbol's slot.

    Norms are renewed every NORM_SLOTS minutes, a tenth of the symbols each minute, so that no refresh sorts a day of
    minutes of them all. The slot is the sum of the symbol's UTF-8 bytes modulo NORM_SLOTS.
    """
    closed = at_ns // (60 * NS_PER_S) - 1
    return closed - (closed - sum(symbol.encode())) % NORM_SLOTS


def _with_touch(state: SymbolState, rows: SymbolRows, at_ns: int, windows: Windows) -> SymbolState:
    first = window_from_ns(at_ns, windows.medium_s) // NS_PER_S
    grid = grid_of(rows_within(rows.books, at_ns, windows.medium_s, lead_s=BUCKET_S))
    spreads = [row.spread_bps for second, row in grid.items() if second >= first]
    if not spreads:
        return state
    touch = grid[max(grid)]
    return evolve(
        state,
        bid=touch.bid,
        ask=touch.ask,
        mid=touch.mid,
        spread_bps=touch.spread_bps,
        spread_p50_bps=percentile(spreads, 0.5),
        spread_p90_bps=percentile(spreads, 0.9),
        microprice_dev_bps=touch.microprice_dev_bps,
        imbalance_5=touch.imbalance_5,
        bid_depth_10_quote=touch.bid_depth_10_quote,
        bid_depth_25_quote=touch.bid_depth_25_quote,
        bid_depth_50_quote=touch.bid_depth_50_quote,
        ask_depth_10_quote=touch.ask_depth_10_quote,
        ask_depth_25_quote=touch.ask_depth_25_quote,
        ask_depth_50_quote=touch.ask_depth_50_quote,
        sigma_bps_sqrt_min=sigma_bps_sqrt_min(grid, first),
        bipower_sigma_bps_sqrt_min=bipower_sigma_bps_sqrt_min(grid, first),
        drift_bps_per_min=drift_bps_per_min(grid, first),
        drift_t=drift_t(grid, first),
        jumps=jumps(grid, first),
        return_long_bps=return_bps(grid_of(rows_within(rows.books, at_ns, windows.long_s))),
        l2_age_s=(at_ns - touch.at_ns) / NS_PER_S,
    )


def _with_flow(state: SymbolState, rows: SymbolRows, at_ns: int, windows: Windows) -> SymbolState:
    medium = rows_within(rows.books, at_ns, windows.medium_s)
    short = rows_within(rows.books, at_ns, windows.short_s)
    ofi_base = math.fsum(row.ofi for row in short) if short else None
    state = evolve(state, ofi_base=ofi_base, ofi_z=ofi_z(medium, short))
    newest_ns = max((row.at_ns for row in rows.trades if row.at_ns <= at_ns), default=None)
    if newest_ns is None:
        return state
    trades = rows_within(rows.trades, at_ns, windows.medium_s)
    span_s = window_span_s(at_ns, windows.medium_s)
    flow = trade_flow(trades, span_s)
    return evolve(
        state,
        trades_per_min=flow.trades_per_min,
        buy_volume_quote=flow.buy_volume_quote,
        sell_volume_quote=flow.sell_volume_quote,
        trade_size_mean_quote=flow.trade_size_mean_quote,
        trade_size_m2_quote=flow.trade_size_m2_quote,
        sell_to_bid_per_s_quote=flow.sell_volume_quote / span_s,
        buy_to_ask_per_s_quote=flow.buy_volume_quote / span_s,
        trades=len(trades),
        trade_age_s=(at_ns - newest_ns) / NS_PER_S,
    )


def _with_queue(state: SymbolState, rows: SymbolRows, at_ns: int, windows: Windows) -> SymbolState:
    medium = rows_within(rows.queues, at_ns, windows.medium_s)
    if not medium:
        return state
    newest = medium[-1]
    from_ns = window_from_ns(at_ns, windows.short_s)
    short = rows_within(rows.queues, at_ns, windows.short_s, lead_s=BUCKET_S)
    trades = rows_within(rows.trades, at_ns, windows.short_s, lead_s=BUCKET_S)
    bid_rates = touch_rates(short, trades, Side.BUY, from_ns)
    ask_rates = touch_rates(short, trades, Side.SELL, from_ns)
    return evolve(
        state,
        bid_queue_base=newest.bid_volume,
        ask_queue_base=newest.ask_volume,
        bid_queue_quote=newest.bid_notional,
        bid_queue_orders=newest.bid_orders,
        ask_queue_quote=newest.ask_notional,
        ask_queue_orders=newest.ask_orders,
        bid_add_per_s_quote=_in_quote(bid_rates.add_per_s if bid_rates else None, state.bid),
        bid_cancel_per_s_quote=_in_quote(bid_rates.cancel_per_s if bid_rates else None, state.bid),
        ask_add_per_s_quote=_in_quote(ask_rates.add_per_s if ask_rates else None, state.ask),
        ask_cancel_per_s_quote=_in_quote(ask_rates.cancel_per_s if ask_rates else None, state.ask),
        bid_mean_age_s=newest.bid_mean_age_s,
        ask_mean_age_s=newest.ask_mean_age_s,
        bid_largest_share=newest.bid_largest_share,
        ask_largest_share=newest.ask_largest_share,
        l3_samples=len(medium),
        l3_age_s=(at_ns - newest.at_ns) / NS_PER_S,
    )


def _with_markouts(state: SymbolState, rows: SymbolRows, at_ns: int, windows: Windows) -> SymbolState:
    from_ns = window_from_ns(at_ns, windows.long_s)
    books = [row for row in rows_within(rows.books, at_ns, windows.raw_reach_s) if is_usable(row)]
    trades = rows_within(rows.trades, at_ns, windows.raw_reach_s)
    bid_5s, bid_30s, bid_300s, bid_1800s = (markout(trades, books, Side.BUY, h, from_ns) for h in MARKOUT_HORIZONS_S)
    ask_5s, ask_30s, ask_300s, ask_1800s = (markout(trades, books, Side.SELL, h, from_ns) for h in MARKOUT_HORIZONS_S)
    return evolve(
        state,
        bid_markout_5s_bps=bid_5s.mean_bps,
        bid_markout_30s_bps=bid_30s.mean_bps,
        bid_markout_300s_bps=bid_300s.mean_bps,
        bid_markout_1800s_bps=bid_1800s.mean_bps,
        ask_markout_5s_bps=ask_5s.mean_bps,
        ask_markout_30s_bps=ask_30s.mean_bps,
        ask_markout_300s_bps=ask_300s.mean_bps,
        ask_markout_1800s_bps=ask_1800s.mean_bps,
        bid_markout_count=bid_5s.count,
        ask_markout_count=ask_5s.count,
    )


def _with_norms(state: SymbolState, rows: SymbolRows, at_ns: int) -> SymbolState:
    as_of = norms_as_of(state.symbol, at_ns)
    minutes = [minute for minute in rows.minutes if as_of - NORM_MINUTES < minute.minute <= as_of]
    sigmas = [minute.sigma_bps for minute in minutes if minute.sigma_bps is not None]
    sigma_norm, sigma_mad = median_and_mad(sigmas, NORM_MINUTES_MIN)
    spread_norm, spread_mad = median_and_mad([minute.spread_bps for minute in minutes], NORM_MINUTES_MIN)
    return evolve(
        state,
        sigma_norm_bps=sigma_norm,
        sigma_mad_bps=sigma_mad,
        spread_norm_bps=spread_norm,
        spread_mad_bps=spread_mad,
        norm_minutes=len(minutes),
    )


def _with_quality(state: SymbolState, rows: SymbolRows, at_ns: int, windows: Windows) -> SymbolState:
    medium = rows_within(rows.books, at_ns, windows.medium_s)
    # Of tickers only the newest is kept, so that one which came after `at` is of age 0.
    ticker = max(rows.tickers, key=lambda row: row.received_at_ns, default=None)
    seconds = at_ns // NS_PER_S - window_from_ns(at_ns, windows.medium_s) // NS_PER_S + 1
    usable = len(grid_of(medium))
    return evolve(
        state,
        l2_samples=usable,
        gap_s=float(seconds - usable),
        trade_gaps=rows.trade_gaps,
        crossed_s=math.fsum(row.crossed_s for row in medium),
        invalid_s=math.fsum(row.invalid_s for row in medium),
        ticker_age_s=max(0.0, (at_ns - ticker.received_at_ns) / NS_PER_S) if ticker else None,
        volume_24h_quote=ticker.volume_24h * ticker.last if ticker else None,
        feature_complete=is_complete(rows, at_ns, windows, state.sigma_bps_sqrt_min),
    )


def _in_quote(base_per_s: float | None, price: float | None) -> float | None:
    return None if base_per_s is None or price is None else base_per_s * price
