"""Every event that krakenbot names: how bad it is, and when it is said.

Leaves: the level of each log line, and docs/events.md, which `scripts/write_events.py` writes from this and from the
calls in the code. A test holds both against the code: an event that is missing here, or that nothing says, fails it.
"""

from __future__ import annotations

import enum

from attrs import frozen


class EventLevel(enum.StrEnum):
    """How bad it is: the order of things, something to know of, something to act on."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@frozen
class Event:
    """One name; `when` says what has happened, as a sentence without its subject's field values."""

    name: str
    level: EventLevel
    when: str


ORDER_PREFIX = "order_"
"""An order says its new state by name; one entry stands for all of them, under ORDER_STATE."""
ORDER_STATE = "order_STATE"

_INFO = {
    "blocked": "A symbol's dominant reason not to enter has changed.",
    "book_valid": "A book has its snapshot and fits its checksum.",
    "commit_found": "A commit whose outcome was not known is found in the database.",
    "connection_up": "A market data connection is open.",
    "decision_database_whole": "The decision database has again what ingest wrote.",
    "entry": "An entry was decided, and its order is sent.",
    "entry_cancel": "A resting entry is cancelled.",
    "entry_withdrawn": "An entry was stored, and is not sent: it came too late.",
    "epoch": "The status of epochs, or its reasons, changed.",
    "epochs_pruned": "Epochs that nothing needs any more were deleted.",
    "exit_done": "A position was closed, or what is left of it is dust.",
    "exit_started": "A position is being closed.",
    "fill": "A fill was booked.",
    "ingest_started": "Ingest has its lineage and its run.",
    "ingest_stopped": "Ingest has recorded its end.",
    "instruments": "The venue told its instruments, or changes of them.",
    "journal_replayed": "What the journal kept while the database was away is in the database.",
    "lease_acquired": "This process leads.",
    "lease_waiting": "Another process leads, or its lease has not run out.",
    "ledger_accepted": "A person accepted a difference to the venue's ledger; it is moved over.",
    "ledger_cursor_set": "The balances from which the venue's ledger is compared are set.",
    "ledger_explained": "A difference of an asset to the venue's ledger is explained.",
    "ledger_named": "An entry of the venue's ledger that is no trade of ours was named.",
    "level3_off": "Ingest runs without level3.",
    "lineages_forgotten": "Lineages that nothing needs any more were deleted.",
    "live_connection": "A connection of execution's own market data opened or closed.",
    "live_reconnected": "A lost connection of execution's own market data is whole again.",
    "loaded": "Execution has read its orders, positions and fills.",
    "position_closed": "A position is at zero, and its result is booked.",
    "probes_dropped": "Days of queue probes beyond the time to keep were deleted.",
    "process_stopped": "A process ends as it was told to.",
    "protection": "The protection of a position changed.",
    "reconciled": "Orders, fills and balances agree with the venue's.",
    "reconnected": "A lost market data connection is whole again, with what that took.",
    "recording": "The recording goes on; said from time to time.",
    "recording_begun": "A recording of raw frames began.",
    "recording_ended": "A recording of raw frames ended.",
    "run_dropped": "The partitions of an old run were dropped.",
    "run_prepared": "The partitions of the next run were made.",
    "run_rotated": "Ingest writes into a new run.",
    "run_rows_deleted": "Old rows of the current run were deleted.",
    "runs_forgotten": "Runs that nothing needs any more were deleted.",
    "sample_writer_back": "The ingest database takes samples again.",
    "spool_replayed": "What was on disk is in the ingest database.",
    "stop_replaced": "A protective stop that could not be amended is replaced.",
    "stopped": "Execution has ended its orders as the settings ask.",
    "stopping": "Execution ends.",
    "store_back": "The decision database answers again.",
    "symbol_safety": "A symbol's safety mode changed.",
    "tie_out_asked": "The venue's ledger will be compared soon.",
    "tied_out": "The venue's ledger explains every balance.",
    "trade_gap_refilled": "Missing trades were found in the venue's history.",
    "universe": "The symbols in use changed, or the reasons to leave others out.",
    ORDER_STATE: "An order is in a new state, which is part of the name, as in `order_open`.",
}
_WARNING = {
    "account_not_refreshed": "The account could not be read; it is read again.",
    "amend_unknown": "The outcome of an amendment is not known.",
    "balance_not_known": "An exit waits for the balance of its asset.",
    "book_invalid": "A book is not to be trusted until it is valid again.",
    "cancel_refused": "The venue refused a cancel.",
    "cancel_unknown": "The outcome of a cancel is not known.",
    "connection_down": "A market data connection was lost.",
    "correction": "Reconciliation corrected a difference to the venue.",
    "cycle_failed": "A decision cycle ended early.",
    "decision_database_behind": "The decision database lacks what ingest wrote; it is tried every second.",
    "entry_not_committed": "The row of an entry could not be written, so nothing is sent.",
    "entry_refused": "An entry was refused by a gate or the venue.",
    "epoch_not_published": "An epoch could not be written to any database.",
    "executions_gap": "A report of the private stream is missing; fills are read again.",
    "executions_lost": "The stream of executions ended; it is opened again.",
    "exit_refused": "An exit for more than the position was not sent.",
    "exit_waits_for_store": "An exit waits for the database, since the journal could not take it.",
    "fees_missing": "The fees of symbols are not known, which blocks their entries.",
    "fills_overdue": "An order's fills were announced and did not come.",
    "instrument_missing": "A position's instrument is not known.",
    "instruments_not_published": "Instruments could not be written to the databases.",
    "instruments_refused": "Pairs of the venue cannot be traded safely and are left out.",
    "journaled": "The database is away: a record went to the local journal.",
    "late_reply": "A reply came after its request was given up.",
    "lease_not_released": "The lease could not be given back; it runs out by itself.",
    "lease_not_renewed": "The lease could not be renewed yet.",
    "lineage_not_started": "The lineage could not be written; it is tried again.",
    "live_book_invalid": "A book of execution's own market data is not to be trusted.",
    "no_generation": "No refresh answered a decision cycle in time.",
    "outcome_unknown": "The outcome of an order is not known; it counts as exposure until it is proven.",
    "pinned_not_read": "The pinned symbols could not be read; the last ones stay pinned.",
    "private_protocol_fault": "The private stream sent what its documentation does not allow.",
    "private_stream_banned": "The venue lets nobody connect for a while.",
    "private_stream_closed": "The private stream was lost; it is opened again.",
    "private_stream_refused": "The venue refused the private stream.",
    "probe_refused": "The row of a queue probe breaks a constraint and was dropped.",
    "probes_not_recorded": "Queue probes could not be stored; they wait.",
    "profile_missing": "An entry's row does not say how to leave; defaults hold.",
    "profile_waits_for_store": "How to leave a position could not be read yet.",
    "reconcile_failed": "Reconciliation could not end; it is tried again.",
    "refresh_failed": "A refresh of the state could not end.",
    "request_withheld": "A request was not sent, since this process may not lead any more.",
    "retention_failed": "Old data could not be deleted; it is tried again.",
    "retention_over_limit": "More is kept than the limit of bytes, and nothing may be dropped.",
    "rival_seen": "Another process acts on the account while our lease has run out.",
    "run_end_not_recorded": "The end of a run could not be written.",
    "run_not_published": "A run could not be written to the decision database.",
    "run_not_rotated": "A run could not be rotated; the old one goes on.",
    "safety_not_stored": "A symbol's safety mode could not be written; it holds in memory.",
    "sample_writer_away": "The ingest database takes no samples.",
    "spool_left": "Samples of an earlier process lie on disk and are replayed.",
    "spool_started": "Samples go to disk, since the ingest database is away.",
    "start_waiting": "The start waits for a step that does not succeed yet.",
    "start_warning": "A check at the start found something to know of.",
    "status_not_published": "The status could not be written.",
    "store_away": "The decision database does not answer.",
    "tie_out_failed": "The venue's ledger could not be read.",
    "tier_differs": "The venue's rate limit is not that of the tier in the settings.",
    "trade_gap": "Trade ids were jumped over.",
    "trade_gap_left": "Missing trades were not found, and are not asked for any more.",
    "trades_repeated": "Trades were left out: their run holds others with their ids, as the venue counts anew.",
    "universe_empty": "No symbol may be traded: the reasons, each with a count and some names.",
    "universe_not_chosen": "The first universe waits for a database.",
}
_ERROR = {
    "alarm": "Something happened that must not, such as a report that contradicts what was proven.",
    "journal_conflict": "A record of the journal contradicts the database.",
    "journal_failed": "The local journal cannot keep a record.",
    "latch": "A limit of losses or errors was passed: no entries until it is released by hand.",
    "ledger_acceptance_void": "A person accepted a difference that is not there: nothing was done.",
    "fee_asset_differs": "A fill's fee is not in the quote asset, so the trade history's fees may be read wrong.",
    "ledger_unexplained": "A balance differs from what the venue's ledger explains.",
    "own_order_without_row": "An order at the venue carries our prefix and has no row.",
    "samples_lost": "Samples will never be written.",
    "spool_damaged": "Samples on disk could not be read back; their trades are named as missing.",
    "spool_full": "The disk takes no more samples.",
}


CATALOGUE: dict[str, Event] = {
    name: Event(name, level, when)
    for level, events in ((EventLevel.INFO, _INFO), (EventLevel.WARNING, _WARNING), (EventLevel.ERROR, _ERROR))
    for name, when in events.items()
}


def level_of(name: str) -> EventLevel:
    """Return the level of an event; one that the catalogue does not know is something to know of."""
    event = CATALOGUE.get(name)
    if event is None and name.startswith(ORDER_PREFIX):
        event = CATALOGUE[ORDER_STATE]
    return EventLevel.WARNING if event is None else event.level
