"""Bodies of Kraken's REST answers.

Enters: the bytes of an answer. Leaves: its result, or its errors; domain rows of instruments, balances, orders, fills
and fees. Called by rest.py and venue_query.py. Everything raises VenueProtocolError for what Kraken does not
document: a row left out of open orders or fills would be a proof of absence that proves nothing, so one bad row
refuses the whole answer. Only instruments are refused one by one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final, TypeVar

import msgspec
from attrs import field, frozen

from krakenbot.adapters.kraken.codec.envelope import BAD_INPUT, readable
from krakenbot.adapters.kraken.codec.private import Id, amount, bounded
from krakenbot.adapters.kraken.symbols import v2_asset, v2_symbol
from krakenbot.domain.errors import VenueProtocolError
from krakenbot.domain.execution.ledger import LedgerEntry
from krakenbot.domain.execution.reports import VenueBalance, VenueFill, VenueOrder
from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import Asset, ClOrdId, ExecId, Side, Symbol, VenueOrderId
from krakenbot.ports.venue_query import FeeRates

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BPS_PER_PERCENT: Final = 100
_STATUSES: Final = frozenset(status.value for status in InstrumentStatus)
# assets that REST writes with four letters; newer ones have one name everywhere
_FOUR_LETTER: Final = {
    **{f"X{name}": name for name in ["ETC", "ETH", "LTC", "MLN", "REP", "XBT", "XDG", "XLM", "XMR", "XRP", "ZEC"]},
    **{f"Z{name}": name for name in ["AUD", "CAD", "CHF", "EUR", "GBP", "JPY", "KRW", "USD"]},
}
_LIMIT_TYPES: Final = frozenset({"limit", "iceberg"})
_TRIGGER_TYPES: Final = frozenset({"stop-loss", "take-profit"})
_TRIGGER_LIMIT_TYPES: Final = frozenset({"stop-loss-limit", "take-profit-limit"})

_SUBTYPE_MAX: Final = 64

T = TypeVar("T")
Decimals = Annotated[int, msgspec.Meta(ge=0, le=24)]


@frozen(kw_only=True)
class Answer:
    """A decoded envelope: `result` is its JSON text, `errors` and `warnings` are the venue's strings."""

    result: msgspec.Raw = field(repr=False)
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


@frozen(kw_only=True)
class PairNames:
    """REST's names of pairs and assets as AssetPairs gave them; unknown names are kept as they are."""

    symbol_by_name: dict[str, Symbol] = field(factory=dict)
    rest_name_by_symbol: dict[Symbol, str] = field(factory=dict)
    asset_by_code: dict[str, Asset] = field(factory=dict)

    def symbol_of(self, name: str) -> Symbol:
        """Return the WS v2 symbol of a key, altname or wsname."""
        return self.symbol_by_name.get(name, Symbol(name))

    def asset_of(self, code: str) -> Asset:
        """Return the WS v2 asset of a REST code; a wallet suffix stays: "XBT.F" is not "BTC" that can be sold."""
        stem, dot, suffix = code.partition(".")
        asset = self.asset_by_code.get(stem) or v2_asset(_FOUR_LETTER.get(stem, stem))
        return Asset(f"{asset}{dot}{suffix}")


@frozen(kw_only=True)
class AssetPairs:
    """All tradable pairs; `refused` says which rows were left out and why."""

    instruments: tuple[Instrument, ...]
    names: PairNames
    refused: dict[str, str]


@frozen(kw_only=True)
class Page:
    """One page of a paged answer: its rows, and how many there are in all (None when the venue does not say)."""

    orders: tuple[VenueOrder, ...] = ()
    fills: tuple[VenueFill, ...] = ()
    entries: tuple[LedgerEntry, ...] = ()
    count: int | None = None

    @property
    def rows(self) -> int:
        """Return how many rows the page has."""
        return len(self.orders) + len(self.fills) + len(self.entries)


class _Envelope(msgspec.Struct):
    error: list[str] = []
    result: msgspec.Raw = msgspec.Raw()


class _Status(msgspec.Struct):
    status: str


class _Time(msgspec.Struct):
    unixtime: int


class _Token(msgspec.Struct):
    token: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class _PairRow(msgspec.Struct):
    altname: Id
    wsname: Id
    base: Id
    quote: Id
    pair_decimals: Decimals
    lot_decimals: Decimals
    cost_decimals: Decimals
    ordermin: Decimal
    costmin: Decimal
    tick_size: Decimal
    status: str


class _BalanceRow(msgspec.Struct):
    balance: Decimal
    hold_trade: Decimal = Decimal(0)
    credit: Decimal = Decimal(0)
    credit_used: Decimal = Decimal(0)


class _FeeRow(msgspec.Struct):
    fee: Decimal


class _TradeVolume(msgspec.Struct):
    fees: dict[str, _FeeRow] | None = None
    fees_maker: dict[str, _FeeRow] | None = None


class _Description(msgspec.Struct):
    pair: Id
    type: Side
    ordertype: str
    price: str = "0"
    price2: str = "0"


class _OrderRow(msgspec.Struct):
    status: str
    descr: _Description
    vol: Decimal
    vol_exec: Decimal
    opentm: Decimal | None = None
    closetm: Decimal | None = None
    cl_ord_id: Id | None = None
    reason: str | None = None


class _Open(msgspec.Struct):
    open: dict[Id, _OrderRow]


class _Closed(msgspec.Struct):
    closed: dict[Id, _OrderRow]
    count: int | None = None


class _TradeRow(msgspec.Struct):
    ordertxid: Id
    pair: Id
    time: Decimal
    type: Side
    price: Decimal
    vol: Decimal
    cost: Decimal
    fee: Decimal
    maker: bool = False


class _Trades(msgspec.Struct):
    trades: dict[Id, _TradeRow]
    count: int | None = None


class _LedgerRow(msgspec.Struct):
    refid: Id
    time: Decimal
    type: Id
    asset: Id
    amount: Decimal
    fee: Decimal
    balance: Decimal
    subtype: str = ""


class _Ledger(msgspec.Struct):
    ledger: dict[Id, _LedgerRow]
    count: int | None = None


def decode_answer(body: bytes) -> Answer:
    """Decode the envelope of an answer; HTML and cut JSON raise VenueProtocolError."""
    envelope = decode_as(body, _Envelope, "answer")
    warnings = tuple(text for text in envelope.error if text.startswith("W"))
    errors = tuple(text for text in envelope.error if not text.startswith("W"))
    return Answer(result=envelope.result, errors=errors, warnings=warnings)


def decode_system_status(result: msgspec.Raw) -> str:
    """Return the status word of SystemStatus."""
    return decode_as(result, _Status, "SystemStatus").status


def decode_time(result: msgspec.Raw) -> datetime:
    """Return the venue's time, in whole seconds."""
    return instant_of(Decimal(decode_as(result, _Time, "Time").unixtime))


def decode_token(result: msgspec.Raw) -> Secret:
    """Return the token of GetWebSocketsToken."""
    return Secret(decode_as(result, _Token, "GetWebSocketsToken").token)


def decode_asset_pairs(result: msgspec.Raw) -> AssetPairs:
    """Return all pairs of AssetPairs; raises VenueProtocolError when rows came and none can be used."""
    instruments: list[Instrument] = []
    refused: dict[str, str] = {}
    names = PairNames()
    rows = decode_as(result, dict[str, msgspec.Raw], "AssetPairs")
    for key, raw in rows.items():
        try:
            row = decode_as(raw, _PairRow, "AssetPairs")
            instrument = _instrument_of(row)
        except VenueProtocolError as error:
            refused[key] = str(error)
            continue
        instruments.append(instrument)
        names.rest_name_by_symbol[instrument.symbol] = row.altname
        names.asset_by_code.update({row.base: instrument.base, row.quote: instrument.quote})
        names.symbol_by_name.update(dict.fromkeys((key, row.altname, row.wsname), instrument.symbol))
    if rows and not instruments:
        raise VenueProtocolError(f"no row of AssetPairs can be used: {next(iter(refused.values()))}")
    return AssetPairs(instruments=tuple(instruments), names=names, refused=refused)


def decode_balances(result: msgspec.Raw, names: PairNames) -> dict[Asset, VenueBalance]:
    """Return all balances of BalanceEx by WS v2 asset."""
    balances: dict[Asset, VenueBalance] = {}
    for code, row in decode_as(result, dict[Id, _BalanceRow], "BalanceEx").items():
        asset = names.asset_of(code)
        before = balances.get(asset) or VenueBalance(asset=asset, balance=Decimal(0), held=Decimal(0))
        # available = balance + credit - credit_used - hold_trade, as Kraken states it
        held = bounded(row.hold_trade) + bounded(row.credit_used) - bounded(row.credit)
        balances[asset] = VenueBalance(
            asset=asset,
            balance=before.balance + bounded(row.balance),
            held=before.held + held,
        )
    return balances


def decode_fee_rates(result: msgspec.Raw, names: PairNames) -> dict[Symbol, FeeRates]:
    """Return the fees of TradeVolume; a pair without a maker fee pays the taker's for both."""
    volume = decode_as(result, _TradeVolume, "TradeVolume")
    makers = volume.fees_maker or {}
    return {
        names.symbol_of(name): FeeRates(
            maker_bps=bounded(makers.get(name, taker).fee) * _BPS_PER_PERCENT,
            taker_bps=bounded(taker.fee) * _BPS_PER_PERCENT,
        )
        for name, taker in (volume.fees or {}).items()
    }


def decode_open_orders(result: msgspec.Raw, names: PairNames) -> Page:
    """Return the rows of OpenOrders."""
    rows = decode_as(result, _Open, "OpenOrders").open
    return Page(orders=tuple(_order_of(order_id, row, names) for order_id, row in rows.items()))


def decode_closed_orders(result: msgspec.Raw, names: PairNames) -> Page:
    """Return one page of ClosedOrders, in the venue's order."""
    page = decode_as(result, _Closed, "ClosedOrders")
    orders = tuple(_order_of(order_id, row, names) for order_id, row in page.closed.items())
    return Page(orders=orders, count=page.count)


def decode_fills(result: msgspec.Raw, names: PairNames) -> Page:
    """Return one page of TradesHistory, in the venue's order."""
    page = decode_as(result, _Trades, "TradesHistory")
    fills = tuple(_fill_of(exec_id, row, names) for exec_id, row in page.trades.items())
    return Page(fills=fills, count=page.count)


def decode_ledgers(result: msgspec.Raw, names: PairNames) -> Page:
    """Return one page of Ledgers, in the venue's order."""
    page = decode_as(result, _Ledger, "Ledgers")
    entries = tuple(
        LedgerEntry(
            ledger_id=ledger_id,
            ref_id=row.refid,
            at=instant_of(row.time),
            kind=row.type,
            subtype=readable(row.subtype, _SUBTYPE_MAX),
            asset=names.asset_of(row.asset),
            amount=bounded(row.amount),
            fee=bounded(row.fee),
            balance=bounded(row.balance),
        )
        for ledger_id, row in page.ledger.items()
    )
    return Page(entries=entries, count=page.count)


def decode_as(text: bytes | msgspec.Raw, wanted: type[T], what: str) -> T:
    """Decode JSON into a type; raises VenueProtocolError, which names `what` and shows nothing of the text."""
    try:
        return msgspec.json.decode(text, type=wanted)
    except msgspec.ValidationError as error:
        # only the place: the text before it may quote a value
        raise VenueProtocolError(f"{what} not as documented: {str(error).rpartition(' - at ')[2]}") from None
    except BAD_INPUT:
        raise VenueProtocolError(f"{what} is not JSON") from None


def _instrument_of(row: _PairRow) -> Instrument:
    try:
        symbol = v2_symbol(row.wsname)
    except ValueError:
        raise VenueProtocolError("wsname has no two legs") from None
    base, _, quote = symbol.partition("/")
    tick_size = bounded(row.tick_size)
    if tick_size <= 0:
        raise VenueProtocolError("tick_size is not above zero")
    return Instrument(
        symbol=symbol,
        base=Asset(base),
        quote=Asset(quote),
        status=InstrumentStatus(row.status) if row.status in _STATUSES else InstrumentStatus.UNKNOWN,
        price_precision=row.pair_decimals,
        qty_precision=row.lot_decimals,
        cost_precision=row.cost_decimals,
        price_increment=tick_size,
        qty_increment=Decimal(1).scaleb(-row.lot_decimals),
        qty_min=bounded(row.ordermin),
        cost_min=bounded(row.costmin),
    )


def _order_of(order_id: str, row: _OrderRow, names: PairNames) -> VenueOrder:
    limit_price, trigger_price = _prices_of(row.descr)
    return VenueOrder(
        order_id=VenueOrderId(order_id),
        cl_ord_id=None if row.cl_ord_id is None else ClOrdId(row.cl_ord_id),
        symbol=names.symbol_of(row.descr.pair),
        side=row.descr.type,
        status=row.status,
        order_type=row.descr.ordertype,
        qty=amount(row.vol),
        cum_qty=amount(row.vol_exec),
        limit_price=limit_price,
        trigger_price=trigger_price,
        reason=row.reason,
        opened_at=instant_of(row.opentm) if row.opentm else None,
        closed_at=instant_of(row.closetm) if row.closetm else None,
    )


def _prices_of(descr: _Description) -> tuple[Decimal | None, Decimal | None]:
    """Return limit and trigger price; `price` is the trigger wherever there is one."""
    if descr.ordertype in _LIMIT_TYPES:
        return _price(descr.price), None
    if descr.ordertype in _TRIGGER_TYPES:
        return None, _price(descr.price)
    if descr.ordertype in _TRIGGER_LIMIT_TYPES:
        return _price(descr.price2), _price(descr.price)
    return None, None


def _price(text: str) -> Decimal | None:
    if text[:1] in {"+", "-", "#"} or text.endswith("%"):
        # a distance, not a price
        return None
    try:
        price = bounded(Decimal(text))
    except InvalidOperation:
        raise VenueProtocolError("price is not a number") from None
    return price or None


def _fill_of(exec_id: str, row: _TradeRow, names: PairNames) -> VenueFill:
    """Return a trade in our words.

    TradesHistory has no field for the asset of `fee`. It is the quote asset because every order of ours is sent with
    `fee_preference: quote` (order_gateway.py; the documented default of a sale is base, FACTS 12.1). The account
    keeper tells when the executions stream names another asset all the same, and the tie-out names a fee that the
    ledger took elsewhere.
    """
    symbol = names.symbol_of(row.pair)
    if bounded(row.vol) <= 0 or bounded(row.price) <= 0:
        raise VenueProtocolError("trade with a quantity or price that is not above zero")
    return VenueFill(
        exec_id=ExecId(exec_id),
        order_id=VenueOrderId(row.ordertxid),
        symbol=symbol,
        side=row.type,
        price=row.price,
        qty=row.vol,
        cost=amount(row.cost),
        fee=bounded(row.fee),
        # of a pair that is gone we do not know the quote asset's name
        fee_asset=Asset(symbol.partition("/")[2] or "unknown"),
        is_maker=row.maker,
        at=instant_of(row.time),
    )


def instant_of(seconds: Decimal) -> datetime:
    """Return the time of a Unix time in seconds; raises VenueProtocolError when it is out of range."""
    try:
        return _EPOCH + timedelta(microseconds=int(bounded(seconds) * 1_000_000))
    except OverflowError:
        raise VenueProtocolError("time is out of range") from None
