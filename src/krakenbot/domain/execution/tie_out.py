"""The tie-out: own fills, the venue's ledger and the balances must say the same, to the last digit.

Enters: a cursor with the balances of an earlier tie-out, the ledger entries since, the balances now, own fills. Leaves:
every difference by name, and the next cursor. Pure, and independent of the order and of repetitions of entries. Called
by the ledger keeper.

Balance = cursor + sum of (amount - fee) over entries, per asset. An own fill = the entries that name it. What is not
ours has the venue's own word for it: another program's trade, a deposit, Earn. What nothing explains is a difference.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from attrs import Factory, frozen

from krakenbot.domain.execution.fills import Fill, assets_of, balance_deltas
from krakenbot.domain.values import Asset, ExecId

_ZERO = Decimal(0)
# Histories lag the stream by up to 60 s (FACTS 10): entries may still appear behind a younger one.
OVERLAP = timedelta(seconds=120)
VISIBLE_AFTER = timedelta(seconds=60)
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
    OTHER = "other"


@frozen(kw_only=True)
class Named:
    """Changes of one asset with one cause: their sum and how many; `detail` has the venue's words for `OTHER`."""

    cause: Cause
    asset: Asset
    amount: Decimal
    count: int
    detail: str = ""


@frozen(kw_only=True)
class Unexplained:
    """A difference that nothing explains: `amount` is what is there beyond what should be."""

    asset: Asset
    amount: Decimal
    detail: str


@frozen(kw_only=True)
class Cursor:
    """Up to where everything tied out: balances then, and entries that were counted and may be shown again."""

    at: datetime
    balances: Mapping[Asset, Decimal]
    counted: frozenset[str] = frozenset()


def first_cursor(entries: Iterable[LedgerEntry], balances: Mapping[Asset, Decimal], at: datetime) -> Cursor:
    """Return the cursor to begin with: the balances as they are, and nothing before them is asked about."""
    counted = frozenset(entry.ledger_id for entry in entries if entry.at >= at - OVERLAP)
    return Cursor(at=at, balances={asset: qty for asset, qty in balances.items() if qty}, counted=counted)


@frozen(kw_only=True)
class TieOut:
    """The result of one tie-out. `is_pending`: something is too young to be judged, so no new cursor was made."""

    named: tuple[Named, ...]
    unexplained: tuple[Unexplained, ...]
    is_pending: bool
    cursor: Cursor
    entries: int = 0
    third_asset_fees: Mapping[Asset, Decimal] = Factory(dict)


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


def tie_out(
    cursor: Cursor,
    entries: Iterable[LedgerEntry],
    balances: Mapping[Asset, Decimal],
    fills: Iterable[Fill],
    at: datetime,
) -> TieOut:
    """Compare ledger, balances and own fills as of `at`.

    `entries` and `fills` are all since `cursor.at - OVERLAP`; older ones are left out, the cursor has counted them.
    """
    distinct = {entry.ledger_id: entry for entry in entries if entry.at >= cursor.at - OVERLAP}
    fresh = [distinct[name] for name in sorted(distinct) if name not in cursor.counted]
    own = {fill.exec_id: fill for fill in fills}
    own_ids = frozenset(own)
    changes: dict[Asset, Decimal] = dict(cursor.balances)
    for entry in fresh:
        changes[entry.asset] = changes.get(entry.asset, _ZERO) + entry.change
    unexplained = [
        Unexplained(asset=asset, amount=amount, detail=f"{amount:f} that no ledger entry explains")
        for asset in sorted({*changes, *balances})
        if (amount := balances.get(asset, _ZERO) - changes.get(asset, _ZERO))
    ]
    wrong, young, in_other = _compare_fills(own, distinct.values(), cursor, at)
    foreign_is_young = any(
        entry.kind == "trade" and entry.ref_id not in own_ids and at - entry.at < VISIBLE_AFTER for entry in fresh
    )
    is_pending = young or foreign_is_young
    kept = frozenset(name for name, entry in distinct.items() if entry.at >= at - OVERLAP)
    advanced = Cursor(at=at, balances={a: b for a, b in balances.items() if b}, counted=kept)
    return TieOut(
        named=_named(fresh, own_ids, in_other),
        unexplained=tuple(unexplained) + wrong,
        is_pending=is_pending,
        cursor=cursor if is_pending or unexplained or wrong else advanced,
        entries=len(fresh),
        third_asset_fees={asset: amount for asset, amount in sorted(in_other.items()) if amount},
    )


def _expected(fill: Fill) -> dict[Asset, Decimal]:
    base, quote = assets_of(fill.symbol)
    base_delta, quote_delta = balance_deltas(fill)
    found = {base: base_delta, quote: quote_delta}
    if fill.fee_asset not in found:
        found[fill.fee_asset] = -fill.fee_qty
    return found


def _compare_fills(
    own: Mapping[ExecId, Fill], entries: Iterable[LedgerEntry], cursor: Cursor, at: datetime
) -> tuple[tuple[Unexplained, ...], bool, dict[Asset, Decimal]]:
    """Compare each own fill with its entries: differences, whether one is too young, fees that another asset paid."""
    by_fill: dict[str, dict[Asset, Decimal]] = {}
    fees: dict[str, dict[Asset, Decimal]] = {}
    for entry in entries:
        if entry.ref_id in own:
            sums = by_fill.setdefault(entry.ref_id, {})
            sums[entry.asset] = sums.get(entry.asset, _ZERO) + entry.change
            paid = fees.setdefault(entry.ref_id, {})
            paid[entry.asset] = paid.get(entry.asset, _ZERO) + entry.fee
    wrong: list[Unexplained] = []
    in_other: dict[Asset, Decimal] = {}
    young = False
    for exec_id, fill in sorted(own.items()):
        expected, shown = _expected(fill), by_fill.get(exec_id)
        if shown is None:
            # A fill from before the cursor has had its entries then.
            young = young or (fill.at > cursor.at and at - fill.at < VISIBLE_AFTER)
            if fill.at > cursor.at and at - fill.at >= VISIBLE_AFTER:
                base = assets_of(fill.symbol)[0]
                wrong.append(Unexplained(asset=base, amount=-expected[base], detail=f"fill {exec_id} has no entry"))
            continue
        differs = {a: shown.get(a, _ZERO) - expected.get(a, _ZERO) for a in {*shown, *expected}}
        if not any(differs.values()):
            continue
        if _is_fee_elsewhere(fill, differs, fees[exec_id]):
            for asset, amount in fees[exec_id].items():
                in_other[asset] = in_other.get(asset, _ZERO) + amount
            continue
        wrong.extend(
            Unexplained(asset=asset, amount=amount, detail=f"fill {exec_id} differs by {amount:f}")
            for asset, amount in sorted(differs.items())
            if amount
        )
    return tuple(wrong), young, in_other


def _is_fee_elsewhere(fill: Fill, differs: Mapping[Asset, Decimal], paid: Mapping[Asset, Decimal]) -> bool:
    """Tell whether a fill differs by its fee alone, which the venue took from another asset than it had stated."""
    without_fee = dict(differs)
    without_fee[fill.fee_asset] = without_fee.get(fill.fee_asset, _ZERO) - fill.fee_qty
    for asset, amount in paid.items():
        without_fee[asset] = without_fee.get(asset, _ZERO) + amount
    return not any(without_fee.values()) and any(a != fill.fee_asset and q for a, q in paid.items())


def _named(
    fresh: Iterable[LedgerEntry], own: frozenset[ExecId], in_other: Mapping[Asset, Decimal]
) -> tuple[Named, ...]:
    sums: dict[tuple[Cause, Asset], tuple[Decimal, int, set[str]]] = {}
    for entry in fresh:
        cause = cause_of(entry, own)
        amount, count, words = sums.get((cause, entry.asset), (_ZERO, 0, set()))
        said = {f"{entry.kind} {entry.subtype}".strip()} if cause is Cause.OTHER else set()
        sums[cause, entry.asset] = (amount + entry.change, count + 1, words | said)
    found = [
        Named(cause=cause, asset=asset, amount=amount, count=count, detail=", ".join(sorted(words)))
        for (cause, asset), (amount, count, words) in sorted(sums.items())
    ]
    found += [
        Named(cause=Cause.FEE_IN_ANOTHER_ASSET, asset=asset, amount=-amount, count=1)
        for asset, amount in sorted(in_other.items())
        if amount
    ]
    return tuple(found)
