"""The universe: which instruments are watched, by order queue, and traded.

Enters: instruments as the venue states them, 24 h volumes, the configured symbols, the pinned ones, the standing of
those in trouble, the choice before. Leaves: one choice, with a reason for everything left out. Called by the epoch
publisher of ingest at each universe refresh.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from attrs import field, frozen
from attrs.validators import ge, gt, le

from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.state.standing import Standing
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
    """What belongs to the universe. The volume counts in each pair's own quote asset; limits count symbols.

    `keep_share` is the share of what it takes to come in that is enough to stay, by volume and by rank: without such a
    margin symbols on the edge would come and go.
    """

    quotes: frozenset[Asset] = frozenset({Asset("USD")})
    min_volume_24h_quote: float = field(default=100_000.0, validator=ge(0.0))
    l2_limit: int = field(default=600, validator=ge(1))
    l3_limit: int = field(default=200, validator=ge(0))
    keep_share: float = field(default=0.8, validator=[gt(0.0), le(1.0)])


@frozen(kw_only=True)
class UniverseChoice:
    """Layers, each in symbol order: `pool` may be watched, `l2` of it is, `l3` of that by order queue as well.

    `execution` is the part of the L2 set in which entries may be made. Pinned symbols are in all of them. `left_out`
    says why for every instrument that is not in the execution set, and for a wanted symbol that does not exist.
    """

    pool: tuple[Symbol, ...]
    l2: tuple[Symbol, ...]
    l3: tuple[Symbol, ...]
    execution: tuple[Symbol, ...]
    pinned: tuple[Symbol, ...]
    left_out: dict[Symbol, str]


NO_UNIVERSE = UniverseChoice(pool=(), l2=(), l3=(), execution=(), pinned=(), left_out={})
NO_TROUBLE = Standing()


def choose_universe(
    instruments: Iterable[Instrument],
    volumes_24h_quote: Mapping[Symbol, float],
    *,
    configured: Iterable[Symbol],
    pinned: Iterable[Symbol],
    settings: UniverseSettings,
    previous: UniverseChoice = NO_UNIVERSE,
    standing: Standing = NO_TROUBLE,
) -> UniverseChoice:
    """Choose the layers: pinned symbols first and always, then by volume, ties by symbol.

    With `configured` symbols only those are chosen, whatever their volume. Without, a symbol whose volume is not known
    is watched so that its ticker can tell, after all others, and is not in the execution set. Exclusions by kind hold
    for configured symbols too. A pinned symbol stays in every layer, whatever happens to it, as long as the venue
    lists it at all. A symbol that is not online comes in no layer; one that was in stays subscribed until it is barred.
    """
    listed = {instrument.symbol: instrument for instrument in instruments}
    wanted, asked = frozenset(configured), frozenset(pinned)
    held, members = asked & listed.keys(), frozenset(previous.l2)
    left_out = dict.fromkeys(sorted((wanted | asked) - listed.keys()), "not listed by the venue")
    weights = _weights(volumes_24h_quote, members, settings)
    pool: list[Symbol] = []
    for symbol in sorted(listed):
        reason = standing.barred.get(symbol) or _why_out(
            listed[symbol], weights.get(symbol), wanted, settings, is_member=symbol in members
        )
        if reason is None or symbol in held:
            pool.append(symbol)
        else:
            left_out[symbol] = reason
    l2 = _first(pool, weights, held, max(settings.l2_limit, len(held)))
    left_out |= dict.fromkeys(set(pool) - set(l2), "above the L2 limit")
    queued = [symbol for symbol in l2 if symbol in held or symbol not in standing.barred_l3]
    l3_weights = _weights(volumes_24h_quote, frozenset(previous.l3), settings)
    l3 = _first(queued, l3_weights, held, max(settings.l3_limit, len(held)) if settings.l3_limit else 0)
    idle = {symbol: standing.suspended[symbol] for symbol in l2 if symbol in standing.suspended}
    if not wanted:
        idle = dict.fromkeys((s for s in l2 if s not in volumes_24h_quote), "24 h volume is not known") | idle
    idle = {symbol: reason for symbol, reason in idle.items() if symbol not in held}
    return UniverseChoice(
        pool=tuple(pool),
        l2=tuple(sorted(l2)),
        l3=tuple(sorted(l3)),
        execution=tuple(sorted(set(l2) - idle.keys())),
        pinned=tuple(sorted(held)),
        left_out=left_out | idle,
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


def _weights(
    volumes_24h_quote: Mapping[Symbol, float], members: Collection[Symbol], settings: UniverseSettings
) -> dict[Symbol, float]:
    """Return the volumes as they count: those of members are raised by the margin that keeps them in."""
    return {
        symbol: volume / settings.keep_share if symbol in members else volume
        for symbol, volume in volumes_24h_quote.items()
    }


def _first(
    symbols: Iterable[Symbol], weights: Mapping[Symbol, float], held: Collection[Symbol], limit: int
) -> list[Symbol]:
    return sorted(symbols, key=lambda symbol: (symbol not in held, -weights.get(symbol, -1.0), symbol))[:limit]


def _why_out(
    instrument: Instrument,
    weight: float | None,
    wanted: frozenset[Symbol],
    settings: UniverseSettings,
    *,
    is_member: bool,
) -> str | None:
    if wanted and instrument.symbol not in wanted:
        return "not configured"
    if instrument.status is not InstrumentStatus.ONLINE and not is_member:
        return f"status {instrument.status}"
    if instrument.quote not in settings.quotes:
        return f"quote {instrument.quote} is not traded"
    pegged = pegged_reason(instrument.base, instrument.quote)
    if pegged or wanted or weight is None:
        return pegged
    return "24 h volume under the minimum" if weight < settings.min_volume_24h_quote else None
