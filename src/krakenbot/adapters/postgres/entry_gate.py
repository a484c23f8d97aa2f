"""What an entry's row is fenced by: the lease, the newest answered generation, the newest valid epoch, the mode.

Enters: one row of the decision database, read in the transaction that inserts the entry. Leaves: nothing, or Refused or
LeaseLost, which end that transaction. Called by the order store.
"""

from __future__ import annotations

from datetime import datetime

from krakenbot.adapters.postgres.rows import Row, seconds_before
from krakenbot.domain.decision.blocker import BlockerCode
from krakenbot.domain.errors import LeaseLost, Refused
from krakenbot.domain.state.safety import EngineMode
from krakenbot.domain.values import LeaseEpoch
from krakenbot.ports.order_store import EntryGate

# FOR SHARE: a takeover waits for this row to be committed, so that its start-up sees it.
LEASE = "SELECT lease_epoch, holder, expires_at > clock_timestamp() FROM leases WHERE name = 'execution' FOR SHARE"
# The lease and what the gate asks, in one statement.
GATE = """
SELECT l.lease_epoch, l.holder, l.expires_at > clock_timestamp(),
    (SELECT generation_id FROM refresh_requests WHERE generation_id IS NOT NULL ORDER BY request_id DESC LIMIT 1),
    g.computed_at, g.lineage_id,
    (SELECT lineage_id FROM ingest_epochs WHERE status = 'valid' ORDER BY epoch_id DESC LIMIT 1),
    e.created_at, s.mode, s.latch
FROM leases l
LEFT JOIN engine_state s ON true
LEFT JOIN state_generations g ON g.generation_id = %s
LEFT JOIN ingest_epochs e ON e.epoch_id = %s AND e.lineage_id = %s AND e.status = 'valid'
WHERE l.name = 'execution' FOR SHARE OF l
"""


def check_lease(row: Row | None, lease_epoch: LeaseEpoch) -> None:
    """Raise LeaseLost unless the row of `LEASE`, or the beginning of `GATE`'s, has this epoch in force."""
    if row is None or row[0] != lease_epoch or row[1] is None or not row[2]:
        found = "nobody's" if row is None or row[1] is None else f"epoch {row[0]} of {row[1]}"
        raise LeaseLost(f"lease epoch {lease_epoch} is not in force: it is {found}, or has expired")


def check_gate(row: Row | None, gate: EntryGate) -> None:
    """Raise Refused unless what follows the lease in the row of `GATE` lets the entry in."""
    if row is None:
        raise Refused(BlockerCode.GENERATION, "no generation")
    refusal = _refusal(
        gate, answered=row[0], computed_at=row[1], state_lineage=row[2], newest_lineage=row[3], epoch_at=row[4]
    )
    if row[5] not in {None, EngineMode.NORMAL} or row[6]:
        # A halt counts from the moment it is written, not from the next cycle's look.
        refusal = Refused(BlockerCode.ENGINE_MODE, f"mode {row[5]}, latch {row[6]}")
    if refusal is not None:
        raise refusal


def _refusal(
    gate: EntryGate,
    *,
    answered: int | None,
    computed_at: datetime | None,
    state_lineage: int | None,
    newest_lineage: int | None,
    epoch_at: datetime | None,
) -> Refused | None:
    """Return why an entry may not be inserted, None when it may.

    `answered` is the newest answered request's generation; `computed_at` and `state_lineage` those of the gate's
    generation; `newest_lineage` that of the newest valid epoch; `epoch_at` the creation of the gate's own valid epoch.
    """
    if answered != gate.generation_id or computed_at is None:
        return Refused(BlockerCode.GENERATION, f"generation {gate.generation_id} is not the answered one ({answered})")
    age_s = seconds_before(gate.at, computed_at)
    if age_s > gate.max_generation_age_s:
        return Refused(BlockerCode.GENERATION, f"age {age_s:.1f} s, at most {gate.max_generation_age_s} s")
    if state_lineage != gate.lineage_id or newest_lineage != gate.lineage_id:
        return Refused(BlockerCode.EPOCH, f"lineage {gate.lineage_id} is not the newest ({newest_lineage})")
    if epoch_at is None:
        return Refused(BlockerCode.EPOCH, f"epoch {gate.epoch_id} is not a valid one of lineage {gate.lineage_id}")
    age_s = seconds_before(gate.at, epoch_at)
    if age_s > gate.max_epoch_age_s:
        return Refused(BlockerCode.EPOCH, f"age {age_s:.1f} s, at most {gate.max_epoch_age_s} s")
    return None
