"""The private stream and REST: dropped at each step while fills come, refused, damaged, lagging; clocks that step."""

from __future__ import annotations

import signal

import anyio
from tests.faults.orders.case import Case
from tests.faults.orders.fault import SALES, OrderFault, fills
from tests.faults.orders.strike import Strike

HOUR_S = 3600
STEPPED_S = 8.0
_STEPS = (
    ("at the token", "once at rest.GetWebSocketsToken: drop"),
    ("at the token, a page", "once at rest.GetWebSocketsToken: answer 502 after executing"),
    ("instead of the upgrade", "once at private.upgrade: drop"),
    ("before the status", "once at private.open: drop"),
    ("at the status", "once at private.status: drop"),
    ("at a subscribe", "once at private.subscribe: drop"),
    ("at an acknowledgement", "once at private.subscribe.ack: drop"),
    ("at the snapshot of executions, halfway", "once at private.executions.snapshot: drop halfway"),
    ("at the snapshot of balances", "once at private.balances.snapshot: drop"),
    ("and the token expires before its use", "once at private.subscribe: expire tokens"),
    ("and a subscribe is refused", 'once at private.subscribe: refuse "EGeneral:Internal error"'),
)
_CONTENT = (
    ("a report comes twice", "3 times at private.executions.update: duplicate"),
    ("a trade comes twice in one frame", "once at private.executions.trade: double rows"),
    ("reports are lost", "2 times at private.executions.update: lose"),
    ("the first trade is lost", "once at private.executions.trade: lose"),
    ("the filled report is lost", "once at private.executions.filled: lose"),
    ("reports change places", "once at private.executions.new: swap with next"),
    ("a trade comes before the answer", "once at private.add_order.ack: delay by 900 ms"),
    ("the sequence jumps", "once at private.executions.new: skip sequence by 2"),
    ("the sequence starts again", "once at private.executions.new: restart sequence"),
    ("a report of an unknown kind", 'once at private.executions.new: set data.0.exec_type to "mystery"'),
    ("half a frame", "once at private.executions.update: truncate"),
    ("the stream is half-open", "once at private.executions.new: silence"),
)
_REST = (
    ("a page with 502", "4 times at rest: answer 502"),
    ("a page with 200", "4 times at rest: answer html"),
    ("nothing at all", "4 times at rest: answer empty"),
    ("half an answer", "3 times at rest: drop halfway"),
    ("EService:Busy", '4 times at rest: refuse "EService:Busy"'),
    ("an invalid nonce", '3 times at rest: refuse "EAPI:Invalid nonce"'),
    ("its rate limit", '3 times at rest: refuse "EAPI:Rate limit exceeded"'),
)


def _once_open(*rules: str) -> Strike:
    return Strike(point="gateway.submit:after", only="entry", action="rules", rules=rules)


async def hour_forth_and_back(case: Case) -> None:
    case.process.send(signal.SIGUSR1)
    case.hit("the clock of execution, an hour forward")
    await anyio.sleep(8.0)
    case.process.send(signal.SIGUSR2)
    case.hit("the clock of execution, an hour back")


async def hour_back_and_forth(case: Case) -> None:
    case.process.send(signal.SIGUSR2)
    case.hit("the clock of execution, an hour back")
    await anyio.sleep(8.0)
    case.process.send(signal.SIGUSR1)
    case.hit("the clock of execution, an hour forward")


async def exchange_hour_forward(case: Case) -> None:
    await _step_exchange(case, HOUR_S, "forward")


async def exchange_hour_back(case: Case) -> None:
    await _step_exchange(case, -HOUR_S, "back")


async def _step_exchange(case: Case, step_s: int, way: str) -> None:
    """Step the exchange's clock, fill what rests under the new time, and put the clock right again."""
    await case.world.venue.step_clock(step_s)
    case.hit(f"the clock of the exchange, an hour {way}")
    await case.rules("after 1 s: fill order of {account}")
    await anyio.sleep(STEPPED_S)
    await case.world.venue.step_clock(0)
    case.hit("the clock of the exchange, put right")


FAULTS = (
    *(
        OrderFault(
            name=f"the private stream drops {where}, with fills meanwhile",
            lives=((_once_open("after 150 ms: drop private", rule),),),
            helpers=(fills(50, 100, first_ms=300, every_ms=400),),
        )
        for where, rule in _STEPS
    ),
    OrderFault(
        name="the private stream is away for 6 s, with 70 fills meanwhile",
        lives=((_once_open("after 100 ms: drop private", "for 6 s at private.upgrade: answer 503"),),),
        helpers=(fills(*([1] * 70), first_ms=300, every_ms=2),),
        hold_s=6.0,
    ),
    *(
        OrderFault(name=f"on the private stream {what}", rules=(rule,), helpers=(fills(40, 100, every_ms=800),))
        for what, rule in _CONTENT
    ),
    *(
        OrderFault(
            name=f"after a kill -9 REST answers with {what}",
            lives=(
                (
                    Strike(point="gateway.submit:after", only="entry", action="rules", rules=(rule,)),
                    Strike(point="store.apply:after", only="report_new"),
                ),
            ),
            helpers=(fills(60, first_ms=200),),
        )
        for what, rule in _REST
    ),
    OrderFault(
        name="the exchange refuses two orders for their rate",
        rules=('2 times at add_order: refuse "EOrder:Rate limit exceeded"',),
        helpers=(fills(100),),
    ),
    *(
        OrderFault(
            name=f"the stream drops, an answer is lost and REST lags by {lag_s} s",
            lives=(
                (
                    Strike(
                        point="gateway.submit:before",
                        only="entry",
                        action="rules",
                        rules=(
                            "once at add_order: accept then drop the connection",
                            f"at rest.OpenOrders: hide orders for {lag_s} s",
                            # In a few seconds no order has closed that could be hidden.
                            *([f"at rest.ClosedOrders: hide orders for {lag_s} s"] if lag_s > 5 else []),
                            f"at rest.TradesHistory: hide fills for {lag_s} s",
                        ),
                    ),
                ),
            ),
            hold_s=float(lag_s),
            settings={"KRAKENBOT_EXECUTION__VISIBILITY_MARGIN_S": str(max(6, lag_s))},
            recover_within_s=90.0,
        )
        for lag_s in (5, 20, 60)
    ),
    OrderFault(
        name="a take-profit is cancelled in part, its trade is lost and REST lags by 10 s",
        lives=(
            (
                Strike(
                    point="gateway.submit:after",
                    only="take_profit",
                    action="rules",
                    rules=(
                        "once at private.executions.trade: lose",
                        "after 200 ms: fill 40 % of order of {account}",
                        'after 500 ms: cancel order of {account} reason "Market halted"',
                        "at rest.TradesHistory: hide fills for 10 s",
                    ),
                ),
            ),
        ),
        helpers=(fills(100),),
        hold_s=12.0,
        settings={**SALES["take_profit"], "KRAKENBOT_EXECUTION__VISIBILITY_MARGIN_S": "12"},
        recover_within_s=90.0,
    ),
    OrderFault(
        name="the clock of execution steps an hour forward, and back after 8 s",
        lives=((Strike(point="gateway.submit:after", only="protective_stop", action="note"),),),
        helpers=(fills(60),),
        act=hour_forth_and_back,
    ),
    OrderFault(
        name="the clock of execution steps an hour back, and forward after 8 s",
        lives=((Strike(point="gateway.submit:after", only="protective_stop", action="note"),),),
        helpers=(fills(60),),
        act=hour_back_and_forth,
    ),
    *(
        OrderFault(
            name=f"the clock of the exchange steps an hour {way}, and is put right after {STEPPED_S:g} s",
            lives=((Strike(point="gateway.submit:after", only="protective_stop", action="note"),),),
            helpers=(fills(60),),
            act=act,
        )
        for way, act in (("forward", exchange_hour_forward), ("back", exchange_hour_back))
    ),
)
