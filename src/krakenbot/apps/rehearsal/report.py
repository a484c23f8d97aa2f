"""The report of a rehearsal: one mapping for machines, one page for people, one exit status.

Enters: what was collected from the databases, the exchange's record, and how the run ended. Leaves: the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from krakenbot.apps.rehearsal.books import TradingBook, compare
from krakenbot.apps.rehearsal.collect import Collected
from krakenbot.apps.rehearsal.protection import quantiles, seconds_by_protection, seconds_to_protection

CHECKSUMS = {"book_ok": "book_ok", "book_bad": "book_bad", "level3_ok": "level3_ok", "level3_bad": "level3_bad"}
NOT_EVIDENCE = "The order flow is made up: its parameters are chosen, and nothing here is evidence of profit."


def build_report(
    *,
    run: Mapping[str, Any],
    collected: Collected,
    exchange: TradingBook,
    ended_at: datetime,
    exit_reason: str,
) -> dict[str, Any]:
    """Build the report; `run` is what was asked for: duration, symbols, seed, flow, profile, settings_overrides."""
    found = compare(collected.ledger, exchange)
    ingest_feed = _part(collected.processes.get("ingest"), "feed")
    execution_feed = _part(collected.processes.get("execution"), "live_feed")
    return {
        **run,
        "note": NOT_EVIDENCE,
        "frames": ingest_feed.get("frames", {}),
        "frames_execution": execution_feed.get("frames", {}),
        "checksums": {
            name: int(ingest_feed.get(key, 0)) + int(execution_feed.get(key, 0)) for name, key in CHECKSUMS.items()
        },
        "rows": collected.rows,
        "generations": collected.generations,
        "epochs": collected.epochs,
        "cycles": collected.cycles,
        "blockers": collected.blockers,
        "orders": collected.orders,
        "orders_by_role": collected.orders_by_role,
        "entries": collected.entries,
        "fills": collected.fills,
        "seconds": seconds_by_protection(collected.protection, ended_at),
        "protected_within_s": quantiles(seconds_to_protection(collected.protection)),
        "ledger": collected.ledger.summary(),
        "exchange": exchange.summary(),
        "ledger_equals_exchange": found.equal,
        "differences": list(found.differences),
        "orphan_orders": found.orphan_orders,
        "tie_out": _tie_out(collected.processes.get("execution")),
        "exit_reason": exit_reason,
    }


def exit_status(report: Mapping[str, Any]) -> int:
    """Return 0 only if no checksum is bad, nothing orphaned, ledger and exchange agree, and no process failed.

    What the exchange's ledger leaves unexplained fails the run too; a run too short for a tie-out does not.
    """
    checksums = report["checksums"]
    clean = (
        checksums["book_bad"] == 0
        and checksums["level3_bad"] == 0
        and report["orphan_orders"] == 0
        and report["ledger_equals_exchange"] is not False
        and not report["tie_out"]["unexplained"]
        and not report.get("failures")
    )
    return 0 if clean else 1


def render(report: Mapping[str, Any]) -> str:
    """Return the report as text for a terminal."""
    frames = ", ".join(f"{name} {count}" for name, count in sorted(report["frames"].items()))
    checksums = ", ".join(f"{name} {count}" for name, count in report["checksums"].items())
    rows = ", ".join(f"{name} {count}" for name, count in report["rows"].items())
    blockers = ", ".join(f"{code} {count}" for code, count in report["blockers"].items()) or "none"
    orders = "; ".join(f"{role}: {_counts(states)}" for role, states in report["orders_by_role"].items()) or "none"
    seconds = ", ".join(f"{name} {value:g} s" for name, value in report["seconds"].items())
    within = ", ".join(
        f"{name} {'-' if value is None else f'{value:g} s'}" for name, value in report["protected_within_s"].items()
    )
    overrides = ", ".join(f"{key} = {value}" for key, value in report["settings_overrides"].items()) or "none"
    lines = [
        "",
        (
            f"Rehearsal: {report['duration_s']:g} s, {report['symbols']} symbols, seed {report['seed']}, "
            f"flow {report['flow']}, profile {report['profile']}; ended: {report['exit_reason']}"
        ),
        f"  settings overridden   {overrides}",
        f"  frames                {frames}",
        f"  checksums             {checksums}",
        f"  rows                  {rows}",
        f"  state                 {report['generations']} generations, epochs {_counts(report['epochs'])}",
        f"  cycles                {report['cycles']}; blockers: {blockers}",
        f"  orders                {orders}; fills {report['fills']}",
        f"  positions             {seconds}; protected within {within}",
        f"  ledger                {_summary(report['ledger'])}",
        f"  exchange              {_summary(report['exchange'])}",
        f"  ledger = exchange     {_verdict(report['ledger_equals_exchange'])}",
        f"  tied out              {_tied(report['tie_out'])}",
        f"  orphan orders         {report['orphan_orders']}",
    ]
    lines += [f"    difference          {text}" for text in report["differences"][:20]]
    lines += [f"    failure             {text}" for text in report.get("failures", [])]
    lines.append(f"  {report['note']}")
    return "\n".join(lines)


def _part(status: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    part = (status or {}).get(name, {})
    return part if isinstance(part, Mapping) else {}


def _tie_out(status: Mapping[str, Any] | None) -> dict[str, Any]:
    ledger = _part(status, "ledger")
    return {"tied_at": ledger.get("tied_at"), "unexplained": dict(ledger.get("unexplained", {}))}


def _tied(tie_out: Mapping[str, Any]) -> str:
    if tie_out["unexplained"]:
        return "NO: " + "; ".join(f"{asset}: {text}" for asset, text in tie_out["unexplained"].items())
    return "not yet" if tie_out["tied_at"] is None else f"with the exchange's own ledger, up to {tie_out['tied_at']}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _summary(summary: Mapping[str, Mapping[str, object]]) -> str:
    return ", ".join(f"{name} {part['count']} ({part['hash']})" for name, part in summary.items())


def _verdict(equal: bool | None) -> str:
    return {True: "yes", False: "NO", None: "no fills to compare"}[equal]
