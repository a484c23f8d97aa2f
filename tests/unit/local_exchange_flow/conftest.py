"""A plain market with FIFO levels, and a run of simulated time over it."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Mapping

import pytest

from krakenbot.adapters.local_exchange.flow.instruments import choose_symbols, load_instruments
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules, Side

CLIENT_IDS_FROM = 1_000_000_000


class PlainMarket:
    """Implements `Market` with a list of sorted prices and an ordered dict per level."""

    def __init__(self, rules: InstrumentRules) -> None:
        self.rules = rules
        self.trades: list[tuple[Side, int, int, int]] = []
        self._levels: dict[Side, dict[int, OrderedDict[int, int]]] = {"buy": {}, "sell": {}}
        self._keys: dict[Side, list[int]] = {"buy": [], "sell": []}
        self._where: dict[int, tuple[Side, int]] = {}
        self._last_id = 0
        self._last_client_id = CLIENT_IDS_FROM

    def best(self, side: Side) -> int | None:
        keys = self._keys[side]
        return abs(keys[0]) if keys else None

    def levels(self, side: Side, count: int) -> list[tuple[int, int]]:
        return [(abs(key), self.size_at(side, abs(key))) for key in self._keys[side][:count]]

    def size_at(self, side: Side, price_ticks: int) -> int:
        return sum(self._levels[side].get(price_ticks, {}).values())

    def client_size_at(self, side: Side, price_ticks: int) -> int:
        level: Mapping[int, int] = self._levels[side].get(price_ticks, {})
        return sum(size for order_id, size in level.items() if order_id >= CLIENT_IDS_FROM)

    def place(self, side: Side, price_ticks: int, size_lots: int) -> int | None:
        self._last_id += 1
        return self._rest(self._last_id, side, price_ticks, size_lots)

    def place_client(self, side: Side, price_ticks: int, size_lots: int) -> int | None:
        self._last_client_id += 1
        return self._rest(self._last_client_id, side, price_ticks, size_lots)

    def take(self, side: Side, size_lots: int, *, limit_ticks: int | None = None) -> int:
        resting: Side = "sell" if side == "buy" else "buy"
        left = size_lots
        while left and (price := self.best(resting)) is not None:
            beyond = limit_ticks is not None and (price > limit_ticks if side == "buy" else price < limit_ticks)
            if beyond:
                break
            level = self._levels[resting][price]
            order_id, size = next(iter(level.items()))
            traded = min(left, size)
            left -= traded
            self.trades.append((side, price, traded, order_id))
            if traded == size:
                self.cancel(order_id)
            else:
                level[order_id] = size - traded
        return size_lots - left

    def cancel(self, order_id: int) -> bool:
        where = self._where.pop(order_id, None)
        if where is None:
            return False
        side, price = where
        level = self._levels[side][price]
        del level[order_id]
        if not level:
            del self._levels[side][price]
            keys = self._keys[side]
            del keys[bisect_left(keys, self._key(side, price))]
        return True

    def reduce(self, order_id: int, size_lots: int) -> bool:
        if order_id not in self._where:
            return False
        side, price = self._where[order_id]
        self._levels[side][price][order_id] = size_lots
        return True

    def remaining(self, order_id: int) -> int:
        if order_id not in self._where:
            return 0
        side, price = self._where[order_id]
        return self._levels[side][price][order_id]

    def ahead(self, order_id: int) -> int:
        if order_id not in self._where:
            return 0
        side, price = self._where[order_id]
        total = 0
        for other, size in self._levels[side][price].items():
            if other == order_id:
                break
            total += size
        return total

    def _rest(self, order_id: int, side: Side, price_ticks: int, size_lots: int) -> int | None:
        opposite = self.best("sell" if side == "buy" else "buy")
        if opposite is not None and (price_ticks >= opposite if side == "buy" else price_ticks <= opposite):
            return None
        if price_ticks not in self._levels[side]:
            self._levels[side][price_ticks] = OrderedDict()
            insort(self._keys[side], self._key(side, price_ticks))
        self._levels[side][price_ticks][order_id] = size_lots
        self._where[order_id] = (side, price_ticks)
        return order_id

    @staticmethod
    def _key(side: Side, price_ticks: int) -> int:
        return -price_ticks if side == "buy" else price_ticks


@pytest.fixture
def make_markets():
    """Return a function that makes empty markets for the first symbols of the fixed order."""

    def make(count: int) -> dict[str, PlainMarket]:
        rules = load_instruments()
        return {symbol: PlainMarket(rules[symbol]) for symbol in choose_symbols(count)}

    return make
