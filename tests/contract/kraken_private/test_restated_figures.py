"""Documented and recorded figures, restated in tests/data, through the private session; runs anywhere."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from krakenbot.adapters.kraken.codec.private import Reply, decode_frame
from krakenbot.adapters.kraken.errors import order_error
from krakenbot.adapters.kraken.protocol.private import PrivateSession, PrivateSessionSettings
from krakenbot.domain.execution.reports import ExecutionBatch, ExecutionReport
from krakenbot.domain.secret import Secret

DATA = json.loads((Path(__file__).parents[2] / "data" / "kraken_private" / "executions.json").read_text())
# our names of figures: the venue's names, and whether the venue writes a bare number
WIRE = {
    "kind": ("exec_type", False), "order": ("order_id", False), "client": ("cl_ord_id", False),
    "symbol": ("symbol", False), "side": ("side", False), "type": ("order_type", False),
    "state": ("order_status", False), "qty": ("order_qty", True), "filled": ("cum_qty", True),
    "limit": ("limit_price", True), "why": ("reason", False), "exec": ("exec_id", False),
    "last_qty": ("last_qty", True), "last_price": ("last_price", True), "cost": ("cost", True),
    "liquidity": ("liquidity_ind", False), "ratecount": ("ratecount", True), "at": ("timestamp", False),
}  # fmt: skip


def wire_row(figures: dict[str, Any]) -> str:
    """Return the row as the venue writes it, with bare numbers of every digit."""
    parts = [
        f'"{WIRE[name][0]}":{value if WIRE[name][1] else json.dumps(value)}'
        for name, value in figures.items()
        if name in WIRE
    ]
    if "trade" in figures:
        parts.append(f'"trade_id":{figures["trade"]}')
    if "post_only" in figures:
        parts.append(f'"post_only":{json.dumps(figures["post_only"])}')
    if "stop" in figures:
        state = figures["stop_state"]
        parts.append(f'"triggers":{{"reference":"index","price":{figures["stop"]},"status":"{state}"}}')
    fees = ",".join(f'{{"asset":"{asset}","qty":{qty}}}' for asset, qty in figures.get("fees", []))
    return "{" + ",".join([*parts, f'"fees":[{fees}]']) + "}"


def wire_frame(rows: list[str], *, kind: str, sequence: int) -> str:
    return f'{{"channel":"executions","type":"{kind}","data":[{",".join(rows)}],"sequence":{sequence}}}'


def figures_of(report: ExecutionReport) -> dict[str, Any]:
    """Return what a report says in the names and texts of the data file."""
    texts: dict[str, object | None] = {
        "kind": report.exec_type.value,
        "order": report.order_id,
        "client": report.cl_ord_id,
        "symbol": report.symbol,
        "side": report.side and report.side.value,
        "type": report.order_type,
        "state": report.order_status,
        "qty": report.order_qty,
        "filled": report.cum_qty,
        "limit": report.limit_price,
        "why": report.reason,
        "exec": report.exec_id,
        "last_qty": report.last_qty,
        "last_price": report.last_price,
        "cost": report.cost,
        "ratecount": report.ratecount,
        "stop": report.trigger_price,
    }
    figures: dict[str, Any] = {
        name: f"{value:f}" if isinstance(value, Decimal) else value
        for name, value in texts.items()
        if value is not None
    }
    if report.is_maker is not None:
        figures["liquidity"] = "m" if report.is_maker else "t"
    if report.triggered is not None:
        figures["stop_state"] = "triggered" if report.triggered else "untriggered"
    if report.trade_id is not None:
        figures["trade"] = report.trade_id
    if report.post_only is not None:
        figures["post_only"] = report.post_only
    if report.fees:
        figures["fees"] = [[fee.asset, str(fee.qty)] for fee in report.fees]
    figures["at"] = report.at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return figures


def make_session() -> PrivateSession:
    return PrivateSession(token=Secret("t"), gap=False, settings=PrivateSessionSettings(), now_mono=0.0)


@pytest.mark.parametrize("sequence", DATA["sequences"], ids=lambda sequence: sequence["name"])
def test_every_figure_of_a_sequence_comes_out_as_it_went_in(sequence: dict[str, Any]) -> None:
    session = make_session()
    number = sequence["first_sequence"] - (0 if sequence["opens_with_snapshot"] else 1)
    session.receive(wire_frame([], kind="snapshot", sequence=number), 0.0)
    for row in sequence["rows"]:
        number += 1
        session.receive(wire_frame([wire_row(row)], kind="update", sequence=number), 0.0)
    batches = [event for event in session.events() if isinstance(event, ExecutionBatch)]

    assert session.close_reason is None
    assert sequence["rows"] == [figures_of(report) for batch in batches for report in batch.reports]
    assert [True, *[False] * len(sequence["rows"])] == [batch.is_snapshot for batch in batches]


@pytest.mark.parametrize("figures", [row for row in DATA["answers"] if "error" not in row])
def test_documented_success_is_read(figures: dict[str, Any]) -> None:
    result = {name: figures[ours] for ours, name in (("order", "order_id"), ("client", "cl_ord_id")) if ours in figures}
    reply = decode_frame(json.dumps({"method": figures["method"], "success": True, "req_id": 5, "result": result}))

    assert isinstance(reply, Reply)
    assert (True, figures["client"], figures.get("order")) == (reply.is_success, reply.cl_ord_id, reply.order_id)


@pytest.mark.parametrize("figures", [row for row in DATA["answers"] if "error" in row])
def test_documented_error_becomes_the_documented_outcome(figures: dict[str, Any]) -> None:
    text = json.dumps({"method": figures["method"], "success": False, "req_id": 5, "error": figures["error"]})
    reply = decode_frame(text)

    assert isinstance(reply, Reply)
    assert reply.error is not None
    assert figures["is"] == type(order_error(reply.error, "kb1")).__name__


def test_documented_balances_count_spot_wallets_only() -> None:
    session = make_session()
    rows = [
        {
            "asset": row["asset"],
            "balance": 0,
            "wallets": [
                {"type": kind, "id": "x", "balance": float(row[kind])} for kind in ("spot", "earn") if kind in row
            ],
        }
        for row in DATA["balances"]
    ]
    session.receive(json.dumps({"channel": "balances", "type": "snapshot", "data": rows, "sequence": 1}), 0.0)

    assert {row["asset"]: Decimal(row["spot"]) for row in DATA["balances"]} == session.spot_amounts()
