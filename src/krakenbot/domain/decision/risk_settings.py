"""Risk limits, and the hard ceilings that no setting may exceed. Read by the risk gate."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt, le, lt

MAX_TOTAL_EXPOSURE_SHARE = 0.5
MAX_SYMBOL_EXPOSURE_SHARE = 0.2
MAX_OPEN_ENTRIES = 50
MAX_ENTRIES_PER_MIN = 30
MAX_DAY_LOSS_SHARE = 0.05
MAX_DRAWDOWN_SHARE = 0.20
MAX_PRICE_BAND_BPS = 1000.0
MAX_CORRELATED_FILLS = 10


@frozen(kw_only=True)
class RiskSettings:
    """Limits of the risk gate; shares are of equity. Raises ValueError above the module's ceilings."""

    total_exposure_share: float = field(default=0.30, validator=[gt(0.0), le(MAX_TOTAL_EXPOSURE_SHARE)])
    symbol_exposure_share: float = field(default=0.10, validator=[gt(0.0), le(MAX_SYMBOL_EXPOSURE_SHARE)])
    max_open_entries: int = field(default=10, validator=[ge(1), le(MAX_OPEN_ENTRIES)])
    max_entries_per_min: int = field(default=10, validator=[ge(1), le(MAX_ENTRIES_PER_MIN)])
    day_loss_share: float = field(default=0.01, validator=[gt(0.0), le(MAX_DAY_LOSS_SHARE)])
    drawdown_share: float = field(default=0.05, validator=[gt(0.0), le(MAX_DRAWDOWN_SHARE)])
    price_band_bps: float = field(default=500.0, validator=[gt(0.0), le(MAX_PRICE_BAND_BPS)])
    unseen_fill_hold_s: float = field(default=600.0, validator=ge(60.0))
    correlated_fills: int = field(default=3, validator=[ge(1), le(MAX_CORRELATED_FILLS)])
    correlated_btc_sigmas: float = field(default=-4.0, validator=[lt(0.0), ge(-10.0)])
    correlated_hold_s: float = field(default=600.0, validator=ge(60.0))
