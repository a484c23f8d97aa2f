from __future__ import annotations

from datetime import UTC, timedelta

import pytest

from krakenbot.adapters.clock.system import RandomIdSource, SystemClock


def test_now_is_aware_utc_and_agrees_with_now_ns() -> None:
    clock = SystemClock()

    before_ns, now, after_ns = clock.now_ns(), clock.now(), clock.now_ns()

    now_us = round(now.timestamp() * 1_000_000)
    assert UTC is now.tzinfo
    assert before_ns // 1000 <= now_us <= after_ns // 1000


def test_mono_never_goes_back() -> None:
    clock = SystemClock()
    readings = [clock.mono() for _ in range(100)]

    assert sorted(readings) == readings


async def test_sleep_waits_at_least_as_long_as_asked() -> None:
    clock = SystemClock()
    before = clock.mono()
    await clock.sleep(0.02)

    assert clock.mono() - before >= 0.019


@pytest.mark.parametrize("duration_s", [0.0, -5.0])
async def test_sleep_of_nothing_returns_at_once(duration_s: float):
    clock = SystemClock()
    before = clock.mono()
    await clock.sleep(duration_s)

    assert clock.mono() - before < timedelta(seconds=1).total_seconds()


def test_order_suffixes_are_twelve_plain_characters_and_differ() -> None:
    source = RandomIdSource()
    suffixes = {source.order_suffix() for _ in range(2000)}

    assert 2000 == len(suffixes)
    assert {12} == {len(suffix) for suffix in suffixes}
    assert set("".join(suffixes)) == set("0123456789abcdefghijklmnopqrstuvwxyz")
