"""Rights of the database roles: what nobody may hold, whatever else is granted.

Enters: what is granted on relations of our schema, which tables are append-only, what the roles may do in the
cluster. Leaves: findings. Called by the judgement of a database. A role's need follows from who writes a table: the
tables that execution writes are closed to ingest, and the other way round.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from attrs import frozen

from krakenbot.domain.preflight.finding import Finding, fail, ok, some_of

INGEST_ROLE: Final = "krakenbot_ingest"
EXECUTION_ROLE: Final = "krakenbot_execution"
STATUS_ROLE: Final = "krakenbot_status"
PUBLIC: Final = "PUBLIC"
_ROLES: Final = (INGEST_ROLE, EXECUTION_ROLE, STATUS_ROLE)
_NEVER: Final = frozenset({"TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"})
_CHANGES: Final = frozenset({"UPDATE", "DELETE", "TRUNCATE"})
_WRITES: Final = frozenset({"INSERT", "UPDATE", "DELETE", "TRUNCATE"})
# Also without their trigger: what is gone from the schema can't be read from it.
_APPEND_ONLY: Final = frozenset({"execution_order_events", "fills", "realized_pnl", "queue_probes"})
_OF_EXECUTION: Final = frozenset(
    {"execution_orders", "execution_order_events", "fills", "positions", "realized_pnl", "leases", "engine_state"}
)
_RAW: Final = frozenset({"ticker_samples", "trade_samples", "l2_snap_metrics", "l3_queue_metrics", "copy_batches"})
_OF_INGEST: Final = _RAW | {
    "ingest_lineage",
    "observation_runs",
    "ingest_epochs",
    "execution_universe_snapshots",
    "run_symbol_state",
    "state_generations",
    "instruments",
    "queue_probes",
}
_SHARED: Final = frozenset({"process_status", "refresh_requests"})
# Ingest pins the symbols that have an order or a position.
_INGEST_READS: Final = frozenset({"execution_orders", "positions"})
_STATUS_PREFIX: Final = "status_"
_MIGRATIONS: Final = "schema_migrations"


@frozen(kw_only=True)
class Grant:
    """A right on a relation; `role` is PUBLIC for everybody."""

    role: str
    relation: str
    right: str


@frozen(kw_only=True)
class RolePower:
    """What a role may do in the whole cluster: superuser, createrole, or be another role."""

    role: str
    power: str


def judge_grants(
    check: str, grants: Collection[Grant], append_only: Collection[str], powers: Iterable[RolePower]
) -> list[Finding]:
    """Return one finding for every role that has more rights than it needs, or one that none has."""
    too_many: dict[str, list[str]] = {}
    frozen_tables = _APPEND_ONLY | set(append_only)
    written = {
        role: {one.relation for one in grants if one.role == role and one.right in _WRITES} - _SHARED
        for role in (INGEST_ROLE, EXECUTION_ROLE)
    }
    for grant in sorted(grants, key=lambda one: (one.role, one.relation, one.right)):
        if _is_too_much(grant, frozen_tables, written[EXECUTION_ROLE], written[INGEST_ROLE]):
            too_many.setdefault(grant.role, []).append(f"{grant.right} on {grant.relation}")
    for power in powers:
        too_many.setdefault(power.role, []).append(power.power)
    if not too_many:
        return [ok(check, "each role has what it needs", "no right more than needed")]
    return [
        fail(
            check,
            f"{role} has too many rights: {some_of(rights)}",
            "no right more than needed",
            f"As owner, revoke from {role}: {some_of(rights)}.",
        )
        for role, rights in sorted(too_many.items())
    ]


def _is_too_much(grant: Grant, frozen_tables: Collection[str], of_execution: set[str], of_ingest: set[str]) -> bool:
    if grant.role == PUBLIC:
        return True
    if grant.role not in _ROLES:
        return False
    if grant.right in _NEVER or (grant.relation in frozen_tables and grant.right in _CHANGES):
        return True
    if grant.role == STATUS_ROLE:
        is_open = grant.relation.startswith(_STATUS_PREFIX) or grant.relation == _MIGRATIONS
        return not is_open or grant.right != "SELECT"
    if grant.role == INGEST_ROLE:
        is_closed = grant.relation in _OF_EXECUTION | (of_execution - _OF_INGEST)
        return is_closed and not (grant.relation in _INGEST_READS and grant.right == "SELECT")
    if grant.right == "DELETE" or grant.relation in _RAW:
        return True
    return grant.relation in _OF_INGEST | (of_ingest - _OF_EXECUTION) and grant.right in _WRITES
