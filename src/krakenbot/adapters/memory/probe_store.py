"""Twin of the probe store."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from attrs import evolve

from krakenbot.domain.market.probe import MARKOUT_HORIZONS_S, Probe, ProbeEnd, ProbeLabels
from krakenbot.domain.values import LineageId, VenueId

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MemoryProbeStore:
    """ProbeStore in memory."""

    def __init__(self) -> None:
        self.probes: dict[tuple[VenueId, LineageId, int], Probe] = {}

    async def record(self, venue_id: VenueId, lineage_id: LineageId, probes: Sequence[Probe]) -> None:
        """Append ended probes; one that is there already is left as it is."""
        for probe in probes:
            if probe.end is None:
                raise ValueError(f"probe {probe.probe_no} has not ended")
        for probe in probes:
            kept = evolve(probe, markouts_bps=list(probe.markouts_bps))
            self.probes.setdefault((venue_id, lineage_id, probe.probe_no), kept)

    async def labels(self, venue_id: VenueId, since: datetime) -> Sequence[ProbeLabels]:
        """Return the labels of one venue by symbol group, kind, side and queue bucket."""
        groups: dict[tuple[str, str, str, str], list[Probe]] = {}
        for (venue, *_), probe in self.probes.items():
            if venue == venue_id and _at(probe) >= since:
                key = (probe.symbol_group, probe.kind.value, probe.side.value, probe.queue_bucket)
                groups.setdefault(key, []).append(probe)
        return [_labels(venue_id, groups[key]) for key in sorted(groups)]

    async def drop_before(self, at: datetime) -> int:
        """Drop the whole UTC days that lie before a time; return how many."""
        day = at.astimezone(UTC).date()
        gone = {key: _at(probe).date() for key, probe in self.probes.items() if _at(probe).date() < day}
        for key in gone:
            del self.probes[key]
        return len(set(gone.values()))


def _labels(venue_id: VenueId, probes: list[Probe]) -> ProbeLabels:
    first = probes[0]
    rests = [probe.rest_s for probe in probes if probe.end is not ProbeEnd.CENSORED]
    filled = [probe for probe in probes if probe.end is not None and probe.end.is_fill]
    return ProbeLabels(
        venue_id=venue_id,
        symbol_group=first.symbol_group,
        kind=first.kind,
        side=first.side,
        queue_bucket=first.queue_bucket,
        ends=dict(Counter(probe.end for probe in probes if probe.end is not None)),
        rest_s=statistics.fmean(rests) if rests else None,
        markouts_bps={
            horizon_s: _mean([m for probe in filled if (m := probe.markouts_bps[index]) is not None])
            for index, horizon_s in enumerate(MARKOUT_HORIZONS_S)
        },
    )


def _mean(values: list[float]) -> tuple[float | None, float | None, int]:
    se = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return (statistics.fmean(values) if values else None), se, len(values)


def _at(probe: Probe) -> datetime:
    return _EPOCH + timedelta(microseconds=probe.ended_at_ns // 1000)
