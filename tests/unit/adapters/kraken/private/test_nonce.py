from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krakenbot.adapters.kraken.nonce import NonceSource, nonce_state_file
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.secret import Secret

HOUR_NS = 3_600_000_000_000


def test_nonce_is_the_wall_time_in_nanoseconds(clock) -> None:
    assert clock.wall_ns == NonceSource(clock=clock).next()


def test_two_nonces_in_the_same_nanosecond_differ_by_one(clock) -> None:
    source = NonceSource(clock=clock)

    assert [clock.wall_ns, clock.wall_ns + 1, clock.wall_ns + 2] == [source.next() for _ in range(3)]


class SteppingClock:
    """A wall clock that jumps to the next of its readings at each look."""

    def __init__(self, readings: list[int]) -> None:
        self._readings = iter(readings)

    def now_ns(self) -> int:
        return next(self._readings)


@given(st.lists(st.integers(min_value=1, max_value=2**62), min_size=2, max_size=50))
def test_nonces_rise_whatever_the_clock_does(readings: list[int]):
    source = NonceSource(clock=SteppingClock(readings))  # type: ignore[arg-type] # only now_ns is read
    nonces = [source.next() for _ in readings]

    assert all(earlier < later for earlier, later in itertools.pairwise(nonces))


def test_clock_set_back_an_hour_over_a_restart_still_gives_a_higher_nonce(clock, tmp_path: Path):
    state_file = tmp_path / "state" / "nonce"
    before = [NonceSource(clock=clock, state_file=state_file).next() for _ in range(1)][-1]
    clock.wall_ns -= HOUR_NS

    assert NonceSource(clock=clock, state_file=state_file).next() > before


def test_nonces_within_the_reserve_cost_no_write(clock, tmp_path: Path):
    state_file = tmp_path / "nonce"
    source = NonceSource(clock=clock, state_file=state_file)
    source.next()
    written = state_file.stat().st_mtime_ns, state_file.read_text()
    clock.wall_ns += 9_000_000_000
    source.next()

    assert written == (state_file.stat().st_mtime_ns, state_file.read_text())


def test_every_nonce_is_at_most_the_written_ceiling(clock, tmp_path: Path):
    state_file = tmp_path / "nonce"
    source = NonceSource(clock=clock, state_file=state_file)
    pairs = []
    for _ in range(20):
        clock.wall_ns += 3_000_000_000
        pairs.append((source.next(), int(state_file.read_text())))

    assert [] == [(nonce, ceiling) for nonce, ceiling in pairs if nonce > ceiling]


@pytest.mark.parametrize("content", ["", "abc", "-5", "1" * 40, "12 34"])
def test_damaged_state_file_is_refused_not_ignored(clock, tmp_path: Path, content: str):
    state_file = tmp_path / "nonce"
    state_file.write_text(content)

    with pytest.raises(ConfigError, match="does not hold a nonce"):
        NonceSource(clock=clock, state_file=state_file)


def test_state_file_that_cannot_be_written_is_a_config_error(clock, tmp_path: Path):
    blocker = tmp_path / "file"
    blocker.write_text("")

    with pytest.raises(ConfigError):
        NonceSource(clock=clock, state_file=blocker / "nonce").next()


def test_state_files_of_two_keys_differ_and_do_not_show_the_key(tmp_path: Path):
    first, second = (nonce_state_file(tmp_path, Secret(key)) for key in ("canary-one", "canary-two"))

    assert first != second
    assert "canary" not in first.name


def test_nonce_beyond_64_bits_is_refused(clock) -> None:
    clock.wall_ns = 2**64

    with pytest.raises(ConfigError, match="64 bits"):
        NonceSource(clock=clock).next()
