"""Liveness of a connection and silence of one subscription, without a session around them."""

from __future__ import annotations

import pytest

from krakenbot.adapters.kraken.protocol.liveness import Liveness
from krakenbot.adapters.kraken.protocol.silence import SilenceWatch
from krakenbot.domain.values import Symbol

A = Symbol("A/B")


@pytest.fixture
def liveness():
    return Liveness(open_timeout_s=15.0, timeout_s=4.0, now_mono=100.0)


@pytest.fixture
def watch():
    return SilenceWatch(5.0)


def test_connection_that_never_spoke_is_dead_after_the_opening_time(liveness):
    assert 115.0 == liveness.due_mono(None)
    assert ["", "no frame after connecting"] == [liveness.why_dead(None, now) for now in (114.9, 115.0)]
    assert not liveness.wants_ping(None, 115.0)


def test_silence_asks_once_and_ends_the_connection_twice_as_late(liveness):
    early, first, second = (liveness.wants_ping(200.0, now) for now in (201.9, 202.0, 203.0))

    assert (False, True, False) == (early, first, second)
    assert 204.0 == liveness.due_mono(200.0)
    assert ["", "no frame for 4.0 s"] == [liveness.why_dead(200.0, now) for now in (203.9, 204.0)]


def test_every_silence_is_asked_about_anew(liveness):
    liveness.wants_ping(200.0, 202.0)

    assert 205.0 == liveness.due_mono(203.0)
    assert liveness.wants_ping(203.0, 205.0)


def test_unanswered_hint_is_silence_after_the_patience_and_told_once(watch):
    watch.hint(A, 100.0)
    found = [watch.silent(lambda _: 90.0, now) for now in (104.9, 105.0, 106.0)]

    assert [[], [A], []] == found


def test_further_hints_do_not_put_off_the_first(watch):
    for now in range(100, 105):
        watch.hint(A, float(now))

    assert [A] == watch.silent(lambda _: 90.0, 105.0)


@pytest.mark.parametrize(("heard", "is_silent"), [(97.9, True), (98.0, False), (103.0, False), (None, False)])
def test_message_two_seconds_before_the_hint_or_later_answers_it(watch, heard, is_silent):
    watch.hint(A, 100.0)

    assert ([A] if is_silent else []) == watch.silent(lambda _: heard, 105.0)
    assert [] == watch.silent(lambda _: 0.0, 200.0)


def test_cleared_hint_is_forgotten(watch):
    watch.hint(A, 100.0)
    watch.clear(A)

    assert [] == watch.silent(lambda _: 0.0, 200.0)
