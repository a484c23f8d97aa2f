"""The tie-out: own fills, the venue's ledger and balances, to the last digit."""

# mypy: disable-error-code="arg-type, dict-item"
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krakenbot.domain.execution.fills import assets_of, balance_deltas
from krakenbot.domain.execution.ledger import Acceptance, Cause, Cursor, LedgerEntry, cause_of, is_earn
from krakenbot.domain.execution.ledger_chain import first_cursor
from krakenbot.domain.execution.position import apply_fill, flat_position
from krakenbot.domain.execution.tie_out import tie_out
from krakenbot.domain.values import Side

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LATER = AT + timedelta(minutes=5)
AFTER = AT + timedelta(seconds=30)
START = Cursor(at=AT, balances={"USD": Decimal(1000), "BTC": Decimal(2)})
AMOUNT = st.decimals(min_value="0.0001", max_value="1000", places=4)
FEE = st.decimals("-0.5", "5", places=4)
FILL = st.tuples(st.sampled_from(Side), AMOUNT, AMOUNT, FEE, st.sampled_from(["USD", "ABC", "FEE"]))


def entry(name, asset="USD", amount="0", fee="0", *, kind="deposit", subtype="", ref="R", at=AFTER, balance="0"):
    return LedgerEntry(
        ledger_id=name,
        ref_id=ref,
        at=at,
        kind=kind,
        subtype=subtype,
        asset=asset,
        amount=Decimal(amount),
        fee=Decimal(fee),
        balance=Decimal(balance),
    )


def chained(cursor, entries):
    """Return the entries with the balance of their asset after each, one after the other."""
    left = dict(cursor.balances)
    found = []
    for one in entries:
        left[one.asset] = left.get(one.asset, Decimal(0)) + one.change
        found.append(evolve(one, balance=left[one.asset]))
    return found


def entries_of(fill):
    """Return the bookings that a venue makes of a fill: amount and fee, in each asset."""
    sign = 1 if fill.side is Side.BUY else -1
    base, quote = assets_of(fill.symbol)
    amounts = {base: sign * fill.qty, quote: -sign * fill.cost}
    amounts.setdefault(fill.fee_asset, Decimal(0))
    return [
        entry(
            f"{fill.exec_id}-{asset}",
            asset,
            amount,
            fill.fee_qty if asset == fill.fee_asset else 0,
            kind="trade",
            ref=fill.exec_id,
        )
        for asset, amount in amounts.items()
    ]


def balances_after(cursor, entries):
    found = dict(cursor.balances)
    for one in entries:
        found[one.asset] = found.get(one.asset, Decimal(0)) + one.amount - one.fee
    return found


@given(rows=st.lists(FILL, max_size=15), order=st.randoms(use_true_random=False))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_position_is_the_sum_of_fills_is_the_balance_change_exactly(make, rows, order):
    """I4 over random partial fills with fees in base, quote or a third asset; entries doubled and in any order."""
    fills = [
        make.fill(f"E-{n}", side=side, qty=str(qty), price=str(price), fee=str(fee), fee_asset=asset, at=AFTER)
        for n, (side, qty, price, fee, asset) in enumerate(rows)
    ]
    entries = chained(START, [one for fill in fills for one in entries_of(fill)])
    balances = balances_after(START, entries)
    shuffled = [*entries, *entries[::2]]
    order.shuffle(shuffled)
    first = tie_out(START, entries, balances, fills, LATER)
    second = tie_out(START, shuffled, balances, reversed(fills), LATER)
    position = flat_position("ABC/USD")
    for fill in fills:
        position = apply_fill(position, fill)

    assert first == second
    assert () == first.unexplained
    assert not first.is_pending
    assert position.qty == sum((balance_deltas(fill)[0] for fill in fills), Decimal(0)) == balances.get("ABC", 0)
    assert position.realized_quote - position.cost_quote == balances["USD"] - 1000
    assert LATER == first.cursor.at
    assert {asset: amount for asset, amount in balances.items() if amount} == first.cursor.balances


@pytest.mark.parametrize(
    ("kind", "subtype", "asset", "cause"),
    [
        ("deposit", "", "USD", Cause.DEPOSIT),
        ("withdrawal", "", "BTC", Cause.WITHDRAWAL),
        ("trade", "tradespot", "BTC", Cause.FOREIGN_TRADE),
        ("spend", "", "USD", Cause.FOREIGN_TRADE),
        ("transfer", "spottofutures", "USD", Cause.TRANSFER),
        ("transfer", "spottostaking", "BTC", Cause.EARN),
        ("earn", "autoallocation", "BTC", Cause.EARN),
        ("staking", "", "ETH", Cause.EARN),
        ("trade", "", "BTC.F", Cause.EARN),
        ("spend", "dustsweeping", "DOGE", Cause.DUST),
        ("creator_fee", "", "USD", Cause.OTHER),
    ],
)
def test_change_that_is_not_ours_has_the_venues_word(kind, subtype, asset, cause):
    (one,) = chained(START, [entry("L1", asset, "5", "0.1", kind=kind, subtype=subtype)])
    result = tie_out(START, [one], balances_after(START, [one]), [], LATER)

    assert cause == cause_of(one, frozenset())
    assert [(cause, asset, Decimal("4.9"), 1)] == [(n.cause, n.asset, n.amount, n.count) for n in result.named]
    assert () == result.unexplained


@pytest.mark.parametrize(
    ("asset", "earn"), [("BTC.F", True), ("ETH.S", True), ("DOT28.S", True), ("SOL.B", True), ("USD.M", True)]
)
def test_wallet_of_earn_is_known_by_its_suffix(asset, earn):
    assert earn is is_earn(asset)
    assert not is_earn(asset.partition(".")[0])


def test_balance_that_no_entry_explains_is_a_difference_at_every_later_look():
    result = tie_out(START, [], {"USD": Decimal("999.9999"), "BTC": Decimal(2)}, [], LATER)

    assert [("USD", Decimal("-0.0001"))] == [(u.asset, u.amount) for u in result.unexplained]
    assert LATER == result.cursor.at
    assert START.balances == result.cursor.balances


def test_entry_that_was_counted_before_counts_once():
    (one,) = chained(START, [entry("L1", "USD", "5")])
    first = tie_out(START, [one], {"USD": Decimal(1005), "BTC": Decimal(2)}, [], AFTER + timedelta(seconds=70))
    again = tie_out(first.cursor, [one], {"USD": Decimal(1005), "BTC": Decimal(2)}, [], LATER)

    assert frozenset({"L1"}) == first.cursor.counted
    assert () == again.unexplained
    assert 0 == again.entries


def test_entry_from_before_the_overlap_is_not_counted_again():
    old = entry("L0", "USD", "5", at=AT - timedelta(seconds=121))

    assert () == tie_out(START, [old], START.balances, [], LATER).unexplained


def test_fill_whose_figures_differ_from_the_ledger_is_a_difference(make):
    fill = make.fill("E", at=AFTER)
    entries = chained(START, entries_of(make.fill("E", at=AFTER, fee="0.26")))
    result = tie_out(START, entries, balances_after(START, entries), [fill], LATER)

    assert [("USD", Decimal("-0.01"))] == [(u.asset, u.amount) for u in result.unexplained]


def test_fee_that_the_venue_took_from_another_asset_is_named(make):
    fill = make.fill("E", at=AFTER, fee="0.25", fee_asset="USD")
    entries = chained(START, entries_of(make.fill("E", at=AFTER, fee="0.0025", fee_asset="ABC")))
    result = tie_out(START, entries, balances_after(START, entries), [fill], LATER)

    assert () == result.unexplained
    assert {"ABC": Decimal("0.0025")} == result.third_asset_fees
    assert Cause.FEE_IN_ANOTHER_ASSET in {n.cause for n in result.named}


def test_fill_that_the_ledger_does_not_show_yet_is_waited_for_and_then_a_difference(make):
    fill = make.fill("E", at=AFTER)
    balances = balances_after(START, entries_of(fill))
    early = tie_out(START, [], balances, [fill], AFTER + timedelta(seconds=59))
    late = tie_out(START, [], balances, [fill], AFTER + timedelta(seconds=60))

    assert early.is_pending
    assert "fill E has no entry" in {u.detail for u in late.unexplained}


def test_fill_from_before_the_cursor_needs_no_entry(make):
    assert () == tie_out(START, [], START.balances, [make.fill("E", at=AT)], LATER).unexplained


def test_trade_that_may_still_become_ours_is_waited_for(make):
    entries = chained(START, entries_of(make.fill("E", at=AFTER)))
    young = tie_out(START, entries, balances_after(START, entries), [], AFTER + timedelta(seconds=59))
    old = tie_out(START, entries, balances_after(START, entries), [], AFTER + timedelta(seconds=60))

    assert young.is_pending
    assert (0, AFTER - timedelta(microseconds=1)) == (young.entries, young.cursor.at)
    assert START.balances == young.cursor.balances
    assert {Cause.FOREIGN_TRADE} == {n.cause for n in old.named}
    assert not old.is_pending


def fills_with_entries(make, count, *, step_s=10.0):
    fills = [make.fill(f"E-{n:02d}", at=AFTER + timedelta(seconds=n * step_s)) for n in range(count)]
    rows = [evolve(one, at=fill.at) for fill in fills for one in entries_of(fill)]
    return fills, chained(START, rows)


@given(
    read=st.integers(0, 11), booked=st.integers(0, 12), skew_s=st.floats(-4, 4), order=st.randoms(use_true_random=False)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_steady_trading_ties_out_without_a_quiet_instant(make, read, booked, skew_s, order):
    """Balances were read in the middle of the entries, some fills are booked later, the clocks differ."""
    fills, entries = fills_with_entries(make, 12, step_s=2.0)
    at = fills[read].at + timedelta(seconds=skew_s)
    balances = balances_after(START, entries[: 2 * read + 2])
    order.shuffle(entries)
    first = tie_out(START, entries, balances, fills[:booked], at)
    second = tie_out(first.cursor, entries, balances_after(START, entries), fills, LATER)

    assert () == first.unexplained == second.unexplained
    assert 2 * booked == first.entries
    assert 24 == first.entries + second.entries
    assert LATER == second.cursor.at
    assert {a: q for a, q in balances_after(START, entries).items() if q} == second.cursor.balances


@pytest.mark.parametrize("lost", range(1, 7))
def test_entry_that_the_ledger_lacks_is_a_difference_once_it_could_be_shown(make, lost):
    fills, entries = fills_with_entries(make, 4)
    left = [entry for n, entry in enumerate(entries) if n != lost]
    early = tie_out(START, left, balances_after(START, entries), fills, fills[-1].at + timedelta(seconds=1))
    late = tie_out(START, left, balances_after(START, entries), fills, LATER)

    assert not {u.detail for u in early.unexplained if "between" in u.detail}
    assert entries[lost].asset in {u.asset for u in late.unexplained}
    assert START == late.cursor


def test_booking_without_an_entry_between_two_entries_is_a_gap_with_its_amount(make):
    fills, entries = fills_with_entries(make, 4)
    moved = [evolve(e, balance=e.balance + 3) if n > 3 and e.asset == "USD" else e for n, e in enumerate(entries)]
    balances = balances_after(START, entries)
    result = tie_out(START, moved, balances | {"USD": balances["USD"] + 3}, fills, LATER)

    assert ("USD", Decimal(3), "3.00 between two entries of the ledger") in {
        (u.asset, u.amount, u.detail) for u in result.unexplained
    }
    assert START == result.cursor


def test_balance_that_moves_is_strange_by_an_amount_that_comes_again(make):
    fills, entries = fills_with_entries(make, 4)
    looks = []
    for read in (1, 3):
        balances = balances_after(START, entries[: 2 * read + 2])
        seen = fills[read].at + timedelta(seconds=1)
        looks.append(tie_out(START, entries, balances | {"USD": balances["USD"] + 7}, fills, seen).unexplained)

    assert [{"USD"}, {"USD"}] == [{u.asset for u in look} for look in looks]
    assert Decimal(7) in looks[0][0].possible & looks[1][0].possible


def test_point_of_the_chain_from_long_before_the_read_is_no_excuse(make):
    fills, entries = fills_with_entries(make, 4)
    stale = balances_after(START, entries[:4])
    result = tie_out(START, entries, stale, fills, LATER)

    assert {"ABC", "USD"} == {u.asset for u in result.unexplained}


def test_fee_from_another_asset_is_named_once_over_several_tie_outs(make):
    fills = [make.fill("E", at=AFTER, fee="0.25", fee_asset="USD")]
    rows = entries_of(make.fill("E", at=AFTER, fee="0.0025", fee_asset="ABC"))
    entries = chained(START, rows)
    balances = balances_after(START, entries)
    first = tie_out(START, entries, balances, fills, AFTER + timedelta(seconds=20))
    again = tie_out(first.cursor, entries, balances, fills, AFTER + timedelta(seconds=40))

    assert ({"ABC": Decimal("0.0025")}, {}) == (first.third_asset_fees, again.third_asset_fees)


@pytest.mark.parametrize("lost", [None, 4, 5, 6, 7])
def test_first_cursor_stands_before_the_trading_of_the_last_minutes(make, lost):
    """Whatever is hidden of the young entries, and whatever was counted before."""
    fills, entries = fills_with_entries(make, 4)
    now = AFTER + timedelta(seconds=70)
    old = chained(
        Cursor(at=AT, balances={"USD": Decimal(995)}), [entry("L-0", amount=5, at=now - timedelta(seconds=150))]
    )
    shown = [*old, *(one for number, one in enumerate(entries) if number != lost)]
    cursor = first_cursor(reversed(shown), balances_after(START, entries), now)
    assert cursor is not None
    result = tie_out(cursor, shown, balances_after(START, entries), fills, now)

    assert START.balances == cursor.balances
    assert frozenset({"L-0"}) == cursor.counted
    assert cursor.at < result.cursor.at
    assert all(one.may_be_late for one in result.unexplained)
    assert lost is not None or () == result.unexplained


def test_first_cursor_is_found_although_an_asset_was_bought_and_sold_since():
    """Its chain comes back to where it began, so that it has no end of its own."""
    began = Cursor(at=AT, balances={"USD": Decimal(1000)})
    trades = [
        entry(f"L-{n}-{asset}", asset, amount, kind="trade", ref=f"T-{n}", at=AFTER + timedelta(seconds=n))
        for n, (base, quote) in enumerate([(1, -100), (-1, 100), (2, -50), (-2, 50)])
        for asset, amount in (("ABC", base), ("USD", quote))
    ]
    shown = chained(began, trades)
    cursor = first_cursor(shown, {"USD": Decimal(1000)}, AFTER + timedelta(seconds=10))

    assert cursor is not None
    assert {"USD": Decimal(1000)} == cursor.balances


def test_first_cursor_waits_where_the_oldest_entries_leave_their_order_open():
    shown = [
        entry("L-1", amount=5, balance=15),
        entry("L-2", amount=-5, balance=10),
    ]

    assert first_cursor(shown, {"USD": Decimal(10)}, AFTER) is None


def accepted(amount, asset="USD"):
    return Acceptance(number=1, asset=asset, amount=Decimal(amount), who="ann", reason="known")


@pytest.mark.parametrize("lost", range(8))
def test_accepted_gap_is_moved_over_and_what_follows_ties_out(make, lost):
    """Also the first and the last entry of an asset, whose lack shows as a strange balance."""
    fills, entries = fills_with_entries(make, 5)
    left = [entry for n, entry in enumerate(entries[:8]) if n != lost]
    now = balances_after(START, entries[:8])
    later = LATER + timedelta(minutes=5)
    shown = tie_out(START, left, now, fills[:4], LATER)
    words = [one for one in shown.unexplained if one.asset == entries[lost].asset]
    known = [accepted(one.amount, one.asset) for one in words]
    # The fill whose entry lacks differs in the same asset by the other sign: each is a word of its own.
    first = tie_out(
        START, left, now, [f for f in fills[:4] if f.exec_id != entries[lost].ref_id], LATER, acceptances=known[:1]
    )
    row = evolve(fills[4], at=later - timedelta(seconds=90))
    after = chained(first.cursor, entries_of(row))
    after = [evolve(one, at=row.at) for one in after]
    second = tie_out(first.cursor, [*left, *after], balances_after(first.cursor, after), [row], later)

    assert [entries[lost].asset] == [one.asset for one in first.accepted]
    assert () == first.unexplained == second.unexplained
    assert {a: q for a, q in now.items() if q} == first.cursor.balances
    assert Cause.ACCEPTED in {one.cause for one in first.named}


def test_acceptance_of_another_amount_changes_nothing():
    balances = dict(START.balances) | {"USD": Decimal(990)}
    plain = tie_out(START, [], balances, [], LATER)

    assert plain == tie_out(START, [], balances, [], LATER, acceptances=[accepted("-9.99"), accepted("-10", "BTC")])
    assert () == tie_out(START, [], balances, [], LATER, acceptances=[accepted("-10")]).unexplained


def test_fill_without_an_entry_can_be_accepted_once(make):
    fill = make.fill("E", at=AFTER)
    told = tie_out(START, [], START.balances, [fill], LATER)
    first = tie_out(START, [], START.balances, [fill], LATER, acceptances=[accepted(told.unexplained[0].amount, "ABC")])
    second = tie_out(first.cursor, [], START.balances, [fill], LATER + timedelta(minutes=1))

    assert ["ABC"] == [one.asset for one in told.unexplained]
    assert () == first.unexplained == second.unexplained


def test_entry_counted_two_looks_ago_counts_once_as_long_as_it_is_shown():
    (one,) = chained(START, [entry("L1", "USD", "5")])
    balances, cursor = dict(START.balances) | {"USD": Decimal(1005)}, START
    for look_s in (20, 40, 60, 80):
        result = tie_out(cursor, [one], balances, [], AFTER + timedelta(seconds=look_s))
        cursor = result.cursor

        assert () == result.unexplained
        assert int(look_s == 20) == result.entries


def test_two_lacking_entries_that_cancel_out_are_a_difference_all_the_same(make):
    _, entries = fills_with_entries(make, 4)
    usd = [one for one in entries if one.asset == "USD"]
    moved = [usd[0], evolve(usd[1], balance=usd[1].balance + 3), *usd[2:]]
    result = tie_out(START, moved, balances_after(START, usd), [], LATER)

    assert [("USD", Decimal(0))] == [(one.asset, one.amount) for one in result.unexplained]
    assert START == result.cursor


def test_accepted_balance_waits_for_the_entries_before_it(make):
    """A trade that may still become ours lies between the cursor and the strange change: moving over tears them."""
    entries = chained(START, entries_of(make.fill("E", at=AFTER)))
    balances = balances_after(START, entries)
    balances["USD"] += 7
    known = [accepted("7")]
    early = tie_out(START, entries, balances, [], AFTER + timedelta(seconds=10), acceptances=known)
    late = tie_out(early.cursor, entries, balances, [], LATER, acceptances=known)

    assert ({"USD"}, ()) == ({one.asset for one in early.unexplained}, early.accepted)
    assert START.balances == early.cursor.balances
    assert ((), known) == (late.unexplained, list(late.accepted))
    assert {a: q for a, q in balances.items() if q} == late.cursor.balances


def test_young_gap_is_waited_for_and_what_is_older_is_moved_over():
    rows = [entry(f"L{n}", "USD", "5", at=AFTER + timedelta(seconds=30 * n)) for n in range(4)]
    entries = chained(START, rows)
    balances = balances_after(START, entries)
    early = tie_out(START, [*entries[:2], entries[3]], balances, [], entries[3].at + timedelta(seconds=1))
    whole = tie_out(early.cursor, entries, balances, [], LATER)

    assert ((), True, 2) == (early.unexplained, early.is_pending, early.entries)
    assert START.at < early.cursor.at < entries[3].at
    assert ((), 2) == (whole.unexplained, whole.entries)
