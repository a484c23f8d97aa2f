"""The venue: its mode, what is planned, the configured symbols, fees and minimums.

Enters: what its public answers say, and the account's fees. Leaves: findings. Called by `krakenbot doctor` and the
start of execution. A venue out of service is no reason not to start: execution waits for it, and protects first.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from attrs import field, frozen

from krakenbot.domain.execution.rate import AccountTier, tier_of_threshold, trading_limits
from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.preflight.finding import Finding, Judge, fail, ok, some_of, warn
from krakenbot.domain.values import Asset, Symbol

_MEANING: Final = {
    "maintenance": "no orders and no cancels",
    "cancel_only": "cancels only, nothing is matched",
    "post_only": "post-only orders and cancels, nothing is matched",
}
_PLACEABLE: Final = 5
"""An entry is at least five minimums, so that a part of it can be protected."""
_SHOWN: Final = 5


@frozen(kw_only=True)
class FeeFacts:
    """The account's fees by symbol in bps (maker, taker), and its volume of 30 days as the venue states it."""

    rates: Mapping[Symbol, tuple[Decimal, Decimal]]
    volume: Decimal | None
    volume_asset: str


@frozen(kw_only=True)
class VenueFacts:
    """What was read of the venue; None is what was not asked for or not said.

    `errors` holds by check why it could not be read. `symbols` are the configured ones, empty for all of the
    universe. `bids` are best bids of configured symbols. `upcoming` names planned maintenances. `max_ratecount` is
    the trading counter's threshold as the private stream states it, `tier` the account's tier as it is configured.
    """

    errors: Mapping[str, str] = field(factory=dict)
    status: str | None = None
    upcoming: tuple[str, ...] | None = None
    instruments: Mapping[Symbol, Instrument] | None = None
    symbols: tuple[Symbol, ...] = ()
    bids: Mapping[Symbol, Decimal] = field(factory=dict)
    fees: FeeFacts | None = None
    max_ratecount: int | None = None
    tier: AccountTier | None = None


def judge_venue(
    facts: VenueFacts, *, quote: Asset, capital_quote: Decimal | None, symbol_share: Decimal, away: Judge = fail
) -> list[Finding]:
    """Return the findings; `symbol_share` is the share of equity that one symbol may take.

    `away` is what it means that something could not be read.
    """
    findings = [away(f"exchange.{what}", error, "an answer", _away_fix(what)) for what, error in facts.errors.items()]
    if facts.status is not None:
        findings.append(_status(facts.status))
    if facts.upcoming is not None:
        findings.append(_upcoming(facts.upcoming))
    if facts.instruments is not None:
        findings += _instruments(facts.instruments, facts.symbols, quote)
        if capital_quote is not None:
            findings += _minimums(facts, capital_quote * symbol_share)
    if facts.fees is not None:
        findings.append(_fees(facts.fees))
    if facts.max_ratecount is not None:
        findings.append(_tier(facts.max_ratecount, facts.tier))
    return findings


def _away_fix(what: str) -> str:
    if what == "private_stream":
        return "Mend what is said of the execution key, or bring venue.ws_private_url into reach, then ask again."
    return "Bring the venue's endpoints into reach, then ask again."


def _status(status: str) -> Finding:
    if status == "online":
        return ok("exchange.status", status, "online")
    meaning = _MEANING.get(status, "a word that we do not know")
    return warn("exchange.status", f"{status}: {meaning}", "online", "Wait; no entry is made until it is online.")


def _upcoming(upcoming: tuple[str, ...]) -> Finding:
    if not upcoming:
        return ok("exchange.maintenance", "none announced", "none")
    return warn(
        "exchange.maintenance",
        "; ".join(upcoming),
        "none",
        "Expect neither orders nor cancels then; disarm any dead-man's switch before it.",
    )


def _instruments(instruments: Mapping[Symbol, Instrument], symbols: tuple[Symbol, ...], quote: Asset) -> list[Finding]:
    unknown = [symbol for symbol in symbols if symbol not in instruments]
    findings = [_unknown(symbol, instruments) for symbol in unknown[:_SHOWN]]
    if not symbols:
        listed = [one for one in instruments.values() if one.quote == quote]
        online = sum(one.status is InstrumentStatus.ONLINE for one in listed)
        if not listed:
            fix = "Check execution.quote_asset."
            findings.append(fail("exchange.instruments", f"none is listed against {quote}", "at least one", fix))
        elif not online:
            fix = "Wait until the venue trades again; no entry is made before."
            found = f"none of {len(listed)} against {quote} is online"
            findings.append(warn("exchange.instruments", found, "at least one", fix))
        return findings or [
            ok("exchange.instruments", f"{online} of {len(listed)} against {quote} are online", "at least one")
        ]
    closed = [f"{s} {instruments[s].status}" for s in symbols if s in instruments and not _is_open(instruments[s])]
    if closed:
        findings.append(
            warn(
                "exchange.instruments",
                some_of(closed),
                "online",
                "Leave them out of ingest.symbols, or wait until they trade again.",
            )
        )
    return findings or [ok("exchange.instruments", f"all {len(symbols)} configured symbols are open", "online")]


def _is_open(instrument: Instrument) -> bool:
    return instrument.status in {InstrumentStatus.ONLINE, InstrumentStatus.LIMIT_ONLY}


def _unknown(symbol: Symbol, instruments: Mapping[Symbol, Instrument]) -> Finding:
    near = difflib.get_close_matches(symbol.upper(), list(instruments), n=1, cutoff=0.5)
    hint = f"Write {near[0]} in ingest.symbols." if near else "Take it out of ingest.symbols."
    return fail("exchange.instruments", f"{symbol} is not listed", "symbols of the venue", hint)


def _minimums(facts: VenueFacts, room_quote: Decimal) -> list[Finding]:
    """Name configured symbols of which the smallest entry is more than one symbol may take of the capital."""
    instruments = facts.instruments or {}
    limit = f"{_PLACEABLE} minimums within {room_quote.normalize():f} for one symbol"
    needs = {
        symbol: _PLACEABLE * max(one.cost_min, one.qty_min * facts.bids[symbol])
        for symbol in facts.symbols
        if (one := instruments.get(symbol)) is not None and symbol in facts.bids
    }
    if not needs:
        return []
    too_large = [f"{symbol} needs {need:.2f}" for symbol, need in needs.items() if need > room_quote]
    if too_large:
        fix = "Raise execution.capital_limit_quote, or leave these symbols out; they are never traded."
        return [warn("exchange.minimums", some_of(too_large), limit, fix)]
    symbol, need = max(needs.items(), key=lambda item: (item[1], item[0]))
    return [ok("exchange.minimums", f"largest {need:.2f} for {symbol}", limit)]


def _fees(fees: FeeFacts) -> Finding:
    limit = "maker below taker"
    if not fees.rates:
        return warn("exchange.fees", "not stated for any symbol", limit, "Look the fees up in the venue's settings.")
    makers = [maker for maker, _ in fees.rates.values()]
    takers = [taker for _, taker in fees.rates.values()]
    volume = "not stated" if fees.volume is None else f"{fees.volume:.2f} {fees.volume_asset}"
    found = (
        f"maker {_range(makers)} bps, taker {_range(takers)} bps of {len(fees.rates)} symbols, 30-day volume {volume}"
    )
    flat = sorted(symbol for symbol, (maker, taker) in fees.rates.items() if maker >= taker)
    if flat:
        return warn(
            "exchange.fees", f"{found}; no maker's discount: {some_of(flat)}", limit, "Leave these symbols out."
        )
    return ok("exchange.fees", found, limit)


def _tier(max_ratecount: int, configured: AccountTier | None) -> Finding:
    stated = tier_of_threshold(max_ratecount)
    found = f"{stated}: {max_ratecount} points per pair"
    if configured is not None and trading_limits(configured).threshold > max_ratecount:
        fix = f'Set execution.tier = "{stated}": REST calls are counted by it.'
        return warn("exchange.tier", found, f"execution.tier {configured}", fix)
    return ok("exchange.tier", found, "known")


def _range(values: list[Decimal]) -> str:
    low, high = min(values), max(values)
    return f"{low.normalize():f}" if low == high else f"{low.normalize():f} to {high.normalize():f}"
