"""What a fault is: what strikes, for how long, and what has to be said while it lasts.

Enters: nothing. Leaves: the vocabulary of the groups of faults in `tests/faults/market`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from attrs import frozen
from tests.faults.world import World

from krakenbot.domain.decision.blocker import BlockerCode

Act = Callable[[World], Awaitable[int]]
"""Strike, wait, and put right again; return how often it struck."""


@frozen(kw_only=True)
class Dark:
    """What must be said while no (or too little) market data can be had.

    `epoch_after_s` and `blocked_after_s` are the seconds after the strike from which on no epoch may be `valid` and
    every symbol must be blocked by one of `codes`; None asks for nothing. `is_told` asks for at least one epoch that
    is not valid, which needs an ingest that lives and can write.
    """

    epoch_after_s: float | None = None
    is_told: bool = True
    blocked_after_s: float | None = None
    codes: frozenset[BlockerCode] = frozenset()


@frozen(kw_only=True)
class Fault:
    """One row of the report.

    `rules` is a fault script of the exchange, `{symbol}` in it is one of its symbols; `act` strikes at processes. The
    rules are in force for `hold_s` seconds. `stays` leaves them in force while books and trades are compared: the
    symbol must then be in quarantine on `channels`, and all others right. `renew` is a path whose connections are cut
    when the rules are in force, so that new ones walk through all steps. `recover_within_s` counts from the end.
    """

    name: str
    rules: tuple[str, ...] = ()
    act: Act | None = None
    hold_s: float = 2.0
    dark: Dark | None = None
    stays: bool = False
    recover_within_s: float = 45.0
    channels: tuple[str, ...] = ()
    renew: Literal["", "public", "level3"] = ""
    point: str = ""
    """Where `act` strikes; the exchange says where rules do."""

    @property
    def lasts(self) -> bool:
        """Tell whether it goes on until it is put right; recovery is counted from then, and else from the strike."""
        return self.act is not None or any(rule.startswith("at ") for rule in self.rules)

    @property
    def asks_decisions(self) -> bool:
        """Tell whether decisions are judged, which takes filled windows."""
        return self.dark is not None and self.dark.blocked_after_s is not None
