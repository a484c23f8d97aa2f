"""Signals: the first one ends a process in order, the second one at once; real signals to a real process."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

WORK = """
import sys, anyio
from krakenbot.apps.lifecycle import run_until_signal

async def work():
    print("ready", flush=True)
    try:
        await {body}
    finally:
        with anyio.CancelScope(shield=True):
            print("cleaning", flush=True)
            await anyio.sleep({clean_up_s})
            print("cleaned", flush=True)

async def main():
    print("ended by", await run_until_signal(work, {stop_most_s}), flush=True)

anyio.run(main)
"""


def program(body: str = "anyio.sleep(60)", clean_up_s: float = 0.3, stop_most_s: float | None = None) -> str:
    return WORK.format(body=body, clean_up_s=clean_up_s, stop_most_s=stop_most_s)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_ends_the_work_in_order_and_once(start: Callable[..., Any], number: signal.Signals) -> None:
    process = start("-c", program())
    process.wait_for("ready")

    assert process.end(number) == 0
    assert process.output.split("\n") == ["ready", "cleaning", "cleaned", f"ended by {number.name}", ""]
    assert process.errors == ""


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(start: Callable[..., Any], second: signal.Signals) -> None:
    process = start("-c", program(clean_up_s=30))
    process.wait_for("ready")
    process.popen.send_signal(signal.SIGTERM)
    process.wait_for("cleaning")
    began = time.monotonic()  # noqa: TID251  # real time of a real process

    status = process.end(second)

    assert 128 + second == status
    assert time.monotonic() - began < 3.0  # noqa: TID251
    assert "cleaned" not in process.output
    assert process.errors == ""


def test_a_stop_that_outlasts_its_budget_is_cut_off(start: Callable[..., Any]) -> None:
    process = start("-c", program(clean_up_s=30, stop_most_s=0.5))
    process.wait_for("ready")
    began = time.monotonic()  # noqa: TID251

    status = process.end(signal.SIGTERM)

    assert 1 == status
    assert time.monotonic() - began < 3.0  # noqa: TID251
    assert process.output.split("\n") == ["ready", "cleaning", ""]
    assert process.errors == "the stop took longer than 0.5 s and was cut off\n"


def test_a_stop_within_its_budget_is_waited_for(start: Callable[..., Any]) -> None:
    process = start("-c", program(stop_most_s=20.0))
    process.wait_for("ready")

    assert process.end(signal.SIGTERM) == 0
    assert "cleaned" in process.output


def test_work_that_ends_by_itself_is_finished(start: Callable[..., Any]) -> None:
    process = start("-c", program(body="anyio.sleep(0.05)", clean_up_s=0))

    assert process.end() == 0
    assert "ended by finished" in process.output


def test_work_that_fails_fails_the_process(start: Callable[..., Any]) -> None:
    process = start("-c", program(body="anyio.to_thread.run_sync(int, 'x')", clean_up_s=0))

    assert process.end() == 1
    assert "ended by" not in process.output
    assert "ValueError" in process.errors
