"""A run of cases: side by side in worlds, again where nothing struck, in the order of the suite."""

from __future__ import annotations

from argparse import Namespace
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from tests.faults.orders import suite
from tests.faults.orders.case import Outcome
from tests.faults.orders.fault import OrderFault
from tests.faults.world import HarnessError

FAULTS = [OrderFault(name=name, lives=((),)) for name in ("a", "b", "c", "d")]
ARGUMENTS = Namespace(symbols=3, seed=1, worlds=2, report=None, docs=False)


def outcome(name: str, *findings: str) -> Outcome:
    return Outcome(
        fault=name,
        injected=1,
        points=(),
        orders=1,
        fills=0,
        starts=1,
        recovery_s=None,
        seconds=1.0,
        waited_for="",
        findings=findings,
    )


class Worlds:
    """Worlds that answer each play of a case with the next of its outcomes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[Outcome]) -> None:
        self.answers = answers
        self.seeds: list[int] = []
        self.played: list[str] = []
        monkeypatch.setattr(suite, "orders_world", self.opened)
        monkeypatch.setattr(suite, "play", self.play)

    @asynccontextmanager
    async def opened(self, _folder: object, _symbols: int, seed: int, _accounts: int) -> Any:
        self.seeds.append(seed)
        yield Namespace(processes=[])

    async def play(self, _world: object, fault: OrderFault) -> Outcome:
        self.played.append(fault.name)
        # the first is the last to end
        await anyio.sleep(0.02 if fault.name == "a" else 0.001)
        return self.answers[fault.name].pop(0)


async def test_worlds_share_the_cases_and_rows_keep_the_order_of_the_suite(monkeypatch):
    worlds = Worlds(monkeypatch, **{name: [outcome(name)] for name in "abcd"})

    found = await suite.strike_all(FAULTS, ARGUMENTS)

    assert ["a", "b", "c", "d"] == [each.fault for each in found]
    assert [1, 2] == worlds.seeds


async def test_a_case_that_never_struck_is_played_again_a_bounded_number_of_times(monkeypatch):
    missed = outcome("a", "never struck: gateway.amend:before", "it never struck")
    worlds = Worlds(monkeypatch, a=[missed, outcome("a")], b=[outcome("b", "it never struck")] * 9)

    found = await suite.strike_all(FAULTS[:2], ARGUMENTS)

    assert [True, False] == [each.ok for each in found]
    assert (2, suite.PLAYS) == (worlds.played.count("a"), worlds.played.count("b"))


async def test_a_case_with_a_finding_is_not_played_again(monkeypatch):
    worlds = Worlds(monkeypatch, a=[outcome("a", "I2: a fill is booked twice"), outcome("a")])

    found = await suite.strike_all(FAULTS[:1], ARGUMENTS)

    assert [False] == [each.ok for each in found]
    assert ["a"] == worlds.played


async def test_a_world_that_cannot_go_on_ends_the_run(monkeypatch):
    worlds = Worlds(monkeypatch, **{name: [outcome(name)] for name in "abcd"})

    async def broken(*_: object) -> Outcome:
        raise HarnessError("the exchange ended")

    monkeypatch.setattr(suite, "play", broken)

    with pytest.raises(HarnessError, match="the exchange ended"):
        await suite.strike_all(FAULTS, ARGUMENTS)

    assert [] == worlds.played
