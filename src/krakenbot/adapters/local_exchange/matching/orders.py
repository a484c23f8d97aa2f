"""Describe what clients ask for and what became of it.

`OrderRequest` and `AmendRequest` come from the WS and REST decoders with exact numbers; `ClientOrder` is the
living order; `Fill` is one of its executions. All sizes are lots, all prices ticks, once an order exists.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

from attrs import Attribute, define, field, frozen

from krakenbot.adapters.local_exchange.digits import fixed_text, from_units, rescale
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules, Side
from krakenbot.adapters.local_exchange.matching.book import RestingOrder

if TYPE_CHECKING:
    from krakenbot.adapters.local_exchange.matching.claims import Claims

PPM: Final = 6
"""Fee rates are parts per million: 25 bps are 2500."""

TRAILING_TYPES: Final = frozenset({"trailing-stop", "trailing-stop-limit"})
STOP_TYPES: Final = TRAILING_TYPES | {"stop-loss", "stop-loss-limit", "take-profit", "take-profit-limit"}
LIMIT_TYPES: Final = frozenset({"limit", "stop-loss-limit", "take-profit-limit", "trailing-stop-limit"})
ORDER_TYPES: Final = STOP_TYPES | LIMIT_TYPES | {"market"}

PriceType = Literal["static", "pct", "quote"]
"""A price, or an offset in percent or in the quote currency: from the reference price, of a limit from its trigger."""

Status = Literal["pending_new", "new", "partially_filled", "filled", "canceled", "expired"]


@frozen(kw_only=True)
class OrderRequest:
    """A well-formed wish, not yet checked against rules, funds or the book."""

    symbol: str
    side: Side
    order_type: str
    qty: Decimal
    limit_price: Decimal | None = None
    trigger_price: Decimal | None = None
    trigger_reference: Literal["last", "index"] = "last"
    trigger_price_type: PriceType = "static"
    limit_price_type: PriceType = "static"
    time_in_force: Literal["gtc", "gtd", "ioc", "fok"] = "gtc"
    expire_at_ns: int | None = None
    deadline_at_ns: int | None = None
    post_only: bool = False
    cl_ord_id: str | None = None
    order_userref: int | None = None
    fee_preference: Literal["base", "quote"] = "quote"
    stp_type: Literal["cancel_newest", "cancel_oldest", "cancel_both"] = "cancel_newest"
    validate: bool = False
    sender_sub_id: str | None = None


@frozen(kw_only=True)
class AmendRequest:
    """A wish to change an open order; None leaves a figure as it is."""

    order_id: str | None = None
    cl_ord_id: str | None = None
    qty: Decimal | None = None
    limit_price: Decimal | None = None
    trigger_price: Decimal | None = None
    trigger_price_type: PriceType | None = None
    limit_price_type: PriceType | None = None
    post_only: bool = False
    deadline_at_ns: int | None = None


@frozen
class Price:
    """A price as a client gave it."""

    value: Decimal
    kind: PriceType = "static"


@frozen(kw_only=True)
class Fill:
    """One execution of one order."""

    exec_id: str
    trade_id: int
    order_id: str
    cl_ord_id: str | None
    symbol: str
    side: Side
    order_type: str
    size_lots: int
    price_ticks: int
    qty: Decimal
    price: Decimal
    cost: Decimal
    fee: Decimal
    fee_asset: str
    is_maker: bool
    at_ns: int
    ledger_ids: tuple[str, str]


def _tell_claims(order: ClientOrder, _attribute: Attribute[Any], value: Any) -> Any:
    if order.claims is not None:
        order.claims.touch(order)
    return value


@define(eq=False, kw_only=True)
class ClientOrder:
    """An accepted order; `resting` is set while it stands in a book.

    `trigger_ticks` is the price at which a stop fires now; `trigger` and `limit` are as the client gave them.
    Peak and reference are thousandths of a tick. `hold_ppm` is the fee rate that holds cover. `claims` counts what the
    order needs while it is open, and hears when a figure changes on which that depends.
    """

    order_id: str
    account: str
    rules: InstrumentRules
    request: OrderRequest
    number: int
    qty_lots: int = field(on_setattr=_tell_claims)
    limit_ticks: int | None = field(on_setattr=_tell_claims)
    trigger_ticks: int | None = field(on_setattr=_tell_claims)
    opened_ns: int
    trigger: Price | None = None
    limit: Price | None = None
    peak_milliticks: int = 0
    reference_milliticks: int = 0
    hold_ppm: int = field(default=0, on_setattr=_tell_claims)
    status: Status = "pending_new"
    is_triggered: bool = field(default=False, on_setattr=_tell_claims)
    triggered_ns: int | None = None
    post_only: bool = False
    filled_lots: int = field(default=0, on_setattr=_tell_claims)
    cost_raw: int = field(default=0, on_setattr=_tell_claims)
    fee_raw: int = field(default=0, on_setattr=_tell_claims)
    resting: RestingOrder | None = None
    reason: str | None = None
    closed_ns: int | None = None
    is_amended: bool = False
    changed_ns: int = 0
    exec_ids: list[str] = field(factory=list)
    claims: Claims | None = None

    @property
    def side(self) -> Side:
        """Return the side of the order."""
        return self.request.side

    @property
    def is_open(self) -> bool:
        """Tell whether the order can still trade."""
        return self.status in ("pending_new", "new", "partially_filled")

    @property
    def waits_for_trigger(self) -> bool:
        """Tell whether the order is a stop that has not fired."""
        return self.trigger_ticks is not None and not self.is_triggered

    @property
    def trails(self) -> bool:
        """Tell whether the trigger follows the market."""
        return self.request.order_type in TRAILING_TYPES

    @property
    def falls_to_trigger(self) -> bool:
        """Tell whether the reference price must fall to fire this stop; else it must rise."""
        return falls_to_trigger(self.request.order_type, self.side)

    @property
    def remaining_lots(self) -> int:
        """Return what is not filled."""
        return self.qty_lots - self.filled_lots

    @property
    def pays_fee_in_base(self) -> bool:
        """Tell whether the fee is taken in the base currency."""
        return self.request.fee_preference == "base"

    @property
    def raw_scale(self) -> int:
        """Return the digits of `cost_raw`: price digits plus quantity digits."""
        return self.rules.price_precision + self.rules.qty_precision

    def cost_units(self, raw: int, *, up: bool = False) -> int:
        """Return a raw cost in units of the cost precision."""
        return rescale(raw, self.raw_scale, self.rules.cost_precision, up=up)

    def fee_units(self, raw: int, *, up: bool = False) -> int:
        """Return a raw fee in units of its asset: the cost precision for quote, lots for base."""
        if self.pays_fee_in_base:
            return rescale(raw, self.rules.qty_precision + PPM, self.rules.qty_precision, up=up)
        return rescale(raw, self.raw_scale + PPM, self.rules.cost_precision, up=up)

    @property
    def fee_precision(self) -> int:
        """Return the digits of the fee."""
        return self.rules.qty_precision if self.pays_fee_in_base else self.rules.cost_precision

    @property
    def fee_asset(self) -> str:
        """Return the asset in which the fee is paid."""
        return self.rules.base if self.pays_fee_in_base else self.rules.quote

    @property
    def cum_cost(self) -> Decimal:
        """Return the cost of all fills."""
        return from_units(self.cost_units(self.cost_raw), self.rules.cost_precision)

    @property
    def cum_fee(self) -> Decimal:
        """Return the fees of all fills."""
        return from_units(self.fee_units(self.fee_raw), self.fee_precision)

    def avg_price_text(self) -> str:
        """Return the average fill price with two digits more than a price has; zero without fills."""
        precision = self.rules.price_precision
        if not self.filled_lots:
            return fixed_text(0, precision)
        units = (self.cost_raw * 100 + self.filled_lots // 2) // self.filled_lots
        if units % 100 == 0:
            return fixed_text(units // 100, precision)
        return fixed_text(units, precision + 2)

    def price_text(self, ticks: int) -> str:
        """Return a price of this instrument as wire text."""
        return fixed_text(ticks, self.rules.price_precision)

    def qty_text(self, lots: int) -> str:
        """Return a quantity of this instrument as wire text."""
        return fixed_text(lots, self.rules.qty_precision)


def falls_to_trigger(order_type: str, side: Side) -> bool:
    """Tell whether the reference price must fall to fire a stop of this type and side."""
    return (side == "sell") != order_type.startswith("take-profit")
