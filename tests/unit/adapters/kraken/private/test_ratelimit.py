from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from krakenbot.adapters.kraken.ratelimit import RestCounter, RestTier

TIER = RestTier(threshold=15.0, decay_per_s=0.33)


def test_calls_up_to_the_threshold_need_no_wait() -> None:
    counter = RestCounter(tier=TIER, now_mono=0.0)
    waits = []
    for _ in range(15):
        waits.append(counter.wait_s(1.0, 0.0))
        counter.charge(1.0, 0.0)

    assert [0.0] * 15 == waits
    assert counter.wait_s(1.0, 0.0) > 3.0


def test_count_decays_with_time() -> None:
    counter = RestCounter(tier=TIER, now_mono=0.0)
    counter.charge(15.0, 0.0)

    assert counter.wait_s(1.0, 4.0) == 0.0


def test_venues_word_that_the_counter_is_full_is_believed() -> None:
    counter = RestCounter(tier=TIER, now_mono=0.0)
    counter.fill(0.0)

    assert counter.wait_s(1.0, 0.0) > 0.0


@given(st.lists(st.tuples(st.floats(0, 30), st.sampled_from([1.0, 4.0])), min_size=1, max_size=60))
def test_counter_that_waits_as_told_never_passes_the_threshold(calls: list[tuple[float, float]]):
    counter = RestCounter(tier=TIER, now_mono=0.0)
    now = venue_count = venue_at = 0.0
    peaks = []
    for pause_s, cost in calls:
        now += pause_s
        now += counter.wait_s(cost, now)
        counter.charge(cost, now)
        venue_count = max(0.0, venue_count - (now - venue_at) * TIER.decay_per_s) + cost
        venue_at = now
        peaks.append(venue_count)

    assert max(peaks) <= TIER.threshold + 1e-6
