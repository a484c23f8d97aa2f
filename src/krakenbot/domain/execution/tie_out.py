"""The tie-out: own fills, the venue's ledger and the balances must say the same, to the last digit.

Enters: a cursor with the balances of an earlier tie-out, the ledger entries since, balances read a moment before, own
fills. Leaves: every difference by name, and the next cursor. Pure, and independent of the order and of repetitions of
entries. Called by the ledger keeper.

No quiet instant is needed: the ledger itself is the anchor. Each entry leads from one balance of its asset to the
next, so all of them make one chain that begins at the cursor's balance. The balances that were read must be a point of
that chain at the time of reading. What is too young to be judged (a trade whose fill we have not booked, a fill whose
entries are not shown) ends the judged part; the cursor moves to there, and the rest is for the next time.

An own fill = the entries that name it. What is not ours has the venue's own word for it: another program's trade, a
deposit, Earn. What nothing explains is a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from attrs import Factory, frozen

from krakenbot.domain.execution.fills import Fill, assets_of, balance_deltas
from krakenbot.domain.execution.ledger import (
    CLOCKS,
    OVERLAP,
    VISIBLE_AFTER,
    Acceptance,
    Cause,
    Cursor,
    LedgerEntry,
    Named,
    Unexplained,
    cause_of,
)
from krakenbot.domain.execution.ledger_chain import gaps_of, strange_balances
from krakenbot.domain.values import Asset, ExecId

_ZERO = Decimal(0)
_INSTANT = timedelta(microseconds=1)


@frozen(kw_only=True)
class TieOut:
    """The result of one tie-out.

    `is_pending`: something was too young to be judged; look again soon. `cursor` is the old one when nothing could be
    judged, and with a difference between fills and entries or inside the ledger. A balance that the ledger does not
    explain does not hold it: that difference stays for every later look.
    """

    named: tuple[Named, ...]
    unexplained: tuple[Unexplained, ...]
    is_pending: bool
    cursor: Cursor
    entries: int = 0
    third_asset_fees: Mapping[Asset, Decimal] = Factory(dict)
    accepted: tuple[Acceptance, ...] = ()


def tie_out(
    cursor: Cursor,
    entries: Iterable[LedgerEntry],
    balances: Mapping[Asset, Decimal],
    fills: Iterable[Fill],
    at: datetime,
    *,
    acceptances: Iterable[Acceptance] = (),
) -> TieOut:
    """Compare ledger, balances and own fills; a difference that a person accepted is named and moved over.

    `balances` were asked for at `at` or later, `entries` after them, `fills` last. `entries` and `fills` are all since
    `cursor.at - OVERLAP`; older ones are left out, the cursor has counted them.
    """
    distinct = {entry.ledger_id: entry for entry in entries if entry.at >= cursor.at - OVERLAP}
    fresh = [distinct[name] for name in sorted(distinct) if name not in cursor.counted]
    own = {fill.exec_id: fill for fill in fills}
    verdict = _compare_fills(own, fresh, distinct.values(), cursor, at)
    unresolved = [
        *verdict.unresolved,
        *(e.at for e in fresh if e.kind == "trade" and e.ref_id not in own and at - e.at < VISIBLE_AFTER),
    ]
    cut = min(unresolved, default=None)
    judged = fresh if cut is None else [entry for entry in fresh if entry.at < cut]
    gaps = gaps_of(cursor, judged)
    is_waiting = False
    if gaps and any(at - entry.at < VISIBLE_AFTER for entry in judged):
        # An entry may still be missing in between: what is old enough can be judged all the same.
        cut, is_waiting = min(at - VISIBLE_AFTER, cut or at), True
        judged = [entry for entry in fresh if entry.at < cut]
        gaps = gaps_of(cursor, judged)
    reached = at if cut is None else min(at, cut - _INSTANT)
    in_other = _sum_of_whole(verdict.in_other, fresh, judged)
    strange = strange_balances(cursor, fresh, balances, at, {one.asset: one.amount for one in gaps})
    known = {one.asset: one for one in acceptances}
    # A strange balance can only be moved over where no entry of its asset waits on the way to it.
    waiting = {entry.asset for entry in fresh} if is_waiting else {e.asset for e in fresh if cut and e.at >= cut}
    agreed = [one for one in strange if one.asset not in waiting and _is_accepted(one, known)]
    agreed += [one for one in (*gaps, *verdict.wrong) if _is_accepted(one, known)]
    left = [one for one in (*strange, *gaps, *verdict.wrong) if one not in agreed]
    holds = any(one in left for one in (*gaps, *verdict.wrong)) or reached <= cursor.at
    accepted = tuple(known[asset] for asset in sorted({one.asset for one in agreed}))
    shifts = {one.asset: known[one.asset].amount for one in (*strange, *gaps) if one in agreed}
    return TieOut(
        named=_named(judged, frozenset(own), in_other) + tuple(_as_named(one) for one in accepted),
        unexplained=tuple(left),
        is_pending=is_waiting or reached <= cursor.at or reached < at - CLOCKS,
        cursor=cursor if holds else _advanced(cursor, judged, distinct, reached, shifts),
        entries=len(judged),
        third_asset_fees={asset: amount for asset, amount in sorted(in_other.items()) if amount},
        accepted=accepted,
    )


def _is_accepted(one: Unexplained, known: Mapping[Asset, Acceptance]) -> bool:
    return one.asset in known and known[one.asset].amount in one.possible


def _as_named(one: Acceptance) -> Named:
    return Named(cause=Cause.ACCEPTED, asset=one.asset, amount=one.amount, count=1, detail=f"{one.who}: {one.reason}")


def _advanced(
    cursor: Cursor,
    judged: Sequence[LedgerEntry],
    distinct: Mapping[str, LedgerEntry],
    reached: datetime,
    shifts: Mapping[Asset, Decimal],
) -> Cursor:
    found = {
        asset: cursor.balances.get(asset, _ZERO) + shifts.get(asset, _ZERO) for asset in {*cursor.balances, *shifts}
    }
    for entry in judged:
        found[entry.asset] = found.get(entry.asset, _ZERO) + entry.change
    names = cursor.counted | {entry.ledger_id for entry in judged}
    kept = frozenset(name for name in names if name in distinct and distinct[name].at >= reached - OVERLAP)
    return Cursor(at=reached, balances={asset: qty for asset, qty in found.items() if qty}, counted=kept)


def _sum_of_whole(
    in_other: Mapping[ExecId, Mapping[Asset, Decimal]],
    fresh: Iterable[LedgerEntry],
    judged: Iterable[LedgerEntry],
) -> dict[Asset, Decimal]:
    """Add up fees of the fills whose last new entry is judged now, so that each counts once."""
    ids = {entry.ledger_id: entry.ref_id for entry in judged}
    waiting = {entry.ref_id for entry in fresh if entry.ledger_id not in ids}
    sums: dict[Asset, Decimal] = {}
    for exec_id in sorted(in_other.keys() & (set(ids.values()) - waiting)):
        for asset, amount in in_other[exec_id].items():
            sums[asset] = sums.get(asset, _ZERO) + amount
    return sums


def _expected(fill: Fill) -> dict[Asset, Decimal]:
    base, quote = assets_of(fill.symbol)
    base_delta, quote_delta = balance_deltas(fill)
    found = {base: base_delta, quote: quote_delta}
    if fill.fee_asset not in found:
        found[fill.fee_asset] = -fill.fee_qty
    return found


@frozen(kw_only=True)
class _Verdict:
    """What the comparison of own fills found; `unresolved` are times from which on nothing can be judged yet."""

    wrong: tuple[Unexplained, ...]
    unresolved: tuple[datetime, ...]
    in_other: Mapping[ExecId, Mapping[Asset, Decimal]]


def _compare_fills(
    own: Mapping[ExecId, Fill],
    fresh: Iterable[LedgerEntry],
    entries: Iterable[LedgerEntry],
    cursor: Cursor,
    at: datetime,
) -> _Verdict:
    """Compare each own fill with its entries; fills from before the cursor only where entries came after it."""
    is_fresh = {entry.ref_id for entry in fresh}
    shown: dict[str, list[LedgerEntry]] = {}
    for entry in entries:
        shown.setdefault(entry.ref_id, []).append(entry)
    wrong: list[Unexplained] = []
    unresolved: list[datetime] = []
    in_other: dict[ExecId, Mapping[Asset, Decimal]] = {}
    for exec_id, fill in sorted(own.items()):
        if exec_id not in is_fresh and (fill.at <= cursor.at or exec_id in shown):
            continue
        differs, paid = _compare(fill, shown.get(exec_id, []))
        if not any(differs.values()):
            continue
        if _is_fee_elsewhere(fill, differs, paid):
            in_other[exec_id] = paid
        elif at - fill.at < VISIBLE_AFTER:
            unresolved.append(min([fill.at, *(entry.at for entry in shown.get(exec_id, []))]))
        else:
            wrong += _differences(fill, differs, is_shown=exec_id in shown)
    return _Verdict(wrong=tuple(wrong), unresolved=tuple(unresolved), in_other=in_other)


def _compare(fill: Fill, entries: Iterable[LedgerEntry]) -> tuple[dict[Asset, Decimal], dict[Asset, Decimal]]:
    """Return by asset what the entries show beyond the fill, and the fees in them."""
    shown: dict[Asset, Decimal] = {}
    paid: dict[Asset, Decimal] = {}
    for entry in entries:
        shown[entry.asset] = shown.get(entry.asset, _ZERO) + entry.change
        paid[entry.asset] = paid.get(entry.asset, _ZERO) + entry.fee
    expected = _expected(fill)
    return {a: shown.get(a, _ZERO) - expected.get(a, _ZERO) for a in {*shown, *expected}}, paid


def _differences(fill: Fill, differs: Mapping[Asset, Decimal], *, is_shown: bool) -> list[Unexplained]:
    base = assets_of(fill.symbol)[0]
    found: list[Unexplained] = []
    for asset, amount in sorted(differs.items()):
        if amount and (is_shown or asset == base):
            detail = f"fill {fill.exec_id} differs by {amount:f}" if is_shown else f"fill {fill.exec_id} has no entry"
            found.append(Unexplained(asset=asset, amount=amount, detail=detail, possible=frozenset({amount})))
    return found


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
