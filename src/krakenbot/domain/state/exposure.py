"""Exposure: what positions and possible positions tie up.

Enters: values of held positions, notionals of entry orders that may still fill. Leaves: sums per symbol and in all.
Called by the risk gate and by capital. Open, in-flight and UNKNOWN orders count as filled.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from attrs import frozen

from krakenbot.domain.values import Symbol

_BPS = Decimal(10_000)


@frozen(kw_only=True)
class Exposure:
    """Value at risk in quote units, by symbol; a symbol that is not there has none."""

    by_symbol: dict[Symbol, Decimal]

    @property
    def total_quote(self) -> Decimal:
        """Return the sum over all symbols."""
        return sum(self.by_symbol.values(), Decimal(0))

    def of(self, symbol: Symbol) -> Decimal:
        """Return the exposure of one symbol."""
        return self.by_symbol.get(symbol, Decimal(0))


def exposure_of(position_values: Mapping[Symbol, Decimal], entry_notionals: Mapping[Symbol, Decimal]) -> Exposure:
    """Add held positions and every entry order that may still fill."""
    symbols = sorted({*position_values, *entry_notionals})
    zero = Decimal(0)
    return Exposure(
        by_symbol={s: position_values.get(s, zero) + entry_notionals.get(s, zero) for s in symbols},
    )


def reserve_quote(cost_quote: Decimal, taker_fee_bps: Decimal) -> Decimal:
    """Return what a buy reserves: its cost and a taker's fee on it."""
    return cost_quote * (1 + taker_fee_bps / _BPS)
