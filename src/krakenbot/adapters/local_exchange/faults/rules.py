"""Hold the rules of a fault script, and decide for each event whether a rule strikes.

The parser makes rules, the plan asks `RuleState.strikes`. Victims are chosen by counting events, by venue time,
and by a seeded draw per event: same seed, same script, same events, same victims.
"""

from __future__ import annotations

from random import Random
from typing import Literal

from attrs import define, field, frozen

from krakenbot.adapters.local_exchange.faults.vocabulary import Place, Stage

Arguments = dict[str, str]


@frozen
class Action:
    """What happens: its name and what its slots were filled with, as texts; durations are in nanoseconds."""

    name: str
    arguments: Arguments = field(factory=dict)
    after_executing: bool = False

    def text(self, name: str, default: str = "") -> str:
        """Return a slot's text."""
        return self.arguments.get(name, default)

    def whole(self, name: str, default: int = 0) -> int:
        """Return a slot's integer."""
        return int(self.arguments.get(name, default))


@frozen(kw_only=True)
class Rule:
    """One line of a script. Times are nanoseconds since the rule was added; None means not limited by it."""

    line: int
    text: str
    action: Action
    place: Place | None = None
    subject: str | None = None
    count: tuple[Literal["exact", "from", "every"], int] | None = None
    at_ns: int | None = None
    every_ns: int | None = None
    window_ns: tuple[int, int] | None = None
    probability: float | None = None
    limit: int | None = None


@frozen
class Event:
    """A message at a place. `names` holds every name of the place that it answers to."""

    stage: Stage
    names: tuple[str, ...]
    path: str | None = None
    subjects: frozenset[str] = frozenset()
    connection: str = ""


@define
class RuleState:
    """A rule at work: how many events it has seen and how often it struck."""

    rule_id: int
    rule: Rule
    source: str
    added_ns: int
    random: Random
    seen: int = 0
    hits: int = 0
    _next_ns: int | None = None

    @classmethod
    def start(cls, rule_id: int, rule: Rule, source: str, now_ns: int, seed: int) -> RuleState:
        """Return a rule that starts now."""
        random = Random(f"faults-{seed}-{rule_id}")  # noqa: S311, the choice of victims is no cryptography
        state = cls(rule_id, rule, source, now_ns, random)
        first = rule.at_ns if rule.at_ns is not None else rule.every_ns
        state._next_ns = None if first is None else now_ns + first
        return state

    @property
    def due_ns(self) -> int | None:
        """Return when a rule without a place strikes by itself; None when it does not."""
        if self.rule.place is not None or self.is_used_up:
            return None
        return self._next_ns

    @property
    def is_used_up(self) -> bool:
        """Tell whether the rule has struck as often as it may."""
        return self.rule.limit is not None and self.hits >= self.rule.limit

    def matches(self, event: Event) -> bool:
        """Tell whether an event is at the rule's place, and of its subject."""
        place, subject = self.rule.place, self.rule.subject
        if place is None or place.stage is not event.stage or place.name not in event.names:
            return False
        if place.path is not None and place.path != event.path:
            return False
        return subject is None or subject in event.subjects

    def strikes(self, now_ns: int) -> bool:
        """Count a matching event, and tell whether it is a victim; then the hit is counted too."""
        self.seen += 1
        if self.is_used_up or not self._counts() or not self._in_time(now_ns):
            return False
        if self.rule.probability is not None and self.random.random() >= self.rule.probability:
            return False
        self._spend(now_ns)
        return True

    def strike_at_due(self, now_ns: int) -> None:
        """Count a hit of a rule that strikes by itself."""
        self.seen += 1
        self._spend(now_ns)

    def _spend(self, now_ns: int) -> None:
        self.hits += 1
        if self.rule.every_ns is None:
            if self.rule.at_ns is not None:
                self._next_ns = None
            return
        # Marks that passed without an event are not made up for.
        passed = (now_ns - self.added_ns) // self.rule.every_ns
        self._next_ns = self.added_ns + (passed + 1) * self.rule.every_ns

    def _counts(self) -> bool:
        match self.rule.count:
            case None:
                return True
            case ("exact", number):
                return self.seen == number
            case ("from", number):
                return self.seen >= number
            case (_, number):
                return self.seen % number == 0

    def _in_time(self, now_ns: int) -> bool:
        if self.rule.window_ns is not None:
            start, end = self.rule.window_ns
            return start <= now_ns - self.added_ns < end
        if self.rule.at_ns is None and self.rule.every_ns is None:
            return True
        return self._next_ns is not None and now_ns >= self._next_ns
