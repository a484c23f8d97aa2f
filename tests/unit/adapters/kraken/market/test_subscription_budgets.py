"""Two budgets for one request: neither is spent while the other holds the request back."""

from __future__ import annotations

from collections.abc import Sequence

from krakenbot.adapters.kraken.protocol.budget import Budget
from krakenbot.adapters.kraken.protocol.quarantine import Troubles
from krakenbot.adapters.kraken.protocol.subscriptions import Subscriptions, SubscriptionSettings


def test_many_symbols_are_asked_for_in_few_requests_however_often_the_budget_is_looked_at():
    asked: list[int] = []

    def encode(_method: str, _channel: str, symbols: Sequence[str], _req_id: int) -> str:
        asked.append(len(symbols))
        return ""

    subscriptions = Subscriptions(
        settings=SubscriptionSettings(ack_timeout_s=100),
        encode=encode,
        symbol_cost=1.0,
        budget=Budget(rate_per_s=200, burst=200),
        resync_budget=Budget(rate_per_s=1, burst=1),
        jitter=lambda: 0.0,
        proven_channel="book",
        troubles=Troubles(),
    )
    now = 0.0
    subscriptions.want("book", [f"S{number}" for number in range(600)], now)
    while sum(asked) < 600:
        due = subscriptions.next_deadline()
        assert due is not None

        now = max(due, now + 0.01)
        subscriptions.step(now)

    assert len(asked) <= 14
    assert 1.9 <= now <= 2.5


def test_a_resync_that_waits_for_the_venues_budget_spends_none_of_its_own():
    budget, resync_budget = Budget(rate_per_s=1.0, burst=10.0), Budget(rate_per_s=0.001, burst=2.0)
    subscriptions = Subscriptions(
        settings=SubscriptionSettings(),
        encode=lambda method, *_: method,
        symbol_cost=5.0,
        budget=budget,
        resync_budget=resync_budget,
        jitter=lambda: 0.0,
        proven_channel="book",
        troubles=Troubles(),
    )
    subscriptions.want("book", ["A"], 0.0)
    subscriptions.step(0.0)
    subscriptions.proved("book", "A", 0.0)
    subscriptions.restart("book", "A", "checksum mismatch", 0.0)
    asked = subscriptions.step(0.0)
    subscriptions.acked("unsubscribe", "book", "A", 0.0)
    subscriptions.slow_down(0.0)
    waiting = [subscriptions.step(tenth / 10) for tenth in range(10)]

    assert ["unsubscribe"] == asked
    assert [[]] * 10 == waiting
    assert resync_budget.available(1.0) >= 2.0
    assert ["subscribe"] == subscriptions.step(6.0)
