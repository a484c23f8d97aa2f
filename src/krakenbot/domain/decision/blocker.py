"""Blockers: why a symbol is not traded, in one code with its numbers.

Precedence is the order of the members of `BlockerCode`: the first that applies is the dominant one.
"""

from __future__ import annotations

import enum
from datetime import datetime

from attrs import frozen


class BlockerCode(enum.StrEnum):
    """Reasons not to enter, in order of precedence (system, safety, instrument, data, regime, ...)."""

    # system
    ENGINE_MODE = "ENGINE_MODE"
    LEASE = "LEASE"
    EXCHANGE_MODE = "EXCHANGE_MODE"
    RECONCILIATION = "RECONCILIATION"
    RATE_BUDGET = "RATE_BUDGET"
    GENERATION = "GENERATION"
    EPOCH = "EPOCH"
    # symbol safety
    SYMBOL_SAFETY = "SYMBOL_SAFETY"
    UNKNOWN_ORDER = "UNKNOWN_ORDER"
    TIE_OUT = "TIE_OUT"
    # instrument
    INSTRUMENT_STATUS = "INSTRUMENT_STATUS"
    NOT_IN_UNIVERSE = "NOT_IN_UNIVERSE"
    # data
    STATE_MISSING = "STATE_MISSING"
    STATE_STALE = "STATE_STALE"
    BOOK_INVALID = "BOOK_INVALID"
    BOOK_STALE = "BOOK_STALE"
    INCOMPLETE = "INCOMPLETE"
    # regime, strategy
    REGIME = "REGIME"
    HURDLE = "HURDLE"
    # economics
    WARMING_UP = "WARMING_UP"
    SURPLUS = "SURPLUS"
    QUEUE_DECISION = "QUEUE_DECISION"
    # fill probability
    FILL_UNKNOWN = "FILL_UNKNOWN"
    FILL_PROBABILITY = "FILL_PROBABILITY"
    # capital and risk
    MINIMUM_SIZE = "MINIMUM_SIZE"
    DEPTH = "DEPTH"
    OPEN_ORDER = "OPEN_ORDER"
    OPEN_POSITION = "OPEN_POSITION"
    CAPITAL = "CAPITAL"
    EXPOSURE = "EXPOSURE"
    OPEN_ORDERS_LIMIT = "OPEN_ORDERS_LIMIT"
    ORDER_RATE = "ORDER_RATE"
    DAY_LOSS = "DAY_LOSS"
    DRAWDOWN = "DRAWDOWN"
    PRICE_BAND = "PRICE_BAND"
    UNSEEN_FILL = "UNSEEN_FILL"
    STALE_ACCOUNT = "STALE_ACCOUNT"
    CORRELATED_FILLS = "CORRELATED_FILLS"
    # not first in this cycle
    OUTRANKED = "OUTRANKED"

    @property
    def precedence(self) -> int:
        """Return the rank of this code; lower dominates."""
        return _PRECEDENCE[self]


_PRECEDENCE = {code: rank for rank, code in enumerate(BlockerCode)}


@frozen(kw_only=True)
class Blocker:
    """One reason not to trade: code, value against limit in `unit`, and what would clear it.

    `value` and `limit` are None where a code has no number. `since` is None until a cycle has seen it before.
    """

    code: BlockerCode
    detail: str
    clears_when: str
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    since: datetime | None = None
