"""Let a maker trade on a venue as a client: an own account, post-only orders, delays of a client both ways.

In: a flow and a way to make the maker, once per symbol. Out: its fills, and the tapes to value them with. Every
tenth of a second it decides on what the venue shows; its orders arrive after a delay in and a delay out.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable
from decimal import Decimal

from attrs import define, field, frozen

from krakenbot.adapters.local_exchange.digits import from_units
from krakenbot.adapters.local_exchange.flow.market import Side
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
from krakenbot.adapters.local_exchange.matching.accounts import LedgerEntry
from krakenbot.adapters.local_exchange.matching.listeners import Refusal, VenueListener
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import AmendRequest, ClientOrder, Fill, OrderRequest
from krakenbot.adapters.local_exchange.matching.venue import Venue

DECISION_NS = NS // 10
REST_NS = NS
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
    """The maker in one symbol: its open orders, and until when a side waits for an answer or after a refusal."""

    symbol: str
    maker: Maker
    clip_lots: int
    leg_in: Leg
    leg_out: Leg
    inventory_lots: int = 0
    orders: dict[Side, ClientOrder | None] = field(factory=lambda: {"buy": None, "sell": None})
    waits_until_ns: dict[Side, int] = field(factory=lambda: {"buy": 0, "sell": 0})

    def open_order(self, side: Side) -> ClientOrder | None:
        """Return the order that stands on a side; None when there is none."""
        order = self.orders[side]
        return order if order is not None and order.is_open else None


class Court(VenueListener):
    """A venue with its flow, its tape and a maker in every symbol."""

    def __init__(self, venue: Venue, make_maker: MakeMaker, seed: int) -> None:
        self._venue = venue
        self._start_ns = venue.now_ns
        self._commands: list[tuple[int, int, Client, Side, int | None]] = []
        self._sequence = 0
        self._recorder = TapeRecorder(
            venue, {symbol: usd_per_lot_tick(market.rules) for symbol, market in venue.markets.items()}
        )
        self.fills: list[MakerFill] = []
        assets = {asset for market in venue.markets.values() for asset in (market.rules.base, market.rules.quote)}
        self._account = venue.open_account("maker", dict.fromkeys(sorted(assets), DEEP_POCKETS))
        self._clients = {
            symbol: Client(
                symbol=symbol,
                maker=make_maker(),
                clip_lots=clip_lots(market),
                leg_in=Leg(LATENCY, f"{seed}/{symbol}/in"),
                leg_out=Leg(LATENCY, f"{seed}/{symbol}/out"),
            )
            for symbol, market in venue.markets.items()
        }
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
        order: ClientOrder,  # noqa: ARG002  # as below
        fill: Fill,
        entries: tuple[LedgerEntry, LedgerEntry],  # noqa: ARG002  # the listener's protocol
    ) -> None:
        """Note a maker's fill."""
        client = self._clients[fill.symbol]
        sign = 1 if fill.side == "buy" else -1
        client.inventory_lots += sign * fill.size_lots
        at_s = (fill.at_ns - self._start_ns) / NS
        self.fills.append(
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
            if standing == price_ticks or now_ns < client.waits_until_ns[side]:
                continue
            due_ns = client.leg_out.due_ns(client.leg_in.due_ns(now_ns))
            client.waits_until_ns[side] = due_ns + 1
            self._sequence += 1
            heapq.heappush(self._commands, (due_ns, self._sequence, client, side, price_ticks))

    def _carry_out(self, client: Client, side: Side, price_ticks: int | None) -> None:
        """Add, amend or cancel; after a refusal the side rests for a second and stays as it is."""
        order = client.open_order(side)
        answer: object = None
        if order is None and price_ticks is not None:
            answer = self._venue.add_order(self._account, self._request(client, side, price_ticks))
            client.orders[side] = answer if isinstance(answer, ClientOrder) else None
        elif order is not None and price_ticks is not None:
            price = from_units(price_ticks, order.rules.price_precision)
            amendment = AmendRequest(order_id=order.order_id, limit_price=price, post_only=True)
            answer = self._venue.amend_order(self._account, amendment)
        elif order is not None:
            answer = self._venue.cancel_order(self._account, order.order_id, None)
        if isinstance(answer, Refusal):
            client.waits_until_ns[side] = self._venue.now_ns + REST_NS

    def _request(self, client: Client, side: Side, price_ticks: int) -> OrderRequest:
        rules = self._venue.markets[client.symbol].rules
        return OrderRequest(
            symbol=client.symbol,
            side=side,
            order_type="limit",
            qty=from_units(client.clip_lots, rules.qty_precision),
            limit_price=from_units(price_ticks, rules.price_precision),
            post_only=True,
        )

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
    make_flow: MakeFlow, make_maker: MakeMaker, *, symbol_count: int, seed: int, duration_s: int
) -> tuple[list[MakerFill], dict[str, SymbolTape]]:
    """Run a flow with a maker in it; return the fills and the tapes by symbol."""
    venue = open_venue(make_flow, symbol_count=symbol_count, seed=seed)
    venue.advance(START_NS + WARM_UP_S * NS)
    court = Court(venue, make_maker, seed)
    tapes = court.run(duration_s)
    return court.fills, tapes


def clip_lots(market: VenueMarket) -> int:
    """Return the size of a maker's order: 60 US dollars at the touch, at least the minimum."""
    rules = market.rules
    price = market.best("buy") or market.best("sell") or 1
    lots = CLIP_USD / (usd_per_lot_tick(rules) * price)
    return max(rules.qty_min_lots, round(lots / rules.qty_increment_lots) * rules.qty_increment_lots)
