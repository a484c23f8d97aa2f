from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
