"""One symbol's flow: its latent price, makers, noise takers, informed takers, and what they do to each other.

In: one `Market`, its parameters, a scheduler. Out: orders, cancels and trades in that market. The participants are in
modules of their own; here stand their order of events and what each of them is told.
"""

from __future__ import annotations

from random import Random

from krakenbot.adapters.local_exchange.flow.cascades import Cascades
from krakenbot.adapters.local_exchange.flow.client_reaction import ClientReaction
from krakenbot.adapters.local_exchange.flow.impact import Impact
from krakenbot.adapters.local_exchange.flow.informed_takers import InformedTakers
from krakenbot.adapters.local_exchange.flow.latent import CommonFactor, LatentPrice
from krakenbot.adapters.local_exchange.flow.makers import Makers
from krakenbot.adapters.local_exchange.flow.market import Market, Side
from krakenbot.adapters.local_exchange.flow.noise_takers import NoiseTakers
from krakenbot.adapters.local_exchange.flow.parameters import SymbolParameters
from krakenbot.adapters.local_exchange.flow.quotes import Quotes
from krakenbot.adapters.local_exchange.flow.timer import NS, Schedule, Timer


class SymbolFlow:
    """The participants of one market. `schedule(at_ns, callback, argument)` is how they come back."""

    def __init__(
        self,
        market: Market,
        *,
        parameters: SymbolParameters,
        price_ticks: float,
        lots_per_usd: float,
        factor: CommonFactor,
        cascades: Cascades,
        rng: Random,
        schedule: Schedule,
    ) -> None:
        self.parameters = parameters
        self.counts = {"add": 0, "cancel": 0, "noise": 0, "informed": 0}
        self.taken_lots: dict[Side, int] = {"buy": 0, "sell": 0}
        self.latent = LatentPrice(price_ticks=price_ticks, parameters=parameters, factor=factor, rng=rng)
        self._market = market
        self._rng = rng
        self._timer = timer = Timer(schedule)
        self._cascades = cascades
        self._quotes = quotes = Quotes(market, parameters=parameters, latent=self.latent, lots_per_usd=lots_per_usd)
        self._impact = Impact(quotes, parameters)
        self._clients = ClientReaction(market, parameters=parameters, quotes=quotes, rng=rng)
        self._makers = Makers(
            market,
            parameters=parameters,
            quotes=quotes,
            clients=self._clients,
            counts=self.counts,
            rng=rng,
            timer=timer,
        )
        self._noise = NoiseTakers(parameters, rng)
        self._informed = InformedTakers(
            market,
            parameters=parameters,
            quotes=quotes,
            counts=self.counts,
            take=self._take,
            on_jump=self._react,
            rng=rng,
            timer=timer,
        )
        self._opened_at_ns = 0

    def open(self, now_ns: int) -> None:
        """Fill the book around the latent price and start every participant."""
        self._makers.open(now_ns)
        self.start(now_ns)

    def start(self, now_ns: int) -> None:
        """Start every participant on the book as it stands."""
        self._opened_at_ns = now_ns
        self._timer.after(now_ns, self._rng.random() * self.latent.step_s, self._on_latent)
        self._makers.start(now_ns)
        self._informed.start(now_ns)
        self._schedule_taker(now_ns)
        self._schedule_cascade(now_ns, 0)

    def adopt(self, now_ns: int, side: Side, price_ticks: int, order_id: int) -> None:
        """Take over an order that already rests, and cancel it some day like any other."""
        self._makers.adopt(now_ns, side, price_ticks, order_id)

    def lots(self, usd: float) -> int:
        """Return a size worth so many US dollars at the latent price, at least the minimum."""
        return self._quotes.lots(usd)

    def _react(self, now_ns: int) -> None:
        self._makers.react(now_ns)
        self._informed.look_for_mispriced(now_ns)

    def _on_latent(self, now_ns: int, _: int) -> None:
        self.latent.step()
        self._impact.decay(self.latent.step_s)
        self._quotes.change_appetite(self._rng, self.latent.step_s)
        self._react(now_ns)
        self._timer.after(now_ns, self.latent.step_s, self._on_latent)

    # -- takers ----------------------------------------------------------------------------------------

    def _schedule_taker(self, now_ns: int) -> None:
        now_s = (now_ns - self._opened_at_ns) / NS
        self._timer.after(now_ns, self._noise.arrivals.next_after_s(now_s) - now_s, self._on_taker)

    def _on_taker(self, now_ns: int, _: int) -> None:
        """Trade in the direction of the move to come, or as noise."""
        if self._noise.arrivals.accepts((now_ns - self._opened_at_ns) / NS):
            ratio = self._noise.size_ratio()
            if self._informed.is_informed(ratio):
                side = self._informed.side()
                self.counts["informed"] += 1
            else:
                side = self._clients.draws_taker() or self._noise.side()
                self.counts["noise"] += 1
            self._take(now_ns, side, self._quotes.lots(ratio * self.parameters.taker_size_usd), None)
        self._schedule_taker(now_ns)

    def _take(self, now_ns: int, side: Side, size_lots: int, limit_ticks: int | None) -> None:
        """Trade and let everybody react."""
        traded = self._market.take(side, size_lots, limit_ticks=limit_ticks)
        if traded:
            self.taken_lots[side] += traded
            self._impact.add(side, traded / self._quotes.lots(self.parameters.taker_size_usd))
            self._react(now_ns)

    def _schedule_cascade(self, now_ns: int, index: int) -> None:
        """Join the next wave after a delay of this symbol's own, or leave it out."""
        cascade, numbers = self._cascades.cascade(index), self.parameters
        delay_s = cascade.at_s + self._rng.expovariate(1 / numbers.cascade_delay_s)
        joins = self._rng.random() < numbers.cascade_share
        due_s = max(0.0, delay_s - (now_ns - self._opened_at_ns) / NS)
        self._timer.after(now_ns, due_s, self._on_cascade if joins else self._schedule_cascade_after, index)

    def _schedule_cascade_after(self, now_ns: int, index: int) -> None:
        self._schedule_cascade(now_ns, index + 1)

    def _on_cascade(self, now_ns: int, index: int) -> None:
        cascade = self._cascades.cascade(index)
        arrivals = self.parameters.cascade_arrivals * cascade.strength
        self._noise.join_cascade((now_ns - self._opened_at_ns) / NS, cascade.side, arrivals)
        self._schedule_cascade(now_ns, index + 1)
