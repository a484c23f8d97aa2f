"""What one connection has asked for, what was granted, and what has to be asked again.

Enters: wanted symbols, replies, verdicts on books, deadlines. Leaves: subscribe and unsubscribe requests, and the
quarantine: which subscriptions do not work, why and since when. Called by the public and level3 sessions.

A subscription walks TO_SUBSCRIBE -> SUBSCRIBING -> (AWAITING its snapshot) -> ACTIVE. A book that went wrong walks
TO_UNSUBSCRIBE -> UNSUBSCRIBING and starts again. Nothing is ever given up: refusals are retried slowly, resyncs
after a jittered, capped delay, and all resyncs together within a budget, so that they never storm.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable

from attrs import define, field, frozen

from krakenbot.adapters.kraken.protocol.budget import Budget
from krakenbot.adapters.kraken.ws import backoff_s

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
    """Limits of subscribing; `quarantine_after` counts failed attempts in a row."""

    batch_symbols: int = 50
    ack_timeout_s: float = 10.0
    snapshot_timeout_s: float = 10.0
    refused_retry_s: float = 30.0
    refused_retry_max_s: float = 600.0
    stable_after_s: float = 60.0
    quarantine_after: int = 3


@define(kw_only=True, slots=True)
class Subscription:
    """One channel of one symbol; `due_mono` is the time of the next step or the deadline of this one."""

    channel: str
    symbol: str
    stage: Stage = Stage.TO_SUBSCRIBE
    due_mono: float = 0.0
    not_before_mono: float = 0.0
    wanted: bool = True
    is_resync: bool = False
    attempts: int = 0
    good_since_mono: float | None = None
    trouble: str = ""
    trouble_since_mono: float = 0.0


Key = tuple[str, str]


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
    resyncs: int = 0
    _all: dict[Key, Subscription] = field(factory=dict, init=False)
    # those that are not ACTIVE: the only ones with something due
    _pending: dict[Key, Subscription] = field(factory=dict, init=False)
    _requests: dict[int, list[Key]] = field(factory=dict, init=False)
    _next_req_id: int = field(default=1, init=False)
    _blocked_until_mono: float = field(default=0.0, init=False)

    def want(self, channel: str, symbols: Iterable[str], now_mono: float) -> None:
        """Make `symbols` the wanted set of a channel."""
        wanted = set(symbols)
        for symbol in wanted:
            subscription = self._all.get((channel, symbol))
            if subscription is None:
                subscription = Subscription(channel=channel, symbol=symbol, due_mono=now_mono)
                self._all[channel, symbol] = self._pending[channel, symbol] = subscription
            else:
                # one that is being left is subscribed again afterwards, for a fresh snapshot
                subscription.wanted = True
        for key, subscription in list(self._all.items()):
            if key[0] == channel and key[1] not in wanted and subscription.wanted:
                self._drop(subscription, now_mono)

    def restart(self, channel: str, symbol: str, reason: str, now_mono: float) -> None:
        """Ask for a fresh snapshot: unsubscribe now, subscribe again when budget and delay allow."""
        subscription = self._all.get((channel, symbol))
        if subscription is None or not subscription.wanted:
            return
        if subscription.stage in {Stage.TO_UNSUBSCRIBE, Stage.UNSUBSCRIBING, Stage.TO_SUBSCRIBE}:
            return
        self.resyncs += 1
        subscription.is_resync = True
        self._fail(subscription, reason, now_mono)
        delay_s = 0.0 if subscription.attempts < 2 else backoff_s(subscription.attempts, self.jitter())
        subscription.not_before_mono = now_mono + delay_s
        self._move(subscription, Stage.TO_UNSUBSCRIBE, now_mono)

    def expects_snapshot(self, channel: str, symbol: str) -> bool:
        """Tell whether a snapshot may be taken; one that was asked for before a resync may not."""
        subscription = self._all.get((channel, symbol))
        return subscription is not None and subscription.stage in {
            Stage.SUBSCRIBING,
            Stage.AWAITING,
            Stage.ACTIVE,
        }

    def is_wanted(self, channel: str, symbol: str) -> bool:
        """Tell whether a symbol's data is asked for."""
        subscription = self._all.get((channel, symbol))
        return subscription is not None and subscription.wanted

    def proved(self, channel: str, symbol: str, now_mono: float) -> None:
        """Take notice of a verified snapshot."""
        subscription = self._all.get((channel, symbol))
        if subscription is not None and subscription.stage in {Stage.SUBSCRIBING, Stage.AWAITING}:
            subscription.good_since_mono = now_mono
            self._settle(subscription)

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
                subscription.good_since_mono = now_mono
                self._settle(subscription)
        return True

    def refused(self, method: str, req_id: int | None, symbol: str, reason: str, now_mono: float) -> bool:
        """Take a refusal; False when it answers nothing that was asked. Without a symbol it is for all of them."""
        keys = self._requests.get(-1 if req_id is None else req_id, [])
        answered = [key for key in keys if not symbol or key[1] == symbol]
        if not keys:
            answered = [key for key in self._pending if symbol and key[1] == symbol]
        expected = Stage.SUBSCRIBING if method == "subscribe" else Stage.UNSUBSCRIBING
        for key in answered:
            subscription = self._pending.get(key)
            if subscription is None or subscription.stage is not expected:
                continue
            if method == "unsubscribe":
                self._left(subscription, now_mono)
            elif "already subscribed" in reason.lower():
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

    def quarantined(self, now_mono: float) -> dict[str, str]:
        """Return the symbols (or channels) that do not work, with reason and age."""
        return {
            each.symbol
            or each.channel: f"{each.channel}: {each.trouble} (for {now_mono - each.trouble_since_mono:.0f} s)"
            for each in self._pending.values()
            if each.wanted
            and each.trouble
            and (each.attempts >= self.settings.quarantine_after or each.trouble.startswith("refused"))
        }

    def _requests_for(self, stage: Stage, method: str, sent: Stage, now_mono: float) -> list[str]:
        batches: dict[str, list[Subscription]] = {}
        for subscription in self._pending.values():
            if subscription.stage is stage and subscription.due_mono <= now_mono:
                batches.setdefault(subscription.channel, []).append(subscription)
        frames = []
        for channel, waiting in batches.items():
            for batch in self._affordable(waiting, now_mono, is_free=method == "unsubscribe"):
                frames.append(self._request(method, channel, batch))
                for subscription in batch:
                    subscription.is_resync = subscription.is_resync and method == "unsubscribe"
                    self._move(subscription, sent, now_mono + self.settings.ack_timeout_s)
        return frames

    def _affordable(self, waiting: list[Subscription], now_mono: float, *, is_free: bool) -> list[list[Subscription]]:
        allowed: list[Subscription] = []
        cost = 0.0 if is_free else self.symbol_cost
        for subscription in waiting:
            if self.budget.available(now_mono) < cost:
                self._block(now_mono + self.budget.wait_s(cost, now_mono))
                break
            if not is_free and subscription.is_resync and not self.resync_budget.take(1.0, now_mono):
                self._block(now_mono + self.resync_budget.wait_s(1.0, now_mono))
                continue
            self.budget.take(cost, now_mono)
            allowed.append(subscription)
        size = self.settings.batch_symbols
        return [allowed[start : start + size] for start in range(0, len(allowed), size)]

    def _block(self, until_mono: float) -> None:
        self._blocked_until_mono = max(self._blocked_until_mono, until_mono)

    def _request(self, method: str, channel: str, batch: list[Subscription]) -> str:
        req_id = self._next_req_id
        self._next_req_id += 1
        self._requests[req_id] = [(each.channel, each.symbol) for each in batch]
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
            self._settle(subscription)

    def _refuse(self, subscription: Subscription, reason: str, now_mono: float) -> None:
        self._fail(subscription, f"refused: {reason}", now_mono)
        longest_s, first_s = self.settings.refused_retry_max_s, self.settings.refused_retry_s
        delay_s = min(longest_s, first_s * 2.0 ** min(subscription.attempts - 1, 16)) * (0.75 + 0.5 * self.jitter())
        self._move(subscription, Stage.TO_SUBSCRIBE, now_mono + delay_s)
        if not subscription.wanted:
            self._forget(subscription)

    def _fail(self, subscription: Subscription, trouble: str, now_mono: float) -> None:
        good_since = subscription.good_since_mono
        if good_since is not None and now_mono - good_since >= self.settings.stable_after_s:
            subscription.attempts = 0
        if subscription.attempts == 0:
            subscription.trouble_since_mono = now_mono
        subscription.good_since_mono = None
        subscription.attempts += 1
        subscription.trouble = trouble

    def _drop(self, subscription: Subscription, now_mono: float) -> None:
        subscription.wanted = False
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
        key = (subscription.channel, subscription.symbol)
        self._all.pop(key, None)
        self._pending.pop(key, None)

    def _settle(self, subscription: Subscription) -> None:
        subscription.stage = Stage.ACTIVE
        self._pending.pop((subscription.channel, subscription.symbol), None)

    def _move(self, subscription: Subscription, stage: Stage, due_mono: float) -> None:
        subscription.stage = stage
        subscription.due_mono = due_mono
        self._pending[subscription.channel, subscription.symbol] = subscription
