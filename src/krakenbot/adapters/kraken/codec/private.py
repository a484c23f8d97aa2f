"""Text of the private WebSocket, both ways.

Enters: frames of ws-auth as received, and order rows. Leaves: typed messages, and the parameters of requests.
Called by protocol/private.py and order_gateway.py. Numbers become `Decimal` from their text; a number that no price
or quantity can be is refused. Errors name the place in the frame, never its content.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec
from attrs import frozen

from krakenbot.adapters.kraken.codec import envelope
from krakenbot.adapters.kraken.codec.envelope import BAD_INPUT
from krakenbot.domain.errors import VenueProtocolError
from krakenbot.domain.execution.reports import ExecType, ExecutionReport, Fee
from krakenbot.domain.values import Asset, ClOrdId, ExecId, Side, Symbol, VenueOrderId

_MAX_MAGNITUDE: Final = 30
_MAX_TEXT: Final = 256

# nothing that PostgreSQL or a terminal would choke on
Id = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f]{1,64}\Z")]
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]


class NotJsonError(VenueProtocolError):
    """Report a frame that is not JSON; the venue's proxy sends such text before it drops a connection."""


@frozen(kw_only=True)
class Reply:
    """The venue's answer to one request of ours.

    `req_id` is None when the venue did not echo one. `order_id` and `cl_ord_id` are None where the answer has none.
    `max_ratecount` comes with the acknowledgement of the executions channel.
    """

    method: str
    req_id: int | None
    is_success: bool
    error: str | None = None
    channel: str | None = None
    order_id: VenueOrderId | None = None
    cl_ord_id: ClOrdId | None = None
    max_ratecount: int | None = None


@frozen(kw_only=True)
class StatusMessage:
    """The venue's system status."""

    system: str


@frozen(kw_only=True)
class HeartbeatMessage:
    """The sign of life of a connection."""


@frozen(kw_only=True)
class ExecutionsMessage:
    """One frame of the executions channel; `faults` name the rows that could not be read."""

    is_snapshot: bool
    sequence: int | None
    reports: tuple[ExecutionReport, ...]
    faults: tuple[str, ...]


@frozen(kw_only=True)
class WalletAmount:
    """What a wallet of an asset holds; holds of open orders are not taken off."""

    asset: Asset
    wallet_type: str
    wallet_id: str
    amount: Decimal


@frozen(kw_only=True)
class BalancesMessage:
    """One frame of the balances channel; `faults` name the rows that could not be read."""

    is_snapshot: bool
    sequence: int | None
    amounts: tuple[WalletAmount, ...]
    faults: tuple[str, ...] = ()


@frozen(kw_only=True)
class ComplaintMessage:
    """An error that the venue ties to no request: a malformed request, too many messages."""

    text: str


@frozen(kw_only=True)
class UnknownMessage:
    """A frame of a channel or kind that we do not know."""

    name: str


PrivateMessage = (
    Reply | StatusMessage | HeartbeatMessage | ExecutionsMessage | BalancesMessage | ComplaintMessage | UnknownMessage
)


class _Frame(msgspec.Struct):
    channel: str | None = None
    method: str | None = None
    type: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    sequence: int | None = None
    success: bool | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: str | None = None
    msg_rate_error: str | None = msgspec.field(name="Error", default=None)
    req_id: int | str | None = None


class _Result(msgspec.Struct):
    channel: str | None = None
    order_id: Id | None = None
    cl_ord_id: Id | None = None
    maxratecount: int | None = None


class _StatusRow(msgspec.Struct):
    system: str


class _Triggers(msgspec.Struct):
    price: Decimal | None = None
    price_type: str = "static"
    status: str | None = None


class _FeeRow(msgspec.Struct):
    asset: Id
    qty: Decimal


class _ExecutionRow(msgspec.Struct):
    order_id: Id
    exec_type: ExecType
    timestamp: Timestamp
    cl_ord_id: Id | None = None
    symbol: Id | None = None
    side: Side | None = None
    order_type: str | None = None
    order_status: str | None = None
    order_qty: Decimal | None = None
    cum_qty: Decimal | None = None
    limit_price: Decimal | None = None
    limit_price_type: str = "static"
    triggers: _Triggers | None = None
    post_only: bool | None = None
    reason: str | None = None
    ratecount: Decimal | None = None
    exec_id: Id | None = None
    trade_id: int | None = None
    last_qty: Decimal | None = None
    last_price: Decimal | None = None
    cost: Decimal | None = None
    liquidity_ind: str | None = None
    fees: list[_FeeRow] = []


class _Wallet(msgspec.Struct):
    type: Id
    id: Id
    balance: Decimal


class _BalanceRow(msgspec.Struct):
    """A row of a snapshot (with `wallets`) or of an update (with the wallet beside the balance)."""

    asset: Id
    balance: Decimal
    wallets: list[_Wallet] = []
    wallet_type: Id = "spot"
    wallet_id: Id = "main"


_FRAME: Final = msgspec.json.Decoder(_Frame)
_RESULT: Final = msgspec.json.Decoder(_Result)
_ROWS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_STATUS: Final = msgspec.json.Decoder(list[_StatusRow])
_EXECUTION: Final = msgspec.json.Decoder(_ExecutionRow)
_BALANCE: Final = msgspec.json.Decoder(_BalanceRow)


def decode_frame(frame: str | bytes) -> PrivateMessage:
    """Decode one frame.

    Raises: NotJsonError for text that is not JSON; VenueProtocolError for JSON that is not what Kraken documents.
    """
    try:
        outer = _FRAME.decode(frame)
    except msgspec.ValidationError as error:
        raise VenueProtocolError(f"frame not as documented: {_place_of(error)}") from None
    except BAD_INPUT:
        raise NotJsonError("frame is not JSON") from None
    try:
        return _message_of(outer)
    except msgspec.ValidationError as error:
        raise VenueProtocolError(f"{_name_of(outer)} not as documented: {_place_of(error)}") from None
    except BAD_INPUT:
        raise VenueProtocolError(f"{_name_of(outer)} without its content") from None


def encode_request(method: str, params: Mapping[str, Any], req_id: int) -> str:
    """Return the text of a request; `Decimal` values become bare number tokens."""
    return envelope.encode_request(method, _wire_of(params), req_id)


def canonical_cl_ord_id(cl_ord_id: str) -> str:
    """Return the form in which two spellings of one id are equal.

    Kraken keeps UUIDs as integers and may return them with other case or dashes; free text is kept as it is.
    """
    bare = cl_ord_id.replace("-", "").lower()
    is_uuid = len(bare) == 32 and len(cl_ord_id) in {32, 36} and all(c in "0123456789abcdef" for c in bare)
    return bare if is_uuid else cl_ord_id


def _message_of(frame: _Frame) -> PrivateMessage:
    match frame.channel:
        case None:
            return _answer_of(frame)
        case "heartbeat":
            return HeartbeatMessage()
        case "status":
            rows = _STATUS.decode(frame.data)
            return StatusMessage(system=envelope.readable(rows[-1].system, _MAX_TEXT) if rows else "unknown")
        case "executions":
            return _executions_of(frame)
        case "balances":
            return _balances_of(frame)
        case other:
            return UnknownMessage(name=f"channel {envelope.readable(other, _MAX_TEXT)}")


def _answer_of(frame: _Frame) -> PrivateMessage:
    complaint = frame.msg_rate_error or (frame.error if frame.method in {None, "error"} else None)
    if complaint is not None:
        return ComplaintMessage(text=envelope.readable(complaint, _MAX_TEXT))
    if frame.method is None:
        return UnknownMessage(name="frame without channel and method")
    if frame.method != "pong" and frame.success is None:
        raise VenueProtocolError("reply without success")
    result = _RESULT.decode(frame.result) if bytes(frame.result) not in {b"", b"null"} else _Result()
    return Reply(
        method=envelope.readable(frame.method, _MAX_TEXT),
        req_id=frame.req_id if isinstance(frame.req_id, int) else None,
        is_success=frame.success is not False,
        error=None if frame.error is None else envelope.readable(frame.error, _MAX_TEXT),
        channel=result.channel,
        order_id=None if result.order_id is None else VenueOrderId(result.order_id),
        cl_ord_id=None if result.cl_ord_id is None else ClOrdId(result.cl_ord_id),
        max_ratecount=result.maxratecount,
    )


def _executions_of(frame: _Frame) -> ExecutionsMessage:
    reports: list[ExecutionReport] = []
    faults: list[str] = []
    for raw in _ROWS.decode(frame.data):
        try:
            reports.append(_report_of(_EXECUTION.decode(raw)))
        except VenueProtocolError as error:
            faults.append(str(error))
        except BAD_INPUT as error:
            faults.append(_place_of(error))
    return ExecutionsMessage(
        is_snapshot=_is_snapshot(frame),
        sequence=frame.sequence,
        reports=tuple(reports),
        faults=tuple(faults),
    )


def _report_of(row: _ExecutionRow) -> ExecutionReport:
    if row.exec_type is ExecType.TRADE:
        _check_trade(row)
    triggers = row.triggers
    has_static_trigger = triggers is not None and triggers.price_type == "static"
    return ExecutionReport(
        order_id=VenueOrderId(row.order_id),
        exec_type=row.exec_type,
        at=row.timestamp,
        cl_ord_id=None if row.cl_ord_id is None else ClOrdId(row.cl_ord_id),
        symbol=None if row.symbol is None else Symbol(row.symbol),
        side=row.side,
        order_type=row.order_type,
        order_status=row.order_status,
        order_qty=_amount(row.order_qty),
        cum_qty=_amount(row.cum_qty),
        limit_price=_price(row.limit_price) if row.limit_price_type == "static" else None,
        trigger_price=_price(triggers.price) if triggers is not None and has_static_trigger else None,
        triggered=None if triggers is None or triggers.status is None else triggers.status == "triggered",
        post_only=row.post_only,
        reason=None if row.reason is None else envelope.readable(row.reason, _MAX_TEXT),
        ratecount=_bounded(row.ratecount),
        exec_id=None if row.exec_id is None else ExecId(row.exec_id),
        trade_id=row.trade_id,
        last_qty=_amount(row.last_qty),
        last_price=_bounded(row.last_price),
        cost=_amount(row.cost),
        is_maker=None if row.liquidity_ind is None else row.liquidity_ind == "m",
        fees=tuple(Fee(asset=Asset(fee.asset), qty=bounded(fee.qty)) for fee in row.fees),
    )


def _check_trade(row: _ExecutionRow) -> None:
    # a fill with price zero once reached a ledger: refused here, where it enters
    if row.exec_id is None or row.symbol is None or row.side is None:
        raise VenueProtocolError("trade without exec_id, symbol or side")
    if row.last_qty is None or row.last_price is None:
        raise VenueProtocolError("trade without quantity or price")
    if bounded(row.last_qty) <= 0 or bounded(row.last_price) <= 0:
        raise VenueProtocolError("trade with a quantity or price that is not above zero")


def _balances_of(frame: _Frame) -> BalancesMessage:
    amounts: list[WalletAmount] = []
    faults: list[str] = []
    for raw in _ROWS.decode(frame.data):
        # one coin that cannot be read says nothing of the others, and nothing of orders
        try:
            amounts += _wallets_of(_BALANCE.decode(raw))
        except VenueProtocolError as error:
            faults.append(str(error))
        except BAD_INPUT as error:
            faults.append(_place_of(error))
    return BalancesMessage(
        is_snapshot=_is_snapshot(frame), sequence=frame.sequence, amounts=tuple(amounts), faults=tuple(faults)
    )


def _wallets_of(row: _BalanceRow) -> list[WalletAmount]:
    wallets = row.wallets or [_Wallet(type=row.wallet_type, id=row.wallet_id, balance=row.balance)]
    return [
        WalletAmount(
            asset=Asset(row.asset), wallet_type=wallet.type, wallet_id=wallet.id, amount=bounded(wallet.balance)
        )
        for wallet in wallets
    ]


def _is_snapshot(frame: _Frame) -> bool:
    match frame.type:
        case "snapshot":
            return True
        case "update":
            return False
        case _:
            raise VenueProtocolError("data frame that is neither snapshot nor update")


def bounded(number: Decimal) -> Decimal:
    """Return a number that can be a price, quantity or amount; raises VenueProtocolError for NaN and giants.

    Without the bound `1e999999` would be a legal number whose fixed-point text is a megabyte.
    """
    if not number.is_finite():
        raise VenueProtocolError("number is not finite")
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > _MAX_MAGNITUDE or number.adjusted() > _MAX_MAGNITUDE:
        raise VenueProtocolError("number is out of range")
    return number


def amount(number: Decimal) -> Decimal:
    """Return a quantity or cost; raises VenueProtocolError below zero and for what `bounded` refuses.

    Past this point a negative one would break an invariant of ours, at every start anew.
    """
    if bounded(number) < 0:
        raise VenueProtocolError("quantity or cost below zero")
    return number


def number_token(number: Decimal) -> msgspec.Raw:
    """Return a number as Kraken wants it: bare, in fixed point, with a point.

    Kraken answers "field must be a number_float" to a string, and may to a number without a point.
    """
    text = format(number, "f")
    return msgspec.Raw((text if "." in text else f"{text}.0").encode("ascii"))


def _bounded(number: Decimal | None) -> Decimal | None:
    return None if number is None else bounded(number)


def _amount(number: Decimal | None) -> Decimal | None:
    return None if number is None else amount(number)


def _price(number: Decimal | None) -> Decimal | None:
    # below zero it is a distance, whatever the row says
    return None if number is None or bounded(number) < 0 else number


def _wire_of(value: Any) -> Any:
    if isinstance(value, Decimal):
        return number_token(value)
    if isinstance(value, Mapping):
        return {key: _wire_of(inner) for key, inner in value.items()}
    return value


def _place_of(error: Exception) -> str:
    # the text before the place may quote a value
    return envelope.readable(str(error).rpartition(" - at ")[2], _MAX_TEXT)


def _name_of(frame: _Frame) -> str:
    return envelope.readable(frame.channel or frame.method or "frame", _MAX_TEXT)
