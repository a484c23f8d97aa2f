"""The account's balances: what may be traded with, and what is named and left alone.

Enters: balances with holds, own positions, the configured capital. Leaves: findings. Called by `krakenbot doctor` and
the start of execution.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from attrs import field, frozen

from krakenbot.domain.execution.reports import VenueBalance
from krakenbot.domain.preflight.finding import Finding, Judge, fail, ok, some_of, warn
from krakenbot.domain.values import Asset

_SHOWN = 8


@frozen(kw_only=True)
class AccountFacts:
    """Balances by asset; Earn and other wallets keep their suffix, such as "BTC.F". `positions` are own, by asset.

    `positions` None means that the ledger could not be read. `error` is why there are no balances.
    """

    balances: Mapping[Asset, VenueBalance] = field(factory=dict)
    positions: Mapping[Asset, Decimal] | None = None
    error: str | None = None


def judge_account(
    facts: AccountFacts, *, quote: Asset, capital_quote: Decimal | None, away: Judge = fail
) -> list[Finding]:
    """Return the findings; `capital_quote` None means that no capital is configured.

    `away` is what it means that the balances could not be read.
    """
    if facts.error is not None:
        fix = "Give the execution key the right query-funds, or bring the venue into reach."
        return [away("account.balances", facts.error, "an answer", fix)]
    owned = {asset: one for asset, one in facts.balances.items() if one.balance}
    findings = [_quote(owned.get(quote), quote, capital_quote)]
    earn = [f"{one.balance.normalize():f} {asset}" for asset, one in sorted(owned.items()) if "." in asset]
    if earn:
        findings.append(ok("account.earn", f"not counted, not touched: {some_of(earn, _SHOWN)}", "named"))
    positions = facts.positions or {}
    foreign = [
        f"{rest.normalize():f} {asset}"
        for asset, one in sorted(owned.items())
        if asset != quote and "." not in asset and (rest := one.balance - positions.get(asset, Decimal(0))) > 0
    ]
    if foreign:
        findings.append(ok("account.foreign", f"not counted, not touched: {some_of(foreign, _SHOWN)}", "named"))
    balances = {asset: one.balance for asset, one in owned.items()}
    findings += [
        _missing_coins(asset, qty, balances.get(asset, Decimal(0)))
        for asset, qty in sorted(positions.items())
        if qty > balances.get(asset, Decimal(0))
    ]
    return findings


def _quote(balance: VenueBalance | None, quote: Asset, capital_quote: Decimal | None) -> Finding:
    have = Decimal(0) if balance is None else balance.balance
    held = Decimal(0) if balance is None else balance.held
    found = f"{have.normalize():f} {quote}" + (f", {held.normalize():f} of it held by orders" if held else "")
    if capital_quote is None:
        return ok("account.quote", found, "no capital configured")
    limit = f"capital {capital_quote.normalize():f} {quote}"
    if have <= 0:
        return warn("account.quote", found, limit, f"Move {quote} to the spot wallet; without it nothing is bought.")
    if have < capital_quote:
        return warn(
            "account.quote", found, limit, "Lower execution.capital_limit_quote, or accept that less is traded with."
        )
    return ok("account.quote", found, limit)


def _missing_coins(asset: Asset, qty: Decimal, have: Decimal) -> Finding:
    return warn(
        "account.positions",
        f"own position {qty.normalize():f} {asset}, balance {have.normalize():f}",
        "the balance holds every position",
        f"Find out who sold or moved {asset}; entries in it stop until it is reconciled.",
    )
