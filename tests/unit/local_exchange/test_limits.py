"""Limits without sockets: exact counts on the venue's clock, by tier, address, key and connection."""

from __future__ import annotations

import pytest

from krakenbot.adapters.local_exchange.limits.counters import DecayingCounter, RollingWindow
from krakenbot.adapters.local_exchange.limits.limiter import (
    LOCKOUT,
    RATE_LIMIT,
    REMEMBERED,
    ConnectionLimits,
    Limiter,
)
from krakenbot.adapters.local_exchange.limits.settings import LimitSettings

S = 1_000_000_000
START_NS = 1_790_000_000 * S


@pytest.mark.parametrize(("tier", "calls", "wait_ns"), [
    ("starter", 15, -(-100 * S // 33)),
    ("intermediate", 20, 2 * S),
    ("pro", 20, 1 * S),
])  # fmt: skip
def test_the_rest_counter_holds_its_threshold_and_frees_a_call_to_the_nanosecond(tier, calls, wait_ns):
    limiter = Limiter(LimitSettings())
    burst = [limiter.private_call("key", tier, "Balance", START_NS) for _ in range(calls + 1)]
    early = limiter.private_call("key", tier, "Balance", START_NS + wait_ns - 1)
    due = limiter.private_call("key", tier, "Balance", START_NS + wait_ns)

    assert [None] * calls + [RATE_LIMIT] == burst
    assert (RATE_LIMIT, None) == (early, due)


def test_calls_refused_for_their_rate_are_counted_by_key():
    limiter = Limiter(LimitSettings())
    for _ in range(22):
        limiter.private_call("key", "pro", "Balance", START_NS)
    limiter.private_call("other", "pro", "Balance", START_NS)

    assert {"key": 2} == limiter.state(START_NS)["rest_calls_refused"]


def test_history_costs_four_and_trading_nothing():
    limiter = Limiter(LimitSettings())
    history = [limiter.private_call("key", "starter", "Ledgers", START_NS) for _ in range(4)]
    rest = [limiter.private_call("key", "starter", "Balance", START_NS) for _ in range(4)]
    trading = {limiter.private_call("key", "starter", "AddOrder", START_NS) for _ in range(100)}

    assert [None, None, None, RATE_LIMIT] == history
    assert [None, None, None, RATE_LIMIT] == rest
    assert {None} == trading
    assert {"key": 1500} == limiter.state(START_NS)["rest_counters_centi"]


def test_a_change_of_tier_keeps_what_was_counted():
    limiter = Limiter(LimitSettings())
    for _ in range(15):
        limiter.private_call("key", "starter", "Balance", START_NS)
    higher = [limiter.private_call("key", "pro", "Balance", START_NS) for _ in range(6)]

    assert [None] * 5 + [RATE_LIMIT] == higher
    assert limiter.private_call("key", "starter", "Balance", START_NS + 5 * S) == RATE_LIMIT
    assert {"key": 1500} == limiter.state(START_NS + 5 * S)["rest_counters_centi"]


def test_keys_have_their_own_counters():
    limiter = Limiter(LimitSettings())
    for _ in range(15):
        limiter.private_call("key", "starter", "Balance", START_NS)

    assert limiter.private_call("other", "starter", "Balance", START_NS) is None
    assert limiter.private_call("key", "starter", "Balance", START_NS) == RATE_LIMIT


def test_too_many_calls_at_once_are_throttled_until_a_second_later():
    limiter = Limiter(LimitSettings(concurrent_calls=2))
    entered = [limiter.enter("key", START_NS) for _ in range(3)]
    limiter.leave("key")

    assert [None, None, "EService: Throttled: 1790000001"] == entered
    assert limiter.enter("key", START_NS) is None


def test_public_calls_are_free_by_default_and_one_a_second_when_switched_on():
    free, strict = Limiter(LimitSettings()), Limiter(LimitSettings.of("documented"))
    burst = [strict.public_call("10.0.0.1", START_NS) for _ in range(16)]

    assert {None} == {free.public_call("10.0.0.1", START_NS) for _ in range(100)}
    assert [None] * 15 + [RATE_LIMIT] == burst
    assert strict.public_call("10.0.0.1", START_NS + S - 1) == RATE_LIMIT
    assert strict.public_call("10.0.0.1", START_NS + S) is None
    assert strict.public_call("10.0.0.2", START_NS) is None


def test_the_151st_connection_in_ten_minutes_is_banned_for_ten_minutes():
    limiter = Limiter(LimitSettings.of("documented"))
    opened = [limiter.connect("10.0.0.1", START_NS + number * S) for number in range(151)]
    banned_ns = START_NS + 150 * S

    assert [True] * 150 + [False] == opened
    assert not limiter.connect("10.0.0.1", banned_ns + 600 * S - 1)
    assert limiter.connect("10.0.0.1", banned_ns + 600 * S)
    assert limiter.connect("10.0.0.2", banned_ns)


def test_repeated_bad_credentials_lock_the_key_for_a_quarter_of_an_hour():
    limiter = Limiter(LimitSettings(bad_credentials=3))
    for second in (0, 70, 80):
        limiter.failed("key", START_NS + second * S)
    before = limiter.locked("key", START_NS + 80 * S)
    limiter.failed("key", START_NS + 90 * S)
    locked_ns = START_NS + 90 * S

    assert before is None
    assert limiter.locked("key", locked_ns + 900 * S - 1) == LOCKOUT
    assert limiter.locked("key", locked_ns + 900 * S) is None
    assert limiter.locked("other", locked_ns) is None


def test_messages_beyond_the_burst_wait_for_their_rate():
    limits = ConnectionLimits(LimitSettings(messages_per_s=10, message_burst=3))
    burst = [limits.message(START_NS) for _ in range(4)]

    assert [True, True, True, False] == burst
    assert not limits.message(START_NS + S // 10 - 1)
    assert limits.message(START_NS + S // 10)


@pytest.mark.parametrize(("tier", "depth", "allowed"), [
    ("starter", 10, 40), ("starter", 100, 8), ("intermediate", 1000, 2), ("pro", 10, 100), ("pro", 1000, 5),
])  # fmt: skip
def test_level3_subscriptions_spend_their_budget_by_depth(tier, depth, allowed):
    limits = ConnectionLimits(LimitSettings())
    spent = [limits.level3(tier, depth, number, START_NS) for number in range(allowed + 1)]

    assert [None] * allowed + [RATE_LIMIT] == spent
    assert limits.level3(tier, depth, allowed, START_NS + S) is None


def test_a_connection_holds_two_hundred_level3_symbols():
    limits = ConnectionLimits(LimitSettings())

    assert limits.level3("pro", 10, 199, START_NS) is None
    assert limits.level3("pro", 10, 200, START_NS) == "EGeneral:Invalid arguments:too many symbols"


def test_limits_that_are_off_refuse_nothing():
    settings = LimitSettings.of("off")
    limiter, connection = Limiter(settings), ConnectionLimits(settings)
    for _ in range(1000):
        limiter.failed("key", START_NS)

    assert {None} == {limiter.private_call("key", "starter", "Ledgers", START_NS) for _ in range(1000)}
    assert {None} == {limiter.enter("key", START_NS) for _ in range(1000)}
    assert {True} == {limiter.connect("10.0.0.1", START_NS) and connection.message(START_NS) for _ in range(1000)}
    assert {None} == {connection.level3("starter", 1000, number, START_NS) for number in range(1000)}
    assert limiter.locked("key", START_NS) is None


def test_what_is_remembered_of_strangers_is_bounded():
    limiter = Limiter(LimitSettings(bad_credentials=2))
    for number in range(REMEMBERED + 50):
        limiter.failed(f"stranger-{number}", START_NS)
        limiter.failed(f"stranger-{number}", START_NS)

    assert len(limiter.state(START_NS)["locked_until_ns"]) == REMEMBERED


def test_a_clock_that_stands_still_or_is_read_late_never_frees_a_count_twice():
    counter, window = DecayingCounter(1, 100), RollingWindow(1, S)
    taken = [counter.take(1, at_ns) for at_ns in (10 * S, 9 * S, 10 * S, 11 * S, 11 * S)]

    assert [True, False, False, True, False] == taken
    assert [True, False, True] == [window.take(at_ns) for at_ns in (S, 2 * S - 1, 2 * S)]
