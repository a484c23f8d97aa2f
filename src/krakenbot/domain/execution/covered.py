"""How long a position was covered, and how: seconds by protection, from the recorded changes.

Enters: changes of protection, and until when somebody watched. Leaves: seconds. What nobody watched is counted as
unseen, never as protected: a process that died says nothing of its stops. Called by `krakenbot positions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attrs import frozen

from krakenbot.domain.execution.position import Protection


@frozen(kw_only=True)
class CoveredSeconds:
    """Seconds of a position by how it was covered; `unseen_s` is time in which nobody watched."""

    protected_s: float
    guarded_s: float
    bare_s: float
    unprotectable_s: float
    unseen_s: float


def covered_seconds(
    changes: Sequence[tuple[datetime, Protection]], *, opened_at: datetime, watched_until: datetime, now: datetime
) -> CoveredSeconds:
    """Return the seconds from `opened_at` to `now`; `changes` are in the order of their time.

    A change before the opening holds on, unless it says that the symbol was flat. `watched_until` is when the
    watching process was last heard of.
    """
    seconds = dict.fromkeys(Protection, 0.0)
    end = max(min(watched_until, now), max((at for at, _ in changes), default=opened_at), opened_at)
    current, since, unseen_s = Protection.FLAT, opened_at, 0.0
    for at, protection in [*changes, (end, Protection.FLAT)]:
        if at > since:
            span_s = (at - since).total_seconds()
            if current is Protection.FLAT:
                unseen_s += span_s
            else:
                seconds[current] += span_s
            since = at
        current = protection
    return CoveredSeconds(
        protected_s=seconds[Protection.PROTECTED],
        guarded_s=seconds[Protection.GUARDED],
        bare_s=seconds[Protection.BARE],
        unprotectable_s=seconds[Protection.UNPROTECTABLE],
        unseen_s=unseen_s + max(0.0, (now - end).total_seconds()),
    )
