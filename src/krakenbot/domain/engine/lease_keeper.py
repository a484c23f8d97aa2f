"""Holds the leader's lease: takes it, renews it, and says just before each send whether it may be made.

Theory. An entry's row is fenced by the database itself: no row, no entry. Exits must go on while the database is away,
so they are fenced here. A lease that was renewed lately is ours. When it has run out there are two cases. The database
does not answer: then nobody can have taken the lease by it, and exits go on. Or this process was stopped for a while:
then it asks first, and sends nothing before the answer. One case is left: the database is away for us only and another
process leads. That one shows itself at the venue by own orders that we have no row of, and then we send nothing either.
"""

from __future__ import annotations

import anyio

from krakenbot.domain.errors import LeaseLost, StoreUnavailable
from krakenbot.domain.values import LeaseEpoch
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.lease import Lease

_RETRY_S = 1.0
# PostgresLease waits longer than this before it takes the lease of a process whose session has ended.
_RENEW_MAX_S = 3.0
# An answer "the database is away" counts for so long; a process that was stopped for longer asks again.
_AWAY_COUNTS_S = 4.0


class LeaseKeeper:
    """One leader's lease; `margin_s` is how long before its end it no longer counts as held.

    `is_lost` is True once another process leads: from then on nothing may be sent.
    """

    def __init__(
        self, *, clock: Clock, lease: Lease, event_sink: EventSink, holder: str, ttl_s: float, margin_s: float
    ) -> None:
        self._clock = clock
        self._lease = lease
        self._sink = event_sink
        self._holder = holder
        self._ttl_s = ttl_s
        self._margin_s = margin_s
        self._renew_s = min(ttl_s / 4, _RENEW_MAX_S)
        self._epoch: LeaseEpoch | None = None
        self._renewed_mono = 0.0
        self._away_mono: float | None = None
        self._is_released = False
        self._is_rival_seen = False
        self._asks = 0
        self._answered_ask = 0
        self._answered = anyio.Event()
        self._ask_now = anyio.Event()
        self.is_lost = False
        self.waits_for: str | None = None

    @property
    def epoch(self) -> LeaseEpoch:
        """Return our lease epoch; raises LeaseLost before it was acquired."""
        if self._epoch is None:
            raise LeaseLost("the lease was not acquired")
        return self._epoch

    @property
    def age_s(self) -> float | None:
        """Return seconds since the last renewal; None before the lease was acquired."""
        return None if self._epoch is None else self._clock.mono() - self._renewed_mono

    @property
    def is_held(self) -> bool:
        """Tell whether the lease is ours for at least the margin, by our own monotonic time."""
        age_s = self.age_s
        return not self.is_lost and age_s is not None and age_s < self._ttl_s - self._margin_s

    async def acquire(self) -> LeaseEpoch:
        """Wait until the lease is ours; who has it is told once per holder and kept in `waits_for`."""
        told = ""
        while True:
            asked_mono = self._clock.mono()
            try:
                with anyio.fail_after(self._ttl_s):
                    self._epoch = await self._lease.acquire(self._holder, self._ttl_s)
            except (LeaseLost, StoreUnavailable, TimeoutError) as error:
                holder = error.holder if isinstance(error, LeaseLost) else None
                self.waits_for = holder or str(error) or "timeout"
                if self.waits_for != told:
                    told = self.waits_for
                    self._sink.emit("lease_waiting", reason=str(error) or "timeout", holder=holder)
                await self._clock.sleep(_RETRY_S)
                continue
            # Counted from before the request: what the database took is not ours to use.
            self._renewed_mono = asked_mono
            self.waits_for = None
            self._sink.emit("lease_acquired", lease_epoch=self._epoch, holder=self._holder)
            return self._epoch

    async def run(self) -> None:
        """Renew until cancelled or released; raises LeaseLost when another process leads."""
        wait_s = self._renew_s
        while True:
            with anyio.move_on_after(wait_s):
                await self._ask_now.wait()
            self._ask_now = anyio.Event()
            wait_s = min(_RETRY_S, self._renew_s)
            asked_mono = self._clock.mono()
            self._asks += 1
            ask = self._asks
            try:
                with anyio.fail_after(self._renew_s):
                    await self._lease.renew(self.epoch, self._ttl_s)
            except (StoreUnavailable, TimeoutError) as error:
                self._away_mono = asked_mono
                self._sink.emit("lease_not_renewed", age_s=self.age_s, error=str(error) or "timeout")
                self._tell_answer(ask)
                continue
            except LeaseLost:
                if self._is_released:
                    return
                self.lose()
                raise
            wait_s = self._renew_s
            self._renewed_mono = asked_mono
            self._away_mono = None
            self._is_rival_seen = False
            self._tell_answer(ask)

    async def may_act(self, timeout_s: float) -> bool:
        """Tell whether exits and cancels may be sent at this moment.

        When the lease has run out, the database is asked first, for at most `timeout_s`; without an answer it is away,
        and exits go on unless another leader was seen at the venue.
        """
        if not self.is_held and not self.is_lost and self._epoch is not None and not self._is_known_away():
            asks = self._asks
            self._ask_now.set()
            with anyio.move_on_after(timeout_s):
                while self._answered_ask <= asks and not self.is_lost:
                    await self._answered.wait()
        return not self.is_lost and self._epoch is not None and (self.is_held or not self._is_rival_seen)

    def lose(self) -> None:
        """Take notice that another process leads."""
        self.is_lost = True
        self._tell_answer(self._asks)

    def see_own_order_without_row(self) -> None:
        """Take notice of an own order at the venue that we did not make: while the lease has run out, a rival's."""
        if self._epoch is None or self.is_held or self._is_rival_seen:
            return
        self._is_rival_seen = True
        self._sink.emit("rival_seen", age_s=self.age_s)

    def _is_known_away(self) -> bool:
        return self._away_mono is not None and self._clock.mono() - self._away_mono < _AWAY_COUNTS_S

    def _tell_answer(self, ask: int) -> None:
        self._answered_ask = max(self._answered_ask, ask)
        self._answered.set()
        self._answered = anyio.Event()

    async def release(self) -> None:
        """Give the lease up, if the database can be reached."""
        if self._epoch is None:
            return
        self._is_released = True
        try:
            with anyio.fail_after(self._renew_s):
                await self._lease.release(self._epoch)
        except (StoreUnavailable, TimeoutError) as error:
            self._sink.emit("lease_not_released", error=str(error) or "timeout")
        self._epoch = None
