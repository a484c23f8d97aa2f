"""What a reconciliation keeps apart: foreign orders from ours, and the coins that several symbols share."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

from decimal import Decimal

import pytest
from attrs import evolve

from krakenbot.domain.execution.position import flat_position
from krakenbot.domain.execution.reconcile import Proof, VenueView, diff, shortfalls
from krakenbot.domain.execution.reports import VenueBalance


@pytest.mark.parametrize("cl_ord_id", [None, "someone", "6d1b345e-2821-40e2-ad83-4ecb18a06876"])
@pytest.mark.parametrize("kind", ["open_orders", "closed_orders"])
def test_foreign_order_that_is_only_open_or_only_closed_is_left_alone(make, cl_ord_id, kind):
    lists = {"open_orders": (), "closed_orders": ()} | {kind: (make.venue_order("O-9", cl_ord_id),)}
    shown = VenueView(at=make.at, fills=(make.venue_fill("E-9", "O-9"),), **lists)

    assert () == diff([], frozenset(), shown, clean_ladders={}, proof=Proof()).corrections


def test_coins_of_two_symbols_with_one_base_are_owed_together():
    positions = [evolve(flat_position(symbol), qty=Decimal(1)) for symbol in ("ABC/EUR", "ABC/USD")]
    balances = {"ABC": VenueBalance(asset="ABC", balance=Decimal("1.5"), held=Decimal(0))}

    assert ["ABC/USD"] == [short.symbol for short in shortfalls(positions, balances)]
