"""Makers trade as clients of a venue, and their fills are valued with clusters taken into account."""

from __future__ import annotations

from random import Random

import pytest

from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.flow_check.earnings import markout, profit, ratio
from krakenbot.adapters.local_exchange.flow_check.judging import Court, MakerFill, judge
from krakenbot.adapters.local_exchange.flow_check.makers import NaiveMaker, ReferenceMaker, View, Wish
from krakenbot.adapters.local_exchange.flow_check.run import open_venue
from krakenbot.adapters.local_exchange.flow_check.tape import SymbolTape
from krakenbot.adapters.local_exchange.matching.listeners import VenueListener

SYMBOL = "BTC/USD"


def view(**changes) -> View:
    figures = {
        "at_s": 100.0,
        "bid_ticks": 10_000,
        "ask_ticks": 10_200,
        "increment_ticks": 1,
        "own_bid_ticks": None,
        "own_ask_ticks": None,
        "inventory_clips": 0,
        "taker_signs": (),
    }
    return View(**{**figures, **changes})


def tape_with_mids(mids: list[tuple[float, int]], duration_s: float = 600.0) -> SymbolTape:
    tape = SymbolTape(symbol=SYMBOL, usd_per_lot_tick=0.01, duration_s=duration_s)
    for at_s, mid in mids:
        tape.quotes.at_s.append(at_s)
        tape.quotes.bid_ticks.append(mid - 10)
        tape.quotes.ask_ticks.append(mid + 10)
    return tape


def bought(at_s: float, price_ticks: int, sign: int = 1) -> MakerFill:
    return MakerFill(at_s=at_s, symbol=SYMBOL, sign=sign, price_ticks=price_ticks, size_lots=5)


def test_the_naive_maker_goes_up_with_the_bid_and_never_leaves_it():
    maker = NaiveMaker()

    assert 10_000 == maker.wish(view()).bid_ticks
    assert 10_050 == maker.wish(view(bid_ticks=10_050, own_bid_ticks=10_000)).bid_ticks
    assert 10_000 == maker.wish(view(bid_ticks=9_900, own_bid_ticks=10_000)).bid_ticks
    assert maker.wish(view()).ask_ticks is None


def test_the_reference_maker_quotes_inside_a_spread_that_pays_and_not_else():
    wide, tight = ReferenceMaker().wish(view()), ReferenceMaker().wish(view(ask_ticks=10_060))
    always = ReferenceMaker(needs_spread=False).wish(view(ask_ticks=10_002))

    assert (10_001, 10_199) == (wide.bid_ticks, wide.ask_ticks)
    assert (None, None) == (tight.bid_ticks, tight.ask_ticks)
    assert (10_000, 10_002) == (always.bid_ticks, always.ask_ticks)


@pytest.mark.parametrize(
    ("moves", "signs", "wanted"),
    [
        ((0, -30), (), (False, True)),
        ((0, 30), (), (True, False)),
        ((0, 0), (-1, -1, -1, -1), (False, True)),
        ((0, 0), (1, 1, 1, 1), (True, False)),
        ((0, 0), (1, -1, 1, 1), (True, True)),
    ],
)
def test_the_reference_maker_leaves_the_side_that_is_run_over(moves, signs, wanted):
    maker = ReferenceMaker()
    maker.wish(view(at_s=99.0, bid_ticks=10_000 + moves[0], ask_ticks=10_200 + moves[0]))
    wish = maker.wish(view(bid_ticks=10_000 + moves[1], ask_ticks=10_200 + moves[1], taker_signs=signs))
    later = maker.wish(view(at_s=112.0, bid_ticks=10_000 + moves[1], ask_ticks=10_200 + moves[1]))

    assert wanted == (wish.bid_ticks is not None, wish.ask_ticks is not None)
    assert None not in (later.bid_ticks, later.ask_ticks)


def test_the_reference_maker_keeps_its_inventory_limit():
    assert ReferenceMaker().wish(view(inventory_clips=3)).bid_ticks is None
    assert ReferenceMaker().wish(view(inventory_clips=-3)).ask_ticks is None


def test_a_markout_is_the_move_of_the_mid_less_the_fee():
    tape = tape_with_mids([(0.0, 1000), (50.0, 990), (100.0, 1020)])
    found = markout([bought(30.0, 1000), bought(590.0, 1000)], {SYMBOL: tape}, fee_bps=25.0)

    assert 1 == found.count
    assert found.value == pytest.approx(-125.0)


def test_a_round_trip_earns_its_difference_less_two_fees():
    tape = tape_with_mids([(0.0, 1000)])
    fills = [bought(10.0, 990), bought(20.0, 1010, sign=-1)]
    free, paid = (profit(fills, {SYMBOL: tape}, fee_bps=fee_bps) for fee_bps in (0.0, 25.0))

    assert free.value == pytest.approx(20 * 5 / (2000 * 5) * 10_000)
    assert paid.value == pytest.approx(free.value - 25.0)


def test_what_is_still_held_counts_at_the_mid_of_the_end():
    tape = tape_with_mids([(0.0, 1000), (300.0, 900)])
    found = profit([bought(10.0, 1000)], {SYMBOL: tape}, fee_bps=0.0)

    assert found.value == pytest.approx(-1000.0)


def test_t_of_independent_blocks_is_that_of_a_mean_and_clusters_lower_it():
    rng = Random(1)
    gains = [rng.gauss(0.2, 1) for _ in range(400)]
    single = ratio([(gain, 1) for gain in gains], count=400)
    doubled = ratio([(8 * gain, 8) for gain in gains], count=3200)
    mean = sum(gains) / 400
    error = (sum((gain - mean) ** 2 for gain in gains) / 400) ** 0.5 / 20

    assert single.t == pytest.approx(mean / error)
    assert doubled.t == pytest.approx(single.t)


@pytest.mark.parametrize(("make_maker", "signs"), [(NaiveMaker, {1}), (ReferenceMaker, {1, -1})])
def test_makers_trade_on_the_venue_with_those_who_take(make_maker, signs):
    fills, tapes = judge(
        lambda markets: SeededFlow(markets, profile="edge", seed=1), make_maker, symbol_count=1, seed=1, duration_s=120
    )
    takers = tapes[SYMBOL].takers
    taken = set(zip(takers.at_s, takers.sign, strict=True))

    assert len(fills) > 5
    assert signs == {fill.sign for fill in fills}
    assert all((fill.at_s, -fill.sign) in taken for fill in fills)


class Recorded(NaiveMaker):
    """A naive maker that keeps its views."""

    def __init__(self) -> None:
        self.views: list[View] = []

    def wish(self, view: View) -> Wish:
        self.views.append(view)
        return super().wish(view)


def test_orders_arrive_after_a_delay_and_are_seen_from_then_on():
    maker = Recorded()
    judge(
        lambda markets: SeededFlow(markets, profile="edge", seed=2), lambda: maker, symbol_count=1, seed=1, duration_s=5
    )

    assert [None] == [view.own_bid_ticks for view in maker.views[:1]]
    assert maker.views[3].own_bid_ticks is not None
    assert maker.views[3].own_bid_ticks == maker.views[0].bid_ticks


class Restless:
    """Move by a tick whenever it may: runs into the venue's limits."""

    def wish(self, view: View) -> Wish:
        return Wish(bid_ticks=view.bid_ticks - 1 - int(view.at_s * 10) % 2)


def test_a_maker_that_the_venue_refuses_keeps_one_order():
    venue = open_venue(lambda markets: SeededFlow(markets, profile="edge", seed=1), symbol_count=1, seed=1)
    refusals: list[str] = []
    court = Court(venue, Restless, 1)
    venue.listeners.append(RefusalCounter(refusals))
    court.run(120)
    (account,) = venue.accounts.values()

    assert len(refusals) > 3
    assert len(account.open_orders) <= 1


class RefusalCounter(VenueListener):
    def __init__(self, errors: list[str]) -> None:
        self._errors = errors

    def on_refusal(self, account, action, detail, error, now_ns) -> None:
        self._errors.append(error)
