"""Judge what an order may spend, and turn a trade into a fill with its two bookings.

The venue calls it when it admits, amends or triggers an order, and for every client in a match.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from krakenbot.adapters.local_exchange.digits import from_units
from krakenbot.adapters.local_exchange.flow.instruments import load_reference_prices
from krakenbot.adapters.local_exchange.matching.accounts import Account, LedgerEntry
from krakenbot.adapters.local_exchange.matching.book import Trade
from krakenbot.adapters.local_exchange.matching.claims import needs, purchase_needs
from krakenbot.adapters.local_exchange.matching.fees import Rates
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, Fill


def can_pay(account: Account, market: VenueMarket, order: ClientOrder) -> bool:
    """Tell whether the funds carry this order besides all other open ones."""
    if order.side == "buy" and order.limit_ticks is None and not order.waits_for_trigger:
        raw, left = 0, order.remaining_lots
        for price, size in market.levels("sell", len(market.book.asks.keys)):
            raw += price * min(left, size)
            left -= min(left, size)
            if not left:
                break
        return purchase_needs(order, raw) <= account.available(order.rules.quote)
    asset, _amount = needs(order)
    known = order in account.claims
    if not known:
        account.claims.add(order)
    funded = account.claimed(asset) <= account.balance(asset)
    if not known:
        account.claims.remove(order)
    return funded


def can_pay_at_trigger(account: Account, market: VenueMarket, order: ClientOrder) -> bool:
    """Tell whether the funds carry a stop that fires; it stands among the open orders and must not count twice."""
    account.claims.remove(order)
    funded = can_pay(account, market, order)
    account.claims.add(order)
    return funded


def settle_fill(
    account: Account,
    order: ClientOrder,
    trade: Trade,
    *,
    is_maker: bool,
    rates: Rates,
    exec_id: str,
    ledger_ids: tuple[str, str],
) -> tuple[Fill, tuple[LedgerEntry, LedgerEntry]]:
    """Count a trade on an order and book it on its account.

    Cost and fee are rounded cumulatively, so that the fills of an order add up to its rounded total. A rate that
    rose since the order was accepted is capped at what its hold covers: no balance may become negative.
    """
    cost_before, fee_before = order.cum_cost, order.cum_fee
    ppm = min(rates.maker_ppm if is_maker else rates.taker_ppm, order.hold_ppm)
    raw = trade.price_ticks * trade.size_lots
    order.filled_lots += trade.size_lots
    order.cost_raw += raw
    order.fee_raw += (trade.size_lots if order.pays_fee_in_base else raw) * ppm
    order.status = "partially_filled"
    fill = Fill(
        exec_id=exec_id,
        trade_id=trade.trade_id,
        order_id=order.order_id,
        cl_ord_id=order.request.cl_ord_id,
        symbol=order.rules.symbol,
        side=order.side,
        order_type=order.request.order_type,
        size_lots=trade.size_lots,
        price_ticks=trade.price_ticks,
        qty=from_units(trade.size_lots, order.rules.qty_precision),
        price=from_units(trade.price_ticks, order.rules.price_precision),
        cost=order.cum_cost - cost_before,
        fee=order.cum_fee - fee_before,
        fee_asset=order.fee_asset,
        is_maker=is_maker,
        at_ns=trade.at_ns,
        ledger_ids=ledger_ids,
    )
    order.exec_ids.append(fill.exec_id)
    account.keep_fill(fill)
    return fill, _book(account, fill, order)


def usd_value(markets: Mapping[str, VenueMarket], asset: str, amount: Decimal) -> Decimal:
    """Return an amount in USD with four digits: at the last trade against USD, else at the reference price."""
    if asset == "USD":
        return amount
    market = markets.get(f"{asset}/USD")
    if market is not None and market.stats.last_ticks:
        price = from_units(market.stats.last_ticks, market.rules.price_precision)
    else:
        price = load_reference_prices().get(asset, Decimal(0))
    return (amount * price).quantize(Decimal("0.0001"))


def fillable_lots(market: VenueMarket, order: ClientOrder) -> int:
    """Return how much a limit order could trade at once: what self-trade prevention takes away does not count."""
    opposite = market.book.asks if order.side == "buy" else market.book.bids
    found = 0
    for key in reversed(opposite.keys):
        price = abs(key)
        if order.limit_ticks is None or (
            price > order.limit_ticks if order.side == "buy" else price < order.limit_ticks
        ):
            break
        for resting in opposite.levels[key].orders.values():
            if resting.client is None or resting.client.account != order.account:
                found += resting.remaining_lots
            elif order.request.stp_type != "cancel_oldest":
                return found
    return found


def _book(account: Account, fill: Fill, order: ClientOrder) -> tuple[LedgerEntry, LedgerEntry]:
    sign = 1 if fill.side == "buy" else -1
    legs = ((order.rules.base, sign * fill.qty), (order.rules.quote, -sign * fill.cost))
    first, second = (
        account.book(
            ledger_id=ledger_id,
            ref_id=fill.exec_id,
            at_ns=fill.at_ns,
            kind="trade",
            asset=asset,
            amount=amount,
            fee=fill.fee if asset == fill.fee_asset else Decimal(0),
        )
        for ledger_id, (asset, amount) in zip(fill.ledger_ids, legs, strict=True)
    )
    return first, second
