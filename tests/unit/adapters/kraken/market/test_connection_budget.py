"""How often an address may connect, and how long it waits when it is banned."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from krakenbot.adapters.kraken.market_feed import MarketFeedSettings
from krakenbot.adapters.kraken.private_stream import PrivateStreamSettings
from krakenbot.adapters.kraken.protocol.budget import ConnectionBudget

DEFAULTS = MarketFeedSettings()
PRIVATE = PrivateStreamSettings()
KRAKENS_LIMIT = 150


def budget(settings=DEFAULTS):
    return ConnectionBudget(
        burst=settings.attempts_burst,
        per_10_min=settings.attempts_per_10_min,
        ban_first_s=settings.ban_first_s,
        ban_max_s=settings.ban_max_s,
    )


def busiest_10_min(settings):
    limited = budget(settings)
    attempts = [tenth / 10 for tenth in range(36_000) if limited.take(tenth / 10) == 0]
    return max(sum(start <= at < start + 600 for at in attempts) for start in attempts)


def test_two_feeds_and_a_private_stream_that_never_rest_stay_under_the_limit_of_their_address():
    feed, private = busiest_10_min(DEFAULTS), busiest_10_min(PRIVATE)

    assert DEFAULTS.attempts_burst <= feed
    assert PRIVATE.attempts_burst <= private
    assert 2 * feed + private <= KRAKENS_LIMIT


def test_connections_of_a_usual_start_wait_for_nothing():
    limited = budget()

    assert [0.0] * 8 == [limited.take(0.0) for _ in range(8)]


def test_nobody_tries_during_a_ban_which_doubles_until_one_gets_through():
    limited, waits = budget(), []
    now = 0.0
    for _ in range(8):
        limited.banned(now, 0.0, 0.0)
        waits.append(limited.take(now))
        now += waits[-1]
    limited.admitted()
    limited.banned(now, 0.0, 0.0)

    assert [30, 60, 120, 240, 480, 600, 600, 600] == waits
    assert 30 == limited.take(now)


def test_connections_that_are_refused_together_meet_one_ban():
    limited = budget()
    for late_s in (0.0, 0.1, 0.5):
        limited.banned(late_s, 0.0, 0.0)
    one = limited.take(0.5)
    limited.banned(31.0, 0.0, 0.0)

    assert 30 == one
    assert 60 == limited.take(31.0)


def test_ban_lasts_as_long_as_the_venue_says_but_not_for_ever():
    limited = budget()
    limited.banned(0.0, 90.0, 0.0)
    named = limited.take(0.0)
    limited.banned(0.0, 1e6, 0.0)

    assert 90 == named
    assert DEFAULTS.ban_max_s == limited.take(0.0)


@given(st.lists(st.floats(0, 30), max_size=60))
def test_what_is_told_to_wait_gets_its_turn_when_it_has_waited(pauses):
    limited, now = budget(), 0.0
    for pause_s in pauses:
        now += pause_s
        wait_s = limited.take(now)
        if wait_s:
            now += wait_s + 1e-6

            assert 0.0 == limited.take(now)
