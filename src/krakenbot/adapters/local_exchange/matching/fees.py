"""Know the fee rates: the venue's schedule by 30-day volume, flat rates, and rates of single pairs.

Settlement asks for the rates of a trade, holds for the dearest one, TradeVolume for the figures to show. Rates
are parts per million (25 bps are 2500); a negative maker rate pays the maker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final

from attrs import define, field, frozen

from krakenbot.adapters.local_exchange.flow.instruments import MONEY
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules

WINDOW_NS: Final = 30 * 86_400 * 1_000_000_000
ZERO: Final = Decimal(0)
PPM_PER_BP: Final = 100
MAX_PPM: Final = 100_000


@frozen
class Rates:
    """What maker and taker pay, in parts per million."""

    maker_ppm: int
    taker_ppm: int

    @property
    def dearest_ppm(self) -> int:
        """Return the rate that a hold must cover."""
        return max(self.maker_ppm, self.taker_ppm, 0)


@frozen
class FeeTier:
    """The rates from a 30-day volume in USD on."""

    volume_usd: int
    rates: Rates


def _schedule(*rows: tuple[int, int, int]) -> tuple[FeeTier, ...]:
    return tuple(FeeTier(volume, Rates(maker, taker)) for volume, maker, taker in rows)


STANDARD_SCHEDULE: Final = _schedule(
    (0, 2500, 4000),
    (10_000, 2000, 3500),
    (50_000, 1400, 2400),
    (100_000, 1200, 2200),
    (250_000, 1000, 2000),
    (500_000, 800, 1800),
    (1_000_000, 600, 1600),
    (2_500_000, 400, 1400),
    (5_000_000, 200, 1200),
    (10_000_000, 0, 1000),
)
"""Embedded in an AssetPairs payload of November 2025."""
MONEY_SCHEDULE: Final = _schedule(
    (0, 2000, 2000),
    (50_000, 1600, 1600),
    (100_000, 1200, 1200),
    (250_000, 800, 800),
    (500_000, 400, 400),
    (1_000_000, 0, 0),
)
"""Stable and currency pairs; from an older recorded AssetPairs payload."""


@define(eq=False)
class TradedVolume:
    """What an account traded in the last 30 days, in USD."""

    total_usd: Decimal = ZERO
    _trades: deque[tuple[int, Decimal]] = field(factory=deque)

    def add(self, usd: Decimal, at_ns: int) -> None:
        """Count one trade; a negative amount takes volume away."""
        self._trades.append((at_ns, usd))
        self.total_usd += usd

    def restart(self, now_ns: int) -> None:
        """Count all of it as traded now."""
        self._trades = deque([(now_ns, self.total_usd)])

    def at(self, now_ns: int) -> Decimal:
        """Return the volume of the 30 days up to now."""
        while self._trades and self._trades[0][0] <= now_ns - WINDOW_NS:
            self.total_usd -= self._trades.popleft()[1]
        return self.total_usd


@frozen(kw_only=True)
class FeeFigures:
    """One side's rates as TradeVolume shows them; None beyond the last tier."""

    fee_ppm: int
    lowest_ppm: int
    highest_ppm: int
    next_ppm: int | None
    next_volume_usd: int | None
    tier_volume_usd: int


class FeeBook:
    """The fee rules of one exchange."""

    def __init__(self, flat: Rates | None, pairs: dict[str, Rates]) -> None:
        self._flat = flat
        self._pairs = pairs

    def schedule(self, rules: InstrumentRules) -> tuple[FeeTier, ...]:
        """Return the tiers of a pair, lowest volume first; one tier where the rates are flat."""
        flat = self._pairs.get(rules.symbol, self._flat)
        if flat is not None:
            return (FeeTier(0, flat),)
        return MONEY_SCHEDULE if {rules.base, rules.quote} <= MONEY else STANDARD_SCHEDULE

    def rates(self, rules: InstrumentRules, volume_usd: Decimal) -> Rates:
        """Return the rates of a pair at a 30-day volume."""
        return _tier(self.schedule(rules), volume_usd)[0].rates

    def set_pair(self, symbol: str, rates: Rates | None) -> None:
        """Give a pair rates of its own, or take them away with None."""
        if rates is None:
            self._pairs.pop(symbol, None)
        else:
            self._pairs[symbol] = rates

    def figures(
        self, rules: InstrumentRules, volume_usd: Decimal, fixed: Rates | None
    ) -> tuple[FeeFigures, FeeFigures]:
        """Return what TradeVolume shows of a pair, for the maker and for the taker; `fixed` is the account's own."""
        schedule = self.schedule(rules) if fixed is None else (FeeTier(0, fixed),)
        reached, following = _tier(schedule, volume_usd)

        def one(rate: Callable[[Rates], int]) -> FeeFigures:
            numbers = [rate(tier.rates) for tier in schedule]
            return FeeFigures(
                fee_ppm=rate(reached.rates),
                lowest_ppm=min(numbers),
                highest_ppm=max(numbers),
                next_ppm=None if following is None else rate(following.rates),
                next_volume_usd=None if following is None else following.volume_usd,
                tier_volume_usd=reached.volume_usd,
            )

        return one(lambda rates: rates.maker_ppm), one(lambda rates: rates.taker_ppm)


def parse_pair_fees(texts: Iterable[str]) -> dict[str, Rates]:
    """Return the rates of single pairs from `SYMBOL=MAKER/TAKER` texts in basis points.

    Raises ValueError for what is written otherwise, or beyond 1,000 basis points.
    """
    found: dict[str, Rates] = {}
    for text in texts:
        symbol, _, numbers = text.partition("=")
        try:
            maker, taker = (Decimal(number) * PPM_PER_BP for number in numbers.split("/"))
        except (ArithmeticError, ValueError) as error:
            raise ValueError(f"--pair-fee {text}: write SYMBOL=MAKER/TAKER in basis points") from error
        if not (maker.is_finite() and taker.is_finite()):
            raise ValueError(f"--pair-fee {text}: rates are numbers")
        if not (abs(maker) <= MAX_PPM and 0 <= taker <= MAX_PPM) or maker % 1 or taker % 1 or symbol in found:
            raise ValueError(f"--pair-fee {text}: one per symbol, in hundredths of a basis point, up to 1000")
        found[symbol] = Rates(int(maker), int(taker))
    return found


def _tier(schedule: tuple[FeeTier, ...], volume_usd: Decimal) -> tuple[FeeTier, FeeTier | None]:
    """Return the tier of a volume and the next one."""
    reached = max(index for index, tier in enumerate(schedule) if index == 0 or volume_usd >= tier.volume_usd)
    return schedule[reached], schedule[reached + 1] if reached + 1 < len(schedule) else None
