"""Hold what is chosen about a venue: its seed, its fees, and a switch for each rule that is not confirmed.

`RULES` lists the switches for the command line and the docs; `parse_rules` reads `--rule name=value`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

from attrs import field, frozen

from krakenbot.adapters.local_exchange.matching.accounts import KEEP_CLOSED, StopHolds
from krakenbot.adapters.local_exchange.matching.fees import Rates

Fees = Literal["flat", "tiered"]
BurstOrder = Literal["trade_before_filled", "filled_before_trade"]


@frozen(kw_only=True)
class VenueSettings:
    """What is chosen, not documented: fee rates and the switches for UNCONFIRMED rules.

    `keep_closed` is how many closed orders, fills and bookings each account keeps in memory, at least 1.
    """

    seed: int = 1
    maker_ppm: int = 2500
    taker_ppm: int = 4000
    fees: Fees = "flat"
    pair_fees: dict[str, Rates] = field(factory=dict)
    stop_holds: StopHolds = StopHolds.RESERVE
    post_only_reject: Literal["error", "cancel"] = "error"
    amend_queue: Literal["decrease_keeps", "always_back"] = "decrease_keeps"
    burst_order: BurstOrder = "trade_before_filled"
    cl_ord_id_error: Literal["distinct", "generic"] = "distinct"
    gtd_post_only: Literal["allowed", "refused"] = "allowed"
    level3_token: Literal["shared", "separate"] = "shared"  # noqa: S105, a rule and no password
    mode_errors: Literal["analogous", "generic"] = "analogous"
    stops_in_maintenance: Literal["survive", "cancelled"] = "survive"
    keep_closed: int = KEEP_CLOSED


@frozen(kw_only=True)
class Rule:
    """One switch: its values, the default first, and the question that it answers."""

    values: tuple[str, ...]
    question: str


RULES: Final = {
    "amend_queue": Rule(
        values=("decrease_keeps", "always_back"),
        question="Does an amendment to less keep the place in the queue, or go to the back like any other?",
    ),
    "burst_order": Rule(
        values=("trade_before_filled", "filled_before_trade"),
        question="Does executions send an order's last trade before its `filled` row, or after it?",
    ),
    "cl_ord_id_error": Rule(
        values=("distinct", "generic"),
        question="Does the refusal of a duplicate cl_ord_id name the field?",
    ),
    "gtd_post_only": Rule(values=("allowed", "refused"), question="May a post-only order be GTD?"),
    "level3_token": Rule(
        values=("shared", "separate"),
        question="Is a token that private connections use valid on level3 too?",
    ),
    "mode_errors": Rule(
        values=("analogous", "generic"),
        question="Have limit_only and reduce_only an error text of their own, like cancel_only?",
    ),
    "post_only_reject": Rule(
        values=("error", "cancel"),
        question="Is a post-only order that would take refused at once, or accepted and then cancelled?",
    ),
    "stop_holds": Rule(
        values=tuple(StopHolds),
        question="Does an untriggered stop bind funds?",
    ),
    "stops_in_maintenance": Rule(
        values=("survive", "cancelled"),
        question="Do untriggered stops survive a maintenance?",
    ),
}


def parse_rules(texts: Iterable[str]) -> dict[str, Any]:
    """Return the settings that `name=value` texts choose.

    Raises ValueError for an unknown rule or value, and for a rule that is given twice.
    """
    chosen: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in RULES:
            raise ValueError(f"--rule {text}: rules are {', '.join(RULES)}")
        if value not in RULES[name].values:
            raise ValueError(f"--rule {text}: {name} is one of {', '.join(RULES[name].values)}")
        if name in chosen:
            raise ValueError(f"--rule {text}: {name} is given twice")
        chosen[name] = StopHolds(value) if name == "stop_holds" else value
    return chosen
