"""Public trades of the past over REST: implements `ports.trade_history`.

Enters: a symbol and a time. Leaves: up to 1000 trades after it. Called by the refill of trade gaps. Public calls are
counted per address, about one a second is safe (docs.kraken.com does not name a number): calls go one after the other,
`interval_s` apart. Rows are [price, volume, time, side, type, misc, trade_id]; one that is not like this refuses the
page, since a trade left out would look like one that never was.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Final

import anyio
import msgspec
from attrs import field, frozen, validators

from krakenbot.adapters.kraken.codec.envelope import BAD_INPUT
from krakenbot.adapters.kraken.codec.private import bounded
from krakenbot.adapters.kraken.codec.rest import PairNames, decode_asset_pairs
from krakenbot.adapters.kraken.rest import KrakenRest, readable
from krakenbot.domain.errors import VenueProtocolError, VenueRejected
from krakenbot.domain.market.samples import TradeSample
from krakenbot.domain.values import NS_PER_S, Side, Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.trade_history import TradePage

_PAGE_ROWS: Final = 1000
_SIDES: Final = {"b": Side.BUY, "s": Side.SELL}
_TradeId = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
_Row = tuple[str, str, Decimal, str, str, str, _TradeId]


@frozen(kw_only=True)
class TradeHistorySettings:
    """`interval_s` is the least time between two calls."""

    interval_s: float = field(default=1.0, validator=validators.ge(0))


class KrakenTradeHistory:
    """TradeHistory of Kraken; raises VenueUnavailable or VenueRejected."""

    def __init__(self, *, rest: KrakenRest, clock: Clock, settings: TradeHistorySettings) -> None:
        self._rest = rest
        self._clock = clock
        self._settings = settings
        self._names: PairNames | None = None
        self._in_turn = anyio.Lock()
        self._next_mono = 0.0

    async def page(self, symbol: Symbol, since_ns: int) -> TradePage:
        """Return the first trades after a time; waits for its turn."""
        async with self._in_turn:
            name = await self._rest_name(symbol)
            await self._wait_for_turn()
            result = await self._rest.public("Trades", {"pair": name, "since": str(since_ns)})
        received_at_ns = self._clock.now_ns()
        return readable(lambda raw: decode_trades(raw, symbol, since_ns, received_at_ns), result)

    async def _rest_name(self, symbol: Symbol) -> str:
        if self._names is None or symbol not in self._names.rest_name_by_symbol:
            await self._wait_for_turn()
            self._names = readable(decode_asset_pairs, await self._rest.public("AssetPairs")).names
        name = self._names.rest_name_by_symbol.get(symbol)
        if name is None:
            raise VenueRejected(f"the venue does not list {symbol}")
        return name

    async def _wait_for_turn(self) -> None:
        await self._clock.sleep(max(0.0, self._next_mono - self._clock.mono()))
        self._next_mono = self._clock.mono() + self._settings.interval_s


def decode_trades(result: msgspec.Raw, symbol: Symbol, since_ns: int, received_at_ns: int) -> TradePage:
    """Return a page of Trades; raises VenueProtocolError for what Kraken does not document."""
    try:
        answer = msgspec.json.decode(result, type=dict[str, msgspec.Raw])
        last = int(msgspec.json.decode(answer.pop("last"), type=str))
        (raw,) = answer.values()
        rows = msgspec.json.decode(raw, type=list[_Row])
    except (*BAD_INPUT, KeyError, ValueError):
        raise VenueProtocolError("Trades not as documented") from None
    trades = sorted((_trade_of(row, symbol, received_at_ns) for row in rows), key=lambda trade: trade.trade_id)
    # A page that is not full is the last one; one that does not move on would be asked for ever.
    has_more = len(rows) >= _PAGE_ROWS and last > since_ns
    return TradePage(trades=tuple(trades), next_since_ns=last if has_more else None)


def _trade_of(row: _Row, symbol: Symbol, received_at_ns: int) -> TradeSample:
    price, qty, at_s, side, _type, _misc, trade_id = row
    try:
        values = bounded(Decimal(price)), bounded(Decimal(qty))
        at_ns = int(bounded(at_s) * NS_PER_S)
    except (InvalidOperation, ValueError):
        raise VenueProtocolError("Trades not as documented: a number") from None
    if side not in _SIDES or values[0] <= 0 or values[1] <= 0:
        raise VenueProtocolError("Trades not as documented: side, price or volume")
    return TradeSample(
        symbol=symbol,
        trade_id=trade_id,
        side=_SIDES[side],
        price=values[0],
        qty=values[1],
        at_ns=at_ns,
        received_at_ns=received_at_ns,
    )
