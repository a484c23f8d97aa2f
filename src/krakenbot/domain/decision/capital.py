"""Capital: how much money the engine may count as its own.

Enters: the account view, and bids of held symbols. Leaves: equity and free money per quote asset, losses. Called by
sizing and by the risk gate at each evaluation, so that compounding follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from attrs import frozen

from krakenbot.domain.decision.views import AccountView
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.state.exposure import reserve_quote
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.values import Asset, Symbol


def position_values(account: AccountView, states: Mapping[Symbol, SymbolState]) -> dict[Symbol, Decimal]:
    """Return each held position at the bid; at its cost where the bid is not known."""
    values: dict[Symbol, Decimal] = {}
    for symbol, position in account.positions.items():
        state = states.get(symbol)
        bid = state.bid if state else None
        values[symbol] = position.cost_quote if bid is None else position.qty * Decimal(repr(bid))
    return values


def equity_of(
    asset: Asset, account: AccountView, values: Mapping[Symbol, Decimal], instruments: Mapping[Symbol, Instrument]
) -> Decimal:
    """Return own quote money, what open entries hold included, + own positions at the bid, at most the capital limit.

    An asset without a configured amount has no equity: the user's other money is never counted.
    """
    configured = account.configured_quote.get(asset, Decimal(0))
    own = account.balance_quote.get(asset, Decimal(0)) + _in_asset(asset, values, instruments)
    return max(Decimal(0), min(configured, own))


@frozen(kw_only=True)
class Losses:
    """Own losses, from own fills alone, so that other money on the account neither hides nor makes one.

    `day_quote`: realised since midnight UTC, and what is lost on paper now; a gain on paper hides no realised loss.
    `drawdown_quote`: below the highest realised and unrealised profit so far. The bases are the money
    before each of them, at most the capital limit.
    """

    day_quote: Decimal
    day_base_quote: Decimal
    drawdown_quote: Decimal
    drawdown_base_quote: Decimal


def losses_of(account: AccountView, values: Mapping[Symbol, Decimal]) -> Losses:
    """Return what was lost, over the sum of all quote assets, which is exact with one (the default)."""
    cost = sum((position.cost_quote for position in account.positions.values()), Decimal(0))
    unrealized = sum(values.values(), Decimal(0)) - cost
    day = -account.realized_today_quote - min(Decimal(0), unrealized)
    drawdown = account.peak_pnl_quote - account.realized_total_quote - unrealized
    configured = sum(account.configured_quote.values(), Decimal(0))
    own = sum(account.balance_quote.values(), Decimal(0)) + sum(values.values(), Decimal(0))
    return Losses(
        day_quote=day,
        day_base_quote=min(configured, own + max(Decimal(0), day)),
        drawdown_quote=drawdown,
        drawdown_base_quote=min(configured, own + max(Decimal(0), drawdown)),
    )


def free_quote(
    asset: Asset, account: AccountView, instruments: Mapping[Symbol, Instrument], taker_fee_bps: Decimal
) -> Decimal:
    """Return what a new buy may reserve: free money, and of the configured capital what no open entry reserves."""
    reserved = reserve_quote(_in_asset(asset, account.open_entries, instruments), taker_fee_bps)
    configured = account.configured_quote.get(asset, Decimal(0)) - reserved
    return min(account.available_quote.get(asset, Decimal(0)), configured)


def _in_asset(asset: Asset, amounts: Mapping[Symbol, Decimal], instruments: Mapping[Symbol, Instrument]) -> Decimal:
    return sum(
        (amount for symbol, amount in amounts.items() if _quote_of(symbol, instruments) == asset),
        Decimal(0),
    )


def _quote_of(symbol: Symbol, instruments: Mapping[Symbol, Instrument]) -> str:
    # A symbol that the venue no longer lists still ties up money: its name ends with its quote asset.
    instrument = instruments.get(symbol)
    return instrument.quote if instrument else symbol.rpartition("/")[2]
