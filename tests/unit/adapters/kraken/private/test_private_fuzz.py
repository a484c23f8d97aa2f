"""Anything may come from the wire: sessions and decoders count it, name it or refuse it, and never crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from krakenbot.adapters.kraken.codec import preflight, rest
from krakenbot.adapters.kraken.codec.private import bounded
from krakenbot.adapters.kraken.protocol.private import PrivateSession, PrivateSessionSettings
from krakenbot.domain.errors import VenueProtocolError
from krakenbot.domain.execution.reports import ExecType, ExecutionBatch
from krakenbot.domain.secret import Secret

KEYS = [
    "channel", "method", "type", "data", "sequence", "success", "result", "error", "Error", "req_id", "order_id",
    "exec_type", "timestamp", "last_qty", "last_price", "exec_id", "symbol", "side", "fees", "asset", "qty",
    "balance", "wallets", "system", "triggers", "price", "cl_ord_id", "maxratecount",
]  # fmt: skip
WORDS = [
    "executions", "balances", "status", "heartbeat", "snapshot", "update", "trade", "new", "buy", "subscribe",
    "add_order", "pong", "online", "2026-11-01T00:00:00Z", "BTC/USD", "O1", "NaN", "-Infinity", "1e400",
]  # fmt: skip
NUMBERS = [0, -1, 1, 2, 3, 2**63, -(2**70), 10**300, 0.5, 1e-300, 1e300]

scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from(NUMBERS)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(WORDS)
    | st.text(max_size=20)
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=8),
    max_leaves=25,
)
frames = st.dictionaries(st.sampled_from(KEYS), trees, max_size=8).map(json.dumps).map(str.encode)
cut_frames = st.tuples(frames, st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]])


def make_session() -> PrivateSession:
    return PrivateSession(token=Secret("t"), gap=False, settings=PrivateSessionSettings(), now_mono=0.0)


def executions_of(rows: list[Any]) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda kind, sequence: json.dumps(
            {"channel": "executions", "type": kind, "data": rows, "sequence": sequence}
        ).encode(),
        st.sampled_from(["snapshot", "update"]),
        st.integers(0, 4),
    )


row_mutations = st.dictionaries(
    st.sampled_from([*KEYS, "order_qty", "cum_qty", "limit_price", "cost", "liquidity_ind", "trade_id", "ratecount"]),
    scalars,
    max_size=4,
)
TRADE = {
    "order_id": "O1", "exec_id": "T1", "exec_type": "trade", "symbol": "BTC/USD", "side": "buy", "last_qty": 0.1,
    "last_price": 5.0, "timestamp": "2026-11-01T00:00:00Z", "fees": [{"asset": "USD", "qty": 0.1}],
}  # fmt: skip


@given(st.lists(frames | cut_frames | st.binary(max_size=60), max_size=12))
def test_session_takes_any_bytes_without_raising(received: list[bytes]):
    session = make_session()
    for position, frame in enumerate(received):
        session.receive(frame, float(position))
        session.to_send()
    events = session.events()

    assert all(event is not None for event in events)
    assert session.close_reason is None or session.next_deadline() is None


@given(st.lists(row_mutations, min_size=1, max_size=4).map(lambda rows: [{**TRADE, **row} for row in rows]), st.data())
def test_every_report_that_passes_is_one_that_a_ledger_may_book(rows: list[dict[str, Any]], data: st.DataObject):
    session = make_session()
    frame = data.draw(executions_of(rows))
    session.receive(frame, 0.0)
    reports = [report for event in session.events() if isinstance(event, ExecutionBatch) for report in event.reports]
    trades = [report for report in reports if report.exec_type is ExecType.TRADE]

    assert all(report.last_qty is not None and report.last_qty > 0 for report in trades)
    assert all(report.last_price is not None and report.last_price.is_finite() for report in trades)
    assert all(report.exec_id and report.symbol and report.side for report in trades)
    assert all(report.at.tzinfo is not None for report in reports)


@given(st.lists(row_mutations, min_size=1, max_size=3), st.data())
def test_no_row_is_lost_in_silence(rows: list[dict[str, Any]], data: st.DataObject):
    """A frame either passes all its rows on, or counts a fault, ends the connection or asks for reconciliation."""
    session = make_session()
    sent = [{**TRADE, **row} for row in rows]
    session.receive(data.draw(executions_of(sent)), 0.0)
    batches = [event for event in session.events() if isinstance(event, ExecutionBatch)]
    passed = sum(len(batch.reports) for batch in batches)

    assert passed == len(sent) or session.faults > 0
    assert passed == len(sent) or session.close_reason is not None or all(batch.gap for batch in batches)


DECODERS: list[Callable[[msgspec.Raw], object]] = [
    rest.decode_system_status,
    rest.decode_time,
    rest.decode_token,
    rest.decode_asset_pairs,
    preflight.decode_key_rights,
    lambda result: rest.decode_balances(result, rest.PairNames()),
    lambda result: rest.decode_fee_rates(result, rest.PairNames()),
    lambda result: rest.decode_open_orders(result, rest.PairNames()),
    lambda result: rest.decode_closed_orders(result, rest.PairNames()),
    lambda result: rest.decode_fills(result, rest.PairNames()),
]
REST_KEYS = [
    "status", "unixtime", "token", "open", "closed", "trades", "count", "fees", "fees_maker", "fee", "XXBTZUSD",
    "altname", "wsname", "base", "quote", "pair_decimals", "lot_decimals", "cost_decimals", "ordermin", "costmin",
    "tick_size", "balance", "hold_trade", "descr", "pair", "type", "ordertype", "price", "vol", "vol_exec", "opentm",
    "time", "cost", "ordertxid", "permissions", "nonce_window", "valid_until", "ip_allowlist",
]  # fmt: skip
rest_trees = st.recursive(
    scalars | st.sampled_from(["0.1", "1e999999", "XBT/USD", "12", "limit"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(REST_KEYS), inner, max_size=8),
    max_leaves=30,
)


@given(st.dictionaries(st.sampled_from(REST_KEYS), rest_trees, max_size=6), st.sampled_from(range(len(DECODERS))))
def test_result_of_any_shape_is_decoded_or_refused_as_documented(tree: dict[str, Any], which: int):
    try:
        decoded = DECODERS[which](msgspec.Raw(json.dumps(tree).encode()))
    except VenueProtocolError:
        return

    assert decoded is not None


@given(st.binary(max_size=100) | rest_trees.map(json.dumps).map(str.encode))
def test_body_of_any_kind_is_an_answer_or_refused_as_documented(body: bytes):
    try:
        answer = rest.decode_answer(body)
    except VenueProtocolError:
        return

    assert all(isinstance(text, str) for text in answer.errors)


@given(st.decimals(allow_nan=True, allow_infinity=True))
def test_numbers_that_pass_have_a_short_fixed_point_text(number: Decimal):
    try:
        passed = bounded(number)
    except VenueProtocolError:
        return

    assert len(format(passed, "f")) < 100
