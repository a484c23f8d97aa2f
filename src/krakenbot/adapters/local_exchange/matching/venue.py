"""Run the exchange: accept, match, amend, cancel, trigger and expire orders, and settle their money.

Servers call the commands with the time of arrival; `advance` carries the flow, expiries, the index and dead
man's switches up to a time. Listeners hear of everything as it happens. Same calls, same result.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal, Protocol

from attrs import frozen

from krakenbot.adapters.local_exchange.digits import venue_id
from krakenbot.adapters.local_exchange.flow.market import Flow, InstrumentRules
from krakenbot.adapters.local_exchange.matching import checks, settlement
from krakenbot.adapters.local_exchange.matching.accounts import Account, LedgerEntry, StopHolds
from krakenbot.adapters.local_exchange.matching.book import Changes, RestingOrder, Trade
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import AmendRequest, ClientOrder, Fill, OrderRequest

INDEX_EVERY_NS: Final = 250_000_000
NEVER: Final = 2**63 - 1
USER_REQUESTED: Final = "User requested"
POST_ONLY_REASON: Final = "Post only order"

OrderEvent = Literal["pending_new", "new", "filled", "canceled", "expired", "amended", "triggered"]


@frozen(kw_only=True)
class Refusal:
    """The venue's error text for a request that changed nothing."""

    error: str


@frozen(kw_only=True)
class Validated:
    """The answer to a request with `validate`: it would have been accepted."""


@frozen(kw_only=True)
class VenueSettings:
    """What is chosen, not documented: fee rates and the switches for UNCONFIRMED rules."""

    seed: int = 1
    maker_ppm: int = 2500
    taker_ppm: int = 4000
    stop_holds: StopHolds = StopHolds.RESERVE
    post_only_reject: Literal["error", "cancel"] = "error"


class VenueListener(Protocol):
    """Whoever must hear what happens, in order."""

    def on_book(self, market: VenueMarket, changes: Changes, now_ns: int) -> None:
        """Hear of one operation's changes to a book and its trades."""

    def on_order(self, event: OrderEvent, order: ClientOrder, now_ns: int) -> None:
        """Hear of a client order's transition."""

    def on_fill(self, order: ClientOrder, fill: Fill, entries: tuple[LedgerEntry, LedgerEntry]) -> None:
        """Hear of an execution and its two bookings."""

    def on_refusal(self, account: Account, action: str, detail: dict[str, str], error: str, now_ns: int) -> None:
        """Hear of a request that was refused."""


class Venue:
    """All markets, all accounts, one clock handed in."""

    def __init__(self, instruments: dict[str, InstrumentRules], settings: VenueSettings) -> None:
        self.settings = settings
        self.now_ns = 0
        self.system = "online"
        self.markets = {symbol: VenueMarket(rules, self) for symbol, rules in instruments.items()}
        self.accounts: dict[str, Account] = {}
        self.orders: dict[str, ClientOrder] = {}
        self.listeners: list[VenueListener] = []
        self.flow: Flow | None = None
        self._numbers = {"order": 0, "exec": 0, "ledger": 0, "amend": 0}
        self._expiring: dict[str, ClientOrder] = {}
        self._next_index_ns = 0
        self._is_triggering = False

    def open_account(self, name: str, balances: dict[str, Decimal]) -> Account:
        """Open an account with its first deposits."""
        account = Account(
            name=name,
            stop_holds=self.settings.stop_holds,
            maker_ppm=self.settings.maker_ppm,
            taker_ppm=self.settings.taker_ppm,
            balances=dict(balances),
        )
        self.accounts[name] = account
        return account

    def open(self, flow: Flow, now_ns: int) -> None:
        """Build the opening books and let time begin."""
        self.now_ns = now_ns
        self.flow = flow
        for symbol, market in self.markets.items():
            market.stats.open(flow.last_price_ticks(symbol))
        flow.open(now_ns)
        for market in self.markets.values():
            market.sample_index()
        self._next_index_ns = now_ns + INDEX_EVERY_NS

    def next_at_ns(self) -> int:
        """Return when something is due by itself."""
        due = [self._next_index_ns or NEVER, self.flow.next_at_ns() if self.flow else NEVER]
        due.extend(order.request.expire_at_ns or NEVER for order in self._expiring.values())
        due.extend(account.cancel_all_at_ns or NEVER for account in self.accounts.values())
        return min(due)

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
        order = self._admit(account, request)
        if isinstance(order, Refusal):
            self._refused(account, "add_order", checks.describe(request), order.error)
            return order
        if request.validate:
            return Validated()
        self.orders[order.order_id] = order
        account.orders[order.order_id] = order
        account.open_orders[order.order_id] = order
        if request.cl_ord_id is not None:
            account.open_by_cl_ord_id[request.cl_ord_id] = order
        if request.expire_at_ns is not None:
            self._expiring[order.order_id] = order
        self._tell("pending_new", order)
        order.status = "new"
        self._tell("new", order)
        market = self.markets[request.symbol]
        if order.waits_for_trigger:
            market.stops[order.order_id] = order
            self._fire_stops(market)
        else:
            self._work(market, order)
        return order

    def amend_order(self, account: Account, request: AmendRequest) -> tuple[str, ClientOrder] | Refusal:
        """Change an open order in place; return the amend id and the order, or the refusal."""
        order = self._find(account, request.order_id, request.cl_ord_id)
        detail = checks.describe(request)
        if order is None:
            return self._refused(account, "amend_order", detail, "EOrder:Unknown order")
        if request.deadline_at_ns is not None and self.now_ns > request.deadline_at_ns:
            return self._refused(account, "amend_order", detail, "EService:Deadline elapsed")
        change = checks.check_amend(order, request)
        if isinstance(change, str):
            return self._refused(account, "amend_order", detail, change)
        error = self._apply_amend(account, order, change, post_only=request.post_only)
        if error is not None:
            return self._refused(account, "amend_order", detail, error)
        return self._next_id("amend", "A"), order

    def cancel_order(self, account: Account, order_id: str | None, cl_ord_id: str | None) -> Refusal | ClientOrder:
        """Cancel one open order by either id."""
        order = self._find(account, order_id, cl_ord_id)
        if order is None:
            detail = {"order_id": order_id or "", "cl_ord_id": cl_ord_id or ""}
            return self._refused(account, "cancel_order", detail, "EOrder:Unknown order")
        self._withdraw(order, USER_REQUESTED)
        return order

    def cancel_all(self, account: Account) -> int:
        """Cancel every open order of an account; return how many."""
        orders = list(account.open_orders.values())
        for order in orders:
            self._withdraw(order, USER_REQUESTED)
        return len(orders)

    def cancel_all_after(self, account: Account, timeout_s: int) -> int | None:
        """Arm the dead man's switch of an account, or disarm it with 0; return when it fires."""
        account.cancel_all_at_ns = self.now_ns + timeout_s * 1_000_000_000 if timeout_s else None
        return account.cancel_all_at_ns

    def next_number(self) -> int:
        """Return a fresh order number."""
        self._numbers["order"] += 1
        return self._numbers["order"]

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
        if changes.trades:
            self._fire_stops(market)

    def settle(self, market: VenueMarket, trade: Trade, taker: ClientOrder | None, maker: RestingOrder) -> None:
        """Book a match for the clients in it."""
        if maker.client is not None:
            if maker.number not in market.book.orders:
                maker.client.resting = None
            self._fill(maker.client, trade, is_maker=True)
        if taker is not None:
            self._fill(taker, trade, is_maker=False)

    def self_trade(self, taker: ClientOrder, maker: ClientOrder) -> bool:
        """Apply self-trade prevention as the newer order asks; tell whether the taker goes on."""
        policy = taker.request.stp_type
        if policy in ("cancel_oldest", "cancel_both"):
            self._withdraw(maker, checks.STP_REASON, commit=False)
        if policy in ("cancel_newest", "cancel_both"):
            self._close(taker, "canceled", checks.STP_REASON)
            return False
        return True

    def _run_due(self) -> None:
        now = self.now_ns
        for order in [o for o in self._expiring.values() if (o.request.expire_at_ns or NEVER) <= now]:
            self._withdraw(order, None, status="expired")
        for account in self.accounts.values():
            if account.cancel_all_at_ns is not None and account.cancel_all_at_ns <= now:
                account.cancel_all_at_ns = None
                self.cancel_all(account)
        if self._next_index_ns and self._next_index_ns <= now:
            self._next_index_ns += INDEX_EVERY_NS
            for market in self.markets.values():
                market.sample_index()
                if market.stops:
                    self._fire_stops(market)
        if self.flow is not None and self.flow.next_at_ns() <= now:
            self.flow.step(now)

    def _admit(self, account: Account, request: OrderRequest) -> ClientOrder | Refusal:
        if request.deadline_at_ns is not None and self.now_ns > request.deadline_at_ns:
            return Refusal(error="EService:Deadline elapsed")
        market = self.markets.get(request.symbol)
        if market is None:
            return Refusal(error=checks.UNKNOWN_SYMBOL)
        error = checks.check_mode(self.system, market.rules.status, post_only=request.post_only)
        error = error or checks.check_shape(request, market.rules, self.now_ns)
        if error is None and request.cl_ord_id in account.open_by_cl_ord_id:
            error = checks.DUPLICATE_CL_ORD_ID
        figures = checks.figures(request, market.rules) if error is None else error
        if isinstance(figures, str):
            return Refusal(error=figures)
        qty_lots, limit_ticks, trigger_ticks = figures
        price = limit_ticks or trigger_ticks or market.best("sell" if request.side == "buy" else "buy")
        error = checks.check_minimums(market.rules, qty_lots, price)
        if error is not None:
            return Refusal(error=error)
        number = self._numbers["order"] + 1
        order = ClientOrder(
            order_id=venue_id("O", number, self.settings.seed),
            account=account.name,
            rules=market.rules,
            request=request,
            number=number,
            qty_lots=qty_lots,
            limit_ticks=limit_ticks,
            trigger_ticks=trigger_ticks,
            opened_ns=self.now_ns,
            changed_ns=self.now_ns,
            post_only=request.post_only,
        )
        if not settlement.can_pay(account, market, order):
            return Refusal(error="EOrder:Insufficient funds")
        crosses = limit_ticks is not None and market.crosses(request.side, limit_ticks)
        if order.post_only and crosses and self.settings.post_only_reject == "error":
            return Refusal(error="EOrder:Post only order")
        self.next_number()
        return order

    def _work(self, market: VenueMarket, order: ClientOrder) -> None:
        """Match an active order and rest what remains."""
        if order.post_only and order.limit_ticks is not None and market.crosses(order.side, order.limit_ticks):
            self._withdraw(order, POST_ONLY_REASON)
            return
        market.match(
            order.side,
            order.remaining_lots,
            order.limit_ticks,
            taker=order,
            order_type="market" if order.limit_ticks is None else "limit",
        )
        if order.is_open:
            if order.limit_ticks is None or order.request.time_in_force == "ioc":
                reason = checks.NO_LIQUIDITY if order.limit_ticks is None else checks.IOC_REASON
                self._close(order, "canceled", reason)
            else:
                order.resting = market.rest(
                    order.number, order.side, order.limit_ticks, order.remaining_lots, client=order
                )
        market.commit()

    def _fire_stops(self, market: VenueMarket) -> None:
        """Activate every waiting stop whose price is reached; each fires once, so this ends."""
        if self._is_triggering:
            return
        self._is_triggering = True
        try:
            while ready := [order for order in market.stops.values() if market.reached(order)]:
                for order in ready:
                    del market.stops[order.order_id]
                    if order.is_open:
                        self._activate(market, order)
        finally:
            self._is_triggering = False

    def _activate(self, market: VenueMarket, order: ClientOrder) -> None:
        order.is_triggered = True
        order.triggered_ns = self.now_ns
        self._tell("triggered", order)
        account = self.accounts[order.account]
        if self.settings.stop_holds is StopHolds.SHARED:
            rivals = [o for o in account.open_orders.values() if o.resting and o.rules is order.rules]
            for rival in rivals:
                if rival.side == order.side and not settlement.can_pay_at_trigger(account, market, order):
                    self._withdraw(rival, checks.SHARED_HOLD_REASON)
        if settlement.can_pay_at_trigger(account, market, order):
            self._work(market, order)
        else:
            self._close(order, "canceled", checks.FUNDS_REASON)

    def _apply_amend(
        self, account: Account, order: ClientOrder, change: checks.AmendFigures, *, post_only: bool
    ) -> str | None:
        market = self.markets[order.rules.symbol]
        before = (order.qty_lots, order.limit_ticks, order.trigger_ticks)
        if change.qty_lots <= order.filled_lots:
            order.qty_lots = order.filled_lots
            order.is_amended = True
            self._tell("amended", order)
            self._withdraw(order, USER_REQUESTED)
            return None
        moves = change.limit_ticks != order.limit_ticks
        crosses = moves and change.limit_ticks is not None and market.crosses(order.side, change.limit_ticks)
        if crosses and post_only and order.resting is not None:
            return "EOrder:Post only order"
        order.qty_lots, order.limit_ticks, order.trigger_ticks = (
            change.qty_lots,
            change.limit_ticks,
            change.trigger_ticks,
        )
        if not settlement.can_pay(account, market, order):
            order.qty_lots, order.limit_ticks, order.trigger_ticks = before
            return "EOrder:Insufficient funds"
        order.is_amended = True
        order.changed_ns = self.now_ns
        order.post_only = post_only
        self._requeue(market, order, keeps_place=not moves and order.qty_lots <= before[0])
        return None

    def _requeue(self, market: VenueMarket, order: ClientOrder, *, keeps_place: bool) -> None:
        """Bring the book in line with an amended order: a lower size keeps its place, else it goes back."""
        self._tell("amended", order)
        resting = order.resting
        if resting is None:
            self._fire_stops(market)
        elif keeps_place:
            if resting.remaining_lots != order.remaining_lots:
                market.book.shrink(resting, order.remaining_lots)
            market.commit()
        else:
            market.book.remove(resting)
            order.resting = None
            self._work(market, order)

    def _fill(self, order: ClientOrder, trade: Trade, *, is_maker: bool) -> None:
        fill, entries = settlement.settle_fill(
            self.accounts[order.account],
            order,
            trade,
            is_maker=is_maker,
            exec_id=self._next_id("exec", "T"),
            ledger_ids=(self._next_id("ledger", "L"), self._next_id("ledger", "L")),
        )
        for listener in self.listeners:
            listener.on_fill(order, fill, entries)
        if order.remaining_lots == 0:
            self._close(order, "filled", None)

    def _withdraw(
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
        self._close(order, status, reason)
        if commit:
            market.commit()

    def _close(self, order: ClientOrder, status: Literal["filled", "canceled", "expired"], reason: str | None) -> None:
        order.status = status
        order.reason = reason
        order.closed_ns = self.now_ns
        self.markets[order.rules.symbol].stops.pop(order.order_id, None)
        self._expiring.pop(order.order_id, None)
        self.accounts[order.account].close(order)
        self._tell(status, order)

    def _find(self, account: Account, order_id: str | None, cl_ord_id: str | None) -> ClientOrder | None:
        if order_id is not None:
            return account.open_orders.get(order_id)
        return account.open_by_cl_ord_id.get(cl_ord_id) if cl_ord_id is not None else None

    def _next_id(self, counter: str, prefix: str) -> str:
        self._numbers[counter] += 1
        return venue_id(prefix, self._numbers[counter], self.settings.seed)

    def _tell(self, event: OrderEvent, order: ClientOrder) -> None:
        for listener in self.listeners:
            listener.on_order(event, order, self.now_ns)

    def _refused(self, account: Account, action: str, detail: dict[str, str], error: str) -> Refusal:
        for listener in self.listeners:
            listener.on_refusal(account, action, detail, error, self.now_ns)
        return Refusal(error=error)
