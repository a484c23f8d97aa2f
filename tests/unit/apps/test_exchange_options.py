from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from krakenbot.adapters.local_exchange.record import open_record
from krakenbot.apps.exchange import exchange


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"port": 65_536}, "--port 65536: allowed are 0 to 65535"),
        ({"port": -1}, "--port -1"),
        ({"maker_fee_bps": -0.1}, "--maker-fee-bps -0.1"),
        ({"taker_fee_bps": float("nan")}, "--taker-fee-bps nan"),
        ({"flow": "playback"}, "--flow playback needs --recording"),
        ({"flow": "playback", "recording": Path("absent")}, "no recording in absent"),
        ({"start_after_s": -1.0}, "--start-after-s -1: allowed are 0 to 86400"),
        ({"start_after_s": 5.0}, "--start-after-s and --at-end go with --flow playback"),
        ({"at_end": "loop"}, "--start-after-s and --at-end go with --flow playback"),
        ({"flow": "still", "recording": Path("any")}, "--recording goes with --flow recorded or --flow playback"),
        ({"host": "localhost"}, "--host localhost: an address is needed, 127.0.0.1 or ::1"),
        ({"ready_file": Path()}, "--ready-file .: it is a folder"),
        ({"time": "stepped", "start_at": "1969-12-31T23:59:00Z"}, "allowed are 2000-01-01T00:00:00Z to 2200"),
        ({"time": "stepped", "start_at": "9999-12-31T23:59:59Z"}, "allowed are 2000-01-01T00:00:00Z to 2200"),
        ({"activity": 0.001}, "--activity 0.001: allowed are 0.01 to 1"),
        ({"activity": 0.5, "flow": "recorded"}, "--activity goes with --flow seeded"),
        ({"keep_closed": 0}, "--keep-closed 0: at least 1 is kept"),
        ({"symbols": 0}, "0 symbols: allowed are 1 to"),
        ({"host": "0.0.0.0"}, "loopback addresses only"),  # noqa: S104  # refused
    ],
)
def test_an_option_that_cannot_be_used_is_named_on_one_line(
    options: dict[str, Any], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = exchange(**options)

    shown = capsys.readouterr()
    assert (2, "", 1) == (code, shown.out, shown.err.count("\n"))
    assert named in shown.err


@pytest.mark.parametrize("option", ["ready_file", "record", "accounts"])
def test_a_file_in_a_folder_that_is_absent_is_named_before_the_port_is_open(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = exchange(**{option: tmp_path / "absent" / "file"})  # type: ignore[arg-type]

    shown = capsys.readouterr()
    assert (2, "", 1) == (code, shown.out, shown.err.count("\n"))
    assert str(tmp_path / "absent" / "file") in shown.err


def test_an_asset_that_nobody_lists_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accounts = tmp_path / "accounts.json"
    accounts.write_text(json.dumps([{"name": "trader", "keys": [], "balances": {"USD": "1", "UDS": "2"}}]))
    code = exchange(accounts=accounts, flow="still", symbols=1)

    shown = capsys.readouterr().err
    assert (2, True) == (code, shown.startswith("exchange: account trader: no asset UDS;")), shown


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{}", b"not JSON"])
def test_an_accounts_file_that_cannot_be_read_is_named(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts = tmp_path / "accounts.json"
    accounts.write_bytes(content)
    code = exchange(accounts=accounts, flow="still", symbols=1)

    shown = capsys.readouterr().err
    assert (2, 1) == (code, shown.count("\n")), shown
    assert shown.startswith(f"exchange: {accounts}: ")


def test_a_port_in_use_is_named_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = exchange(port=port, flow="still", symbols=1)

    shown = capsys.readouterr().err
    assert (2, True) == (code, f"127.0.0.1 port {port}: Address already in use; choose another --port" in shown), shown


def test_a_ready_file_that_cannot_be_written_ends_the_exchange_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = exchange(ready_file=tmp_path / ("long" * 100), flow="still", symbols=1)

    shown = capsys.readouterr().err
    assert (2, 1) == (code, shown.count("\n")), shown
    assert shown.endswith(f"{'long' * 100}: File name too long\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_ends_the_exchange_with_the_name_of_the_record(capsys: pytest.CaptureFixture[str]) -> None:
    code = exchange(record=Path("/dev/full"), flow="still", symbols=1)

    assert (2, "exchange: /dev/full: No space left on device\n") == (code, capsys.readouterr().err)


def test_a_record_has_one_writer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_record(tmp_path / "record.jsonl"):
        code = exchange(record=tmp_path / "record.jsonl", flow="still", symbols=1)

    shown = capsys.readouterr().err
    assert (2, True) == (code, "record.jsonl: another exchange is writing this record" in shown), shown


@pytest.mark.parametrize(("before", "after"), [(b"", b"new\n"), (b"old\n", b"old\nnew\n"), (b'{"a', b'{"a\nnew\n')])
def test_a_record_goes_on_in_a_line_of_its_own(before: bytes, after: bytes, tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    path.write_bytes(before)
    with open_record(path) as file:
        file.write(b"new\n")

    assert after == path.read_bytes()


def test_an_exchange_whose_standard_input_is_empty_ends_at_once() -> None:
    command = [sys.executable, "-m", "krakenbot", "exchange", "--symbols", "1", "--flow", "still", "--until-stdin-ends"]
    with Path(os.devnull).open() as nothing:
        ended = subprocess.run(command, stdin=nothing, capture_output=True, text=True, timeout=15, check=False)

    assert (0, "") == (ended.returncode, ended.stderr)
