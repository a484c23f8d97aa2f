"""Questions to Kraken over REST: implements `ports.venue_query`.

Enters: what the engine asks. Leaves: domain rows with WS v2 names. AssetPairs is read once for its names, and again
whenever instruments are asked for. All reads are safe to repeat.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import anyio
import msgspec
from attrs import Factory, define, frozen

from krakenbot.adapters.kraken.codec.rest import (
    AssetPairs,
    Page,
    PairNames,
    decode_asset_pairs,
    decode_balances,
    decode_closed_orders,
    decode_fee_rates,
    decode_fills,
    decode_ledgers,
    decode_open_orders,
    decode_system_status,
)
from krakenbot.adapters.kraken.ratelimit import rest_tier
from krakenbot.adapters.kraken.rest import KrakenRest, readable
from krakenbot.domain.errors import VenueUnavailable
from krakenbot.domain.execution.ledger import OVERLAP, LedgerEntry
from krakenbot.domain.execution.rate import AccountTier
from krakenbot.domain.execution.reports import VenueBalance, VenueFill, VenueOrder
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.values import Asset, Symbol
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.venue_query import FeeRates, QueryBudget

_PAGE_ROWS: Final = 50
_FEE_SYMBOLS: Final = 100


@frozen(kw_only=True)
class VenueQuerySettings:
    """`max_pages` of 50 rows bound a history; when more remain the read is refused, never cut short."""

    max_pages: int = 200


@define
class _Shelf:
    """What was read of the ledger since a time: the newest rows, down to the oldest entry or, if `is_whole`, all."""

    since: datetime
    entries: dict[str, LedgerEntry] = Factory(dict)
    is_whole: bool = False

    def move_to(self, since: datetime) -> None:
        """Forget what is older than a later time."""
        self.since = since
        self.entries = {name: entry for name, entry in self.entries.items() if entry.at >= since}
        self.is_whole = self.is_whole and bool(self.entries)

    def take(self, page: Page) -> None:
        """Keep the rows of a page that are young enough."""
        self.entries |= {entry.ledger_id: entry for entry in page.entries if entry.at >= self.since}


class KrakenVenueQuery:
    """Reads of one account; raises VenueUnavailable or VenueRejected."""

    def __init__(self, *, rest: KrakenRest, events: EventSink, settings: VenueQuerySettings) -> None:
        self._rest = rest
        self._sink = events
        self._settings = settings
        self._names: PairNames | None = None
        self._naming = anyio.Lock()
        self._shelf: _Shelf | None = None

    async def system_status(self) -> str:
        """Return online, post_only, cancel_only or maintenance."""
        return readable(decode_system_status, await self._rest.public("SystemStatus"))

    async def instruments(self) -> Sequence[Instrument]:
        """Return all instruments that REST describes in full; it does not say which have an index."""
        return (await self._asset_pairs()).instruments

    async def balances(self) -> dict[Asset, VenueBalance]:
        """Return all balances with holds; wallets other than spot keep their suffix, such as "BTC.F"."""
        names = await self._pair_names()
        return readable(partial(decode_balances, names=names), await self._rest.private("BalanceEx"))

    async def fee_rates(self, symbols: Sequence[Symbol]) -> dict[Symbol, FeeRates]:
        """Return the account's own fees; symbols that the venue does not list are left out."""
        names = await self._pair_names()
        known = [names.rest_name_by_symbol[symbol] for symbol in symbols if symbol in names.rest_name_by_symbol]
        rates: dict[Symbol, FeeRates] = {}
        for first in range(0, len(known), _FEE_SYMBOLS):
            params = {"pair": ",".join(known[first : first + _FEE_SYMBOLS])}
            result = await self._rest.private("TradeVolume", params)
            rates.update(readable(partial(decode_fee_rates, names=names), result))
        return rates

    async def open_orders(self) -> Sequence[VenueOrder]:
        """Return all open orders, untriggered stops included."""
        names = await self._pair_names()
        result = await self._rest.private("OpenOrders")
        return readable(partial(decode_open_orders, names=names), result).orders

    async def closed_orders(self, since: datetime) -> Sequence[VenueOrder]:
        """Return orders closed since a time, newest first."""
        names = await self._pair_names()
        pages = self._pages("ClosedOrders", since, partial(decode_closed_orders, names=names))
        return list({order.order_id: order async for page in pages for order in page.orders}.values())

    async def fills(self, since: datetime) -> Sequence[VenueFill]:
        """Return fills since a time, newest first."""
        names = await self._pair_names()
        pages = self._pages("TradesHistory", since, partial(decode_fills, names=names))
        return list({fill.exec_id: fill async for page in pages for fill in page.fills}.values())

    async def ledger(self, since: datetime) -> Sequence[LedgerEntry]:
        """Return the bookings of all assets since a time, in no order.

        A read that was broken off goes on where it ended, when it is asked for again since the same time or a later
        one; of what was read whole only the last `OVERLAP` is read again, where entries may still have appeared.
        """
        decode = partial(decode_ledgers, names=await self._pair_names())
        if self._shelf is None or self._shelf.since > since:
            self._shelf = _Shelf(since)
        shelf = self._shelf
        shelf.move_to(since)
        if shelf.entries and not shelf.is_whole:
            until = min(entry.at for entry in shelf.entries.values())
            async for page in self._pages("Ledgers", since, decode, until):
                shelf.take(page)
            shelf.is_whole = True
        if shelf.is_whole:
            newest = max(entry.at for entry in shelf.entries.values())
            # taken together: a part of them would leave a hole behind it
            for page in [page async for page in self._pages("Ledgers", max(since, newest - OVERLAP), decode)]:
                shelf.take(page)
        else:
            async for page in self._pages("Ledgers", since, decode):
                shelf.take(page)
            shelf.is_whole = bool(shelf.entries)
        return list(shelf.entries.values())

    @property
    def budget(self) -> QueryBudget:
        """Return where the REST counter stands."""
        counter, mono = self._rest.counter, self._rest.mono()
        return QueryBudget(points=counter.points(mono), threshold=counter.threshold, closed_s=counter.closed_s(mono))

    def set_tier(self, tier: AccountTier) -> None:
        """Count reads by the limits of another tier from now on."""
        self._rest.counter.set_tier(rest_tier(tier))

    async def _pages(
        self, endpoint: str, since: datetime, decode: Callable[[msgspec.Raw], Page], until: datetime | None = None
    ) -> AsyncIterator[Page]:
        """Read pages, newest first, until the venue has no more.

        Rows that arrive meanwhile shift older ones to later pages: some come twice, none is missed.
        """
        offset = 0
        # the venue's `start` excludes the time itself; a second earlier costs nothing, rows count by id
        window = {"start": str(int(since.timestamp()) - 1)}
        if until is not None:
            window["end"] = str(int(until.timestamp()) + 1)
        for _ in range(self._settings.max_pages):
            page = readable(decode, await self._rest.private(endpoint, {**window, "ofs": str(offset)}))
            yield page
            offset += page.rows
            is_last = page.rows < _PAGE_ROWS if page.count is None else offset >= page.count
            if is_last or not page.rows:
                return
        raise VenueUnavailable(f"{endpoint}: more than {offset} rows since {since.isoformat()}; ask for a later time")

    async def _pair_names(self) -> PairNames:
        async with self._naming:
            return self._names or (await self._asset_pairs()).names

    async def _asset_pairs(self) -> AssetPairs:
        pairs = readable(decode_asset_pairs, await self._rest.public("AssetPairs"))
        if pairs.refused:
            key, why = next(iter(pairs.refused.items()))
            self._sink.emit("instruments_refused", count=len(pairs.refused), example=key, why=why)
        self._names = pairs.names
        return pairs
