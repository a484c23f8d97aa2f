"""Chains of ledger entries: each leads from one balance of its asset to the next.

Enters: entries of the venue's ledger, balances. Leaves: where a chain begins and ends, gaps in it, and balances that
are no point of it. Pure; the order of entries and repetitions change nothing. Called by the tie-out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from krakenbot.domain.execution.ledger import CLOCKS, OVERLAP, VISIBLE_AFTER, Cursor, LedgerEntry, Unexplained
from krakenbot.domain.values import Asset

_ZERO = Decimal(0)


def first_cursor(entries: Iterable[LedgerEntry], balances: Mapping[Asset, Decimal], at: datetime) -> Cursor | None:
    """Return the cursor to begin with: where the ledger stood `OVERLAP` before `at`; nothing older is asked about.

    `entries` are those since `at - 2 * OVERLAP`, read after `balances`, which hold for assets without entries. That
    far back nothing is hidden, so the first tie-out can judge what came since, however much is traded. None when the
    first entries of an asset do not say what was there before them.
    """
    since = at - OVERLAP
    distinct = {entry.ledger_id: entry for entry in entries}
    found = dict(balances)
    for asset, chain in by_asset(entry for entry in distinct.values() if entry.at > since).items():
        start = _chain_start([entry for entry in chain if entry.at < at - VISIBLE_AFTER] or chain)
        if start is None:
            return None
        found[asset] = start
    counted = frozenset(entry.ledger_id for entry in distinct.values() if entry.at <= since)
    return Cursor(at=since, balances={asset: qty for asset, qty in found.items() if qty}, counted=counted)


def by_asset(entries: Iterable[LedgerEntry]) -> dict[Asset, list[LedgerEntry]]:
    """Return the entries of each asset."""
    found: dict[Asset, list[LedgerEntry]] = {}
    for entry in entries:
        found.setdefault(entry.asset, []).append(entry)
    return found


def _chain_start(chain: Sequence[LedgerEntry]) -> Decimal | None:
    """Return the balance before the first entry; None when the entries of its instant leave that open.

    A chain that comes back to where it began (an asset that was bought and sold) has no open start of its own, and
    one that lacks an entry has two: the oldest entries then say it.
    """
    oldest = min(entry.at for entry in chain)
    for part in (chain, [entry for entry in chain if entry.at == oldest]):
        starts = [balance for balance, count in _open_ends(part).items() if count < 0]
        if len(starts) == 1:
            return starts[0]
    return None


def _open_ends(chain: Sequence[LedgerEntry]) -> Counter[Decimal]:
    """Count for each balance how much more often it is reached than left.

    Times do not order the entries of one instant, so the balances do: each of them is left as often as it is reached,
    but for start and end.
    """
    found = Counter(entry.balance for entry in chain)
    found.subtract(Counter(entry.balance - entry.change for entry in chain))
    return found


def _chain_ends(start: Decimal, chain: Sequence[LedgerEntry]) -> dict[Decimal, datetime]:
    """Return the balances after which no entry goes on, with the time of the entry; one of them in a whole chain."""
    open_ends = _open_ends(chain)
    open_ends[start] += 1
    ends = {balance: datetime.min.replace(tzinfo=UTC) for balance, count in open_ends.items() if count > 0}
    for entry in chain:
        if entry.balance in ends:
            ends[entry.balance] = max(ends[entry.balance], entry.at)
    return ends


def gaps_of(cursor: Cursor, judged: Iterable[LedgerEntry]) -> tuple[Unexplained, ...]:
    """Return the assets whose entries do not lead from the cursor's balance to one end, with what is missing."""
    found: list[Unexplained] = []
    for asset, chain in sorted(by_asset(judged).items()):
        start = cursor.balances.get(asset, _ZERO)
        folded = start + sum((entry.change for entry in chain), _ZERO)
        ends = _chain_ends(start, chain)
        if set(ends) == {folded}:
            continue
        end = max(ends, key=lambda balance: (ends[balance], balance))
        detail = f"{end - folded:f} between two entries of the ledger"
        found.append(Unexplained(asset=asset, amount=end - folded, detail=detail, possible=frozenset({end - folded})))
    return tuple(found)


def strange_balances(
    cursor: Cursor,
    fresh: Iterable[LedgerEntry],
    balances: Mapping[Asset, Decimal],
    at: datetime,
    missing: Mapping[Asset, Decimal],
) -> tuple[Unexplained, ...]:
    """Return the balances that are no point of their asset's chain since they were asked for.

    `missing` is what lacks inside the chain, which is a difference of its own.
    """
    chains = by_asset(fresh)
    found: list[Unexplained] = []
    for asset in sorted({*cursor.balances, *chains, *balances}):
        chain = chains.get(asset, [])
        before = sum((entry.change for entry in chain if entry.at < at - CLOCKS), _ZERO)
        points = {cursor.balances.get(asset, _ZERO) + before + missing.get(asset, _ZERO)}
        points |= {entry.balance for entry in chain if entry.at >= at - CLOCKS}
        possible = frozenset(balances.get(asset, _ZERO) - point for point in points)
        if _ZERO not in possible:
            amount = min(possible, key=lambda gap: (abs(gap), gap))
            detail = f"{amount:f} that no ledger entry explains"
            # Balances do not lag as the ledger does: nothing tells yet how old the change is.
            found.append(Unexplained(asset=asset, amount=amount, detail=detail, possible=possible, may_be_late=True))
    return tuple(found)
