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


def test_lag_is_the_growth_over_the_quickest_delivery():
    meter = LagMeter()
    assert meter.lag_s is None
    for venue_s, received in ((100, 5.0), (101, 6.0), (102, 9.5)):
        meter.observe(venue_s * 10**9, received)

    assert meter.lag_s == pytest.approx(2.5)
