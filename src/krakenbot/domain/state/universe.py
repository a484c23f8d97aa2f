"""The universe: which instruments are watched, by order queue, and traded.

Enters: instruments as the venue states them, 24 h volumes, the configured symbols, the pinned ones. Leaves: one
choice with a reason for everything left out. Called by the ingest engine at each universe refresh.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import field, frozen
from attrs.validators import ge

from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.values import Asset, Symbol

FIAT = frozenset(map(Asset, ("USD", "EUR", "GBP", "CAD", "AUD", "CHF", "JPY", "AED", "ARS", "BRL", "MXN", "PLN")))
"""Fiat currencies of the venue. One against another has equal maker and taker fees: no edge for a maker."""

PEGGED_TO = {
    Asset(base): Asset(peg)
    for peg, bases in {
        # Stablecoins: their price is the issuer's promise, and their pairs have equal maker and taker fees.
        "USD": (
            "USDT",
            "USDC",
            "DAI",
            "PYUSD",
            "TUSD",
            "USDG",
            "USDS",
            "USDD",
            "RLUSD",
            "USD1",
            "USDE",
            "FDUSD",
            "GUSD",
            "USDP",
            "USDQ",
            "USDR",
            "UST",
        ),
        "EUR": ("EURT", "EURC", "EURQ", "EURR", "EUROP", "EURCV"),
        "GBP": ("TGBP",),
        "AUD": ("AUDX", "AUDD"),
        # Wrapped and staked coins: against the coin itself they move by redemption, not by trade.
        "BTC": ("WBTC", "TBTC", "CBBTC", "LBTC", "KBTC"),
        "ETH": ("WETH", "STETH", "WSTETH", "CBETH", "RETH", "LSETH", "CMETH", "METH"),
        "SOL": ("MSOL", "JITOSOL", "BSOL"),
    }.items()
    for base in bases
}
"""Asset -> what its issuer or contract holds it equal to."""


@frozen(kw_only=True)
class UniverseSettings:
    """What belongs to the universe. The volume counts in each pair's own quote asset; limits count symbols."""

    quotes: frozenset[Asset] = frozenset({Asset("USD")})
    min_volume_24h_quote: float = field(default=100_000.0, validator=ge(0.0))
    l2_limit: int = field(default=600, validator=ge(1))
    l3_limit: int = field(default=200, validator=ge(0))


@frozen(kw_only=True)
class UniverseChoice:
    """Layers, each in symbol order: pool, then L2 set, then L3 set within it; `execution` is the L2 set.

    `left_out` says why for every instrument that is in no layer, and for a configured symbol that does not exist.
    """

    pool: tuple[Symbol, ...]
    l2: tuple[Symbol, ...]
    l3: tuple[Symbol, ...]
    execution: tuple[Symbol, ...]
    pinned: tuple[Symbol, ...]
    left_out: dict[Symbol, str]


def choose_universe(
    instruments: Iterable[Instrument],
    volumes_24h_quote: Mapping[Symbol, float],
    *,
    configured: Iterable[Symbol],
    pinned: Iterable[Symbol],
    settings: UniverseSettings,
) -> UniverseChoice:
    """Choose the layers: pinned symbols first and always, then by volume, ties by symbol.

    With `configured` symbols only those are chosen, whatever their volume; without, a symbol needs the minimal
    volume, and one without a known volume is left out. Exclusions by kind hold for configured symbols too. A pinned
    symbol stays in every layer, also above a limit, as long as the venue lists it at all.
    """
    listed = {instrument.symbol: instrument for instrument in instruments}
    wanted = frozenset(configured)
    held = frozenset(pinned) & listed.keys()
    left_out = dict.fromkeys(sorted(wanted - listed.keys()), "not listed by the venue")
    pool: list[Symbol] = []
    for symbol in sorted(listed):
        reason = _why_out(listed[symbol], volumes_24h_quote.get(symbol), wanted, settings)
        if reason is None or symbol in held:
            pool.append(symbol)
        else:
            left_out[symbol] = reason
    by_rank = sorted(pool, key=lambda symbol: (symbol not in held, -volumes_24h_quote.get(symbol, 0.0), symbol))
    l2 = by_rank[: max(settings.l2_limit, len(held))]
    l3 = l2[: max(settings.l3_limit, len(held) if settings.l3_limit else 0)]
    return UniverseChoice(
        pool=tuple(pool),
        l2=tuple(sorted(l2)),
        l3=tuple(sorted(l3)),
        execution=tuple(sorted(l2)),
        pinned=tuple(sorted(held)),
        left_out={**left_out, **dict.fromkeys(by_rank[len(l2) :], "above the L2 limit")},
    )


def pegged_reason(base: Asset, quote: Asset) -> str | None:
    """Return why a pair has no price of its own to trade; None when it has one."""
    if base in FIAT and quote in FIAT:
        return "fiat against fiat"
    if PEGGED_TO.get(base) in FIAT:
        return "stable base"
    if PEGGED_TO.get(base, base) == PEGGED_TO.get(quote, quote):
        return "base is pegged to quote"
    return None


def _why_out(
    instrument: Instrument, volume: float | None, wanted: frozenset[Symbol], settings: UniverseSettings
) -> str | None:
    if wanted and instrument.symbol not in wanted:
        return "not configured"
    if instrument.status is not InstrumentStatus.ONLINE:
        return f"status {instrument.status}"
    if instrument.quote not in settings.quotes:
        return f"quote {instrument.quote} is not traded"
    pegged = pegged_reason(instrument.base, instrument.quote)
    if pegged or wanted:
        return pegged
    if volume is None:
        return "24 h volume is not known"
    return "24 h volume under the minimum" if volume < settings.min_volume_24h_quote else None
