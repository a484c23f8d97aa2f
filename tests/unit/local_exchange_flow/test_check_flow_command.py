"""The command `krakenbot exchange check-flow`: its table, its page, its exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from krakenbot.adapters.local_exchange.flow_check import report as reporting
from krakenbot.adapters.local_exchange.flow_check.cases import Case, CaseReport
from krakenbot.adapters.local_exchange.flow_check.checks import Basis, Check, Limit
from krakenbot.adapters.local_exchange.flow_check.estimates import Estimate
from krakenbot.adapters.local_exchange.flow_check.figures import Figures
from krakenbot.apps import check_flow, cli


def report_of(value: float, *, seed: int = 1) -> CaseReport:
    found = Estimate(value=value, low=value - 1, high=value + 1, count=100, t=value)
    check = Check(name="fano_factor_60_s", found=found, limit=Limit(low=3.0), basis=Basis.CHECKED)
    case = Case(profile="edge", seed=seed, symbol_count=1, duration_s=600)
    figures = Figures(
        spread_p50_bps=100.0,
        touch_p50_usd=1000.0,
        depth_25_p5_usd=3000.0,
        market_orders_per_s=2.0,
        sold_usd_per_s=100.0,
        sigma_bps_sqrt_min=8.0,
        book_events_per_s=30.0,
    )
    return CaseReport(case=case, checks=(check,), figures={"BTC/USD": figures})


@pytest.fixture
def fano_by_seed(monkeypatch):
    """Let cases return a Fano factor as high as their seed."""
    monkeypatch.setattr(check_flow, "run_case", lambda case: report_of(float(case.seed), seed=case.seed))


def run(*arguments: str) -> int:
    code = cli.app(["exchange", "check-flow", *arguments], result_action="return_value")
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize(("seeds", "code"), [(("5",), 0), (("2",), 1), (("5", "2"), 1)])
def test_one_failed_check_fails_the_command(fano_by_seed, capsys, seeds, code):
    arguments = [text for seed in seeds for text in ("--seed", seed)]

    assert code == run("--profile", "edge", "--duration-s", "600", "--processes", "1", *arguments)
    shown = capsys.readouterr().out
    assert ("FAILED" in shown) is bool(code)
    assert f"{code or 'none'} of {len(seeds)} runs failed" in shown


def test_the_page_keeps_what_stands_before_the_mark(fano_by_seed, tmp_path: Path):
    path = tmp_path / "page.md"
    path.write_text(f"Definitions.\n\n{reporting.MARK}\noutdated", encoding="utf-8")
    run("--profile", "edge", "--seed", "5", "--duration-s", "600", "--report", str(path))
    first = path.read_text(encoding="utf-8")
    run("--profile", "edge", "--seed", "5", "--duration-s", "600", "--report", str(path))

    assert first == path.read_text(encoding="utf-8")
    assert first.startswith(f"Definitions.\n\n{reporting.MARK}\n")
    assert "outdated" not in first
    assert "`krakenbot exchange check-flow --profile edge --seed 5 --duration-s 600 --symbols 3`" in first
    assert "| fano_factor_60_s | 5.00 (t 5.0) | 4.00 to 6.00 |  | >= 3 | checked | ok |" in first
    assert "| BTC/USD | 100 | 1000 | 3000 | 2.00 | 100 | 8.00 | 30.00 |" in first


def test_a_new_page_begins_with_a_link_to_the_definitions(fano_by_seed, tmp_path: Path):
    path = tmp_path / "new.md"
    run("--profile", "edge", "--seed", "5", "--duration-s", "600", "--report", str(path))
    head, _, rest = path.read_text(encoding="utf-8").partition(reporting.MARK)
    target = head.partition("(")[2].partition(")")[0]

    assert head.startswith("# Flow check\n")
    assert "fano_factor_60_s" in (tmp_path / target).read_text(encoding="utf-8")
    assert "fano_factor_60_s" in rest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_parallel_runs_with_their_processes(number):
    command = [sys.executable, "-m", "krakenbot", "exchange", "check-flow", "--profile", "edge", "--processes", "2"]
    command += ["--seed", "1", "--seed", "2", "--duration-s", "172800"]
    with in_foreground(command) as process:
        wait_until(lambda: len(workers(process.pid)) == 2)
        started = workers(process.pid)
        time.sleep(1)  # the workers' own start is no part of this
        process.send_signal(number)
        output, errors = process.communicate(timeout=15)

    said = "check-flow: SIGTERM came, not all runs are done\n" if number == signal.SIGTERM else ""
    assert ("", said, 128 + number) == (output, errors, process.returncode)
    assert not [pid for pid in started if is_running(pid)]


@contextmanager
def in_foreground(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command as a terminal would, also where the tests' own shell ignores SIGINT; nothing of it stays behind."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # one call
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def workers(parent: int) -> list[int]:
    """Return the spawned workers of a process."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def wait_until(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    until = time.perf_counter() + timeout_s
    while not holds():
        assert time.perf_counter() < until
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--duration-s", "599"), "--duration-s 599: allowed are 600 to"),
        (("--symbols", "0"), "--symbols 0: allowed are 1 to"),
        (("--processes", "0"), "--processes 0: allowed are 1 to"),
        (("--report", "absent/page.md"), "--report absent/page.md: its folder must exist"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(arguments, named, capsys):
    assert 2 == run(*arguments)
    assert named in capsys.readouterr().err


def test_without_a_recording_the_recorded_flow_is_refused_or_named_as_not_checked(fano_by_seed, tmp_path, capsys):
    assert 2 == run("--profile", "recorded", "--recording", str(tmp_path))
    assert "no recordings in" in capsys.readouterr().err
    assert 0 == run("--seed", "5", "--recording", str(tmp_path), "--duration-s", "600", "--processes", "1")
    assert "The recorded flow was not checked" in capsys.readouterr().out


def test_the_exchange_itself_is_still_the_default(capsys):
    assert 2 == cli.app(["exchange", "--symbols", "0"], result_action="return_value")
    assert "0 symbols: allowed are 1 to" in capsys.readouterr().err
