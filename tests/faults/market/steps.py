"""Connections that break: at every protocol step, in midstream, half-open, standing still."""

from __future__ import annotations

from typing import Literal

from tests.faults.fault import Dark, Fault

from krakenbot.domain.decision.blocker import BlockerCode

NO_DATA = frozenset({BlockerCode.BOOK_INVALID, BlockerCode.BOOK_STALE, BlockerCode.EPOCH})

_PUBLIC_STEPS = (
    ("instead of the upgrade", "once at public.upgrade: drop"),
    ("before the status", "once at public.open: drop"),
    ("at the status", "once at public.status: drop"),
    ("at a subscribe", "once at public.subscribe: drop"),
    ("at the instruments, halfway", "once at public.instrument.snapshot: drop halfway"),
    ("at an acknowledgement", "on 3rd public.subscribe.ack: drop"),
    ("at a book's snapshot, halfway", "on 2nd public.book.snapshot: drop halfway"),
    ("at a ticker's snapshot", "once at public.ticker.snapshot: drop"),
    ("at the trades' snapshot", "once at public.trade.snapshot: drop"),
    ("at a book's first update", "once at public.book.update: drop"),
)
_LEVEL3_STEPS = (
    ("at the token", "once at rest.GetWebSocketsToken: drop"),
    ("at the token, a page", "once at rest.GetWebSocketsToken: answer 502"),
    ("instead of the upgrade", "once at level3.upgrade: drop"),
    ("before the status", "once at level3.open: drop"),
    ("at a subscribe", "once at level3.subscribe: drop"),
    ("at an acknowledgement", "on 2nd level3.subscribe.ack: drop"),
    ("at a snapshot, halfway", "on 2nd level3.snapshot: drop halfway"),
    ("at an update, halfway", "once at level3.level3.update: drop halfway"),
)


def _step(path: Literal["public", "level3"], where: str, rule: str) -> Fault:
    return Fault(name=f"{path} drops {where}", rules=(rule,), renew=path)


FAULTS = (
    Fault(name="the server drops a TCP connection", rules=("once at accept: drop",), renew="public"),
    *(_step("public", where, rule) for where, rule in _PUBLIC_STEPS),
    *(_step("level3", where, rule) for where, rule in _LEVEL3_STEPS),
    Fault(
        name="public drops in midstream, halfway through a trade", rules=("once at public.trade.update: drop halfway",)
    ),
    Fault(name="public closes with 1012", rules=("after 1 ms: close public with code 1012",)),
    Fault(name="public is half-open", rules=("after 1 ms: silence public",), hold_s=7.0),
    Fault(name="level3 is half-open", rules=("after 1 ms: silence level3",), hold_s=7.0),
    Fault(
        name="a connection is silent from the start",
        rules=("once at public.open: silence",),
        renew="public",
        hold_s=17.0,
    ),
    Fault(name="public stands still for 4 s, outward", rules=("after 1 ms: stall public out for 4 s",), hold_s=5.0),
    Fault(name="public stands still for 9 s, outward", rules=("after 1 ms: stall public out for 9 s",), hold_s=10.0),
    Fault(name="public stands still for 9 s, inward", rules=("after 1 ms: stall public in for 9 s",), hold_s=10.0),
    Fault(name="level3 stands still for 9 s, outward", rules=("after 1 ms: stall level3 out for 9 s",), hold_s=10.0),
    Fault(
        name="public is away for 40 s",
        rules=("at public.upgrade: answer 503",),
        renew="public",
        hold_s=40.0,
        dark=Dark(epoch_after_s=12.0, blocked_after_s=12.0, codes=NO_DATA),
    ),
    Fault(
        name="level3 is away for 40 s",
        rules=("at level3.upgrade: answer 503",),
        renew="level3",
        hold_s=40.0,
        dark=Dark(epoch_after_s=12.0),
    ),
)
