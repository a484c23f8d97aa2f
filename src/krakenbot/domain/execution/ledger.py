"""The venue's ledger in our words: its entries, what they are named, and up to where they were counted.

Called by the codec, which makes entries, by the tie-out, which compares them, and by the ledger's store.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from attrs import frozen

from krakenbot.domain.values import Asset, ExecId

# Histories lag the stream by up to 60 s (FACTS 10): entries may still appear behind a younger one.
OVERLAP = timedelta(seconds=120)
VISIBLE_AFTER = timedelta(seconds=60)
# How far the venue's clock and ours may lie apart.
CLOCKS = timedelta(seconds=5)
_EARN_SUFFIXES = ("F", "S", "M", "B", "P")
_EARN_WORDS = ("earn", "staking", "allocation", "bond", "reward", "dividend")
_TRADE_KINDS = frozenset({"trade", "spend", "receive", "conversion", "sale"})


@frozen(kw_only=True)
class LedgerEntry:
    """One booking of the venue's ledger; `amount` is signed and before `fee`, `balance` is after both.

    `ref_id` is the exec_id of a trade; `kind` and `subtype` are the venue's words.
    """

    ledger_id: str
    ref_id: str
    at: datetime
    kind: str
    subtype: str
    asset: Asset
    amount: Decimal
    fee: Decimal
    balance: Decimal

    @property
    def change(self) -> Decimal:
        """Return what the entry did to the balance."""
        return self.amount - self.fee


class Cause(enum.StrEnum):
    """What a change of a balance is named."""

    OWN_TRADE = "own_trade"
    FOREIGN_TRADE = "foreign_trade"
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    TRANSFER = "transfer"
    EARN = "earn"
    DUST = "dust"
    FEE_IN_ANOTHER_ASSET = "fee_in_another_asset"
    ACCEPTED = "accepted"
    OTHER = "other"


@frozen(kw_only=True)
class Named:
    """Changes of one asset with one cause: their sum and how many.

    `detail` has the venue's words for `OTHER`, and who accepted a difference and why.
    """

    cause: Cause
    asset: Asset
    amount: Decimal
    count: int
    detail: str = ""


@frozen(kw_only=True)
class Unexplained:
    """A difference that nothing explains: `amount` is what is there beyond what should be.

    While the balance moves, several amounts are `possible`; a difference that lasts has one that comes again.
    `may_be_late`: the entry that explains it may still be hidden; it is a difference when that time has passed.
    """

    asset: Asset
    amount: Decimal
    detail: str
    possible: frozenset[Decimal]
    may_be_late: bool = False


@frozen(kw_only=True)
class Acceptance:
    """A person's word that a difference of this amount is known and may stay; it holds for that amount alone."""

    number: int
    asset: Asset
    amount: Decimal
    who: str
    reason: str


@frozen(kw_only=True)
class Cursor:
    """Up to where everything tied out: balances then, and entries that were counted and may be shown again."""

    at: datetime
    balances: Mapping[Asset, Decimal]
    counted: frozenset[str] = frozenset()


def is_earn(asset: Asset) -> bool:
    """Tell whether an asset's name is that of an Earn wallet, such as "BTC.F": not spot, and never counted."""
    _, dot, suffix = asset.rpartition(".")
    return bool(dot) and suffix.rstrip("0123456789") in _EARN_SUFFIXES


def cause_of(entry: LedgerEntry, own: frozenset[ExecId]) -> Cause:
    """Return the name of one entry's change."""
    words = f"{entry.kind} {entry.subtype}".lower()
    if entry.ref_id in own:
        return Cause.OWN_TRADE
    if "dust" in words:
        return Cause.DUST
    if is_earn(entry.asset) or any(word in words for word in _EARN_WORDS):
        return Cause.EARN
    if entry.kind in _TRADE_KINDS:
        return Cause.FOREIGN_TRADE
    if entry.kind in {Cause.DEPOSIT, Cause.WITHDRAWAL, Cause.TRANSFER}:
        return Cause(entry.kind)
    return Cause.OTHER
