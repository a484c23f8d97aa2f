"""The program that docs/recording.md offers: what it records from an exchange, another exchange plays back."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from krakenbot.adapters.local_exchange.pytest_plugin import running_exchange

DOCS = Path(__file__).parents[3] / "docs" / "recording.md"


@pytest.mark.timeout(60)
def test_what_the_documented_program_records_is_played_back(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "record.py").write_text(program, encoding="utf-8")
    folder = tmp_path / "recording"
    with running_exchange(symbols=1, latency_median_ms=0) as exchange:
        command = [sys.executable, str(tmp_path / "record.py"), exchange.ws_public_url, str(folder), "2"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert 0 == done.returncode, done.stderr

    with running_exchange(flow="playback", recording=folder, start_after_s=60) as exchange:
        flow = exchange.status()["flow"]

    assert ["BTC/USD"] == list(flow["streams"])
    assert [10] == flow["streams"]["BTC/USD"]["book"]
    assert [] == flow["recording"]["cut_off"]
    assert flow["recording"]["frames"] > 10
