"""Strike with one fault after another in a running world, and judge each by both sides.

Enters: faults and a world. Leaves: one `Outcome` per fault. The order of a fault: strike, hold, put right, wait until
every symbol is sampled again, let the flow rest, compare, let it flow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from attrs import field, frozen
from tests.faults.checks import NAMED, Compared, TradeLedger, check_told, compare_books, compare_owed, compare_trades
from tests.faults.fault import Fault
from tests.faults.held import Sets, utc
from tests.faults.world import CLOCK, HarnessError, World

from krakenbot.domain.values import NS_PER_S

START_WAIT_S = 240.0
QUIET_SHARE = 0.05
"""Of hundreds of symbols some trade too seldom to fill their windows."""
STRIKE_WAIT_S = 45.0
"""Until a rule struck: a connection that was cut often comes back after a growing delay."""
LAST = "after all of them: trades that had been in gaps"
REFILL_WAIT_S = 60.0
QUARANTINE_WAIT_S = 90.0
"""What failed three times in a row, as when one fault follows another, is tried again after a minute."""
WHOLE_WAIT_S = 180.0
"""A symbol that was in quarantine comes back into the universe a minute after its trouble."""
REST_S = 1.5
"""Until what the exchange sent last has come, and stands in a sample."""
POLL_S = 0.25
SETTLED_SAMPLES = 2
"""So many sampling instants in a row with every symbol make a recovery."""


@frozen(kw_only=True)
class Outcome:
    """One row of the report; `recovery_s` is None when it did not recover in time."""

    fault: str
    injected: int
    point: str
    compared: Compared
    told: str
    recovery_s: float | None
    findings: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.findings


class Runner:
    """A suite in a running world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ledger = TradeLedger(since_ns=CLOCK.now_ns())
        self._full = Sets(execution=(), l3=())

    async def begin(self, *, decisions: bool) -> Compared:
        """Wait until everything runs, decisions too if they are asked for, and compare once without a fault.

        Raises HarnessError.
        """
        with anyio.move_on_after(START_WAIT_S):
            while not await self._is_running() or (decisions and not await self._decides()):
                await anyio.sleep(1.0)
            async with self._resting():
                self._ledger.begin(await self._world.venue.new_trades())
                compared = await compare_books(self._world, self._full, ())
            if compared.findings:
                raise HarnessError(f"wrong before any fault: {'; '.join(compared.findings)}")
            return compared
        raise HarnessError(f"not running after {START_WAIT_S:g} s: {self._world.ended() or await self._lacking()}")

    async def strike(self, fault: Fault) -> Outcome:
        """Strike with one fault and judge it."""
        world = self._world
        symbol = world.symbols[0]
        findings: list[str] = []
        if fault.asks_decisions and not await self._whole_within(WHOLE_WAIT_S):
            findings.append(f"decisions did not work before it: {await self._lacking()}")
        struck_ns = CLOCK.now_ns()
        ids: set[int] = set()
        if fault.rules:
            ids = set(await world.venue.add_rules("\n".join(fault.rules).replace("{symbol}", symbol)))
        if fault.renew:
            await world.venue.add_rules(f"after 1 ms: drop {fault.renew}")
        injected = await fault.act(world) if fault.act else 0
        await anyio.sleep(fault.hold_s)
        report = await self._struck(ids)
        asked = [(channel, symbol) for channel in fault.channels]
        if fault.stays:
            async with self._resting():
                findings += (await compare_books(world, self._full, asked)).findings
        await world.venue.remove_rules()
        ended_ns = CLOCK.now_ns()
        from_ns = ended_ns if fault.lasts else struck_ns
        recovered_ns = await self._recovered(struck_ns, fault.recover_within_s)
        if recovered_ns is None and await self._quarantine_explains():
            recovered_ns = await self._recovered(struck_ns, QUARANTINE_WAIT_S)
        if recovered_ns is None:
            findings.append(f"not whole within {fault.recover_within_s:g} s: {await self._lacking()}")
        told = ""
        if fault.dark:
            told, wrong = await check_told(world, fault.dark, struck_ns, ended_ns)
            findings += wrong
        compared = await self._compared()
        rules = [rule for rule in report["rules"] if rule["id"] in ids]
        for rule in rules:
            injected += rule["hits"] - rule["without_effect"]
            if rule["hits"] == rule["without_effect"]:
                findings.append(f"never struck: {rule['rule']}")
        if injected == 0 and not rules:
            findings.append("it never struck")
        findings += compared.findings
        findings += self._world.ended()
        return Outcome(
            fault=fault.name,
            injected=injected,
            point=fault.point or _point(report["log"], rules),
            compared=compared,
            told=told,
            recovery_s=None if recovered_ns is None else max(0.0, (recovered_ns - from_ns) / NS_PER_S),
            findings=tuple(findings),
        )

    async def end(self) -> Outcome:
        """Look once more, after all faults, for what was owed; a gap that stays open is told, and is no failure.

        By then every symbol must be in a valid epoch again, and decisions must work.
        """
        compared = await compare_owed(self._world, self._ledger, REFILL_WAIT_S)
        findings = list(compared.findings)
        if not await self._whole_within(WHOLE_WAIT_S):
            findings.append(f"not whole after {WHOLE_WAIT_S:g} s: {await self._lacking()}")
        return Outcome(
            fault=LAST,
            injected=0,
            point="",
            compared=compared,
            told="",
            recovery_s=None,
            findings=tuple(findings),
        )

    async def _struck(self, ids: set[int]) -> dict[str, Any]:
        """Return the exchange's report of faults when each rule has struck, or when that takes too long."""
        report = await self._world.venue.fault_report()
        with anyio.move_on_after(STRIKE_WAIT_S):
            while any(rule["never_hit"] for rule in report["rules"] if rule["id"] in ids):
                await anyio.sleep(POLL_S)
                report = await self._world.venue.fault_report()
        return report

    async def _compared(self) -> Compared:
        async with self._resting():
            books = await compare_books(self._world, self._full, ())
            trades = await compare_trades(self._world, self._ledger)
        return Compared(
            books=books.books,
            queues=books.queues,
            quarantined=books.quarantined,
            trades=trades.trades,
            stored=trades.stored,
            in_gaps=trades.in_gaps,
            twice_after_restart=trades.twice_after_restart,
            findings=(*books.findings, *trades.findings),
        )

    async def _is_running(self) -> bool:
        if ended := self._world.ended():
            raise HarnessError("; ".join(ended))
        now_ns = CLOCK.now_ns()
        sets = await self._world.held.settled_sets(len(self._world.symbols))
        if sets is None:
            return False
        self._full = sets
        return await self._first_full(now_ns - 5 * NS_PER_S) is not None

    async def _decides(self) -> bool:
        now_ns = CLOCK.now_ns()
        # A cycle that has read everything and found reasons of its own means that decisions work.
        cycles = await self._world.held.cycles(utc(now_ns - 5 * NS_PER_S), utc(now_ns))
        return any(
            row["generation_id"]
            and row["epoch_id"]
            and row["blockers"].get("INCOMPLETE", 0) <= QUIET_SHARE * len(self._full.execution)
            for row in cycles
        )

    async def _recovered(self, struck_ns: int, within_s: float) -> int | None:
        """Return the first sampling instant since which every symbol is there; None when there is none in time."""
        with anyio.move_on_after(within_s):
            while True:
                found = await self._first_full(struck_ns)
                if found is not None:
                    return found
                await anyio.sleep(POLL_S)
        return None

    async def _quarantine_explains(self) -> bool:
        """Tell whether all that is not sampled now is in quarantine, with a reason."""
        since_ns = CLOCK.now_ns() - 3 * NS_PER_S
        books, queues = await self._world.held.newest_books(since_ns), await self._world.held.newest_queues(since_ns)
        missing = {("book", symbol) for symbol in self._full.execution if symbol not in books}
        missing |= {("level3", symbol) for symbol in self._full.l3 if symbol not in queues}
        return bool(missing) and missing <= (await self._world.held.quarantine()).keys()

    async def _whole_within(self, wait_s: float) -> bool:
        """Wait until the newest epoch is whole and decisions work; False when they do not in time."""
        with anyio.move_on_after(wait_s):
            while not (await self._is_whole() and await self._decides()):
                await anyio.sleep(1.0)
            return True
        return False

    async def _is_whole(self) -> bool:
        """Tell whether the newest epoch is valid and has every symbol again."""
        sets = await self._world.held.settled_sets(len(self._full.execution))
        return sets is not None and set(self._full.execution) <= {*sets.execution}

    async def _lacking(self) -> str:
        """Return what stands in the way of a recovery: the quarantine, and what the newest epoch leaves out."""
        quarantine = await self._world.held.quarantine()
        sets = await self._world.held.sets()
        counts = await self._world.held.sample_counts(CLOCK.now_ns() - 5 * NS_PER_S)
        out = set(self._full.execution).difference(sets.execution if sets else ())
        why = [f"{channel} of {symbol}: {reason}" for (channel, symbol), reason in quarantine.items()]
        sampled = [f"{books} and {queues}" for books, queues in counts.values()]
        return (
            f"left out {_first(sorted(out))}; quarantine {_first(why)};"
            f" books and queues sampled in the last seconds {_first(sampled)}"
        )

    async def _first_full(self, since_ns: int) -> int | None:
        counts = await self._world.held.sample_counts(since_ns)
        wanted = (len(self._full.execution), len(self._full.l3))
        instants = sorted(counts)
        first = None
        previous = since_ns
        for instant in instants:
            is_full = counts[instant][0] >= wanted[0] and counts[instant][1] >= wanted[1]
            # A hole in the instants is a time without samples.
            if not is_full or instant - previous > 2 * NS_PER_S:
                first = None
            if is_full and first is None:
                first = instant
            previous = instant
        is_fresh = bool(instants) and CLOCK.now_ns() - instants[-1] < 3 * NS_PER_S
        settled = sum(instant >= first for instant in instants) >= SETTLED_SAMPLES if first is not None else False
        return first if is_fresh and settled else None

    @asynccontextmanager
    async def _resting(self) -> AsyncIterator[None]:
        """Let the exchange's flow rest inside the block."""
        await self._world.venue.set_mode("cancel_only")
        await anyio.sleep(REST_S)
        try:
            yield
        finally:
            await self._world.venue.set_mode("online")


def _first(texts: list[str]) -> str:
    more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return (", ".join(texts[:NAMED]) or "none") + more


def _point(log: list[dict[str, Any]], rules: list[dict[str, Any]]) -> str:
    """Return the places that were hit, or the rules where time alone set them off.

    The exchange's log keeps the latest 10,000 hits.
    """
    ids = {rule["id"] for rule in rules}
    places = dict.fromkeys(hit["place"] for hit in log if hit["rule_id"] in ids and hit["place"] != "now")
    return ", ".join(places) or "; ".join(rule["rule"].partition(": ")[2] for rule in rules)
