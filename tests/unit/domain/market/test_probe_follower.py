"""Probes in hand-made queues, one test for each way in which one ends, and for each cause of a change ahead."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from attrs import define, field
from tests.level3 import START, Order, whole_instrument

from krakenbot.domain.market.book import Verdict
from krakenbot.domain.market.freshness import utc_ns
from krakenbot.domain.market.probe import Causes, ProbeEnd, ProbeKind
from krakenbot.domain.market.probe_follower import ProbeFollower
from krakenbot.domain.market.queue import L3Book
from krakenbot.domain.market.trade import PublicTrade
from krakenbot.domain.values import NS_PER_S, Side, Symbol

SYMBOL = Symbol("ABC/USD")
INSTRUMENT = whole_instrument(SYMBOL)
START_NS = utc_ns(START)
MATCH_S = 1.0


@define
class Scene:
    """A book of bids at 100 (A 10, B 20, C 30) and 99 (D 40), asks at 104 (Z 50), and its follower."""

    now_s: float = 0.0
    bids: dict[int, dict[str, int]] = field(factory=lambda: {100: {"A": 10, "B": 20, "C": 30}, 99: {"D": 40}})
    asks: dict[int, dict[str, int]] = field(factory=lambda: {104: {"Z": 50}})
    book: L3Book = field(factory=lambda: L3Book(price_precision=0, qty_precision=0, depth=10))
    follower: ProbeFollower = field(factory=lambda: ProbeFollower(INSTRUMENT, MATCH_S))
    probes: int = 0

    def __attrs_post_init__(self) -> None:
        sides = [
            [
                Order(name, float(price), float(lots), START)
                for price, line in side.items()
                for name, lots in line.items()
            ]
            for side in (self.bids, self.asks)
        ]
        assert Verdict.GOOD is self.book.load(sides[0], sides[1], self.checksum(), self.at(), self.now_s)

    def at(self) -> str:
        return f"2026-11-22T10:{int(self.now_s) // 60:02d}:{self.now_s % 60:012.9f}Z"

    def checksum(self) -> int:
        lines = [*sorted(self.asks.items())[:10], *sorted(self.bids.items(), reverse=True)[:10]]
        return zlib.crc32("".join(f"{price}{lots}" for price, line in lines for lots in line.values()).encode())

    def join(self, side: Side = Side.BUY, kind: ProbeKind = ProbeKind.JOIN, size: int = 5) -> Any:
        self.probes += 1
        best = self.book.best(side) or 0
        return self.follower.start(
            self.book,
            probe_no=self.probes,
            kind=kind,
            side=side,
            size_quote=float(size * (best + (kind is ProbeKind.IMPROVE))),
            timeout_s=30.0,
            away_spread_share=0.5,
            now_mono=self.now_s,
        )

    def change(self, event: str, name: str, price: int, lots: int = 0, side: Side = Side.BUY) -> None:
        """Apply one change 0.1 s later, as a message of its own; a modify keeps its place."""
        self.now_s += 0.1
        levels = self.bids if side is Side.BUY else self.asks
        line = levels.setdefault(price, {})
        if event == "delete":
            del line[name]
            if not line:
                del levels[price]
        else:
            line[name] = lots
        order = Order(name, float(price), float(lots or 1), self.at(), event)
        changes = ([order], []) if side is Side.BUY else ([], [order])
        assert Verdict.GOOD is self.book.apply(*changes, self.checksum(), self.at(), self.now_s), (
            self.book.invalid_reason
        )
        self.follower.on_queue(self.book, self.now_s)

    def trade(self, price: int, lots: int, taker: Side = Side.SELL, ago_s: float = 0.0) -> None:
        at_ns = START_NS + round((self.now_s - ago_s) * NS_PER_S)
        trade = PublicTrade(symbol=SYMBOL, trade_id=1, side=taker, price_ticks=price, size_lots=lots, at_ns=at_ns)
        self.book.places.on_trade(trade)
        self.follower.on_trade(trade, self.now_s)

    def wait(self, duration_s: float = 2.5) -> list[Any]:
        self.now_s += duration_s
        return self.follower.step(self.book, self.now_s)


def ahead(probe: Any) -> int:
    return int(probe.place.ahead.lots)


def causes(probe: Any) -> tuple[int, int, int]:
    """Traded, cancelled, amended."""
    place = probe.place
    return (place.traded.lots, place.cancelled.lots, place.amended.lots)


def test_join_starts_behind_all_that_stands_at_the_touch():
    probe = Scene().join()

    assert (100.0, 6000.0, 3, 60) == (probe.price, probe.ahead_start_quote, probe.place.joined.orders, ahead(probe))
    assert "1000+" == probe.queue_bucket
    assert "USD/30+bps" == probe.symbol_group


def test_probe_is_consumed_when_trades_reach_past_all_that_stood_ahead():
    scene = Scene()
    probe = scene.join(size=5)
    scene.change("add", "E", 100, 9)
    for name, lots in (("A", 10), ("B", 20), ("C", 30)):
        scene.change("delete", name, 100)
        scene.trade(100, lots)
    scene.change("modify", "E", 100, 5)
    scene.trade(100, 4)
    first_at_ns = START_NS + round(scene.now_s * NS_PER_S)
    scene.change("modify", "E", 100, 3)
    scene.trade(100, 2)

    assert [probe] == scene.wait()
    assert ProbeEnd.CONSUMED is probe.end
    assert Causes(traded=60, cancelled=0, amended=0, unexplained=0) == probe.causes_lots
    assert first_at_ns == probe.first_fill_at_ns
    assert probe.rest_s == pytest.approx(0.6)
    assert (1.0, []) == (probe.filled_share, scene.follower.probes)
    assert 0 == len(scene.book.places)


def test_prints_that_come_before_the_book_count_the_same():
    scene = Scene()
    probe = scene.join(size=4)
    scene.change("add", "E", 100, 9)
    for name, lots in (("A", 10), ("B", 20), ("C", 30), ("E", 9)):
        scene.trade(100, lots, ago_s=-0.1)
        scene.change("delete", name, 100)

    assert [probe] == scene.wait()
    assert (ProbeEnd.CONSUMED, (60, 0, 0)) == (probe.end, causes(probe))


def test_cancels_alone_never_fill_a_probe():
    scene = Scene()
    probe = scene.join()
    for name in "ABC":
        scene.change("delete", name, 100)
    scene.change("add", "E", 100, 9)
    scene.change("delete", "E", 100)

    assert [] == scene.wait(6.0)
    assert (None, (0, 60, 0), 0) == (probe.end, causes(probe), ahead(probe))


def test_what_leaves_from_behind_one_that_stays_is_told_at_once_as_cancelled():
    scene = Scene()
    probe = scene.join()
    scene.change("delete", "B", 100)

    assert ((0, 20, 0), 40) == (causes(probe), ahead(probe))


def test_what_is_amended_ahead_counts_in_both_directions():
    scene = Scene()
    probe = scene.join()
    scene.change("modify", "B", 100, 14)
    scene.change("modify", "C", 100, 32)

    assert ((0, 0, 6 - 2), 56) == (causes(probe), ahead(probe))
    scene.change("modify", "A", 100, 7)
    scene.wait(6.0)
    assert ((0, 0, 7), 53) == (causes(probe), ahead(probe))


def test_order_that_moves_to_the_back_is_no_longer_ahead():
    scene = Scene()
    probe = scene.join()
    del scene.bids[100]["C"]
    scene.change("add", "C", 100, 30)

    assert (30, (0, 0, 30)) == (ahead(probe), causes(probe))


def test_one_print_for_several_orders_is_shared_by_volume():
    scene = Scene()
    probe = scene.join()
    scene.change("delete", "A", 100)
    scene.change("modify", "B", 100, 15)
    scene.trade(100, 12, ago_s=0.05)
    scene.wait(6.0)

    assert (12, 0, 3) == causes(probe)


def test_fill_that_is_explained_by_volume_ends_the_probe_at_the_time_of_its_trade():
    scene = Scene()
    probe = scene.join(size=5)
    scene.change("add", "E", 100, 9)
    for name in ("A", "B", "C", "E"):
        scene.change("delete", name, 100)
    scene.trade(100, 69, ago_s=0.0)
    scene.change("add", "F", 102, 1)
    before = probe.end
    scene.wait(1.5)

    assert (ProbeEnd.AWAY, ProbeEnd.CONSUMED) == (before, probe.end)
    assert probe.rest_s == pytest.approx(0.5)


def test_print_outside_the_time_to_match_is_no_cause():
    scene = Scene()
    probe = scene.join()
    scene.change("delete", "A", 100)
    scene.trade(100, 10, ago_s=1.5)
    scene.wait(6.0)

    assert (0, 10, 0) == causes(probe)


def test_trade_through_the_price_sweeps_the_probe():
    scene = Scene()
    probe = scene.join()
    scene.now_s += 1.0
    scene.trade(99, 3)

    assert [probe] == scene.wait()
    assert (ProbeEnd.SWEPT, 1.0) == (probe.end, probe.rest_s)
    assert 1.0 == probe.filled_share


def test_sweep_of_the_same_instant_counts_before_consumption():
    scene = Scene()
    probe: Any = scene.join(size=1)
    scene.change("add", "E", 100, 9)
    for name, lots in (("A", 10), ("B", 20), ("C", 30), ("E", 9)):
        scene.change("delete", name, 100)
        scene.trade(100, lots)
    before = probe.end
    scene.trade(99, 3)

    assert [probe] == scene.wait()
    assert [ProbeEnd.CONSUMED, ProbeEnd.SWEPT] == [before, probe.end]


def test_other_side_at_the_price_sweeps_the_probe():
    scene = Scene()
    probe = scene.join()
    for name in "ABC":
        scene.change("delete", name, 100)
    scene.change("add", "Y", 100, 7, side=Side.SELL)

    assert [probe] == scene.wait()
    assert ProbeEnd.SWEPT is probe.end


@pytest.mark.parametrize(("better", "end"), [(101, None), (102, ProbeEnd.AWAY)])
def test_market_leaves_a_probe_behind_by_half_the_spread(better, end):
    scene = Scene()
    probe = scene.join()
    scene.change("add", "E", better, 9)
    scene.wait()

    assert end is probe.end


def test_fill_that_is_learnt_of_late_counts_before_a_later_move_away():
    scene = Scene()
    probe = scene.join(size=5)
    scene.change("add", "E", 102, 9)
    assert ProbeEnd.AWAY is probe.end
    scene.trade(99, 3, ago_s=0.05)

    assert [probe] == scene.wait()
    assert (ProbeEnd.SWEPT, pytest.approx(0.05)) == (probe.end, probe.rest_s)


def test_trade_after_the_move_away_changes_nothing():
    scene = Scene()
    probe = scene.join()
    scene.change("add", "E", 102, 9)
    scene.now_s += 0.5
    scene.trade(99, 3)

    assert [probe] == scene.wait()
    assert ProbeEnd.AWAY is probe.end


def test_trade_before_the_start_is_no_fill():
    scene = Scene(now_s=5.0)
    probe = scene.join()
    scene.trade(99, 3, ago_s=1.0)
    scene.wait()

    assert probe.end is None


def test_probe_that_meets_no_end_ends_by_time_and_not_before():
    scene = Scene()
    probe = scene.join()
    assert [] == scene.wait(29.9)
    assert [] == scene.wait(0.2)

    assert [probe] == scene.wait(1.1)
    assert (ProbeEnd.TIMEOUT, 30.0) == (probe.end, probe.rest_s)


@pytest.mark.parametrize(("at_s", "end"), [(29.9, ProbeEnd.AWAY), (30.0, ProbeEnd.AWAY), (30.1, ProbeEnd.TIMEOUT)])
def test_move_at_the_instant_of_the_deadline_counts_before_it_also_when_told_later(at_s, end):
    scene = Scene()
    probe: Any = scene.join()
    scene.wait(30.05)
    assert ProbeEnd.TIMEOUT is probe.end
    # the message was sent earlier than the clock here says
    scene.now_s = at_s - 0.1
    scene.change("add", "E", 102, 9)

    assert (end, min(at_s, 30.0)) == (probe.end, probe.rest_s)


def test_lost_book_censors_what_had_no_end_and_leaves_the_others():
    scene = Scene()
    away = scene.join()
    scene.change("add", "E", 102, 9)
    resting = scene.join()
    ended = scene.follower.censor(scene.book, "book invalid: checksum mismatch", scene.now_s)

    assert [away, resting] == ended
    assert [ProbeEnd.AWAY, ProbeEnd.CENSORED] == [each.end for each in ended]
    assert ("book invalid: checksum mismatch", 0) == (resting.end_reason, len(scene.book.places))


def test_probes_of_one_level_are_told_apart_by_their_places():
    scene = Scene()
    first = scene.join(size=5)
    scene.change("add", "E", 100, 9)
    second = scene.join(size=5)
    for name, lots in (("A", 10), ("B", 20), ("C", 30), ("E", 9)):
        scene.change("delete", name, 100)
        scene.trade(100, lots)

    assert [first] == scene.wait()
    assert (60, 69) == (first.place.joined.lots, second.place.joined.lots)
    assert (ProbeEnd.CONSUMED, None) == (first.end, second.end)
    assert [(60, 0, 0), (69, 0, 0)] == [causes(first), causes(second)]


def test_sell_probe_is_the_mirror_of_a_buy():
    scene = Scene()
    swept, cut = scene.join(Side.SELL), scene.join(Side.SELL)
    scene.change("modify", "Z", 104, 20, side=Side.SELL)
    scene.trade(104, 30, Side.BUY)
    scene.trade(105, 1, Side.BUY)

    assert [swept, cut] == scene.wait()
    assert (ProbeEnd.SWEPT, (30, 0, 0), 20) == (swept.end, causes(swept), ahead(swept))
    other = Scene()
    behind = other.join(Side.SELL)
    other.change("add", "Y", 102, 7, side=Side.SELL)
    other.wait()
    assert ProbeEnd.AWAY is behind.end


def test_improve_is_a_level_of_its_own_that_the_first_takers_consume():
    scene = Scene()
    probe = scene.join(kind=ProbeKind.IMPROVE, size=5)
    assert (101.0, 0.0, "0") == (probe.price, probe.ahead_start_quote, probe.queue_bucket)
    scene.now_s += 1.0
    scene.trade(100, 3)
    assert (None, 0.6) == (probe.end, probe.filled_share)
    scene.trade(100, 3)

    assert [probe] == scene.wait()
    assert (ProbeEnd.CONSUMED, 1.0) == (probe.end, probe.rest_s)


def test_improve_needs_room_in_the_spread():
    scene = Scene()
    scene.change("add", "Y", 102, 7, side=Side.SELL)

    assert scene.join(kind=ProbeKind.IMPROVE) is None


def test_level_beyond_the_window_is_left_behind_not_cancelled():
    scene = Scene()
    wide = ProbeFollower(INSTRUMENT, MATCH_S)
    probe: Any = wide.start(
        scene.book,
        probe_no=1,
        kind=ProbeKind.JOIN,
        side=Side.SELL,
        size_quote=1.0,
        timeout_s=30.0,
        away_spread_share=100.0,
        now_mono=0.0,
    )
    scene.follower = wide
    for price in (103, 102, 101):
        scene.change("add", f"S{price}", price, 1, side=Side.SELL)
    assert probe.end is None
    for name in "ABC":
        scene.change("delete", name, 100)
    scene.change("delete", "D", 99)
    for price in range(100, 94, -1):
        scene.change("add", f"S{price}", price, 1, side=Side.SELL)
    assert probe.end is None
    # the eleventh level pushes the probe's out; the checksum covers ten
    scene.change("add", "S94", 94, 1, side=Side.SELL)

    assert "away" == str(probe.end)
    assert (0, 0, 0) == causes(probe)
