"""What one decision may know besides the market: the engine, the account, the fees, the memory of earlier cycles.

Enters: values that the engine gathers before each cycle. Leaves: frozen inputs of `pipeline.evaluate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from attrs import Factory, frozen

from krakenbot.domain.decision.blocker import BlockerCode
from krakenbot.domain.decision.regime import RegimeMemory
from krakenbot.domain.values import Asset, GenerationId, Symbol


@frozen(kw_only=True)
class Fees:
    """The account's fees of one symbol, bps of cost; a maker fee below zero is a rebate."""

    maker_bps: Decimal
    taker_bps: Decimal


@frozen(kw_only=True)
class RateView:
    """The trading counters that the venue keeps per symbol; points, and points per second.

    `entry_points` is what an entry and its early cancel cost, `limit_points` how far entries may take a counter: what
    is above is kept for cancels and exits. A symbol that is not there has spent nothing.
    """

    points: Mapping[Symbol, float] = Factory(dict)
    entry_points: float = 9.0
    limit_points: float = 35.0
    decay_per_s: float = 1.0


@frozen(kw_only=True)
class SystemView:
    """What the engine knows of itself and of the venue.

    `venue_status` in the venue's words ("online"). `account_age_s` is the age of balances and orders, None when never
    read. `asked_generation` is the one this cycle asked for. `btc_return_60s_sigmas` is the last minute's return of
    BTC in its own sigmas; None when the engine has no such reading, which restricts nothing.
    """

    lease_held: bool
    venue_status: str
    reconciled: bool
    account_age_s: float | None
    asked_generation: GenerationId | None
    btc_return_60s_sigmas: float | None = None
    rate: RateView = Factory(RateView)


@frozen(kw_only=True)
class HeldPosition:
    """An own position as decisions see it: base quantity, and its cost in the quote asset with fees."""

    qty: Decimal
    cost_quote: Decimal


@frozen(kw_only=True)
class AccountView:
    """Own money, positions and orders.

    `configured_quote` is the capital limit per quote asset, `balance_quote` what is there, holds included, and
    `available_quote` what a new buy may use: less holds, and less what is reserved and not held yet. `untied` names
    assets whose balance the ledger does not explain.
    `open_entries` holds the notional of open, in-flight and UNKNOWN entry orders. `realized_today_quote` is negative
    for a loss; `realized_total_quote` is that of all time, and `peak_pnl_quote` the highest sum of it and the profit
    on paper so far, before a restart too. The two counters look back 60 s. `last_unseen_fill_age_s` is the age of the
    last fill that the executions feed did not tell of, None when there was none.
    """

    configured_quote: Mapping[Asset, Decimal]
    balance_quote: Mapping[Asset, Decimal]
    available_quote: Mapping[Asset, Decimal]
    positions: Mapping[Symbol, HeldPosition]
    open_entries: Mapping[Symbol, Decimal]
    unknown_symbols: frozenset[Symbol]
    realized_today_quote: Decimal
    realized_total_quote: Decimal
    peak_pnl_quote: Decimal
    entries_last_minute: int
    entry_fills_last_minute: int
    last_unseen_fill_age_s: float | None
    untied: Mapping[Asset, str] = Factory(dict)


@frozen(kw_only=True)
class PipelineMemory:
    """What one cycle hands to the next; a new engine starts with an empty one.

    `blockers`: the dominant code of each symbol and since when. `hold_entries_until`: correlated fills were seen.
    `latched`: DAY_LOSS and DRAWDOWN stay until a person resets them; the engine persists them as its latch.
    """

    regimes: Mapping[Symbol, RegimeMemory] = Factory(dict)
    blockers: Mapping[Symbol, tuple[BlockerCode, datetime]] = Factory(dict)
    hold_entries_until: datetime | None = None
    latched: frozenset[BlockerCode] = frozenset()
