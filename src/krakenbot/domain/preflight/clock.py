"""Our clock against the venue's, from whole seconds and the bound of the round trip.

Enters: samples of the venue's time with our times before and after each. Leaves: a finding. Called by
`krakenbot doctor` and the start of execution. Deadlines of orders are times of our clock, read by the venue's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attrs import frozen

from krakenbot.domain.preflight.finding import Finding, Judge, fail, ok, warn
from krakenbot.domain.preflight.settings import DoctorSettings

_FIX = "Turn on time synchronisation (chrony or systemd-timesyncd) and wait until it has settled."


@frozen(kw_only=True)
class ClockSample:
    """The venue said `venue_at` (whole seconds, cut off) at some moment between `sent_at` and `received_at`."""

    sent_at: datetime
    received_at: datetime
    venue_at: datetime


@frozen(kw_only=True)
class ClockOffset:
    """Between these two our clock must be corrected to be the venue's, in seconds; positive: ours is behind."""

    low_s: float
    high_s: float

    @property
    def least_s(self) -> float:
        """Return the smallest error that explains what was seen; 0 when none is needed."""
        return max(0.0, self.low_s, -self.high_s)


def offset_of(samples: Sequence[ClockSample]) -> ClockOffset | None:
    """Return what all samples agree on; None when they contradict each other, or there are none."""
    if not samples:
        return None
    low_s = max((one.venue_at - one.received_at).total_seconds() for one in samples)
    high_s = min((one.venue_at - one.sent_at).total_seconds() + 1.0 for one in samples)
    return ClockOffset(low_s=low_s, high_s=high_s) if low_s <= high_s else None


def judge_clock(
    samples: Sequence[ClockSample], error: str | None, settings: DoctorSettings, *, away: Judge = fail
) -> Finding:
    """Return the finding; `error` is why the venue's time could not be read, and `away` what that means."""
    limit = f"at most {settings.clock_skew_max_s:g} s off"
    if error is not None:
        return away("clock", error, limit, "Bring the venue's REST endpoint into reach, then ask again.")
    offset = offset_of(samples)
    if offset is None:
        return warn("clock", f"{len(samples)} samples contradict each other: a clock was set meanwhile", limit, _FIX)
    trip_s = min((one.received_at - one.sent_at).total_seconds() for one in samples)
    found = f"between {offset.low_s:+.2f} and {offset.high_s:+.2f} s, round trip {trip_s * 1000:.0f} ms"
    if offset.least_s > settings.clock_skew_max_s:
        way = "behind" if offset.low_s > 0 else "ahead of"
        return fail("clock", f"at least {offset.least_s:.2f} s {way} the venue's ({found})", limit, _FIX)
    if trip_s > settings.round_trip_max_s:
        return warn(
            "clock",
            found,
            f"round trip at most {settings.round_trip_max_s:g} s",
            "Look for what delays requests to the venue; deadlines of orders are short.",
        )
    return ok("clock", found, limit)
