"""Subscriptions walked by hand: none stays dead for a reply that did not come, or came as a refusal."""

from __future__ import annotations

import pytest

from krakenbot.adapters.kraken.protocol.budget import Budget
from krakenbot.adapters.kraken.protocol.quarantine import QuarantineSettings, Troubles
from krakenbot.adapters.kraken.protocol.subscriptions import Subscriptions, SubscriptionSettings


@pytest.fixture
def asked():
    """Requests in order, as method, channel and symbols."""
    return []


@pytest.fixture
def troubles():
    return Troubles(settings=QuarantineSettings(retry_s=60.0))


@pytest.fixture
def subscriptions(asked, troubles):
    def encode(method, channel, symbols, req_id):
        asked.append((method, channel, tuple(symbols)))
        return f"{method} {req_id}"

    return Subscriptions(
        settings=SubscriptionSettings(ack_timeout_s=10.0, snapshot_timeout_s=10.0),
        encode=encode,
        symbol_cost=1.0,
        budget=Budget(rate_per_s=100.0, burst=100.0),
        resync_budget=Budget(rate_per_s=100.0, burst=100.0),
        jitter=lambda: 0.0,
        proven_channel="book",
        troubles=troubles,
    )


def hold(subscriptions, asked, channel="book"):
    """Have A subscribed and, where it needs one, proven by a snapshot."""
    subscriptions.want(channel, ["A"], 0.0)
    subscriptions.step(0.0)
    subscriptions.acked("subscribe", channel, "A", 0.0)
    subscriptions.proved(channel, "A", 0.0)
    asked.clear()


def test_granted_subscription_whose_snapshot_stays_away_is_left_and_asked_for_again(subscriptions, asked):
    subscriptions.want("book", ["A"], 0.0)
    subscriptions.step(0.0)
    subscriptions.acked("subscribe", "book", "A", 1.0)
    subscriptions.step(10.9)
    early = list(asked)
    subscriptions.step(11.0)
    subscriptions.acked("unsubscribe", "book", "A", 11.0)
    subscriptions.step(11.0)

    assert [("subscribe", "book", ("A",))] == early
    assert [("unsubscribe", "book", ("A",)), ("subscribe", "book", ("A",))] == asked[1:]


def test_refused_unsubscribe_counts_as_left_so_that_a_book_comes_back_at_once(subscriptions, asked):
    hold(subscriptions, asked)
    subscriptions.restart("book", "A", "checksum mismatch", 1.0)
    [request] = subscriptions.step(1.0)
    subscriptions.refused("unsubscribe", int(request.split()[1]), "A", "Subscription Not Found", 1.0)
    subscriptions.step(1.0)

    assert [("unsubscribe", "book", ("A",)), ("subscribe", "book", ("A",))] == asked


def test_book_that_the_venue_says_is_subscribed_already_is_left_for_a_fresh_snapshot(subscriptions, asked, troubles):
    subscriptions.want("book", ["A"], 0.0)
    [request] = subscriptions.step(0.0)
    subscriptions.refused("subscribe", int(request.split()[1]), "A", "Already subscribed to one book", 0.0)
    subscriptions.step(0.0)

    assert [("subscribe", "book", ("A",)), ("unsubscribe", "book", ("A",))] == asked
    assert [] == troubles.quarantined(0.0)


def test_channel_without_a_book_that_is_subscribed_already_is_what_was_wanted(subscriptions, asked, troubles):
    subscriptions.want("trade", ["A"], 0.0)
    [request] = subscriptions.step(0.0)
    subscriptions.refused("subscribe", int(request.split()[1]), "A", "Already subscribed", 0.0)
    subscriptions.step(100.0)

    assert subscriptions.is_active("trade", "A")
    assert [("subscribe", "trade", ("A",))] == asked
    assert [] == troubles.quarantined(0.0)


@pytest.mark.parametrize("channel", ["book", "trade"])
def test_symbol_that_is_wanted_again_while_it_is_left_is_subscribed_afterwards(subscriptions, asked, channel):
    hold(subscriptions, asked, channel)
    subscriptions.want(channel, [], 1.0)
    subscriptions.step(1.0)
    subscriptions.want(channel, ["A"], 1.5)
    subscriptions.acked("unsubscribe", channel, "A", 2.0)
    subscriptions.step(2.0)

    assert [("unsubscribe", channel, ("A",)), ("subscribe", channel, ("A",))] == asked
    assert not subscriptions.is_empty


def test_symbol_in_quarantine_that_comes_back_into_the_wanted_set_is_not_asked_for_before_its_time(
    subscriptions, asked, troubles
):
    subscriptions.want("book", ["A"], 0.0)
    [request] = subscriptions.step(0.0)
    for number in range(3):
        subscriptions.refused("subscribe", int(request.split()[1]), "A", "Currency pair not supported", number * 1000.0)
        subscriptions.step(number * 1000.0)
        due = troubles.not_before_mono(("book", "A"))
        if number < 2:
            [request] = subscriptions.step(due)
    asked.clear()
    subscriptions.want("book", [], 2000.0)
    subscriptions.want("book", ["A"], 2001.0)
    subscriptions.step(due - 0.1)
    early = list(asked)
    subscriptions.step(due)

    assert due > 2010.0
    assert [] == early
    assert [("subscribe", "book", ("A",))] == asked


def test_request_of_long_ago_is_forgotten_so_that_months_of_resyncs_need_no_memory(subscriptions, asked):
    hold(subscriptions, asked)
    now = 1.0
    for _ in range(5_000):
        subscriptions.restart("book", "A", "increment changed", now, is_failure=False)
        subscriptions.step(now)
        subscriptions.acked("unsubscribe", "book", "A", now)
        subscriptions.step(now)
        subscriptions.proved("book", "A", now)
        now += 1.0

    assert 10_000 == len(asked)
    assert len(subscriptions._requests) <= 4096


def test_all_is_settled_when_what_does_not_work_waits_in_quarantine(subscriptions):
    subscriptions.want("trade", ["A", "B"], 0.0)
    [request] = subscriptions.step(0.0)
    subscriptions.acked("subscribe", "trade", "A", 0.0)
    open_for_b = subscriptions.is_settled(0.0)
    subscriptions.refused("subscribe", int(request.split()[1]), "B", "Currency pair not supported", 0.0)

    assert not open_for_b
    assert subscriptions.is_settled(1.0)
    assert not subscriptions.is_settled(1_000.0)
    assert ({"trade": 1}, {"trade": ("B",)}) == subscriptions.standing()


def test_symbols_that_were_asked_for_one_by_one_share_a_request_again_once_they_work(subscriptions, asked):
    subscriptions.want("book", ["A", "B"], 0.0)
    [request] = subscriptions.step(0.0)
    subscriptions.refused("subscribe", int(request.split()[1]), "", "Malformed request", 0.0)
    subscriptions.step(0.0)
    for symbol in ("A", "B"):
        subscriptions.proved("book", symbol, 0.0)
        subscriptions.restart("book", symbol, "increment changed", 1.0, is_failure=False)
    subscriptions.step(1.0)

    assert [
        ("subscribe", "book", ("A", "B")),
        ("subscribe", "book", ("A",)),
        ("subscribe", "book", ("B",)),
        ("unsubscribe", "book", ("A", "B")),
    ] == asked
