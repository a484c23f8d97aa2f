"""Let makers trade on a venue as clients: own accounts, post-only orders, delays of a client both ways.

In: a flow and makers by name. Out: the fills of each maker, and the tapes to value them with. Every tenth of a
second each maker decides on what the venue shows; its orders arrive after a delay in and a delay out.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Mapping
from decimal import Decimal

from attrs import define, field, frozen

from krakenbot.adapters.local_exchange.digits import from_units
from krakenbot.adapters.local_exchange.flow.market import Side
from krakenbot.adapters.local_exchange.flow_check.listening import SilentListener
from krakenbot.adapters.local_exchange.flow_check.makers import WATCH_S, Maker, View
from krakenbot.adapters.local_exchange.flow_check.run import (
    NS,
    START_NS,
    WARM_UP_S,
    MakeFlow,
    open_venue,
    usd_per_lot_tick,
)
from krakenbot.adapters.local_exchange.flow_check.tape import SymbolTape, TapeRecorder
from krakenbot.adapters.local_exchange.latency import LatencySettings, Leg
from krakenbot.adapters.local_exchange.matching.accounts import Account, LedgerEntry
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, Fill, OrderRequest
from krakenbot.adapters.local_exchange.matching.venue import Venue

DECISION_NS = NS // 10
CLIP_USD = 60.0
DEEP_POCKETS = Decimal(10) ** 9
LATENCY = LatencySettings()
MakeMaker = Callable[[], Maker]


@frozen(kw_only=True)
class MakerFill:
    """One fill: `sign` is 1 when the maker bought."""

    at_s: float
    symbol: str
    sign: int
    price_ticks: int
    size_lots: int


@define(eq=False, kw_only=True)
class Client:
    """One maker in one symbol: its open orders and what it has sent and not yet seen arrive."""

    symbol: str
    maker: Maker
    account: Account
    clip_lots: int
    leg_in: Leg
    leg_out: Leg
    inventory_lots: int = 0
    orders: dict[Side, ClientOrder | None] = field(factory=lambda: {"buy": None, "sell": None})
    in_flight: dict[Side, bool] = field(factory=lambda: {"buy": False, "sell": False})

    def open_order(self, side: Side) -> ClientOrder | None:
        """Return the order that stands on a side; None when there is none."""
        order = self.orders[side]
        return order if order is not None and order.is_open else None


class Court(SilentListener):
    """A venue with its flow, its tape and the makers in it.

    A refusal needs no answer: the next view shows that nothing stands.
    """

    def __init__(self, venue: Venue, makers: Mapping[str, MakeMaker], seed: int) -> None:
        self._venue = venue
        self._start_ns = venue.now_ns
        self._commands: list[tuple[int, int, Client, Side, int | None]] = []
        self._sequence = 0
        self._recorder = TapeRecorder(
            venue, {symbol: usd_per_lot_tick(market.rules) for symbol, market in venue.markets.items()}
        )
        self.fills: dict[str, list[MakerFill]] = {name: [] for name in makers}
        self._clients: dict[tuple[str, str], Client] = {}
        for name, make_maker in makers.items():
            assets = {asset for market in venue.markets.values() for asset in (market.rules.base, market.rules.quote)}
            account = venue.open_account(name, dict.fromkeys(sorted(assets), DEEP_POCKETS))
            for symbol, market in venue.markets.items():
                self._clients[name, symbol] = Client(
                    symbol=symbol,
                    maker=make_maker(),
                    account=account,
                    clip_lots=clip_lots(market),
                    leg_in=Leg(LATENCY, f"{seed}/{name}/{symbol}/in"),
                    leg_out=Leg(LATENCY, f"{seed}/{name}/{symbol}/out"),
                )
        venue.listeners.append(self)

    def run(self, duration_s: int) -> dict[str, SymbolTape]:
        """Trade for so many seconds and return the tapes."""
        for step in range(1, duration_s * NS // DECISION_NS + 1):
            now_ns = self._start_ns + step * DECISION_NS
            while self._commands and self._commands[0][0] <= now_ns:
                due_ns, _, client, side, price_ticks = heapq.heappop(self._commands)
                self._venue.advance(due_ns)
                self._carry_out(client, side, price_ticks)
            self._venue.advance(now_ns)
            for client in self._clients.values():
                self._decide(client, now_ns)
        return self._recorder.close()

    def on_fill(
        self,
        order: ClientOrder,
        fill: Fill,
        entries: tuple[LedgerEntry, LedgerEntry],  # noqa: ARG002  # the listener's protocol
    ) -> None:
        """Note a maker's fill."""
        client = self._clients[order.account, fill.symbol]
        sign = 1 if fill.side == "buy" else -1
        client.inventory_lots += sign * fill.size_lots
        at_s = (fill.at_ns - self._start_ns) / NS
        self.fills[order.account].append(
            MakerFill(at_s=at_s, symbol=fill.symbol, sign=sign, price_ticks=fill.price_ticks, size_lots=fill.size_lots)
        )

    def _decide(self, client: Client, now_ns: int) -> None:
        view = self._view(client, now_ns)
        if view is None:
            return
        wish = client.maker.wish(view)
        wanted: tuple[tuple[Side, int | None], ...] = (("buy", wish.bid_ticks), ("sell", wish.ask_ticks))
        for side, price_ticks in wanted:
            order = client.open_order(side)
            standing = order.limit_ticks if order is not None else None
            if standing == price_ticks or client.in_flight[side]:
                continue
            client.in_flight[side] = True
            due_ns = client.leg_out.due_ns(client.leg_in.due_ns(now_ns))
            self._sequence += 1
            heapq.heappush(self._commands, (due_ns, self._sequence, client, side, price_ticks))

    def _carry_out(self, client: Client, side: Side, price_ticks: int | None) -> None:
        """Withdraw what stands and place what is wanted, as far as the venue agrees."""
        client.in_flight[side] = False
        order = client.open_order(side)
        if order is not None:
            self._venue.cancel_order(client.account, order.order_id, None)
        client.orders[side] = None
        if price_ticks is None:
            return
        rules = self._venue.markets[client.symbol].rules
        request = OrderRequest(
            symbol=client.symbol,
            side=side,
            order_type="limit",
            qty=from_units(client.clip_lots, rules.qty_precision),
            limit_price=from_units(price_ticks, rules.price_precision),
            post_only=True,
        )
        answer = self._venue.add_order(client.account, request)
        client.orders[side] = answer if isinstance(answer, ClientOrder) else None

    def _view(self, client: Client, now_ns: int) -> View | None:
        """Return what a maker sees; None while a side has nobody else."""
        market, takers = self._venue.markets[client.symbol], self._recorder.tapes[client.symbol].takers
        bid, ask = self._others_best(client, market, "buy"), self._others_best(client, market, "sell")
        if bid is None or ask is None:
            return None
        at_s = (now_ns - self._start_ns) / NS
        own_bid, own_ask = client.open_order("buy"), client.open_order("sell")
        return View(
            at_s=at_s,
            bid_ticks=bid,
            ask_ticks=ask,
            increment_ticks=market.rules.price_increment_ticks,
            own_bid_ticks=own_bid.limit_ticks if own_bid is not None else None,
            own_ask_ticks=own_ask.limit_ticks if own_ask is not None else None,
            inventory_clips=round(client.inventory_lots / client.clip_lots),
            taker_signs=tuple(takers.sign[bisect_right(takers.at_s, at_s - WATCH_S) :]),
        )

    @staticmethod
    def _others_best(client: Client, market: VenueMarket, side: Side) -> int | None:
        order = client.open_order(side)
        for price_ticks, size_lots in market.levels(side, 2):
            if order is None or order.limit_ticks != price_ticks or order.remaining_lots < size_lots:
                return price_ticks
        return None


def judge(
    make_flow: MakeFlow, makers: Mapping[str, MakeMaker], *, symbol_count: int, seed: int, duration_s: int
) -> tuple[dict[str, list[MakerFill]], dict[str, SymbolTape]]:
    """Run a flow with makers in it; return the fills by maker and the tapes by symbol."""
    venue = open_venue(make_flow, symbol_count=symbol_count, seed=seed)
    venue.advance(START_NS + WARM_UP_S * NS)
    court = Court(venue, makers, seed)
    tapes = court.run(duration_s)
    return court.fills, tapes


def clip_lots(market: VenueMarket) -> int:
    """Return the size of a maker's order: 60 US dollars at the touch, at least the minimum."""
    rules = market.rules
    price = market.best("buy") or market.best("sell") or 1
    lots = CLIP_USD / (usd_per_lot_tick(rules) * price)
    return max(rules.qty_min_lots, round(lots / rules.qty_increment_lots) * rules.qty_increment_lots)
