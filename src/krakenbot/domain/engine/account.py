"""The account: balances, fees, equity, and what the risk gate has to know of the last minute.

Enters: the venue's balances and fees, fills as they are booked. Leaves: the `AccountView` and `Fees` of a cycle, and
account snapshots. The user's other coins are never counted: equity is the configured quote asset and own positions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

import anyio

from krakenbot.domain.decision.views import AccountView, Fees, HeldPosition
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.errors import StoreUnavailable, VenueRejected, VenueUnavailable
from krakenbot.domain.execution.exits import sellable_qty
from krakenbot.domain.execution.fills import Fill, FillSource, assets_of
from krakenbot.domain.execution.funds import Funds, open_cost
from krakenbot.domain.execution.ledger import is_earn
from krakenbot.domain.execution.order import OrderRole, OrderState
from krakenbot.domain.execution.position import Position
from krakenbot.domain.values import Asset, ClOrdId, Side, Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.market_feed import MarketFeed
from krakenbot.ports.order_store import OrderStore
from krakenbot.ports.safety_store import SafetyStore
from krakenbot.ports.venue_query import VenueQuery

_MINUTE = timedelta(seconds=60)
_FEES_AGE_MAX_S = 3600.0
_FEE_SYMBOLS_MAX = 500
# Kraken's base tier (FACTS 16), until the account's own fees are known.
_TAKER_BPS = Decimal(40)


class AccountKeeper:
    """Keeps the account fresh and makes the cycle's view of it."""

    def __init__(
        self,
        *,
        clock: Clock,
        query: VenueQuery,
        market_feed: MarketFeed,
        order_store: OrderStore,
        safety_store: SafetyStore,
        recorder: Recorder,
        settings: ExecutionSettings,
        event_sink: EventSink,
    ) -> None:
        self._clock = clock
        self._query = query
        self._feed = market_feed
        self._store = order_store
        self._safety = safety_store
        self._recorder = recorder
        self._tracker = recorder.tracker
        self._settings = settings
        self._sink = event_sink
        self.funds = Funds()
        self._read_mono: float | None = None
        self._fees: dict[Symbol, Fees] = {}
        self._fees_wanted: set[Symbol] = set()
        self._fees_mono: float | None = None
        self._realized_today = Decimal(0)
        self._peak_pnl: Decimal | None = None
        self._entry_fills: deque[tuple[datetime, ClOrdId]] = deque(maxlen=1_000)
        self._unseen_at: datetime | None = None
        self.equity_quote: Decimal | None = None
        self.is_watching = False
        # Listeners: an asset changed without an own fill; and what the ledger does not explain, by asset.
        self.on_strange: list[Callable[[str], None]] = []
        self.untied: Callable[[], Mapping[Asset, str]] = dict

    @property
    def fees(self) -> dict[Symbol, Fees]:
        """Return the account's fees of the symbols that were asked for."""
        return self._fees

    @property
    def realized_today_quote(self) -> Decimal:
        """Return the day's realised profit and loss as last read."""
        return self._realized_today

    @property
    def pnl_quote(self) -> Decimal:
        """Return own profit and loss of all time: realised, and on paper at the bid (0 where it is not known)."""
        return self._realized_total() + self._unrealized()

    @property
    def peak_pnl_quote(self) -> Decimal:
        """Return the highest profit and loss so far, of earlier processes too, once the store has said it."""
        return self.pnl_quote if self._peak_pnl is None else self._peak_pnl

    @property
    def age_s(self) -> float | None:
        """Return seconds since balances and the day's result were last asked for and read; None before."""
        return None if self._read_mono is None else self._clock.mono() - self._read_mono

    def money(self) -> dict[str, object]:
        """Return own money, and by name what is not counted: Earn, dust, coins of others; exact texts."""
        quote = self._settings.quote_asset
        held = {assets_of(position.symbol)[0]: position for position in self._tracker.positions()}
        foreign, earn, dust = {}, {}, {}
        for asset in sorted(self.funds.balances):
            qty = self.funds.balance(asset)
            if is_earn(asset) and qty:
                earn[str(asset)] = f"{qty:f}"
            elif asset != quote:
                own_qty = held[asset].qty if asset in held else Decimal(0)
                if qty != own_qty:
                    foreign[str(asset)] = f"{qty - own_qty:f}"
        counted = {assets_of(position.symbol)[0] for position in self._counted()}
        for asset, position in sorted(held.items()):
            if asset not in counted:
                dust[str(asset)] = f"{position.qty:f}"
        return {
            "quote_balance": f"{self.funds.balance(quote):f}",
            "quote_available": f"{self._available(quote):f}",
            "not_counted": foreign,
            "earn": earn,
            "dust": dust,
        }

    def want_fees(self, symbols: Iterable[Symbol]) -> None:
        """Say which symbols' fees are needed; they come with the next refresh."""
        self._fees_wanted = set(symbols)

    def take(self, fill: Fill) -> None:
        """Take notice of a fill.

        A fee that the stream states in another asset than the quote asset, in which every order asks to pay it, is
        told: the trade history does not name the asset, and its fees are read as quote.
        """
        self.funds.take(fill)
        quote = assets_of(fill.symbol)[1]
        if fill.source == FillSource.STREAM and fill.fee_qty and fill.fee_asset != quote:
            self._sink.emit(
                "fee_asset_differs", symbol=fill.symbol, exec_id=fill.exec_id, fee_asset=fill.fee_asset, expected=quote
            )
        if fill.side is Side.BUY:
            self._entry_fills.append((fill.recorded_at, fill.cl_ord_id))
        if self.is_watching and fill.source == FillSource.QUERY:
            self._unseen_at = fill.recorded_at

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            done = await self.refresh()
            elapsed_s = 0.0
            interval_s = self._settings.account_interval_s if done else 2.0
            # New symbols in the universe have no fees yet, and without fees no entry.
            while elapsed_s < interval_s and not self._fees_are_due():
                await self._clock.sleep(0.5)
                elapsed_s += 0.5
            if not done:
                await self._clock.sleep(0.5)

    async def refresh(self) -> bool:
        """Read balances, fees that are due and the day's result; False when one of them did not answer."""
        at = self._clock.now()
        asked_mono = self._clock.mono()
        try:
            with anyio.fail_after(self._settings.query_timeout_s):
                await self._read_balances()
            with anyio.fail_after(self._settings.store_timeout_s):
                self._realized_today = await self._store.realized_since(
                    at.replace(hour=0, minute=0, second=0, microsecond=0)
                )
            # The limits need both: balances beside an old result of the day are not fresh.
            self._read_mono = asked_mono
            if self._fees_are_due():
                with anyio.fail_after(self._settings.query_timeout_s):
                    await self._refresh_fees()
            with anyio.fail_after(self._settings.store_timeout_s):
                balances = self.funds.balances
                owned = {asset: balance.balance for asset, balance in sorted(balances.items()) if balance.balance}
                await self._mind_peak()
                await self._store.record_account(
                    at, {str(asset): qty for asset, qty in owned.items()}, self._equity(), self._settings.venue_id
                )
        except (VenueUnavailable, VenueRejected, StoreUnavailable, TimeoutError) as error:
            self._sink.emit("account_not_refreshed", error=str(error))
            return False
        return True

    async def _read_balances(self) -> None:
        """Read balances; an asset that came or went without a fill of ours is asked about."""
        self.funds.begin_read(self._tracker.live())
        strange = self.funds.end_read(await self._query.balances())
        self.equity_quote = self._equity()
        if strange:
            for ask in self.on_strange:
                ask("balance")

    async def view(self) -> AccountView:
        """Return what the cycle may know of the account; raises StoreUnavailable when the database is away."""
        at = self._clock.now()
        with anyio.fail_after(self._settings.store_timeout_s):
            entries, _ = await self._store.entry_notional_since(at - _MINUTE)
            await self._mind_peak()
        quote = self._settings.quote_asset
        return AccountView(
            configured_quote={quote: self._settings.capital_limit_quote},
            balance_quote={quote: self.funds.balance(quote)},
            available_quote={quote: self._available(quote)},
            positions={p.symbol: HeldPosition(qty=p.qty, cost_quote=p.cost_quote) for p in self._counted()},
            open_entries=self._open_entries(),
            unknown_symbols=frozenset(o.symbol for o in self._tracker.live() if o.state is OrderState.UNKNOWN),
            realized_today_quote=self._realized_today,
            realized_total_quote=self._realized_total(),
            peak_pnl_quote=max(self.peak_pnl_quote, self.pnl_quote),
            entries_last_minute=entries,
            entry_fills_last_minute=len({cl for fill_at, cl in self._entry_fills if fill_at >= at - _MINUTE}),
            last_unseen_fill_age_s=None if self._unseen_at is None else (at - self._unseen_at).total_seconds(),
            untied=self.untied(),
        )

    async def _mind_peak(self) -> None:
        """Store a new peak, and take the stored one: it outlives this process, and a person may have begun it anew.

        A position whose bid is not known counts as lost here: what is only thought to be there makes no peak.
        """
        sure = self._realized_total() + self._unrealized(unknown_bid=Decimal(0))
        self._peak_pnl = await self._safety.raise_peak(self._settings.venue_id, sure)

    def _fees_are_due(self) -> bool:
        if not self._fees_wanted:
            return False
        age_s = None if self._fees_mono is None else self._clock.mono() - self._fees_mono
        return age_s is None or age_s > _FEES_AGE_MAX_S or not self._fees_wanted <= set(self._fees)

    async def _refresh_fees(self) -> None:
        wanted = sorted(self._fees_wanted)[:_FEE_SYMBOLS_MAX]
        rates = await self._query.fee_rates(wanted)
        self._fees = self._fees | {
            symbol: Fees(maker_bps=rate.maker_bps, taker_bps=rate.taker_bps) for symbol, rate in rates.items()
        }
        self._fees_mono = self._clock.mono()
        missing = set(wanted) - set(rates)
        if missing:
            # What the venue has no fee for is not asked again until the symbols change.
            self._fees_wanted -= missing
            self._sink.emit("fees_missing", symbols=sorted(missing))

    def _available(self, quote: Asset) -> Decimal:
        """Return free money, with the dearest fee that is known on what is reserved."""
        taker_bps = max((fees.taker_bps for fees in self._fees.values()), default=_TAKER_BPS)
        return self.funds.available(quote, self._tracker.live(), taker_bps)

    def _counted(self) -> list[Position]:
        """Return own positions; dust that no order can sell is not one, in no sum of the account."""
        instruments = self._feed.instruments()
        found = []
        for position in self._tracker.positions():
            instrument = instruments.get(position.symbol)
            price = position.average_price or Decimal(0)
            if instrument is None or sellable_qty(instrument, position.qty, price):
                found.append(position)
        return found

    def _open_entries(self) -> dict[Symbol, Decimal]:
        """Return the notional of entries that may still fill: open, in flight, unknown."""
        notionals: dict[Symbol, Decimal] = {}
        for order in self._tracker.live():
            if order.role is OrderRole.ENTRY:
                notionals[order.symbol] = notionals.get(order.symbol, Decimal(0)) + open_cost(order)
        return notionals

    def _equity(self) -> Decimal:
        quote = self._settings.quote_asset
        total = self.funds.balance(quote)
        for position in self._counted():
            if assets_of(position.symbol)[1] == quote:
                total += position.qty * (self._bid(position.symbol) or position.average_price or Decimal(0))
        return max(Decimal(0), min(self._settings.capital_limit_quote, total))

    def _realized_total(self) -> Decimal:
        return self._tracker.realized_quote(self._settings.quote_asset)

    def _unrealized(self, unknown_bid: Decimal | None = None) -> Decimal:
        """Return profit on paper; a position without a bid is taken at `unknown_bid`, or left out."""
        total = Decimal(0)
        for position in self._counted():
            bid = self._bid(position.symbol)
            bid = unknown_bid if bid is None else bid
            if bid is not None and assets_of(position.symbol)[1] == self._settings.quote_asset:
                total += position.qty * bid - position.cost_quote
        return total

    def _bid(self, symbol: Symbol) -> Decimal | None:
        book, instrument = self._feed.book(symbol), self._feed.instruments().get(symbol)
        bid = None if book is None or not book.is_valid else book.best_bid()
        return None if bid is None or instrument is None else instrument.price_of(bid[0])
