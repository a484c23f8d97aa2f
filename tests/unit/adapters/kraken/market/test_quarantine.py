"""The quarantine: who is in it, when it lets go, and what it forgets."""

from __future__ import annotations

import pytest

from krakenbot.adapters.kraken.protocol.quarantine import QuarantineSettings, Troubles
from krakenbot.domain.values import Symbol

KEY = ("book", "A/B")


@pytest.fixture
def troubles():
    return Troubles(settings=QuarantineSettings(after=3, retry_s=60, stable_after_s=60, leave_out_after=3))


def middle():
    return 0.5


def fail(troubles, now, **how):
    return troubles.failed(KEY, "bad", now, middle, **how) - now


def test_first_failure_costs_nothing_and_the_third_a_quarantine(troubles):
    delays = [fail(troubles, float(now)) for now in range(3)]
    [found] = troubles.quarantined(10.0)

    assert 0.0 == delays[0]
    assert 0 < delays[1] < 2
    assert 60 == delays[2]
    assert (Symbol("A/B"), "bad", 10.0, 3, False, 52.0) == (
        found.symbol, found.reason, found.age_s, found.attempts, found.is_refused, found.retry_in_s,
    )  # fmt: skip


@pytest.mark.parametrize(("is_refused", "middle_s"), [(False, 60.0), (True, 120.0)])
def test_attempts_out_of_quarantine_are_jittered(troubles, is_refused, middle_s):
    for now in range(2):
        fail(troubles, float(now), is_refused=is_refused)
    early = troubles.failed(KEY, "bad", 2.0, lambda: 0.0, is_refused=is_refused) - 2.0
    again = Troubles(settings=troubles.settings)
    for now in range(2):
        fail(again, float(now), is_refused=is_refused)
    late = again.failed(KEY, "bad", 2.0, lambda: 1.0, is_refused=is_refused) - 2.0

    assert (0.75 * middle_s, 1.25 * middle_s) == (early, late)


def test_success_ends_the_quarantine_and_a_lasting_one_forgets_it(troubles):
    for now in range(3):
        fail(troubles, float(now))
    troubles.works(KEY, 10.0)
    at_once = troubles.quarantined(10.0)
    fail(troubles, 20.0)
    relapse = troubles.quarantined(20.0)
    troubles.works(KEY, 30.0)
    troubles.quarantined(100.0)

    assert [] == at_once
    assert [4] == [found.attempts for found in relapse]
    assert 0.0 == fail(troubles, 101.0)


def test_refusals_are_seen_at_once_and_tried_ever_more_rarely(troubles):
    delays = [fail(troubles, 0.0, is_refused=True) for _ in range(10)]

    assert [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600] == delays
    assert troubles.quarantined(0.0)[0].is_refused


def test_symbol_left_out_is_remembered_until_its_next_attempt_is_due(troubles):
    for _ in range(3):
        fail(troubles, 0.0, is_refused=True)
    troubles.dropped(KEY)

    assert {Symbol("A/B"): "book: bad"} == troubles.refused(["book"], 119.0)
    assert {} == troubles.refused(["level3"], 119.0)
    assert 1 == len(troubles.quarantined(119.0))
    assert ({}, []) == (troubles.refused(["book"], 121.0), troubles.quarantined(121.0))
    # asked for again and refused again: out at once, for longer
    assert 240 == fail(troubles, 125.0, is_refused=True)
    assert {Symbol("A/B")} == set(troubles.refused(["book"], 130.0))


def test_symbol_that_nobody_wants_is_forgotten(troubles):
    for _ in range(3):
        fail(troubles, 0.0)
    troubles.dropped(KEY)

    assert [] == troubles.quarantined(1.0)
    assert 0.0 == troubles.not_before_mono(KEY)


def test_failure_long_after_the_last_success_is_a_first_one_again(troubles):
    for now in range(3):
        fail(troubles, float(now))
    troubles.works(KEY, 10.0)

    assert 60.0 == fail(troubles, 69.0)
    troubles.works(KEY, 70.0)
    assert 0.0 == fail(troubles, 130.0)


def test_what_works_may_be_asked_for_again_at_once(troubles):
    for now in range(3):
        fail(troubles, float(now))
    held_back = troubles.not_before_mono(KEY)
    troubles.works(KEY, 10.0)

    assert (62.0, 0.0) == (held_back, troubles.not_before_mono(KEY))


def test_failure_that_is_no_refusal_starts_the_refusals_anew(troubles):
    for _ in range(3):
        fail(troubles, 0.0, is_refused=True)
    refused = dict(troubles.refused(["book"], 1.0))
    fail(troubles, 1.0)

    assert {"A/B": "book: bad"} == refused
    assert {} == troubles.refused(["book"], 2.0)
    assert 30.0 == fail(troubles, 2.0, is_refused=True)


def test_success_counts_from_its_beginning_however_often_it_is_told(troubles):
    fail(troubles, 0.0)
    for now in range(1, 61):
        troubles.works(KEY, float(now))
    works = troubles.not_before_mono(KEY)
    again = [fail(troubles, 61.0), fail(troubles, 61.0)]

    assert 0.0 == works
    assert 0.0 == again[0] < again[1]


def test_symbol_dropped_in_quarantine_is_shown_until_due_and_forgotten_at_last():
    troubles = Troubles(settings=QuarantineSettings(leave_out_after=1, refused_retry_s=30, refused_retry_max_s=100))
    fail(troubles, 0.0, is_refused=True)
    troubles.dropped(KEY)
    shown = [len(troubles.quarantined(now)) for now in (29.0, 30.0)]
    left_out = [len(troubles.refused(["book"], now)) for now in (29.0, 30.0)]
    troubles.quarantined(130.0)

    assert [1, 0] == shown == left_out
    assert 0.0 == troubles.not_before_mono(KEY)
