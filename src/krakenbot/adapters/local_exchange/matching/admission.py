"""Judge requests before they change anything: a new order becomes a `ClientOrder`, or an error text.

The venue calls it with the market already found and the transaction counter already charged.
"""

from __future__ import annotations

from krakenbot.adapters.local_exchange.digits import venue_id
from krakenbot.adapters.local_exchange.matching import checks, settlement
from krakenbot.adapters.local_exchange.matching.accounts import Account
from krakenbot.adapters.local_exchange.matching.fees import Rates
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, OrderRequest
from krakenbot.adapters.local_exchange.matching.settings import VenueSettings
from krakenbot.adapters.local_exchange.matching.triggers import reference_of


def admit(
    account: Account,
    market: VenueMarket,
    request: OrderRequest,
    settings: VenueSettings,
    *,
    system: str,
    number: int,
    rates: Rates,
    now_ns: int,
) -> ClientOrder | str:
    """Return the order that a request makes, not yet open; or the error."""
    rules = market.rules
    if request.deadline_at_ns is not None and now_ns > request.deadline_at_ns:
        return checks.DEADLINE
    error = checks.check_mode(system, rules.status, request, settings.mode_errors)
    error = error or checks.check_shape(request, rules, settings, now_ns)
    if error is None and request.cl_ord_id in account.open_by_cl_ord_id:
        error = checks.DUPLICATE_CL_ORD_ID[settings.cl_ord_id_error]
    reference = reference_of(market, request.trigger_reference)
    figures = checks.figures(request, rules, reference) if error is None else error
    if isinstance(figures, str):
        return figures
    price = figures.limit_ticks or figures.trigger_ticks or market.best("sell" if request.side == "buy" else "buy")
    error = checks.check_minimums(rules, figures.qty_lots, price)
    if error is not None:
        return error
    if account.open_counts[rules.symbol] >= account.limits.open_orders:
        return checks.ORDERS_LIMIT
    order = ClientOrder(
        order_id=venue_id("O", number, settings.seed),
        account=account.name,
        rules=rules,
        request=request,
        number=number,
        qty_lots=figures.qty_lots,
        limit_ticks=figures.limit_ticks,
        trigger_ticks=figures.trigger_ticks,
        trigger=figures.trigger,
        limit=figures.limit,
        peak_milliticks=reference,
        reference_milliticks=reference,
        hold_ppm=rates.dearest_ppm,
        opened_ns=now_ns,
        changed_ns=now_ns,
        post_only=request.post_only,
    )
    if not settlement.can_pay(account, market, order):
        return checks.INSUFFICIENT_FUNDS
    crosses = figures.limit_ticks is not None and market.crosses(request.side, figures.limit_ticks)
    if order.post_only and crosses and (settings.post_only_reject == "error" or system == "post_only"):
        return checks.POST_ONLY
    return order
