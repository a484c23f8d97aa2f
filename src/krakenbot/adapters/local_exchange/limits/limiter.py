"""Refuse what goes beyond a limit, in the venue's words.

The REST gate asks before every call, the server before every connection, and each WS session has its own
`ConnectionLimits`. Times are the venue's, in nanoseconds. What is remembered per address or key is bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TypeVar

from krakenbot.adapters.local_exchange.limits.counters import DecayingCounter, RollingWindow, S
from krakenbot.adapters.local_exchange.limits.settings import (
    COSTLY,
    LEVEL3_BUDGETS,
    LEVEL3_COSTS,
    REST_COUNTERS,
    UNCOUNTED,
    LimitSettings,
)

RATE_LIMIT: Final = "EAPI:Rate limit exceeded"
LOCKOUT: Final = "EGeneral:Temporary lockout"
MESSAGE_RATE: Final = '{"Error":"Exceeded msg rate"}'
REMEMBERED: Final = 10_000
"""Addresses or keys that are remembered at once; the one first seen is forgotten first."""
T = TypeVar("T")


class Limiter:
    """The limits of one exchange."""

    def __init__(self, settings: LimitSettings) -> None:
        self.settings = settings
        self._rest: dict[str, DecayingCounter] = {}
        self._public: dict[str, DecayingCounter] = {}
        self._refused: Counter[str] = Counter()
        self._in_flight: Counter[str] = Counter()
        self._connections: dict[str, RollingWindow] = {}
        self._banned_until_ns: dict[str, int] = {}
        self._failures: dict[str, RollingWindow] = {}
        self._locked_until_ns: dict[str, int] = {}

    def private_call(self, api_key: str, tier: str, endpoint: str, now_ns: int) -> str | None:
        """Count a private REST call; return the refusal, None when it may go on."""
        if not self.settings.rest_counter or endpoint in UNCOUNTED:
            return None
        cost = self.settings.history_cost if endpoint in COSTLY else 1
        limit, centi_per_s = REST_COUNTERS[tier]
        counter = _remember(self._rest, api_key, lambda: DecayingCounter(limit, centi_per_s))
        counter.change(limit, centi_per_s, now_ns)
        if counter.take(cost, now_ns):
            return None
        self._refused[api_key] += 1
        return RATE_LIMIT

    def public_call(self, address: str, now_ns: int) -> str | None:
        """Count a public REST call of an address; return the refusal, None when it may go on."""
        rate = self.settings.public_calls_per_s
        if not rate:
            return None
        counter = _remember(self._public, address, lambda: DecayingCounter(self.settings.public_burst, 100 * rate))
        return None if counter.take(1, now_ns) else RATE_LIMIT

    def enter(self, api_key: str, now_ns: int) -> str | None:
        """Begin a private REST call; return the refusal when too many of the key are under way.

        A call that was let in must `leave`.
        """
        most = self.settings.concurrent_calls
        if most and self._in_flight[api_key] >= most:
            return f"EService: Throttled: {now_ns // S + 1}"
        self._in_flight[api_key] += 1
        return None

    def leave(self, api_key: str) -> None:
        """End a private REST call that was let in."""
        self._in_flight[api_key] -= 1
        if self._in_flight[api_key] <= 0:
            del self._in_flight[api_key]

    def connect(self, address: str, now_ns: int) -> bool:
        """Count a connection attempt; False when the address has made too many and is banned."""
        most, window_ns = self.settings.connections, self.settings.connection_window_s * S
        if not most:
            return True
        if self._banned_until_ns.get(address, 0) > now_ns:
            return False
        window = _remember(self._connections, address, lambda: RollingWindow(most, window_ns))
        if window.take(now_ns):
            return True
        _keep(self._banned_until_ns, address, now_ns + window_ns)
        return False

    def locked(self, api_key: str, now_ns: int) -> str | None:
        """Return the refusal of a key that failed too often, None when it is not locked."""
        return LOCKOUT if self._locked_until_ns.get(api_key, 0) > now_ns else None

    def failed(self, api_key: str, now_ns: int) -> None:
        """Count a bad key, signature or nonce; the one that fills the window locks the key for a while."""
        most = self.settings.bad_credentials
        if not most:
            return
        window_ns = self.settings.bad_credentials_window_s * S
        window = _remember(self._failures, api_key, lambda: RollingWindow(most, window_ns))
        window.take(now_ns)
        if window.count(now_ns) >= most:
            _keep(self._locked_until_ns, api_key, now_ns + self.settings.lockout_s * S)
            del self._failures[api_key]

    def state(self, now_ns: int) -> dict[str, Any]:
        """Return what is counted now, ready for JSON; counts of REST counters in hundredths."""
        return {
            "rest_counters_centi": {name: counter.centi(now_ns) for name, counter in self._rest.items()},
            "public_counters_centi": {name: counter.centi(now_ns) for name, counter in self._public.items()},
            "rest_calls_refused": dict(self._refused),
            "calls_under_way": dict(self._in_flight),
            "connections": {name: window.count(now_ns) for name, window in self._connections.items()},
            "banned_until_ns": {name: at_ns for name, at_ns in self._banned_until_ns.items() if at_ns > now_ns},
            "locked_until_ns": {name: at_ns for name, at_ns in self._locked_until_ns.items() if at_ns > now_ns},
        }


class ConnectionLimits:
    """The limits of one WebSocket."""

    def __init__(self, settings: LimitSettings) -> None:
        self._settings = settings
        self._messages = DecayingCounter(settings.message_burst, 100 * settings.messages_per_s)
        self._level3: DecayingCounter | None = None

    def message(self, now_ns: int) -> bool:
        """Count a message; False when it came too fast and must not be carried out."""
        return not self._settings.messages_per_s or self._messages.take(1, now_ns)

    def level3(self, tier: str, depth: int, held: int, now_ns: int) -> str | None:
        """Count a level3 subscription besides the `held` ones; return the refusal, None when it may go on."""
        if self._settings.level3_symbols and held >= self._settings.level3_symbols:
            return "EGeneral:Invalid arguments:too many symbols"
        if not self._settings.level3_budget:
            return None
        if self._level3 is None:
            budget = LEVEL3_BUDGETS[tier]
            self._level3 = DecayingCounter(budget, 100 * budget)
        return None if self._level3.take(LEVEL3_COSTS[depth], now_ns) else RATE_LIMIT


def _remember(table: dict[str, T], name: str, make: Callable[[], T]) -> T:
    if name not in table:
        _keep(table, name, make())
    return table[name]


def _keep(table: dict[str, T], name: str, value: T) -> None:
    table[name] = value
    if len(table) > REMEMBERED:
        del table[next(iter(table))]
