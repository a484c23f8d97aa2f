"""Play one case in a running world, and judge it by both sides.

Enters: a fault and a world. Leaves: an `Outcome`. The order: start execution on a fresh account, wait until the fault
has struck, let it die where it dies, start it again, put right what was broken, wait until ledger and record agree,
stop it, judge everything that happened on the account.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import anyio
import psycopg
from attrs import define, field, frozen
from psycopg.rows import dict_row
from tests.faults.held import utc
from tests.faults.orders import invariants
from tests.faults.orders.fault import OrderFault
from tests.faults.orders.invariants import Away
from tests.faults.orders.ledger import read_ledger, venue_id
from tests.faults.orders.proxy import Caught
from tests.faults.orders.record import Truth
from tests.faults.orders.strike import Strike, read_hits
from tests.faults.orders.world import Account, OrdersWorld, Process, hits_file
from tests.faults.world import CLOCK, HarnessError

STRIKE_WAIT_S = 60.0
"""Until everything struck: an entry has to come about first."""
DEATH_WAIT_S = 10.0
STOP_WAIT_S = 30.0
ORDER_WAIT_S = 150.0
"""Until there is an order to compare: an entry may have to wait until one of unknown outcome is proven absent."""
BACK_S = 5
POLL_S = 0.5
AGREE_FOR_S = 1.5
"""Both sides must agree this long before it counts as recovered."""
NAMED = 4
NS = 10**9


@frozen(kw_only=True)
class Outcome:
    """One row of the report; `recovery_s` is None when it did not recover in time."""

    fault: str
    injected: int
    points: tuple[str, ...]
    orders: int
    fills: int
    starts: int
    recovery_s: float | None
    seconds: float
    waited_for: str
    findings: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def is_missed(self) -> bool:
        """Tell whether it never struck, and nothing else was found."""
        return not self.ok and all("never struck" in finding for finding in self.findings)


@define(kw_only=True)
class Case:
    """A case that is being played."""

    fault: OrderFault
    world: OrdersWorld
    account: Account
    venue: str
    began_ns: int
    current: Process | None = None
    others: list[Process] = field(factory=list)
    started_ns: list[int] = field(factory=list)
    away: list[Away] = field(factory=list)
    findings: list[str] = field(factory=list)
    injected: int = 0
    points: list[str] = field(factory=list)
    waited_for: str = ""

    @property
    def process(self) -> Process:
        """Return the execution process of now."""
        if self.current is None:
            raise RuntimeError("execution was not started")
        return self.current

    @property
    def truth(self) -> Truth:
        """Return what the exchange has recorded of the account by now."""
        return self.world.record.of(self.account.name)

    def start(self, strikes: tuple[Strike, ...]) -> None:
        """Start the next life."""
        formatted = tuple(self._named(strike) for strike in strikes)
        name = f"life{len(self.started_ns)}"
        self.started_ns.append(CLOCK.now_ns())
        self.current = self.world.execute(self.account, name, formatted, self.fault.settings)

    def start_other(self, name: str) -> Process:
        """Start a second execution on the same account, plainly."""
        other = self.world.execute(self.account, name)
        self.others.append(other)
        return other

    async def rules(self, *rules: str) -> None:
        """Add rules at the exchange."""
        try:
            await self.world.venue.add_rules("\n".join(rules).replace("{account}", self.account.name))
        except ValueError as error:
            raise HarnessError(f"{self.fault.name}: {error}") from error

    async def rows(self, query: str, *values: object) -> list[dict[str, object]]:
        """Ask the decision database, past the proxy."""
        async with await psycopg.AsyncConnection.connect(
            self.world.owner_url, row_factory=dict_row, options="-c search_path=krakenbot"
        ) as connection:
            return await (await connection.execute(query.encode(), values)).fetchall()

    async def until(self, is_reached: object, wait_s: float) -> bool:
        """Wait until a condition, plain or async, holds; False when it does not in time."""
        with anyio.move_on_after(wait_s):
            while True:
                found = is_reached()  # type: ignore[operator]
                if hasattr(found, "__await__"):
                    found = await found
                if found:
                    return True
                await anyio.sleep(0.05)
        return False

    def hit(self, point: str) -> None:
        """Count a strike that an act made itself."""
        self.injected += 1
        self.points.append(point)

    def _named(self, strike: Strike) -> Strike:
        rules = [rule.replace("{account}", self.account.name) for rule in strike.rules]
        return Strike(point=strike.point, action=strike.action, only=strike.only, nth=strike.nth, rules=tuple(rules))


async def play(world: OrdersWorld, fault: OrderFault) -> Outcome:
    """Play one case."""
    account = world.take_account()
    await world.venue.remove_rules()
    await world.forget_modes()
    now_ns = CLOCK.now_ns()
    case = Case(fault=fault, world=world, account=account, venue=venue_id(account, world.control_url), began_ns=now_ns)
    try:
        return await _played(case)
    finally:
        world.proxy.disarm()
        for process in (*case.others, *([case.current] if case.current else [])):
            process.send(signal.SIGKILL)
        await world.venue.remove_rules()
        await world.venue.step_clock(0)
        if world.decision_cluster.pid is None:
            await world.decision_cluster.start()


async def _played(case: Case) -> Outcome:
    fault, world = case.fault, case.world
    if fault.rules:
        await case.rules(*fault.rules)
    struck_ns = await _strike(case)
    if fault.act is not None:
        await fault.act(case)
    await anyio.sleep(fault.hold_s)
    await _count_rules(case)
    await world.venue.remove_rules()
    # What lasts counts from its end, what strikes once from the strike or the last start after it.
    from_ns = CLOCK.now_ns() if fault.hold_s or fault.act else max(struck_ns, case.started_ns[-1])
    recovered_ns = await _agreed(case, from_ns)
    if recovered_ns is None:
        case.findings.append(f"no agreement within {fault.recover_within_s:g} s: {case.waited_for}")
    elif not fault.without_orders and not case.truth.orders:
        await _first_order(case)
    for other in case.others:
        await other.stop(STOP_WAIT_S)
    # A start to book what came after the stop belongs to the judging, not to the case.
    starts = len(case.started_ns)
    stop_ns = CLOCK.now_ns()
    code = await case.process.stop(STOP_WAIT_S)
    if code != 0:
        case.findings.append(f"execution ended with status {code}: {case.process.tail()}")
    truth = await _at_rest(case, stop_ns)
    left = [o.cl_ord_id for o in truth.orders.values() if o.status == "open" and o.side == "buy"]
    if left:
        case.findings.append(f"entries left open at the exchange after a clean stop: {left}")
    ledger = await read_ledger(world.owner_url, case.venue, utc(case.began_ns))
    judged = invariants.judge(
        truth,
        ledger,
        started_ns=case.started_ns[1:],
        away=case.away,
        rest_refused=await world.venue.rest_refused(case.account.key.key),
        is_proven=fault.is_proven,
    )
    judged += invariants.compared(truth, fault.without_orders)
    judged += invariants.no_secrets(await _texts(case), world.secrets())
    if case.injected == 0:
        case.findings.append("it never struck")
    findings = [*case.findings, *judged[:NAMED], *([f"and {len(judged) - NAMED} more"] if len(judged) > NAMED else [])]
    return Outcome(
        fault=fault.name,
        injected=case.injected,
        points=tuple(dict.fromkeys(case.points)),
        orders=len(truth.orders),
        fills=len(truth.fills),
        starts=starts,
        recovery_s=None if recovered_ns is None else max(0.0, (recovered_ns - from_ns) / NS),
        seconds=(CLOCK.now_ns() - case.began_ns) / NS,
        waited_for=case.waited_for,
        findings=tuple(findings),
    )


async def _strike(case: Case) -> int:
    """Start every life and wait for its strikes; return when the last one struck."""
    fault, world = case.fault, case.world
    last_ns = CLOCK.now_ns()
    world.proxy.hits.clear()
    if fault.cut is not None:
        world.proxy.arm(fault.cut, lambda caught: _on_cut(case, caught))
    for number, strikes in enumerate(fault.lives):
        helpers = fault.helpers if number == 0 else ()
        noted = len(read_hits(hits_file(case.account)))
        case.start((*strikes, *helpers))
        is_last = number == len(fault.lives) - 1
        deadly = any(strike.action in {"kill", "terminate"} for strike in strikes)
        wanted = {strike.text for strike in strikes}
        counted = {strike.text for strike in strikes if strike.action not in {"note", "rules"}}

        def has_struck(wanted: set[str] = wanted, noted: int = noted, is_last: bool = is_last) -> bool:
            hit = {row["point"] for row in read_hits(hits_file(case.account))[noted:]}
            cut = fault.cut is None or not is_last or bool(world.proxy.hits)
            return wanted <= hit and cut

        def has_struck_or_ended(
            wanted: set[str] = wanted, noted: int = noted, has_struck: Callable[[], bool] = has_struck
        ) -> bool:
            hit = {row["point"] for row in read_hits(hits_file(case.account))[noted:]}
            # One that ended by its own strike may leave a cut at the database that is still under way.
            return has_struck() or (case.process.exit_code() is not None and not wanted <= hit)

        await case.until(has_struck_or_ended, STRIKE_WAIT_S)
        if not has_struck():
            missing = sorted(wanted - {row["point"] for row in read_hits(hits_file(case.account))[noted:]})
            what = ", ".join(missing) or (fault.cut.name if fault.cut else "")
            case.findings.append(f"never struck: {what}; execution: {case.process.tail(1)[-300:]}")
            break
        last_ns = CLOCK.now_ns()
        for text in sorted(counted):
            case.hit(text)
        if is_last and world.proxy.hits:
            case.hit(world.proxy.hits[-1])
        if deadly or (is_last and fault.on_cut == "kill execution" and fault.cut is not None):
            if await case.process.ended(DEATH_WAIT_S + STOP_WAIT_S) is None:
                case.findings.append("execution outlived its strike")
                await case.process.stop(1.0)
            if is_last:
                case.start(())
    return last_ns


async def _on_cut(case: Case, caught: Caught) -> None:
    if case.fault.on_cut in {"abort", "terminate backend"}:
        # One lost connection is the store being away, until its next answer.
        now_ns = CLOCK.now_ns()
        case.away.append(Away(since_ns=now_ns, until_ns=now_ns + BACK_S * NS))
    match case.fault.on_cut:
        case "abort":
            caught.abort()
        case "kill execution":
            case.process.send(signal.SIGKILL)
            caught.abort()
        case "terminate backend":
            async with await psycopg.AsyncConnection.connect(
                case.world.decision_cluster.superuser_url, autocommit=True
            ) as connection:
                await connection.execute("SELECT pg_terminate_backend(%s)", [caught.backend_pid])
        case "kill cluster":
            since_ns = CLOCK.now_ns()
            case.world.decision_cluster.kill()
            case.world.proxy.drop_all()
            await anyio.sleep(case.fault.away_s)
            await case.world.decision_cluster.start()
            case.away.append(Away(since_ns=since_ns, until_ns=CLOCK.now_ns() + BACK_S * NS))


async def _count_rules(case: Case) -> None:
    """Count the exchange's hits of the fault's own rules; one that never struck is a finding."""
    own = set(case.fault.rules) | {
        rule for strikes in case.fault.lives for strike in strikes if strike.action == "rules" for rule in strike.rules
    }
    own = {rule.replace("{account}", case.account.name) for rule in own}
    if not own:
        return
    hit: dict[str, int] = {}

    async def all_hit() -> bool:
        report = await case.world.venue.fault_report()
        hit.update({rule["rule"]: rule["hits"] - rule["without_effect"] for rule in report["rules"]})
        return all(hit.get(rule) for rule in own)

    await case.until(all_hit, STRIKE_WAIT_S)
    for rule in sorted(own):
        if hit.get(rule):
            case.injected += hit[rule]
            case.points.append(rule)
        else:
            case.findings.append(f"never struck: {rule}")


async def _agreed(case: Case, from_ns: int) -> int | None:
    """Return since when both sides agree, if they do for a while and execution lives; None when not in time."""
    since_ns: int | None = None
    before: set[str] = set()
    with anyio.move_on_after(case.fault.recover_within_s):
        while True:
            now_ns = CLOCK.now_ns()
            if case.process.exit_code() is not None:
                case.findings.append(
                    f"execution ended by itself with {case.process.exit_code()}: {case.process.tail()}"
                )
                return None
            found = set(await _differences(case))
            # Trading goes on: what is on its way between both sides is gone with the next look.
            lasting, before = found & before, found
            if not await _is_up(case, from_ns) or lasting:
                since_ns = None
                case.waited_for = "; ".join(sorted(lasting)[:NAMED]) or "execution to say something"
            else:
                since_ns = since_ns or now_ns
                if now_ns - since_ns >= AGREE_FOR_S * NS:
                    return since_ns
            await anyio.sleep(POLL_S)
    return None


async def _first_order(case: Case) -> None:
    """Trade on until the exchange has an order and both sides agree on it: the rows before it compared nothing."""
    if not await case.until(lambda: case.truth.orders or case.process.exit_code() is not None, ORDER_WAIT_S):
        return  # the judge says so
    if await _agreed(case, CLOCK.now_ns()) is None:
        case.findings.append(f"no agreement after the first order: {case.waited_for}")


async def _is_up(case: Case, since_ns: int) -> bool:
    """Tell whether execution has written its status since then."""
    try:
        query = "SELECT 1 FROM process_status WHERE process = 'execution' AND pg_xact_commit_timestamp(xmin) > %s"
        return bool(await case.rows(query, utc(since_ns)))
    except psycopg.OperationalError:
        return False


async def _differences(case: Case) -> list[str]:
    ledger = await read_ledger(case.world.owner_url, case.venue, utc(case.began_ns))
    # The record is read after the snapshot: what it has more is then a difference, and goes away with the next look.
    return invariants.agreement(case.truth, ledger, is_proven=case.fault.is_proven)


async def _at_rest(case: Case, stop_ns: int) -> Truth:
    """Return the record without what the exchange did after execution was told to stop and no one was there to see.

    Entries are cancelled by then. Of a stop that triggers afterwards nothing can be known here.
    """
    await anyio.sleep(0.3)
    late = [fill for fill in case.truth.fills.values() if fill.at_ns > stop_ns]
    if not late:
        return case.truth
    # Started once more, it books what happened meanwhile: that too must come out even.
    case.start(())
    recovered_ns = await _agreed(case, case.started_ns[-1])
    if recovered_ns is None:
        case.findings.append(f"no agreement after the stop: {case.waited_for}")
    await case.process.stop(STOP_WAIT_S)
    return case.truth


async def _texts(case: Case) -> dict[str, str]:
    """Return what could hold a secret: what processes printed, their status, and the rows of the account."""
    texts = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in _outputs(case)}
    for table in ("process_status", "execution_orders", "execution_order_events", "decision_outcomes"):
        rows = await case.rows(f"SELECT t::text AS row FROM {table} t")
        texts[table] = "\n".join(str(row["row"]) for row in rows)
    return texts


def _outputs(case: Case) -> list[Path]:
    return sorted(case.world.folder.glob(f"{case.account.name}-*.out"))
