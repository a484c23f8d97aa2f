"""Which subscriptions do not work: why, since when, how often tried, and when it is worth trying again.

Enters: failures and successes of the subscriptions of all connections, one after another and side by side. Leaves:
the least time of the next attempt, the quarantine for people, and the symbols to leave out. Part of `MarketState`,
since a connection that is lost forgives nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from attrs import define, field, frozen

from krakenbot.adapters.kraken.backoff import backoff_s, doubled_s
from krakenbot.domain.values import Symbol
from krakenbot.ports.market_feed import Quarantine

Key = tuple[str, str]
"""(channel, symbol); the symbol is empty for a channel without symbols."""


@frozen(kw_only=True)
class QuarantineSettings:
    """When a subscription counts as broken, in seconds and failed attempts in a row.

    A failure more than `stable_after_s` after the last success is a first one again. From `after` failures on, or at
    once when the venue refuses, a subscription is in quarantine: tried every `retry_s`, refused ones after
    `refused_retry_s`, doubling up to `refused_retry_max_s`. From `leave_out_after` refusals on the symbol is to be
    left out until the next attempt is due.
    """

    after: int = 3
    retry_s: float = 60.0
    stable_after_s: float = 60.0
    refused_retry_s: float = 30.0
    refused_retry_max_s: float = 3600.0
    leave_out_after: int = 3


@define(kw_only=True)
class Trouble:
    """One subscription that failed; `refusals` counts definite refusals in a row."""

    reason: str = ""
    since_mono: float
    attempts: int = 0
    refusals: int = 0
    retry_at_mono: float = 0.0
    good_since_mono: float | None = None
    is_dropped: bool = False


@define(kw_only=True)
class Troubles:
    """The failures of all subscriptions, by channel and symbol."""

    settings: QuarantineSettings = field(factory=QuarantineSettings)
    _all: dict[Key, Trouble] = field(factory=dict, init=False)

    def failed(
        self, key: Key, reason: str, now_mono: float, jitter: Callable[[], float], *, is_refused: bool = False
    ) -> float:
        """Count a failure and return the time before which it shall not be tried again."""
        settings, trouble = self.settings, self._all.get(key)
        if trouble is None or self._is_over(trouble, now_mono):
            trouble = self._all[key] = Trouble(since_mono=now_mono)
        trouble.reason = reason
        trouble.attempts += 1
        trouble.good_since_mono = None
        trouble.is_dropped = False
        trouble.refusals = trouble.refusals + 1 if is_refused else 0
        if is_refused:
            delay_s = doubled_s(settings.refused_retry_s, trouble.refusals - 1, settings.refused_retry_max_s)
            delay_s *= 0.75 + 0.5 * jitter()
        elif trouble.attempts >= settings.after:
            delay_s = settings.retry_s * (0.75 + 0.5 * jitter())
        else:
            delay_s = 0.0 if trouble.attempts < 2 else backoff_s(trouble.attempts, jitter())
        trouble.retry_at_mono = now_mono + delay_s
        return trouble.retry_at_mono

    def works(self, key: Key, now_mono: float) -> None:
        """Take notice of a success: the quarantine is left, and forgotten once the success has lasted."""
        trouble = self._all.get(key)
        if trouble is not None and trouble.good_since_mono is None:
            trouble.good_since_mono = now_mono

    def dropped(self, key: Key) -> None:
        """Take notice that a subscription is not wanted any more; only what must be left out is remembered."""
        trouble = self._all.get(key)
        if trouble is not None:
            trouble.is_dropped = True
            if trouble.refusals < self.settings.leave_out_after:
                del self._all[key]

    def not_before_mono(self, key: Key) -> float:
        """Return the time before which a subscription shall not be tried; 0 when nothing is against it."""
        trouble = self._all.get(key)
        return 0.0 if trouble is None or trouble.good_since_mono is not None else trouble.retry_at_mono

    def quarantined(self, now_mono: float) -> list[Quarantine]:
        """Return what is in quarantine, oldest first; entries that are over are forgotten."""
        for key in [key for key, trouble in self._all.items() if self._is_over(trouble, now_mono)]:
            del self._all[key]
        found = [
            Quarantine(
                channel=key[0],
                symbol=Symbol(key[1]),
                reason=trouble.reason,
                age_s=now_mono - trouble.since_mono,
                attempts=trouble.attempts,
                is_refused=trouble.refusals > 0,
                retry_in_s=max(0.0, trouble.retry_at_mono - now_mono),
            )
            for key, trouble in self._all.items()
            if trouble.good_since_mono is None
            and (trouble.refusals or trouble.attempts >= self.settings.after)
            and not (trouble.is_dropped and trouble.retry_at_mono <= now_mono)
        ]
        return sorted(found, key=lambda entry: -entry.age_s)

    def refused(self, channels: Collection[str], now_mono: float) -> dict[Symbol, str]:
        """Return the symbols that the venue goes on refusing on these channels, with the reason."""
        return {
            Symbol(symbol): f"{channel}: {trouble.reason}"
            for (channel, symbol), trouble in self._all.items()
            if symbol
            and channel in channels
            and trouble.good_since_mono is None
            and trouble.refusals >= self.settings.leave_out_after
            and trouble.retry_at_mono > now_mono
        }

    def _is_over(self, trouble: Trouble, now_mono: float) -> bool:
        good_since_mono = trouble.good_since_mono
        if trouble.is_dropped and now_mono - trouble.retry_at_mono >= self.settings.refused_retry_max_s:
            return True
        return good_since_mono is not None and now_mono - good_since_mono >= self.settings.stable_after_s
