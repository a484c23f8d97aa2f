"""The instruments, assets and reference prices that the local exchange lists.

The tables beside this module were written by `scripts/write_instruments.py` from one recorded `instrument`
snapshot. In: package data. Out: `InstrumentRules` in ticks and lots, assets, and a choice of symbols for the
server and for rehearsals.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from importlib import resources

from attrs import frozen

from krakenbot.adapters.local_exchange.flow.market import InstrumentRules

MONEY = frozenset(
    ("USD", "EUR", "GBP", "CHF", "CAD", "AUD", "JPY", "AED", "USDT", "USDC", "DAI", "PYUSD", "TUSD", "EURT", "UST")
)
PEGGED = frozenset(("WBTC", "TBTC", "MSOL", "PAXG"))
FIRST_BASES = (
    "BTC", "ETH", "SOL", "DOGE", "XRP", "ADA", "AVAX", "LINK", "DOT", "LTC", "MATIC", "ATOM", "UNI", "BCH", "XLM",
    "TRX", "AAVE", "INJ", "NEAR", "FIL", "ALGO", "ETC", "XTZ", "GRT", "MINA", "SUI", "APT", "ARB", "OP", "TIA",
)  # fmt: skip
# A step in price of more than this makes a quote jump visibly: such symbols are chosen last.
COARSE_TICK_BPS = 5


@frozen(kw_only=True)
class AssetRules:
    """One asset as the venue's instrument snapshot states it; precisions are decimal places."""

    id: str
    precision: int
    precision_display: int
    status: str


@cache
def load_instruments() -> dict[str, InstrumentRules]:
    """Return the rules of every listed pair by symbol.

    Raises ValueError if an increment or a minimum is no whole number of ticks or lots.
    """
    rules = (_rules_from_row(row) for row in _read_table("instruments.tsv"))
    return {rule.symbol: rule for rule in rules}


@cache
def load_assets() -> dict[str, AssetRules]:
    """Return every listed asset by its id."""
    return {
        row["id"]: AssetRules(
            id=row["id"],
            precision=int(row["precision"]),
            precision_display=int(row["precision_display"]),
            status=row["status"],
        )
        for row in _read_table("assets.tsv")
    }


@cache
def load_reference_prices() -> dict[str, Decimal]:
    """Return a rounded price in US dollars for every base and every quote asset; no venue's quotation."""
    return {row["base"]: Decimal(row["price_usd"]) for row in _read_table("reference_prices.tsv")}


def reference_price(rules: InstrumentRules) -> Decimal:
    """Return the opening price of a pair in its quote currency, from the two assets' reference prices."""
    prices = load_reference_prices()
    return prices[rules.base] / prices[rules.quote]


def choose_symbols(count: int) -> list[str]:
    """Return the first `count` symbols of a fixed order: US dollar majors, dollar alts, then other quotes.

    Only online pairs; money and pegged coins are never the base. Raises ValueError if `count` is not
    positive or exceeds what is listed.
    """
    order = _symbol_order()
    if not 0 < count <= len(order):
        raise ValueError(f"{count} symbols: allowed are 1 to {len(order)}")
    return list(order[:count])


@cache
def _symbol_order() -> tuple[str, ...]:
    listed = load_instruments().values()
    open_pairs = [rule for rule in listed if rule.status == "online" and rule.base not in MONEY | PEGGED]
    rank = {base: position for position, base in enumerate(FIRST_BASES)}
    quotes = ("USD", "EUR", "GBP", "USDT", "BTC", "ETH")

    def key(rule: InstrumentRules) -> tuple[int, int, bool, bool, str]:
        quote = quotes.index(rule.quote) if rule.quote in quotes else len(quotes)
        tick_bps = Decimal(10) ** (4 - rule.price_precision) * rule.price_increment_ticks / reference_price(rule)
        return (quote, rank.get(rule.base, len(rank)), tick_bps > COARSE_TICK_BPS, not rule.has_index, rule.symbol)

    return tuple(rule.symbol for rule in sorted(open_pairs, key=key))


def _rules_from_row(row: dict[str, str]) -> InstrumentRules:
    price_precision, qty_precision = int(row["price_precision"]), int(row["qty_precision"])
    return InstrumentRules(
        symbol=row["symbol"],
        base=row["base"],
        quote=row["quote"],
        status=row["status"],
        price_precision=price_precision,
        qty_precision=qty_precision,
        cost_precision=int(row["cost_precision"]),
        price_increment_ticks=_whole(row["price_increment"], price_precision),
        qty_increment_lots=_whole(row["qty_increment"], qty_precision),
        qty_min_lots=_whole(row["qty_min"], qty_precision),
        cost_min=row["cost_min"],
        has_index=row["has_index"] == "true",
    )


def _whole(text: str, precision: int) -> int:
    scaled = Decimal(text).scaleb(precision)
    if scaled != int(scaled):
        raise ValueError(f"{text} is no whole number of units at precision {precision}")
    return int(scaled)


def _read_table(name: str) -> list[dict[str, str]]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    header, *lines = text.splitlines()
    columns = header.split("\t")
    return [dict(zip(columns, line.split("\t"), strict=True)) for line in lines]
