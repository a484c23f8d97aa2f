"""Answers that are lost, by what really happened: entries, stops, market exits, take-profits, cancels, amends."""

from __future__ import annotations

from tests.faults.orders.fault import SALES, OrderFault, fills
from tests.faults.orders.strike import Strike

REFUSED = 'once at add_order: refuse "EOrder:Insufficient funds"'
NEVER = "it never arrives"
EXECUTED = "it is refused though executed"
OVER_LIMIT = 'refuse "EOrder:Rate limit exceeded"'
THRICE = "it is refused for the rate, and the two after it"
THRICE_S = 8.0
"""So long the rule stays: a refused sale is followed by a stop, and by the next sale after a rest."""
WITHIN_S = 120.0
"""The proof that an entry is absent waits for its own expiry, then for two ladders."""
_SUBMITS = (
    ("its answer is lost", ("once at add_order.ack: lose",)),
    ("it is refused, and the answer is lost", (REFUSED, "once at add_order.ack: lose")),
    ("it arrives just before its deadline", ("once at add_order: delay by 4700 ms",)),
    ("it arrives after its deadline", ("once at add_order: delay by 5600 ms",)),
    (NEVER, ("once at add_order: lose",)),
    ("it is accepted and the connection dies", ("once at add_order: accept then drop the connection",)),
    ("the connection dies before it", ("once at add_order: drop",)),
    (EXECUTED, ('once at add_order: refuse "EService:Unavailable" after executing',)),
    (THRICE, (f"3 times at add_order: {OVER_LIMIT}",)),
)
_REQUESTS = (
    ("its answer is lost", "once at {method}.ack: lose"),
    ("it never arrives", "once at {method}: lose"),
    (EXECUTED, 'once at {method}: refuse "EService:Unavailable" after executing'),
    ("it is refused", 'once at {method}: refuse "EService:Busy"'),
    ("it is refused for the rate", f"once at {{method}}: {OVER_LIMIT}"),
    ("it is late by 3 s", "once at {method}: delay by 3 s"),
    ("it is executed and the connection dies", "once at {method}: accept then drop the connection"),
    ("the connection dies before it", "once at {method}: drop"),
    ("the order was filled before it", "once at {method}: fill order of {account}"),
    ("half of the order is filled before it", "once at {method}: fill 50 % of order of {account}"),
)


def _submitted(role: str, *rules: str) -> Strike:
    return Strike(point="gateway.submit:before", only=role, action="rules", rules=rules)


def _entry(how: str, *rules: str) -> OrderFault:
    return OrderFault(
        name=f"entry: {how}",
        lives=((_submitted("entry", *rules),),),
        is_proven=how == NEVER,
        hold_s=THRICE_S if how == THRICE else 0.0,
        recover_within_s=WITHIN_S,
    )


def _stop(how: str, *rules: str) -> OrderFault:
    return OrderFault(
        name=f"protective stop: {how}",
        lives=((_submitted("protective_stop", *rules),),),
        helpers=(fills(100),),
        is_proven=how == NEVER,
        hold_s=THRICE_S if how == THRICE else 0.0,
    )


def _sale(role: str, how: str, *rules: str) -> OrderFault:
    return OrderFault(
        name=f"{role.replace('_', ' ')}: {how}",
        lives=((_submitted(role, *rules),),),
        helpers=(fills(100),),
        settings=SALES[role],
        is_proven=how == NEVER,
        hold_s=THRICE_S if how == THRICE else 0.0,
        recover_within_s=WITHIN_S,
    )


def _cancel(how: str, rule: str) -> OrderFault:
    told = Strike(point="gateway.submit:after", only="entry", action="terminate")
    struck = Strike(point="gateway.cancel:before", only="entry", action="rules", rules=(rule,))
    return OrderFault(name=f"cancel of an entry, at SIGTERM: {how}", lives=((told, struck),))


def _amend(how: str, rule: str) -> OrderFault:
    struck = Strike(point="gateway.amend:before", only="protective_stop", action="rules", rules=(rule,))
    return OrderFault(name=f"amend of a stop: {how}", lives=((struck,),), helpers=(fills(30, 30, every_ms=2600),))


FAULTS = (
    *(_entry(how, *rules) for how, rules in _SUBMITS),
    _entry(
        "its answer is lost, it is filled",
        "once at add_order.ack: lose",
        "once at private.executions.new: fill order of {account}",
    ),
    _entry(
        "its answer is lost, it is filled in part",
        "once at add_order.ack: lose",
        "once at private.executions.new: fill 40 % of order of {account}",
    ),
    *(_stop(how, *rules) for how, rules in _SUBMITS),
    *(_sale(role, how, *rules) for role in SALES for how, rules in _SUBMITS),
    *(_cancel(how, rule.replace("{method}", "cancel_order")) for how, rule in _REQUESTS),
    *(_amend(how, rule.replace("{method}", "amend_order")) for how, rule in _REQUESTS),
)
