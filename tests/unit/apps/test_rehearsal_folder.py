"""Folders of rehearsals: those of killed ones go at the next start, others stay."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from krakenbot.apps.rehearsal.run import sweep


def make_folder(base: Path, name: str, owner: str | None) -> Path:
    folder = base / name
    folder.mkdir()
    (folder / "settings.toml").write_text("")
    if owner is not None:
        (folder / "owner.pid").write_text(owner)
    return folder


def test_only_what_a_dead_process_left_is_swept(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = make_folder(tmp_path, "rdead", str(gone.pid))
    living = make_folder(tmp_path, "rliving", str(os.getpid()))
    kept = make_folder(tmp_path, "rkept", None)
    broken = make_folder(tmp_path, "rbroken", "no number")

    sweep(tmp_path)

    assert [dead.exists(), living.exists(), kept.exists(), broken.exists()] == [False, True, True, True]
