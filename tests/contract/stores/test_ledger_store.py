"""The tie-out's cursor, in memory and on PostgreSQL."""

# mypy: disable-error-code="dict-item"
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from krakenbot.domain.execution.ledger import Cause, Cursor, Named
from krakenbot.domain.values import Asset, VenueId

VENUE, ELSEWHERE = VenueId("loopback:test"), VenueId("elsewhere")
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
CURSOR = Cursor(
    at=AT,
    balances={"USD": Decimal("1234.5678901234567890"), "BTC.F": Decimal("1E-10")},
    counted=frozenset({"L-2", "L-1"}),
)
DEPOSIT = Named(cause=Cause.DEPOSIT, asset=Asset("USD"), amount=Decimal("12.5"), count=1)


async def test_cursor_comes_back_to_the_last_digit_and_only_to_its_venue(stores):
    before = await stores.ledger.load_cursor(VENUE)
    await stores.ledger.save_cursor(VENUE, CURSOR, (DEPOSIT,))

    assert before is None
    assert CURSOR == await stores.ledger.load_cursor(VENUE)
    assert await stores.ledger.load_cursor(ELSEWHERE) is None


async def test_cursor_moves_on_and_never_back(stores):
    later = Cursor(at=AT + timedelta(seconds=1), balances={"USD": Decimal(1)})
    await stores.ledger.save_cursor(VENUE, CURSOR, ())
    await stores.ledger.save_cursor(VENUE, later, (DEPOSIT, DEPOSIT))
    await stores.ledger.save_cursor(VENUE, CURSOR, ())

    assert later == await stores.ledger.load_cursor(VENUE)


async def test_acceptance_is_open_until_it_is_settled_and_only_at_its_venue(stores):
    first = await stores.ledger.accept(VENUE, Asset("USD"), Decimal("-1.50"), "ann", "a fee of the bank")
    second = await stores.ledger.accept(VENUE, Asset("BTC"), Decimal("1E-10"), "bob", "dust")
    await stores.ledger.save_cursor(VENUE, CURSOR, (), {first.number: True})

    assert [second] == await stores.ledger.open_acceptances(VENUE)
    assert [] == await stores.ledger.open_acceptances(ELSEWHERE)
    await stores.ledger.save_cursor(VENUE, CURSOR, (), {second.number: False})
    assert [] == await stores.ledger.open_acceptances(VENUE)
