"""Run the exchange: accept, match, amend, cancel, trigger and expire orders, and settle their money.

Servers call the commands with the time of arrival; `advance` carries the flow, expiries, the index and dead
man's switches up to a time. Listeners hear of everything as it happens. Same calls, same result.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal

from krakenbot.adapters.local_exchange.digits import venue_id
from krakenbot.adapters.local_exchange.flow.market import Flow, InstrumentRules
from krakenbot.adapters.local_exchange.matching import amending, checks, settlement, triggers
from krakenbot.adapters.local_exchange.matching.accounts import Account
from krakenbot.adapters.local_exchange.matching.activation import StopDesk
from krakenbot.adapters.local_exchange.matching.admission import admit
from krakenbot.adapters.local_exchange.matching.book import Changes, RestingOrder, Trade
from krakenbot.adapters.local_exchange.matching.endings import NEVER, Endings
from krakenbot.adapters.local_exchange.matching.fees import FeeBook, FeeFigures, Rates
from krakenbot.adapters.local_exchange.matching.listeners import OrderEvent, Refusal, Validated, VenueListener
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import AmendRequest, ClientOrder, OrderRequest
from krakenbot.adapters.local_exchange.matching.rate_counter import ADD_POINTS, CANCEL_AGES, age_points
from krakenbot.adapters.local_exchange.matching.settings import VenueSettings
from krakenbot.adapters.local_exchange.matching.tiers import Tier

__all__ = ["OrderEvent", "Refusal", "Validated", "Venue", "VenueListener", "VenueSettings"]

INDEX_EVERY_NS: Final = 250_000_000
ZERO: Final = Decimal(0)
MATCHING_STATUSES: Final = frozenset({"online", "limit_only", "reduce_only"})


class Venue:
    """All markets, all accounts, one clock handed in."""

    def __init__(self, instruments: dict[str, InstrumentRules], settings: VenueSettings) -> None:
        unlisted = sorted(set(settings.pair_fees) - set(instruments))
        if unlisted:
            raise ValueError(
                f"fees are given for {', '.join(unlisted)}, not listed here: name another pair in --pair-fee, "
                "or list more with --symbols"
            )
        self.settings = settings
        self.now_ns = 0
        self.system = "online"
        self.markets = {symbol: VenueMarket(rules, self) for symbol, rules in instruments.items()}
        self.accounts: dict[str, Account] = {}
        self.listeners: list[VenueListener] = []
        self.flow: Flow | None = None
        flat = Rates(settings.maker_ppm, settings.taker_ppm) if settings.fees == "flat" else None
        self.fee_book = FeeBook(flat, dict(settings.pair_fees))
        self._numbers = {"order": 0, "exec": 0, "ledger": 0, "amend": 0, "transfer": 0}
        self._next_index_ns = 0
        self.stops = StopDesk(self)
        self.endings = Endings(self)
        self._flow_behind_ns = 0
        self._flow_stopped_ns: int | None = None
        for market in self.markets.values():
            self.gate(market)

    def open_account(
        self, name: str, balances: dict[str, Decimal], *, tier: Tier = Tier.PRO, volume_usd: Decimal = ZERO
    ) -> Account:
        """Open an account with its first deposits; `volume_usd` counts as traded at the opening."""
        account = Account(
            name=name,
            stop_holds=self.settings.stop_holds,
            tier=tier,
            balances=dict(balances),
            keep_closed=self.settings.keep_closed,
        )
        account.volume.add(volume_usd, self.now_ns)
        self.accounts[name] = account
        return account

    def open(self, flow: Flow, now_ns: int) -> None:
        """Build the opening books and let time begin."""
        self.now_ns = now_ns
        self.flow = flow
        for account in self.accounts.values():
            account.volume.restart(now_ns)
        for symbol, market in self.markets.items():
            market.stats.open(flow.last_price_ticks(symbol))
        flow.open(now_ns)
        for market in self.markets.values():
            market.sample_index()
        self._next_index_ns = now_ns + INDEX_EVERY_NS

    def next_at_ns(self) -> int:
        """Return when something is due by itself; in maintenance nothing but the index moves."""
        return min(self._next_index_ns or NEVER, self.flow_next_at_ns(), self.endings.next_ns())

    def flow_next_at_ns(self) -> int:
        """Return when the flow's next event is due; never, while the flow stands still."""
        if self.flow is None or self._flow_stopped_ns is not None:
            return NEVER
        return self.flow.next_at_ns() + self._flow_behind_ns

    def advance(self, now_ns: int, *, max_steps: int = NEVER) -> bool:
        """Carry out what is due at or before `now_ns` in order of time; False when `max_steps` ran out."""
        steps = 0
        while (due := self.next_at_ns()) <= now_ns:
            if steps >= max_steps:
                return False
            steps += 1
            self.now_ns = max(self.now_ns, due)
            self._run_due()
        self.now_ns = max(self.now_ns, now_ns)
        return True

    def add_order(self, account: Account, request: OrderRequest) -> ClientOrder | Validated | Refusal:
        """Accept, match and rest an order, or refuse it in the venue's words."""
        detail = checks.describe(request)
        market = self.markets.get(request.symbol)
        if market is None:
            return self.refuse(account, "add_order", detail, checks.UNKNOWN_SYMBOL)
        if not self.charge(account, market, ADD_POINTS):
            return self.refuse(account, "add_order", detail, checks.RATE_LIMIT)
        order = admit(
            account,
            market,
            request,
            self.settings,
            system=self.system,
            number=self._numbers["order"] + 1,
            rates=self.rates(account, market),
            now_ns=self.now_ns,
        )
        if isinstance(order, str):
            return self.refuse(account, "add_order", detail, order)
        if request.validate:
            return Validated()
        self.next_number()
        self._open(account, order)
        if order.waits_for_trigger:
            market.stops[order.order_id] = order
            self.stops.fire(market)
        else:
            self.work(market, order)
        return order

    def amend_order(self, account: Account, request: AmendRequest) -> tuple[str, ClientOrder] | Refusal:
        """Change an open order in place; return the amend id and the order, or the refusal."""
        order = self._find(account, request.order_id, request.cl_ord_id)
        error = checks.UNKNOWN_ORDER if order is None else amending.amend(self, account, order, request)
        if order is None or error is not None:
            return self.refuse(account, "amend_order", checks.describe(request), error or checks.UNKNOWN_ORDER)
        return self.next_id("amend", "A"), order

    def cancel_order(self, account: Account, order_id: str | None, cl_ord_id: str | None) -> Refusal | ClientOrder:
        """Cancel one open order by either id."""
        order = self._find(account, order_id, cl_ord_id)
        error = checks.UNKNOWN_ORDER if order is None else None
        if order is not None:
            market = self.markets[order.rules.symbol]
            if self.in_maintenance(order):
                error = checks.UNAVAILABLE
            elif not self.charge(account, market, age_points(CANCEL_AGES, self.now_ns - order.changed_ns)):
                error = checks.RATE_LIMIT
        if order is None or error is not None:
            detail = {"order_id": order_id or "", "cl_ord_id": cl_ord_id or ""}
            return self.refuse(account, "cancel_order", detail, error or checks.UNKNOWN_ORDER)
        self.withdraw(order, checks.USER_REQUESTED)
        return order

    def cancel_all(self, account: Account) -> int | Refusal:
        """Cancel every open order of an account, untriggered stops too; return how many.

        Each counts like a cancel, but like a batch it is carried out beyond the threshold. Those of pairs in
        maintenance stay.
        """
        if self.system == "maintenance":
            return self.refuse(account, "cancel_all", {}, checks.UNAVAILABLE)
        orders = [order for order in account.open_orders.values() if not self.in_maintenance(order)]
        for order in orders:
            points = age_points(CANCEL_AGES, self.now_ns - order.changed_ns)
            account.counter(order.rules.symbol).charge(points, self.now_ns)
        for order in orders:
            self.withdraw(order, checks.USER_REQUESTED)
        return len(orders)

    def cancel_all_after(self, account: Account, timeout_s: int) -> int | Refusal | None:
        """Arm the dead man's switch of an account, or disarm it with 0; return when it fires."""
        if self.system == "maintenance":
            return self.refuse(account, "cancel_all_orders_after", {"timeout": str(timeout_s)}, checks.UNAVAILABLE)
        account.cancel_all_at_ns = self.now_ns + timeout_s * 1_000_000_000 if timeout_s else None
        return account.cancel_all_at_ns

    def rates(self, account: Account, market: VenueMarket) -> Rates:
        """Return what an account pays in a market now."""
        if account.fixed_rates is not None:
            return account.fixed_rates
        return self.fee_book.rates(market.rules, account.volume.at(self.now_ns))

    def fee_figures(self, account: Account, rules: InstrumentRules) -> tuple[FeeFigures, FeeFigures]:
        """Return what TradeVolume shows of a pair, for the maker and for the taker."""
        return self.fee_book.figures(rules, account.volume.at(self.now_ns), account.fixed_rates)

    def charge(self, account: Account, market: VenueMarket, points: int) -> bool:
        """Charge an account's transaction counter of a market; False, and nothing charged, beyond the threshold."""
        counter = account.counter(market.rules.symbol)
        if not counter.has_room(points, self.now_ns):
            return False
        counter.charge(points, self.now_ns)
        return True

    def in_maintenance(self, order: ClientOrder) -> bool:
        """Tell whether the engine or the pair of an order is in maintenance: nothing ends there until it is over."""
        return "maintenance" in (self.system, order.rules.status)

    def matches(self, market: VenueMarket) -> bool:
        """Tell whether a market trades in the present mode."""
        return self.system == "online" and market.rules.status in MATCHING_STATUSES

    def gate(self, market: VenueMarket) -> None:
        """Bring a market in line with the mode: the flow trades only where matching goes on."""
        market.is_matching = self.matches(market)

    def set_system(self, mode: str) -> None:
        """Change the engine's mode; the flow rests in every mode but online, and goes on where it stopped."""
        was_online = self.system == "online"
        self.system = mode
        for market in self.markets.values():
            self.gate(market)
        # Before any stop fires: what ended meanwhile must not trade.
        self.endings.end_due()
        if mode != "online":
            self._flow_stopped_ns = self.now_ns if was_online else self._flow_stopped_ns
            return
        if self._flow_stopped_ns is not None:
            self._flow_behind_ns += self.now_ns - self._flow_stopped_ns
            self._flow_stopped_ns = None
        for market in self.markets.values():
            self.stops.fire(market)

    def next_number(self) -> int:
        """Return a fresh order number."""
        self._numbers["order"] += 1
        return self._numbers["order"]

    def next_id(self, counter: str, prefix: str) -> str:
        """Return a fresh id of a kind."""
        self._numbers[counter] += 1
        return venue_id(prefix, self._numbers[counter], self.settings.seed)

    def order_id_of(self, resting: RestingOrder) -> str:
        """Return the id under which level3 shows an order."""
        if resting.client is not None:
            return resting.client.order_id
        if resting.shown_id is None:
            resting.shown_id = venue_id("O", resting.number, self.settings.seed)
        return resting.shown_id

    def publish(self, market: VenueMarket, changes: Changes) -> None:
        """Tell the listeners, then fire the stops that the trades reached."""
        for listener in self.listeners:
            listener.on_book(market, changes, self.now_ns)
        if changes.trades and market.stops:
            self.stops.fire(market, triggers.follow_trades(market, changes.trades))

    def settle(self, market: VenueMarket, trade: Trade, taker: ClientOrder | None, maker: RestingOrder) -> None:
        """Book a match for the clients in it."""
        if maker.client is not None:
            if maker.number not in market.book.orders:
                maker.client.resting = None
            self._fill(market, maker.client, trade, is_maker=True)
        if taker is not None:
            self._fill(market, taker, trade, is_maker=False)

    def self_trade(self, taker: ClientOrder, maker: ClientOrder) -> bool:
        """Apply self-trade prevention as the newer order asks; tell whether the taker goes on."""
        policy = taker.request.stp_type
        if policy in ("cancel_oldest", "cancel_both"):
            self.withdraw(maker, checks.STP_REASON, commit=False)
        if policy in ("cancel_newest", "cancel_both"):
            self.close(taker, "canceled", checks.STP_REASON)
            return False
        return True

    def work(self, market: VenueMarket, order: ClientOrder) -> None:
        """Match an active order and rest what remains."""
        if order.post_only and order.limit_ticks is not None and market.crosses(order.side, order.limit_ticks):
            self.withdraw(order, checks.POST_ONLY_REASON)
            return
        if order.request.time_in_force == "fok" and settlement.fillable_lots(market, order) < order.remaining_lots:
            self.close(order, "canceled", checks.FOK_REASON)
            return
        market.match(
            order.side,
            order.remaining_lots,
            order.limit_ticks,
            taker=order,
            order_type="market" if order.limit_ticks is None else "limit",
        )
        if order.is_open:
            if order.limit_ticks is None or order.request.time_in_force in ("ioc", "fok"):
                reason = checks.NO_LIQUIDITY if order.limit_ticks is None else checks.IOC_REASON
                self.close(order, "canceled", reason)
            else:
                order.resting = market.rest(
                    order.number, order.side, order.limit_ticks, order.remaining_lots, client=order
                )
        market.commit()

    def withdraw(
        self,
        order: ClientOrder,
        reason: str | None,
        *,
        status: Literal["canceled", "expired"] = "canceled",
        commit: bool = True,
    ) -> None:
        """End an open order wherever it stands; inside a match the match commits."""
        market = self.markets[order.rules.symbol]
        if order.resting is not None:
            market.book.remove(order.resting)
            order.resting = None
        self.close(order, status, reason)
        if commit:
            market.commit()

    def close(self, order: ClientOrder, status: Literal["filled", "canceled", "expired"], reason: str | None) -> None:
        """End an order that no longer rests."""
        order.status = status
        order.reason = reason
        order.closed_ns = self.now_ns
        self.markets[order.rules.symbol].stops.pop(order.order_id, None)
        self.accounts[order.account].close(order)
        self.tell(status, order)

    def tell(self, event: OrderEvent, order: ClientOrder) -> None:
        """Tell the listeners of an order's transition."""
        for listener in self.listeners:
            listener.on_order(event, order, self.now_ns)

    def refuse(self, account: Account, action: str, detail: dict[str, str], error: str) -> Refusal:
        """Tell the listeners of a refusal, its long texts cut, and return it."""
        detail = {name: text[: checks.MAX_DETAIL] for name, text in detail.items()}
        for listener in self.listeners:
            listener.on_refusal(account, action, detail, error, self.now_ns)
        return Refusal(error=error)

    def _run_due(self) -> None:
        now = self.now_ns
        self.endings.end_due()
        if self._next_index_ns and self._next_index_ns <= now:
            self._next_index_ns += INDEX_EVERY_NS
            for market in self.markets.values():
                market.sample_index()
                if market.stops:
                    self.stops.fire(market)
        if self.flow is not None and self.flow_next_at_ns() <= now:
            self.flow.step(now - self._flow_behind_ns)

    def _open(self, account: Account, order: ClientOrder) -> None:
        request = order.request
        account.open(order)
        if request.expire_at_ns is not None:
            self.endings.expire_at(order, request.expire_at_ns)
        self.tell("pending_new", order)
        order.status = "new"
        self.tell("new", order)

    def _fill(self, market: VenueMarket, order: ClientOrder, trade: Trade, *, is_maker: bool) -> None:
        account = self.accounts[order.account]
        fill, entries = settlement.settle_fill(
            account,
            order,
            trade,
            is_maker=is_maker,
            rates=self.rates(account, market),
            exec_id=self.next_id("exec", "T"),
            ledger_ids=(self.next_id("ledger", "L"), self.next_id("ledger", "L")),
        )
        account.volume.add(settlement.usd_value(self.markets, market.rules.quote, fill.cost), self.now_ns)
        for listener in self.listeners:
            listener.on_fill(order, fill, entries)
        if order.remaining_lots == 0:
            self.close(order, "filled", None)

    def _find(self, account: Account, order_id: str | None, cl_ord_id: str | None) -> ClientOrder | None:
        if order_id is not None:
            return account.open_orders.get(order_id)
        return account.open_by_cl_ord_id.get(cl_ord_id) if cl_ord_id is not None else None
