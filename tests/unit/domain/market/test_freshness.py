from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krakenbot.domain.market.freshness import LagMeter, utc_ns


@given(st.integers(0, 4_000_000_000), st.integers(0, 999_999_999))
def test_any_time_with_nanoseconds_reads_back(seconds, nanoseconds):
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{nanoseconds:09d}Z"

    assert seconds * 10**9 + nanoseconds == utc_ns(text)


@pytest.mark.parametrize(("text", "fraction_ns"), [("", 0), (".5", 500_000_000), (".000001", 1_000)])
def test_shorter_fractions_are_read(text, fraction_ns):
    assert 1_795_341_600_000_000_000 + fraction_ns == utc_ns(f"2026-11-22T10:00:00{text}Z")


@given(st.text(max_size=40))
def test_text_that_is_no_time_is_refused_as_such(text):
    try:
        found = utc_ns(text)
    except ValueError:
        return

    assert text.endswith("Z")
    assert isinstance(found, int)


def observed(*samples: tuple[float, float]) -> LagMeter:
    meter = LagMeter()
    for venue_s, received_mono in samples:
        meter.observe(round(venue_s * 10**9), received_mono)
    return meter


def test_lag_is_the_growth_over_the_quickest_delivery():
    meter = observed((100, 5.0), (101, 6.0), (102, 7.0), (103, 10.5), (104, 11.5))

    assert LagMeter().lag_s is None
    assert meter.lag_s == pytest.approx(2.5, abs=0.01)


def test_backlog_that_stays_for_an_hour_is_still_a_lag():
    late = [(100.0 + second, 31.0 + second) for second in range(3, 3600)]
    meter = observed((100, 5.0), (101, 6.0), (102, 7.0), *late)

    assert meter.lag_s == pytest.approx(26.0, abs=1.0)


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_one_odd_timestamp_moves_neither_lag_nor_offset(jump_s):
    meter = observed((100, 5.0), (101, 6.0), (102, 7.0), (103 + jump_s, 8.0), (104, 9.0))

    assert meter.lag_s == pytest.approx(0.0, abs=0.01)
    assert meter.clock_offset_s(104 * 10**9, 9.0) == pytest.approx(0.0, abs=0.01)


def test_the_same_message_seen_again_is_no_sample():
    meter = observed((100, 5.0), (100, 5.0), (100, 5.0))

    assert meter.lag_s is None


def test_offset_is_our_clock_minus_the_venues():
    meter = observed((100, 5.0), (101, 6.0), (102, 7.0))

    assert meter.clock_offset_s(110 * 10**9, 8.0) == pytest.approx(7.0, abs=0.01)
