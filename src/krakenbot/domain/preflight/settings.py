"""Limits of the doctor. Enters: what the settings file says. Called by the judgements of this package."""

from __future__ import annotations

import enum

from attrs import field, frozen
from attrs.validators import ge, gt

_MIB = 1 << 20


class OnEmptyIpList(enum.StrEnum):
    """What a key without an IP list means."""

    WARN = "warn"
    REFUSE = "refuse"


@frozen(kw_only=True)
class DoctorSettings:
    """Limits of `krakenbot doctor` and of execution's own check at its start.

    A key that expires within `key_days_min` days is refused. `empty_ip_list` says whether a key that works from any
    address is a warning or a refusal. `clock_skew_max_s` is refused above, `round_trip_max_s` is how long an answer
    may take and still tell the time. Below `disk_fail_bytes` of free space nothing starts, below `disk_warn_bytes` it
    is said.
    """

    key_days_min: float = field(default=7.0, validator=ge(0.0))
    empty_ip_list: OnEmptyIpList = OnEmptyIpList.WARN
    clock_skew_max_s: float = field(default=1.0, validator=gt(0.0))
    round_trip_max_s: float = field(default=1.0, validator=gt(0.0))
    disk_fail_bytes: int = field(default=256 * _MIB, validator=ge(0))
    disk_warn_bytes: int = field(default=2048 * _MIB, validator=ge(0))
