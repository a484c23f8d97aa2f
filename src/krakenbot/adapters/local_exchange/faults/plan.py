"""Keep the rules at work, choose victims, count hits and keep the fault log.

One plan per exchange. Links, the server and the control port ask it; `run` lets timed rules strike. Without a
script `is_armed` is False, and that is all that the hooks look at. The log is apart from the record of truth.
"""

from __future__ import annotations

import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, Final, Protocol

import anyio
import structlog
from attrs import asdict, define, frozen

from krakenbot.adapters.local_exchange.faults.rules import Action, Event, Rule, RuleState
from krakenbot.adapters.local_exchange.faults.script import ScriptError, parse_script
from krakenbot.adapters.local_exchange.faults.transports import Transports
from krakenbot.adapters.local_exchange.faults.vocabulary import CHANNELS, Stage
from krakenbot.adapters.local_exchange.venue_clock import VenueClock

MAX_LOG: Final = 10_000
MAX_RULES: Final = 5_000
MAX_OFFSET_DIGITS: Final = 18

_log = structlog.get_logger("krakenbot.exchange")


@frozen
class Hit:
    """One strike: when (since the plan began), by which rule, where."""

    number: int
    rule_id: int
    at_ns: int
    place: str
    connection: str


@define(eq=False)
class Strike:
    """A rule that has an event as its victim."""

    state: RuleState
    action: Action
    _plan: FaultPlan

    def had_no_effect(self) -> None:
        """Say that the action does not apply to this message: the message went on unchanged."""
        self._plan.without_effect[self.state.rule_id] += 1


@frozen(kw_only=True)
class Names:
    """What the exchange knows, for checking a script: empty lists check nothing."""

    accounts: Collection[str] = ()
    symbols: Collection[str] = ()
    keys: Collection[str] = ()


class Link(Protocol):
    """One connection that faults can be played on."""

    path: str
    is_deaf: bool

    def abort(self) -> None:
        """Cut the connection at once."""

    def end(self, frame: Any) -> None:
        """End the connection after what is queued."""

    def silence(self) -> None:
        """Neither send nor hear any more."""

    def stall(self, way: str, until_ns: int) -> None:
        """Stand still in one direction."""


class Player(Protocol):
    """Whoever carries out what strikes by itself: on the venue, or on every connection of a path."""

    def play(self, action: Action) -> bool:
        """Carry out an action; False when there was nothing to act on."""


@frozen
class Stall:
    """A path that stands still in one direction until a time."""

    path: str
    way: str
    until_ns: int


class FaultPlan:
    """Every rule of every script."""

    def __init__(self, seed: int, clock: VenueClock) -> None:
        self.clock = clock
        self.is_armed = False
        self.acts_on_frames = False
        self.log: deque[Hit] = deque(maxlen=MAX_LOG)
        self.without_effect: defaultdict[int, int] = defaultdict(int)
        self.stalls: list[Stall] = []
        self.transports = Transports()
        self.page_shift = 0
        self.links: dict[Link, None] = {}
        self._player: Player | None = None
        self._names: Callable[[], Names] = Names
        self._seed = seed
        self._start_ns = clock.now_ns()
        self._states: dict[int, RuleState] = {}
        self._index: dict[tuple[Stage, str], list[RuleState]] = {}
        self._next_id = 1
        self._connections = 0
        self._hits = 0
        self._pending: deque[Strike] = deque()
        self._changed = anyio.Event()
        self._waits: set[anyio.CancelScope] = set()
        self._is_stopped = False

    def use(self, player: Player, names: Callable[[], Names]) -> None:
        """Say who carries out what strikes by itself, and what a script may name."""
        self._player, self._names = player, names

    def next_connection(self, path: str) -> str:
        """Return the name of a new connection in the fault log."""
        self._connections += 1
        return f"{path} {self._connections}"

    def add(self, text: str, source: str) -> list[int]:
        """Add the rules of a script; they start now. Return their ids.

        Raises ScriptError, and then nothing was added.
        """
        rules = parse_script(text)
        self._check(rules)
        if len(self._states) + len(rules) > MAX_RULES:
            raise ScriptError(1, 1, f"at most {MAX_RULES} rules at a time")
        ids = []
        for rule in rules:
            state = RuleState.start(self._next_id, rule, source, self.clock.now_ns(), self._seed)
            self._next_id += 1
            self._states[state.rule_id] = state
            ids.append(state.rule_id)
        self._rebuild()
        return ids

    def remove(self, rule_id: int | None = None) -> int:
        """Remove one rule, or all with None; return how many. What is under way ends as it would have."""
        if rule_id is None:
            removed = len(self._states)
            self._states.clear()
        else:
            removed = 1 if self._states.pop(rule_id, None) else 0
        self._rebuild()
        return removed

    def strike(self, event: Event) -> list[Strike]:
        """Return the strikes on an event, in the order of the rules."""
        found = [
            state for name in event.names for state in self._index.get((event.stage, name), ()) if state.matches(event)
        ]
        if not found:
            return []
        now_ns = self.clock.now_ns()
        struck = sorted({state.rule_id: state for state in found}.values(), key=lambda state: state.rule_id)
        return [self._hit(state, event, now_ns) for state in struck if state.strikes(now_ns)]

    def play(self, strike: Strike) -> None:
        """Carry out an action on the venue or on the connections of a path now."""
        try:
            has_effect = self._player is not None and self._player.play(strike.action)
        except Exception:  # noqa: BLE001, a fault that fails must not end the exchange that it is played on
            has_effect = False
            _log.error("fault_failed", rule=strike.state.rule.text, traceback=traceback.format_exc(limit=8))
        if not has_effect:
            strike.had_no_effect()

    def schedule(self, strike: Strike) -> None:
        """Let an action on the venue happen as soon as the venue is not in the middle of something."""
        self._pending.append(strike)
        self._changed.set()

    def stall(self, path: str, way: str, duration_ns: int) -> None:
        """Let a path stand still in one direction from now on, for connections old and new."""
        now_ns = self.clock.now_ns()
        self.stalls = [stall for stall in self.stalls if stall.until_ns > now_ns]
        self.stalls.append(Stall(path, way, now_ns + duration_ns))
        for link in list(self.links):
            if link.path == path:
                link.stall(way, now_ns + duration_ns)

    def stalled_until_ns(self, path: str, way: str) -> int:
        """Return until when a path stands still; 0 when it does not."""
        now_ns = self.clock.now_ns()
        ends = [s.until_ns for s in self.stalls if s.path == path and s.way == way and s.until_ns > now_ns]
        return max(ends, default=0)

    def report(self) -> dict[str, Any]:
        """Return every rule with how often it was hit, ready for JSON."""
        rules = [
            {
                "id": state.rule_id,
                "source": state.source,
                "line": state.rule.line,
                "rule": state.rule.text,
                "seen": state.seen,
                "hits": state.hits,
                "without_effect": self.without_effect[state.rule_id],
                "never_hit": state.hits == 0,
            }
            for state in self._states.values()
        ]
        return {"rules": rules, "hits": self._hits, "log": [asdict(hit) for hit in self.log]}

    def lines(self) -> list[str]:
        """Return the report for a person, one rule per line."""
        lines = []
        for rule in self.report()["rules"]:
            hits = "never hit" if rule["never_hit"] else f"hit {rule['hits']} times"
            if rule["without_effect"]:
                hits += f", {rule['without_effect']} of them without effect"
            lines.append(f"fault {rule['id']}, {rule['source']} line {rule['line']}: {rule['rule']} -- {hits}")
        return lines

    def paged(self, params: dict[str, str]) -> dict[str, str]:
        """Return a request's parameters with its page moved, as if rows had come or gone between two pages."""
        offset = params.get("ofs", "")
        if not self.page_shift or not offset.isdigit() or len(offset) > MAX_OFFSET_DIGITS or offset == "0":
            return params
        return params | {"ofs": str(max(0, int(offset) + self.page_shift))}

    async def run(self) -> None:
        """Let rules strike at their times, until `stop`."""
        with self._until_stopped():
            while True:
                self._changed = anyio.Event()
                self._play_due()
                due = [state.due_ns for state in self._states.values() if state.due_ns is not None]
                if not self._pending:
                    await self.wait_for(self._changed, min(due, default=None))

    async def wait_for(self, event: anyio.Event, due_ns: int | None) -> None:
        """Wait for an event, or for a venue time if one is given."""
        if due_ns is None:
            await event.wait()
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._wake_at, due_ns, event)
            await event.wait()
            tasks.cancel_scope.cancel()

    async def wait_until_ns(self, due_ns: int) -> None:
        """Wait for a venue time, or until the exchange stops."""
        with self._until_stopped():
            await self.clock.sleep_until_ns(due_ns)

    def stop(self) -> None:
        """End every wait and every connection that hears nothing: the exchange stops."""
        self._is_stopped = True
        for scope in list(self._waits):
            scope.cancel()
        for link in list(self.links):
            if link.is_deaf:
                link.abort()

    @contextmanager
    def _until_stopped(self) -> Iterator[None]:
        with anyio.CancelScope() as scope:
            if self._is_stopped:
                scope.cancel()
            self._waits.add(scope)
            try:
                yield
            finally:
                self._waits.discard(scope)

    async def _wake_at(self, due_ns: int, changed: anyio.Event) -> None:
        await self.clock.sleep_until_ns(due_ns)
        changed.set()

    def _play_due(self) -> None:
        now_ns = self.clock.now_ns()
        for state in list(self._states.values()):
            if state.due_ns is not None and state.due_ns <= now_ns:
                state.strike_at_due(now_ns)
                self._pending.append(self._logged(state, "now", "", now_ns))
        while self._pending:
            self.play(self._pending.popleft())

    def _hit(self, state: RuleState, event: Event, now_ns: int) -> Strike:
        name = event.names[-1] if event.path is None else f"{event.path}.{event.names[-1]}"
        place = f"{event.stage}.{event.names[-1]}" if event.stage is Stage.REST else name
        return self._logged(state, place, event.connection, now_ns)

    def _logged(self, state: RuleState, place: str, connection: str, now_ns: int) -> Strike:
        self._hits += 1
        self.log.append(Hit(self._hits, state.rule_id, now_ns - self._start_ns, place, connection))
        return Strike(state, state.rule.action, self)

    def _rebuild(self) -> None:
        self._index = {}
        for state in self._states.values():
            place = state.rule.place
            if place is not None:
                self._index.setdefault((place.stage, place.name), []).append(state)
        self.acts_on_frames = any(stage is Stage.FRAME for stage, _name in self._index)
        # Once armed it stays so: connections may still be under a fault whose rule is gone.
        self.is_armed = self.is_armed or bool(self._states)
        self._changed.set()

    def _check(self, rules: list[Rule]) -> None:
        """Refuse names that the exchange does not know: such a rule could never be hit."""
        names = self._names()
        for rule in rules:
            if rule.subject is not None and names.symbols and rule.subject not in CHANNELS:
                _known(rule, "symbol", rule.subject, names.symbols)
            for slot, known in (("account", names.accounts), ("symbol", names.symbols), ("key", names.keys)):
                value = rule.action.text(slot)
                if value and known:
                    _known(rule, slot, value, known)


def _known(rule: Rule, kind: str, name: str, known: Collection[str]) -> None:
    if name in known:
        return
    near = get_close_matches(name, list(known), 1, 0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    column = max(1, rule.text.find(name) + 1)
    raise ScriptError(rule.line, column, f"the exchange has no {kind} {name!r}{hint}")
