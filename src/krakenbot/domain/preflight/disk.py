"""Free space where the process writes. Enters: folders. Leaves: findings. Called by the doctor and at the start."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from krakenbot.domain.preflight.finding import Finding, fail, ok, warn
from krakenbot.domain.preflight.settings import DoctorSettings

_GIB = 1 << 30


@frozen(kw_only=True)
class DiskFacts:
    """One folder by what it is for; `error` is why it cannot be written to."""

    purpose: str
    path: str
    free_bytes: int
    error: str | None = None


def judge_disks(disks: Sequence[DiskFacts], settings: DoctorSettings) -> list[Finding]:
    """Return a finding per folder."""
    return [_judge(disk, settings) for disk in disks]


def _judge(disk: DiskFacts, settings: DoctorSettings) -> Finding:
    check, limit = f"disk.{disk.purpose}", f"at least {_size(settings.disk_warn_bytes)} free"
    if disk.error is not None:
        fix = f"Make {disk.path} a folder that this user may write to."
        return fail(check, f"{disk.path}: {disk.error}", "writable", fix)
    found = f"{disk.path}: {_size(disk.free_bytes)} free"
    fix = f"Free space at {disk.path}, or move it elsewhere."
    if disk.free_bytes < settings.disk_fail_bytes:
        return fail(check, found, f"at least {_size(settings.disk_fail_bytes)} free", fix)
    if disk.free_bytes < settings.disk_warn_bytes:
        return warn(check, found, limit, fix)
    return ok(check, found, limit)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.1f} GiB"
