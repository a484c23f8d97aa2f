"""The plan and the link without sockets: who is hit, when, and how it is counted."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from krakenbot.adapters.local_exchange.faults.frames import classify_frame, classify_request
from krakenbot.adapters.local_exchange.faults.link import Frame, Link
from krakenbot.adapters.local_exchange.faults.plan import FaultPlan, Names
from krakenbot.adapters.local_exchange.faults.rules import Action
from krakenbot.adapters.local_exchange.faults.script import ScriptError
from krakenbot.adapters.local_exchange.venue_clock import SteppedClock

pytestmark = pytest.mark.anyio
S = 10**9
START_NS = 1_790_000_000 * S


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Outlet:
    """What a link let through."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def queue(self, frame: Frame) -> None:
        self.frames.append(frame)


class Player:
    """A venue that notes what it is told."""

    def __init__(self) -> None:
        self.played: list[str] = []

    def play(self, action: Action) -> bool:
        self.played.append(action.name)
        return action.name != "expire_tokens"


class Stage:
    """A plan with a stepped clock, a player and one public connection."""

    def __init__(self, script: str = "", seed: int = 1) -> None:
        self.clock = SteppedClock(START_NS)
        self.plan = FaultPlan(seed, self.clock)
        self.player = Player()
        self.plan.use(self.player, lambda: Names(accounts=["trader"], symbols=["ABC/USD"], keys=["full"]))
        if script:
            self.plan.add(script, "test")
        self.outlet = Outlet()
        self.link = Link(self.plan, "public", self.outlet, None)

    def send(self, *texts: str) -> list[Frame]:
        before = len(self.outlet.frames)
        for text in texts:
            self.link.send(text)
        return self.outlet.frames[before:]

    def counts(self) -> list[tuple[int, int, int]]:
        return [(rule["seen"], rule["hits"], rule["without_effect"]) for rule in self.plan.report()["rules"]]


def book(number: int, kind: str = "update", symbol: str = "ABC/USD") -> str:
    row = f'{{"symbol":"{symbol}","bids":[{{"price":1.0,"qty":{number}.0}}],"asks":[],"checksum":{number}}}'
    return f'{{"channel":"book","type":"{kind}","data":[{row}]}}'


def trade(sequence: int, exec_type: str = "trade") -> str:
    row = f'{{"order_id":"O1","exec_type":"{exec_type}"}}'
    return f'{{"channel":"executions","type":"update","data":[{row}],"sequence":{sequence}}}'


@pytest.mark.parametrize(
    ("text", "names", "subjects"),
    [
        (book(1), ("frame", "book", "book.update"), {"book", "ABC/USD"}),
        (trade(1), ("frame", "executions", "executions.update", "executions.trade"), {"executions"}),
        ('{"channel":"heartbeat"}', ("frame", "heartbeat"), {"heartbeat"}),
        ('{"channel":"status","type":"update","data":[]}', ("frame", "status"), {"status"}),
        ('{"method":"pong","req_id":1}', ("frame", "pong"), set()),
        (
            '{"method":"subscribe","result":{"channel":"book","symbol":"ABC/USD"},"success":true}',
            ("frame", "ack", "subscribe.ack"),
            {"book", "ABC/USD"},
        ),
        ('{"error":"x","method":"add_order","success":false}', ("frame", "ack", "add_order.ack"), set()),
        ("nonsense", ("frame",), set()),
    ],
)
def test_frames_are_known_by_their_text(text: str, names: tuple[str, ...], subjects: set[str]) -> None:
    assert (names, frozenset(subjects)) == classify_frame(text)


@pytest.mark.parametrize("text", ["", "[1]", "nonsense", '{"method":5}', "[" * 100_000, '{"params":[]}'])
def test_requests_that_are_none_are_requests_all_the_same(text: str) -> None:
    names, subjects, envelope = classify_request(text)

    assert (("request",), frozenset(), "error") == (names, subjects, envelope["method"])


def test_counts_choose_the_victims() -> None:
    stage = Stage("on 2nd book.update: lose\nevery 3rd book.update: lose\nfrom 5th book.update: lose")
    frames = [book(number) for number in range(1, 7)]

    assert [frames[0], frames[3]] == stage.send(*frames)
    assert [(6, 1, 0), (6, 2, 0), (6, 2, 0)] == stage.counts()


def test_a_subject_or_a_path_limits_a_rule() -> None:
    stage = Stage("at book of ABC/USD: lose\nat private.book: lose")

    assert [book(2, symbol="XYZ/USD")] == stage.send(book(1), book(2, symbol="XYZ/USD"))
    assert [(1, 1, 0), (0, 0, 0)] == stage.counts()


def test_limits_end_a_rule() -> None:
    stage = Stage("2 times at book: lose\nonce at trade: lose")

    assert [book(3)] == stage.send(book(1), book(2), book(3))
    assert [(3, 2, 0), (0, 0, 0)] == stage.counts()


def test_time_arms_a_rule_for_one_message_or_for_a_window() -> None:
    stage = Stage("every 20 s: lose book\nfor 5 s from 50 s at book: corrupt checksum")
    left = []
    for second in range(1, 61):
        stage.clock.move_to(START_NS + second * S)
        left.append([json.loads(str(frame))["data"][0]["checksum"] for frame in stage.send(book(second))])

    lost = [second for second, found in enumerate(left, 1) if not found]
    changed = [second for second, found in enumerate(left, 1) if found and found != [second]]
    assert [20, 40, 60] == lost
    assert [50, 51, 52, 53, 54] == changed


def test_periods_without_a_message_are_not_made_up_for() -> None:
    stage = Stage("every 10 s: lose book")
    stage.clock.move_to(START_NS + 35 * S)

    assert [book(2)] == stage.send(book(1), book(2))
    stage.clock.move_to(START_NS + 40 * S)
    assert [] == stage.send(book(3))


def run(seed: int) -> tuple[Any, list[Frame]]:
    stage = Stage("with probability 0.2: lose book\nwith probability 0.3 at book: duplicate", seed)
    stage.send(*[book(number) for number in range(200)])
    return stage.plan.report(), stage.outlet.frames


def test_the_same_seed_and_messages_give_the_same_fault_log() -> None:
    (report, frames), (again, frames_again), (other, _) = run(7), run(7), run(8)

    assert report == again
    assert frames == frames_again
    assert report["log"] != other["log"]
    assert 20 < report["rules"][0]["hits"] < 60


def test_a_rules_draws_do_not_depend_on_other_rules() -> None:
    alone = Stage("with probability 0.2: lose book")
    both = Stage("with probability 0.2: lose book\nwith probability 0.5: lose trade")
    frames = [book(number) for number in range(100)]

    assert alone.send(*frames) == both.send(*frames)


def test_a_rule_that_changes_nothing_is_seen_to_change_nothing() -> None:
    stage = Stage("at book: cross book\nat book: set no.such.field to 1")

    assert [book(1)] == stage.send(book(1))
    assert [(1, 1, 1), (1, 1, 1)] == stage.counts()


def test_the_report_names_rules_that_were_never_hit() -> None:
    stage = Stage("at trade: lose\nat book: lose  # why")
    stage.send(book(1))

    assert [
        "fault 1, test line 1: at trade: lose -- never hit",
        "fault 2, test line 2: at book: lose -- hit 1 times",
    ] == stage.plan.lines()


def test_several_rules_act_one_after_the_other() -> None:
    stage = Stage("at book: corrupt checksum\nat book: duplicate 2 times\nat book: truncate")
    text = book(2).replace('"checksum":2', '"checksum":3')

    assert [text[: len(text) // 2]] * 3 == stage.send(book(2))


def test_a_drop_is_the_last_frame() -> None:
    stage = Stage("on 2nd book: drop")
    frames = stage.send(book(1), book(2), book(3))

    assert [book(1), "drop"] == [frame if isinstance(frame, str) else frame.kind for frame in frames]


def test_swapped_frames_wait_for_the_next_of_their_kind_and_symbol() -> None:
    stage = Stage("on 1st book.update: swap with next")
    other, snapshot = book(9, symbol="XYZ/USD"), book(8, "snapshot")

    assert [other, snapshot, book(2), book(1)] == stage.send(book(1), other, snapshot, book(2))


def test_sequences_are_moved_until_the_next_snapshot() -> None:
    stage = Stage("on 2nd executions.trade: skip sequence by 5\non 4th executions.trade: restart sequence")
    frames = [trade(number) for number in range(2, 7)]
    snapshot = trade(1).replace("update", "snapshot")
    found = stage.send(*frames, snapshot, trade(2))

    assert [2, 8, 9, 1, 2, 1, 2] == [json.loads(str(frame))["sequence"] for frame in found]


async def test_delayed_frames_are_overtaken_and_stalled_ones_are_not() -> None:
    stage = Stage("on 1st book: delay by 2 s")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.link.run)
        await anyio.wait_all_tasks_blocked()

        assert [book(2)] == stage.send(book(1), book(2))
        stage.plan.stall("public", "out", S)
        assert [] == stage.send(book(3), book(4))
        await _move(stage, 1)
        assert [book(2), book(3), book(4)] == stage.outlet.frames
        await _move(stage, 2)
        assert [book(2), book(3), book(4), book(1)] == stage.outlet.frames
        tasks.cancel_scope.cancel()


async def test_requests_wait_are_lost_or_refused() -> None:
    stage = Stage('on 1st ping: delay by 1 s\non 2nd ping: lose\non 3rd ping: refuse "EService:Busy"')
    handled: list[str] = []
    ping = '{"method":"ping","req_id":3}'
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.link.carry, ping, START_NS, lambda text, _at: handled.append(text))
        await anyio.wait_all_tasks_blocked()
        assert [] == handled
        await _move(stage, 1)
    for _ in range(3):
        await stage.link.carry(ping, START_NS, lambda text, _at: handled.append(text))

    assert [ping, ping] == handled
    (refusal,) = (json.loads(str(frame)) for frame in stage.outlet.frames)
    assert ("ping", 3, "EService:Busy", False) == tuple(refusal[k] for k in ("method", "req_id", "error", "success"))


async def test_acts_on_the_venue_happen_at_their_time_and_once() -> None:
    stage = Stage("at 2 s: mode cancel_only\nevery 3 s: expire tokens\nat book: mode online")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.plan.run)
        for second in range(1, 7):
            await _move(stage, second)
        stage.send(book(1))
        await anyio.wait_all_tasks_blocked()
        stage.plan.stop()

    assert ["mode", "expire_tokens", "expire_tokens", "mode"] == stage.player.played
    assert [(1, 1, 0), (2, 2, 2), (1, 1, 0)] == stage.counts()


async def test_stopping_ends_what_waits() -> None:
    stage = Stage("at ping: delay by 1 h")
    handled: list[str] = []
    with anyio.fail_after(2):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.plan.run)
            tasks.start_soon(stage.link.carry, '{"method":"ping"}', START_NS, lambda text, _at: handled.append(text))
            await anyio.wait_all_tasks_blocked()
            stage.plan.stop()

    assert ['{"method":"ping"}'] == handled


def test_removed_rules_strike_no_more() -> None:
    stage = Stage("at book: lose\nat trade: lose")

    assert 1 == stage.plan.remove(1)
    assert 0 == stage.plan.remove(1)
    assert [book(1)] == stage.send(book(1))
    assert 1 == stage.plan.remove()
    assert [] == stage.plan.report()["rules"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "at 1 s: cancel order of tradr",
            "line 1, column 25: the exchange has no account 'tradr'; did you mean 'trader'?",
        ),
        ("at book of ABD/USD: lose", "did you mean 'ABC/USD'?"),
        ("at 1 s: revoke key empty", "the exchange has no key 'empty'"),
        ("at 1 s: instrument ABC/EUR status online", "the exchange has no symbol 'ABC/EUR'"),
    ],
)
def test_names_that_the_exchange_does_not_have_are_refused(line: str, words: str) -> None:
    with pytest.raises(ScriptError) as caught:
        Stage(line)

    assert words in str(caught.value)


def test_without_a_script_the_plan_is_not_armed() -> None:
    stage = Stage()

    assert not stage.plan.is_armed
    stage.plan.add("# nothing", "test")
    assert not stage.plan.is_armed


async def _move(stage: Stage, second: int) -> None:
    await anyio.wait_all_tasks_blocked()
    stage.clock.move_to(START_NS + second * S)
    await anyio.wait_all_tasks_blocked()
