"""What a case of the orders suite is: where it strikes, with what, and what has to be there before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal

from attrs import field, frozen
from tests.faults.orders.proxy import Cut
from tests.faults.orders.strike import Strike

if TYPE_CHECKING:
    from tests.faults.orders.case import Case

OnCut = Literal["kill cluster", "abort", "terminate backend", "kill execution"]
Act = Callable[["Case"], Awaitable[None]]


SALES: dict[str, dict[str, str]] = {
    "market_exit": {
        "KRAKENBOT_DECISION__STRATEGY__LIQUIDITY_HORIZON_S": "4",
        "KRAKENBOT_EXECUTION__EXITS__BOOK_AGE_MAX_S": "0.001",
    },
    "take_profit": {},
}
"""Roles that sell besides the stop, with the settings that bring one about in time.

A time stop is two horizons; no take-profit is sent beside a book that counts as old, so none comes before it.
"""


def fills(*percent: int, nth: int = 1, first_ms: int = 300, every_ms: int = 1500) -> Strike:
    """Return a helper: soon after the `nth` acknowledged entry the exchange fills it, part by part.

    100 is the rest of it. A helper is no fault: it makes happen within seconds what the market would do in minutes.
    """
    rules = tuple(
        f"after {first_ms + number * every_ms} ms: fill "
        + ("" if part == 100 else f"{part} % of ")
        + "order of {account}"
        for number, part in enumerate(percent)
    )
    return Strike(point="gateway.submit:after", only="entry", action="rules", nth=nth, rules=rules)


@frozen(kw_only=True)
class OrderFault:
    """One case.

    `lives` are the strikes of the first execution process, of the second and so on; a life that holds a kill ends by
    it, and the process after the last life is production's own, without strikes. `helpers` are strikes of the first
    life that only bring the case about. `rules` are the exchange's from the start. `cut` and `on_cut` strike at the
    decision database, which stays away for `away_s` when it is killed. `act` runs once everything has struck, `hold_s`
    passes, then what is left is put right. `is_proven` asks that an order which never arrived is proven absent in time.
    `without_orders` is why a case may end without one order to compare; empty: it must not.
    """

    name: str
    lives: tuple[tuple[Strike, ...], ...] = ((),)
    helpers: tuple[Strike, ...] = ()
    rules: tuple[str, ...] = ()
    cut: Cut | None = None
    on_cut: OnCut = "abort"
    away_s: float = 2.0
    act: Act | None = None
    hold_s: float = 0.0
    is_proven: bool = False
    without_orders: str = ""
    settings: dict[str, str] = field(factory=dict)
    recover_within_s: float = 60.0

    @property
    def is_wrapped(self) -> bool:
        """Tell whether the first process needs the wrapped entry point."""
        return bool(self.helpers) or any(self.lives)
