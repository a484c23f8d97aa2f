"""Requests that are refused, half answered or not answered; the venue's modes; tokens."""

from __future__ import annotations

from tests.faults.fault import Dark, Fault

from krakenbot.domain.decision.blocker import BlockerCode

FAULTS = (
    Fault(
        name="a subscribe is refused on a healthy socket",
        rules=('once at public.subscribe of book: refuse "EGeneral:Internal error"',),
        renew="public",
        recover_within_s=60.0,
    ),
    Fault(
        name="a level3 subscribe is refused",
        rules=('once at level3.subscribe: refuse "EGeneral:Internal error"',),
        renew="level3",
        recover_within_s=60.0,
    ),
    Fault(
        name="every subscribe is refused for one symbol",
        rules=('at public.subscribe of {symbol}: refuse "EQuery:Unknown asset pair"',),
        renew="public",
        hold_s=10.0,
        stays=True,
        channels=("book",),
        recover_within_s=120.0,
    ),
    Fault(
        name="acknowledgements for a part only",
        rules=("3 times at public.subscribe.ack: lose",),
        renew="public",
        recover_within_s=60.0,
    ),
    Fault(
        name="a subscribe is lost",
        rules=("once at public.subscribe of book: lose",),
        renew="public",
        recover_within_s=60.0,
    ),
    Fault(
        name="too many messages",
        rules=('once at public.subscribe: answer text "{\\"Error\\": \\"Exceeded msg rate\\"}"',),
        renew="public",
        recover_within_s=60.0,
    ),
    Fault(
        name="429 on upgrade, up to five times",
        rules=("5 times at public.upgrade: answer 429",),
        renew="public",
        hold_s=15.0,
        recover_within_s=60.0,
    ),
    Fault(
        name="429 on upgrade of level3, up to five times",
        rules=("5 times at level3.upgrade: answer 429",),
        renew="level3",
        hold_s=15.0,
        recover_within_s=60.0,
    ),
    Fault(
        name="maintenance and back",
        rules=("after 1 ms: mode maintenance", "after 15 s: mode online"),
        hold_s=15.5,
        dark=Dark(blocked_after_s=3.0, codes=frozenset({BlockerCode.EXCHANGE_MODE})),
    ),
    Fault(name="tokens expire in midsession", rules=("after 1 ms: expire tokens",)),
    Fault(
        name="a token expires before its use",
        rules=("once at level3.subscribe: expire tokens",),
        renew="level3",
        recover_within_s=60.0,
    ),
)
