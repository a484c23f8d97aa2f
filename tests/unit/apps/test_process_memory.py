"""What malloc does with the blocks that sockets are read into, in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from krakenbot.apps import processes, record
from krakenbot.apps.settings import Settings
from krakenbot.domain.values import Symbol

PROGRAM = """
import ctypes
from krakenbot.apps import process_memory

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in
        ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

libc = ctypes.CDLL(None)
libc.mallinfo.restype = Info
if CALLED:
    assert process_memory.map_large_blocks()
# a frame as large as a snapshot of all instruments comes and goes: glibc raises a threshold of its own
large = bytearray(1 << 20)
del large
before = libc.mallinfo().hblks
read = bytearray(256 * 1024)
print(libc.mallinfo().hblks - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallinfo is glibc's")
@pytest.mark.parametrize(("called", "mapped"), [(False, 0), (True, 1)])
def test_a_read_is_mapped_after_larger_blocks_came_and_went(called: bool, mapped: int) -> None:
    program = PROGRAM.replace("CALLED", str(called))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20)

    assert int(done.stdout) == mapped


class _CalledError(Exception):
    pass


def _called() -> bool:
    raise _CalledError


def test_an_engine_maps_large_blocks_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "map_large_blocks", _called)

    with pytest.raises(_CalledError):
        anyio.run(processes.run_ingest, Settings())


def test_a_recorder_maps_large_blocks_before_anything_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(record, "map_large_blocks", _called)

    with pytest.raises(_CalledError):
        anyio.run(record.record, Settings(), record.RecordOptions(folder=tmp_path, symbols=(Symbol("BTC/USD"),)))
