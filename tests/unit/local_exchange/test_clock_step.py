"""The clock that clients see, a step beside the venue's: what moves, what stays, and that sending undoes telling."""

from __future__ import annotations

import pytest

from krakenbot.adapters.local_exchange.clock_step import moved_answer, moved_params, moved_stamps
from krakenbot.adapters.local_exchange.limits.counters import S

HOUR_S = 3600


@pytest.mark.parametrize(
    ("told", "an_hour_later"),
    [
        ("2026-11-22T10:00:00Z", "2026-11-22T11:00:00Z"),
        ("2026-11-22T23:30:00.123456Z", "2026-11-23T00:30:00.123456Z"),
        ("2026-11-22T10:00:00.123456789Z", "2026-11-22T11:00:00.123456789Z"),
    ],
)
def test_times_move_in_the_digits_they_had_and_back_again(told, an_hour_later):
    moved = moved_stamps(f'{{"timestamp":"{told}","qty":1}}', HOUR_S * S)

    assert f'{{"timestamp":"{an_hour_later}","qty":1}}' == moved
    assert f'{{"timestamp":"{told}","qty":1}}' == moved_stamps(moved, -HOUR_S * S)


def test_a_text_that_is_no_time_stays():
    assert '["2026-99-22T10:00:00Z","BTC/USD"]' == moved_stamps('["2026-99-22T10:00:00Z","BTC/USD"]', S)


def test_an_answer_moves_its_unix_seconds_by_name_and_leaves_zero_alone():
    content = b'{"opentm":1790000000.1234,"expiretm":0,"unixtime":1790000000,"price":"1790000000"}'

    expected = b'{"opentm":1789996400.1234,"expiretm":0,"unixtime":1789996400,"price":"1790000000"}'
    assert expected == moved_answer(content, -HOUR_S)


def test_what_a_client_sends_is_moved_back_but_ids_and_relative_times_stay():
    sent = {"start": "1790003600.5", "end": "OABC-1", "expiretm": "+60", "deadline": "2026-11-22T11:00:05.000Z"}

    expected = {"start": "1790000000.5", "end": "OABC-1", "expiretm": "+60", "deadline": "2026-11-22T10:00:05.000000Z"}
    assert expected == moved_params(sent, HOUR_S)
