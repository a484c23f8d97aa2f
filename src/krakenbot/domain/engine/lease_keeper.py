"""Holds the leader's lease: takes it, renews it, and says how fresh it is just before a send."""

from __future__ import annotations

import anyio

from krakenbot.domain.errors import LeaseLost, StoreUnavailable
from krakenbot.domain.values import LeaseEpoch
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.lease import Lease

_RETRY_S = 1.0


class LeaseKeeper:
    """One leader's lease; `margin_s` is how long before its end it no longer counts as held."""

    def __init__(
        self, *, clock: Clock, lease: Lease, event_sink: EventSink, holder: str, ttl_s: float, margin_s: float
    ) -> None:
        self._clock = clock
        self._lease = lease
        self._sink = event_sink
        self._holder = holder
        self._ttl_s = ttl_s
        self._margin_s = margin_s
        self._epoch: LeaseEpoch | None = None
        self._renewed_mono = 0.0
        self._is_released = False
        self._asked = anyio.Event()

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
        return age_s is not None and age_s < self._ttl_s - self._margin_s

    async def acquire(self) -> LeaseEpoch:
        """Wait until the lease is ours; each refusal is told once per holder."""
        told = ""
        while True:
            asked_mono = self._clock.mono()
            try:
                with anyio.fail_after(self._ttl_s):
                    self._epoch = await self._lease.acquire(self._holder, self._ttl_s)
            except (LeaseLost, StoreUnavailable, TimeoutError) as error:
                if str(error) != told:
                    told = str(error)
                    self._sink.emit("lease_waiting", reason=told)
                await self._clock.sleep(_RETRY_S)
                continue
            # Counted from before the request: what the database took is not ours to use.
            self._renewed_mono = asked_mono
            self._sink.emit("lease_acquired", lease_epoch=self._epoch, holder=self._holder)
            return self._epoch

    async def run(self) -> None:
        """Renew until cancelled or released; raises LeaseLost when another process leads."""
        wait_s = self._ttl_s / 4
        while True:
            await self._clock.sleep(wait_s)
            wait_s = min(_RETRY_S, self._ttl_s / 4)
            asked_mono = self._clock.mono()
            try:
                with anyio.fail_after(self._ttl_s / 4):
                    await self._lease.renew(self.epoch, self._ttl_s)
            except (StoreUnavailable, TimeoutError) as error:
                self._sink.emit("lease_not_renewed", age_s=self.age_s, error=str(error))
                self._tell_asked()
                continue
            except LeaseLost:
                if self._is_released:
                    return
                raise
            wait_s = self._ttl_s / 4
            self._renewed_mono = asked_mono
            self._tell_asked()

    async def wait_if_overdue(self, timeout_s: float) -> None:
        """Wait for the next answer of the database, at most `timeout_s`, when the lease has run out.

        A process that was stopped for longer than its lease must learn that another one leads before it sends
        anything; with the database away nobody else can lead, and exits go on.
        """
        if self.is_held or self._epoch is None:
            return
        with anyio.move_on_after(timeout_s):
            await self._asked.wait()

    def _tell_asked(self) -> None:
        self._asked.set()
        self._asked = anyio.Event()

    async def release(self) -> None:
        """Give the lease up, if the database can be reached."""
        if self._epoch is None:
            return
        self._is_released = True
        try:
            with anyio.fail_after(self._ttl_s / 4):
                await self._lease.release(self._epoch)
        except (StoreUnavailable, TimeoutError) as error:
            self._sink.emit("lease_not_released", error=str(error))
        self._epoch = None
