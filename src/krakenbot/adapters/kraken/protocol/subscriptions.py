"""What one connection has asked for, what was granted, and what has to be asked again.

Enters: wanted symbols, replies, verdicts on books, deadlines. Leaves: subscribe and unsubscribe requests, and failures
for the quarantine. Called by the public and level3 sessions.

A subscription walks TO_SUBSCRIBE -> SUBSCRIBING -> (AWAITING its snapshot) -> ACTIVE. A book that went wrong walks
TO_UNSUBSCRIBE -> UNSUBSCRIBING and starts again. Nothing is ever given up: refusals are retried slowly, resyncs
after a jittered, capped delay, and all resyncs together within a budget, so that they never storm.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence

from attrs import define, field, frozen

from krakenbot.adapters.kraken.errors import ErrorKind, error_kind
from krakenbot.adapters.kraken.protocol.budget import Budget
from krakenbot.adapters.kraken.protocol.quarantine import Key, Troubles

Encode = Callable[[str, str, list[str], int], str]
"""(method, channel, symbols, req_id) -> request text."""
_REQUESTS_REMEMBERED = 4096


class Stage(enum.Enum):
    """Where a subscription stands."""

    TO_SUBSCRIBE = enum.auto()
    SUBSCRIBING = enum.auto()
    AWAITING = enum.auto()
    ACTIVE = enum.auto()
    TO_UNSUBSCRIBE = enum.auto()
    UNSUBSCRIBING = enum.auto()


@frozen(kw_only=True)
class SubscriptionSettings:
    """Limits of subscribing: symbols of one request, and how long its reply and a snapshot may take, in seconds."""

    batch_symbols: int = 50
    ack_timeout_s: float = 10.0
    snapshot_timeout_s: float = 10.0


@define(kw_only=True, slots=True)
class Subscription:
    """One channel of one symbol; `due_mono` is the time of the next step or the deadline of this one.

    `batch_limit` is how many symbols may share its request: fewer after a refusal that did not say whom it meant.
    """

    channel: str
    symbol: str
    stage: Stage = Stage.TO_SUBSCRIBE
    due_mono: float = 0.0
    not_before_mono: float = 0.0
    wanted: bool = True
    is_resync: bool = False
    batch_limit: int

    @property
    def key(self) -> Key:
        """Return channel and symbol."""
        return self.channel, self.symbol


@define(kw_only=True)
class Subscriptions:
    """All subscriptions of one connection."""

    settings: SubscriptionSettings
    encode: Encode
    # taken from `budget` for every symbol of a subscribe request
    symbol_cost: float
    budget: Budget
    resync_budget: Budget
    jitter: Callable[[], float]
    # the channel whose subscription is proven by a verified snapshot only
    proven_channel: str
    troubles: Troubles
    resyncs: int = 0
    _all: dict[Key, Subscription] = field(factory=dict, init=False)
    # those that are not ACTIVE: the only ones with something due
    _pending: dict[Key, Subscription] = field(factory=dict, init=False)
    _requests: dict[int, list[Key]] = field(factory=dict, init=False)
    _next_req_id: int = field(default=1, init=False)
    _blocked_until_mono: float = field(default=0.0, init=False)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is subscribed, asked for or being left."""
        return not self._all

    def want(self, channel: str, symbols: Iterable[str], now_mono: float) -> None:
        """Make `symbols` the wanted set of a channel; what the quarantine holds back is asked for when it lets go."""
        # in the order in which they came
        wanted = dict.fromkeys(symbols)
        for symbol in wanted:
            key = (channel, symbol)
            subscription = self._all.get(key)
            if subscription is None:
                subscription = Subscription(channel=channel, symbol=symbol, batch_limit=self.settings.batch_symbols)
                self._all[key] = subscription
                self._move(subscription, Stage.TO_SUBSCRIBE, max(now_mono, self.troubles.not_before_mono(key)))
            else:
                # one that is being left is subscribed again afterwards, for a fresh snapshot
                subscription.wanted = True
        for key, subscription in list(self._all.items()):
            if key[0] == channel and key[1] not in wanted and subscription.wanted:
                self._drop(subscription, now_mono)

    def restart(self, channel: str, symbol: str, reason: str, now_mono: float, *, is_failure: bool = True) -> None:
        """Ask for a fresh snapshot: unsubscribe now, subscribe again when budget and delay allow."""
        subscription = self._all.get((channel, symbol))
        if subscription is None or not subscription.wanted:
            return
        if subscription.stage in {Stage.TO_UNSUBSCRIBE, Stage.UNSUBSCRIBING, Stage.TO_SUBSCRIBE}:
            return
        self.resyncs += 1
        subscription.is_resync = True
        subscription.not_before_mono = now_mono
        if is_failure:
            subscription.not_before_mono = self.troubles.failed(subscription.key, reason, now_mono, self.jitter)
        self._move(subscription, Stage.TO_UNSUBSCRIBE, now_mono)

    def expects_snapshot(self, channel: str, symbol: str) -> bool:
        """Tell whether a snapshot may be taken; one that was asked for before a resync may not."""
        subscription = self._all.get((channel, symbol))
        return subscription is not None and subscription.stage in {Stage.SUBSCRIBING, Stage.AWAITING, Stage.ACTIVE}

    def is_wanted(self, channel: str, symbol: str) -> bool:
        """Tell whether a symbol's data is asked for."""
        subscription = self._all.get((channel, symbol))
        return subscription is not None and subscription.wanted

    def is_active(self, channel: str, symbol: str) -> bool:
        """Tell whether a subscription is granted and, where it needs one, proven by a snapshot."""
        subscription = self._all.get((channel, symbol))
        return subscription is not None and subscription.stage is Stage.ACTIVE

    def standing(self) -> tuple[dict[str, int], dict[str, tuple[str, ...]]]:
        """Return how many wanted subscriptions of each channel are active, and the symbols of those that are not."""
        active: dict[str, int] = {}
        missing: dict[str, tuple[str, ...]] = {}
        for subscription in self._all.values():
            if subscription.stage is Stage.ACTIVE:
                active[subscription.channel] = active.get(subscription.channel, 0) + 1
            elif subscription.wanted:
                missing[subscription.channel] = (*missing.get(subscription.channel, ()), subscription.symbol)
        return active, missing

    def is_settled(self, now_mono: float) -> bool:
        """Tell whether nothing is under way: all is active, or waits in quarantine."""
        return all(
            each.stage is Stage.TO_SUBSCRIBE and self.troubles.not_before_mono(each.key) > now_mono
            for each in self._pending.values()
        )

    def proved(self, channel: str, symbol: str, now_mono: float) -> None:
        """Take notice of a verified snapshot."""
        subscription = self._all.get((channel, symbol))
        if subscription is not None and subscription.stage in {Stage.SUBSCRIBING, Stage.AWAITING}:
            self._settle(subscription, now_mono)

    def acked(self, method: str, channel: str, symbol: str, now_mono: float) -> bool:
        """Take a positive reply; False when it answers nothing that was asked."""
        subscription = self._all.get((channel, symbol))
        if subscription is None:
            return False
        if method == "unsubscribe" and subscription.stage is Stage.UNSUBSCRIBING:
            self._left(subscription, now_mono)
        elif method == "subscribe" and subscription.stage is Stage.SUBSCRIBING:
            if channel == self.proven_channel:
                self._move(subscription, Stage.AWAITING, now_mono + self.settings.snapshot_timeout_s)
            else:
                self._settle(subscription, now_mono)
        return True

    def refused(self, method: str, req_id: int | None, symbol: str, reason: str, now_mono: float) -> bool:
        """Take a refusal; False when it answers nothing that was asked. Without a symbol it is for all of them."""
        keys = self._requests.get(-1 if req_id is None else req_id, [])
        answered = [key for key in keys if not symbol or key[1] == symbol]
        if not keys:
            answered = [key for key in self._pending if symbol and key[1] == symbol]
        expected = Stage.SUBSCRIBING if method == "subscribe" else Stage.UNSUBSCRIBING
        waiting = [each for key in answered if (each := self._pending.get(key)) is not None and each.stage is expected]
        if method == "unsubscribe":
            for subscription in waiting:
                self._left(subscription, now_mono)
        elif not symbol and len(waiting) > 1 and error_kind(reason) in {ErrorKind.REFUSED, ErrorKind.STRANGE}:
            self._divide(waiting, now_mono)
        else:
            for subscription in waiting:
                if "already subscribed" in reason.lower():
                    self._already(subscription, now_mono)
                else:
                    self._refuse(subscription, reason, now_mono)
        return bool(answered)

    def slow_down(self, now_mono: float) -> None:
        """Take notice that the venue found our requests too many."""
        self.budget.empty(now_mono)

    def step(self, now_mono: float) -> list[str]:
        """Return the requests that are due now, within the budgets; expires what was not answered."""
        if not self._pending:
            return []
        self._expire(now_mono)
        self._blocked_until_mono = 0.0
        frames = self._requests_for(Stage.TO_UNSUBSCRIBE, "unsubscribe", Stage.UNSUBSCRIBING, now_mono)
        return frames + self._requests_for(Stage.TO_SUBSCRIBE, "subscribe", Stage.SUBSCRIBING, now_mono)

    def next_deadline(self) -> float | None:
        """Return when `step` has something to do; None when all is quiet."""
        if not self._pending:
            return None
        return max(min(pending.due_mono for pending in self._pending.values()), self._blocked_until_mono)

    def _requests_for(self, stage: Stage, method: str, sent: Stage, now_mono: float) -> list[str]:
        batches: dict[tuple[str, int], list[Subscription]] = {}
        for subscription in self._pending.values():
            if subscription.stage is stage and subscription.due_mono <= now_mono:
                batches.setdefault((subscription.channel, subscription.batch_limit), []).append(subscription)
        frames = []
        for (channel, size), waiting in batches.items():
            allowed = self._affordable(waiting, now_mono, is_free=method == "unsubscribe")
            for start in range(0, len(allowed), size):
                batch = allowed[start : start + size]
                frames.append(self._request(method, channel, batch))
                for subscription in batch:
                    subscription.is_resync = subscription.is_resync and method == "unsubscribe"
                    self._move(subscription, sent, now_mono + self.settings.ack_timeout_s)
        return frames

    def _affordable(self, waiting: Sequence[Subscription], now_mono: float, *, is_free: bool) -> list[Subscription]:
        allowed: list[Subscription] = []
        cost = 0.0 if is_free else self.symbol_cost
        for number, subscription in enumerate(waiting):
            if self.budget.available(now_mono) < cost:
                # until it lasts for a whole request: the venue counts requests too
                whole = min(len(waiting) - number, self.settings.batch_symbols)
                self._block(now_mono + self.budget.wait_s(cost * whole, now_mono))
                break
            if not is_free and subscription.is_resync and not self.resync_budget.take(1.0, now_mono):
                self._block(now_mono + self.resync_budget.wait_s(1.0, now_mono))
                continue
            self.budget.take(cost, now_mono)
            allowed.append(subscription)
        return allowed

    def _block(self, until_mono: float) -> None:
        self._blocked_until_mono = max(self._blocked_until_mono, until_mono)

    def _request(self, method: str, channel: str, batch: list[Subscription]) -> str:
        req_id = self._next_req_id
        self._next_req_id += 1
        self._requests[req_id] = [each.key for each in batch]
        self._requests.pop(req_id - _REQUESTS_REMEMBERED, None)
        return self.encode(method, channel, [each.symbol for each in batch if each.symbol], req_id)

    def _expire(self, now_mono: float) -> None:
        for subscription in list(self._pending.values()):
            if subscription.due_mono > now_mono:
                continue
            if subscription.stage is Stage.UNSUBSCRIBING:
                self._left(subscription, now_mono)
            elif subscription.stage is Stage.SUBSCRIBING:
                self.restart(subscription.channel, subscription.symbol, "no reply", now_mono)
            elif subscription.stage is Stage.AWAITING:
                self.restart(subscription.channel, subscription.symbol, "no snapshot", now_mono)

    def _already(self, subscription: Subscription, now_mono: float) -> None:
        if subscription.channel == self.proven_channel:
            self.restart(subscription.channel, subscription.symbol, "already subscribed", now_mono)
        else:
            self._settle(subscription, now_mono)

    def _divide(self, subscriptions: Sequence[Subscription], now_mono: float) -> None:
        """Ask again in halves at once: one of them was refused, and nobody knows which."""
        half = (len(subscriptions) + 1) // 2
        for subscription in subscriptions:
            subscription.batch_limit = half
            self._again(subscription, now_mono, now_mono)

    def _refuse(self, subscription: Subscription, reason: str, now_mono: float) -> None:
        is_definite = error_kind(reason) not in {ErrorKind.RATE, ErrorKind.STATE_UNKNOWN, ErrorKind.LOCKOUT}
        if not is_definite:
            self.slow_down(now_mono)
        retry_at_mono = self.troubles.failed(
            subscription.key, f"refused: {reason}", now_mono, self.jitter, is_refused=is_definite
        )
        self._again(subscription, retry_at_mono, now_mono)

    def _again(self, subscription: Subscription, at_mono: float, now_mono: float) -> None:
        self._move(subscription, Stage.TO_SUBSCRIBE, max(at_mono, now_mono))
        if not subscription.wanted:
            self._forget(subscription)

    def _drop(self, subscription: Subscription, now_mono: float) -> None:
        subscription.wanted = False
        self.troubles.dropped(subscription.key)
        if subscription.stage is Stage.TO_SUBSCRIBE:
            self._forget(subscription)
        elif subscription.stage not in {Stage.TO_UNSUBSCRIBE, Stage.UNSUBSCRIBING}:
            subscription.is_resync = False
            self._move(subscription, Stage.TO_UNSUBSCRIBE, now_mono)

    def _left(self, subscription: Subscription, now_mono: float) -> None:
        if subscription.wanted:
            self._move(subscription, Stage.TO_SUBSCRIBE, max(now_mono, subscription.not_before_mono))
        else:
            self._forget(subscription)

    def _forget(self, subscription: Subscription) -> None:
        self._all.pop(subscription.key, None)
        self._pending.pop(subscription.key, None)

    def _settle(self, subscription: Subscription, now_mono: float) -> None:
        self.troubles.works(subscription.key, now_mono)
        subscription.stage = Stage.ACTIVE
        subscription.batch_limit = self.settings.batch_symbols
        self._pending.pop(subscription.key, None)

    def _move(self, subscription: Subscription, stage: Stage, due_mono: float) -> None:
        subscription.stage = stage
        subscription.due_mono = due_mono
        self._pending[subscription.key] = subscription
