from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from krakenbot.adapters.kraken.codec.private import Reply
from krakenbot.adapters.kraken.protocol.private import PrivateSession, PrivateSessionSettings, ProtocolFault
from krakenbot.domain.errors import VenueUnavailable
from krakenbot.domain.execution.reports import ExecutionBatch
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import ClOrdId

TOKEN = "canary-token"
STATUS = '{"channel":"status","type":"update","data":[{"system":"online","api_version":"v2"}]}'
HEARTBEAT = '{"channel":"heartbeat"}'
ROW = {"order_id": "O1", "exec_type": "new", "order_status": "new", "timestamp": "2026-11-01T00:00:00Z"}


def make_session(*, gap: bool = False, **settings: Any) -> PrivateSession:
    return PrivateSession(
        token=Secret(TOKEN),
        gap=gap,
        settings=PrivateSessionSettings(**settings),
        now_mono=0.0,
    )


def executions(sequence: int | None, *rows: Mapping[str, object], kind: str = "update") -> str:
    frame: dict[str, object] = {"channel": "executions", "type": kind, "data": list(rows)}
    if sequence is not None:
        frame["sequence"] = sequence
    return json.dumps(frame)


def balances(sequence: int, *rows: Mapping[str, object], kind: str = "update") -> str:
    return json.dumps({"channel": "balances", "type": kind, "data": list(rows), "sequence": sequence})


def ack(req_id: int, channel: str) -> str:
    result = {"channel": channel, "maxratecount": 125}
    return json.dumps({"method": "subscribe", "success": True, "req_id": req_id, "result": result})


def refusal(req_id: int, method: str, error: str) -> str:
    return json.dumps({"method": method, "success": False, "req_id": req_id, "error": error})


def make_live(
    session: PrivateSession, *, sequence: int | None = 1, balance_rows: tuple[dict[str, object], ...] = ()
) -> list[dict[str, Any]]:
    """Bring a session to life; return the requests that it sent."""
    session.receive(STATUS, 0.1)
    sent = [json.loads(text) for text in session.to_send()]
    for request in sent:
        session.receive(ack(request["req_id"], request["params"]["channel"]), 0.2)
    session.receive(executions(sequence, kind="snapshot"), 0.3)
    session.receive(balances(1, *balance_rows, kind="snapshot"), 0.3)
    return sent


def live_session(**settings: Any) -> PrivateSession:
    session = make_session(**settings)
    make_live(session)
    session.events()
    return session


def batches(session: PrivateSession) -> list[ExecutionBatch]:
    return [event for event in session.events() if isinstance(event, ExecutionBatch)]


def test_nothing_is_sent_before_the_venues_status() -> None:
    session = make_session()
    session.receive(HEARTBEAT, 0.1)

    assert [] == session.to_send()


def test_both_channels_are_subscribed_after_the_status_with_all_snapshots_and_the_counter() -> None:
    sent = make_live(make_session())

    assert [
        {
            "channel": "executions",
            "snap_orders": True,
            "snap_trades": True,
            "order_status": True,
            "ratecounter": True,
            "token": TOKEN,
        },
        {"channel": "balances", "snapshot": True, "token": TOKEN},
    ] == [request["params"] for request in sent]


def test_second_status_subscribes_nothing_again_and_changes_the_venue_status() -> None:
    session = live_session()
    session.receive(STATUS.replace("online", "cancel_only"), 1.0)

    assert [] == session.to_send()
    assert "cancel_only" == session.venue_status


def test_unknown_status_word_is_unknown() -> None:
    session = live_session()
    session.receive(STATUS.replace("online", "party"), 1.0)

    assert "unknown" == session.venue_status


@pytest.mark.parametrize("missing", ["ack", "executions", "balances"])
def test_session_is_live_only_with_both_acks_and_both_snapshots(missing: str):
    session = make_session()
    session.receive(STATUS, 0.1)
    requests = [json.loads(text) for text in session.to_send()]
    if missing != "ack":
        for request in requests:
            session.receive(ack(request["req_id"], request["params"]["channel"]), 0.2)
    if missing != "executions":
        session.receive(executions(1, kind="snapshot"), 0.3)
    if missing != "balances":
        session.receive(balances(1, kind="snapshot"), 0.3)

    assert not session.is_live
    assert session.close_reason is None


def test_acknowledged_threshold_of_the_counter_is_kept() -> None:
    session = live_session()

    assert 125 == session.max_ratecount


def test_first_batch_of_a_reconnection_says_that_there_was_a_gap_and_the_next_does_not() -> None:
    session = make_session(gap=True)
    make_live(session)
    session.receive(executions(2, ROW), 1.0)

    assert [(True, True), (False, False)] == [(batch.is_snapshot, batch.gap) for batch in batches(session)]


def test_first_connection_has_no_gap() -> None:
    session = make_session()
    make_live(session)

    assert [(True, False)] == [(batch.is_snapshot, batch.gap) for batch in batches(session)]


@pytest.mark.parametrize("sequence", [4, 2, 1, None])
def test_break_in_the_sequence_ends_the_connection_and_passes_nothing_on(sequence: int | None):
    session = live_session()
    session.receive(executions(2, ROW), 1.0)
    session.events()
    session.receive(executions(sequence, ROW), 1.1)

    assert f"executions: sequence {sequence} after 2" == session.close_reason
    assert [] == batches(session)


def test_sequence_may_begin_anywhere() -> None:
    session = make_session()
    make_live(session, sequence=8)
    session.receive(executions(9, ROW), 1.0)

    assert session.close_reason is None
    assert [8, 9] == [batch.sequence for batch in batches(session)]


def test_missing_balance_update_ends_the_connection() -> None:
    session = live_session()
    session.receive(balances(3, {"asset": "USD", "balance": 1}), 1.0)

    assert "balances: sequence 3 after 1" == session.close_reason


@pytest.mark.parametrize("kind", ["snapshot", "update"])
def test_balance_that_cannot_be_read_is_a_fault_and_leaves_the_stream_alone(kind: str):
    session = make_session() if kind == "snapshot" else live_session()
    if kind == "snapshot":
        make_live(session, balance_rows=({"asset": "BTC"}, {"asset": "USD", "balance": 3}))
    else:
        session.receive(balances(2, {"asset": "BTC"}, {"asset": "USD", "balance": 3}), 1.0)

    assert session.is_live
    assert {"USD": Decimal(3)} == session.spot_amounts()
    assert [ProtocolFault(what="balance not readable: Object missing required field `balance`")] == [
        event for event in session.events() if isinstance(event, ProtocolFault)
    ]


def test_balances_and_executions_count_separately() -> None:
    session = live_session()
    session.receive(executions(2, ROW), 1.0)
    session.receive(balances(2, {"asset": "USD", "balance": 1}), 1.0)
    session.receive(executions(3, ROW), 1.0)

    assert session.close_reason is None


def test_update_before_its_snapshot_ends_the_connection() -> None:
    session = make_session()
    session.receive(STATUS, 0.1)
    session.receive(executions(1, ROW), 0.2)

    assert "executions: update before the snapshot" == session.close_reason


def test_unreadable_row_of_an_update_ends_the_connection_and_is_not_dropped_in_silence() -> None:
    session = live_session()
    session.receive(executions(2, ROW, {**ROW, "exec_type": "invented"}), 1.0)

    assert session.close_reason is not None
    assert 1 == session.faults
    assert [] == batches(session)


def test_unreadable_row_of_a_snapshot_leaves_the_rest_and_asks_for_reconciliation() -> None:
    session = make_session()
    session.receive(STATUS, 0.1)
    session.receive(executions(1, ROW, {**ROW, "exec_type": "invented"}, kind="snapshot"), 0.2)

    assert session.close_reason is None
    assert [(1, True)] == [(len(batch.reports), batch.gap) for batch in batches(session)]


@pytest.mark.parametrize("text", ["CloudFlare WebSocket proxy restarting", "", '{"cut'])
def test_text_that_is_not_json_ends_the_connection(text: str):
    session = live_session()
    session.receive(text, 1.0)

    assert "frame is not JSON" == session.close_reason


def test_frame_of_an_unknown_channel_is_counted_and_nothing_else() -> None:
    session = live_session()
    session.receive('{"channel":"futures","data":[]}', 1.0)

    assert session.close_reason is None
    assert [ProtocolFault(what="unknown channel futures")] == session.events()


def test_nothing_is_taken_after_the_end() -> None:
    session = live_session()
    session.close("enough")
    session.close("later reason")
    session.receive(executions(2, ROW), 1.0)

    assert ([], "enough") == (session.events(), session.close_reason)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("EGeneral:Permission denied", "subscription to executions refused: EGeneral:Permission denied"),
        ("Token(s) not found", "token refused: Token(s) not found"),
    ],
)
def test_refused_subscription_ends_the_connection_with_the_venues_words(error: str, reason: str):
    session = make_session()
    session.receive(STATUS, 0.1)
    first = json.loads(session.to_send()[0])
    session.receive(refusal(first["req_id"], "subscribe", error), 0.2)

    assert reason == session.close_reason
    assert not session.is_live


@pytest.mark.parametrize(
    ("error", "is_refused"),
    [
        ("EGeneral:Permission denied", True),
        ("EGeneral:Internal error", False),
        ("EService:Unavailable", False),
        ("ESession:Invalid session", False),
    ],
)
def test_trouble_of_the_service_is_no_refusal_of_the_key(error: str, is_refused: bool):
    session = make_session()
    session.receive(STATUS, 0.1)
    first = json.loads(session.to_send()[0])
    session.receive(refusal(first["req_id"], "subscribe", error), 0.2)

    assert is_refused == session.is_refused


def test_silence_ends_the_connection_and_a_heartbeat_puts_it_off() -> None:
    session = live_session(silence_timeout_s=5.0)
    session.receive(HEARTBEAT, 4.0)
    session.on_deadline(8.9)

    assert (None, 9.0) == (session.close_reason, session.next_deadline())
    session.on_deadline(9.0)
    assert ("no frame and no heartbeat in time", None) == (session.close_reason, session.next_deadline())


def test_missing_snapshots_end_the_connection_though_heartbeats_come() -> None:
    session = make_session(setup_timeout_s=10.0)
    session.receive(STATUS, 0.1)
    for second in range(1, 10):
        session.receive(HEARTBEAT, float(second))
        session.on_deadline(float(second))

    assert session.close_reason is None
    session.receive(HEARTBEAT, 10.0)
    session.on_deadline(10.0)
    assert "no snapshots in time" == session.close_reason


def test_ping_is_sent_on_time_without_params_and_its_pong_is_no_event() -> None:
    session = live_session(ping_interval_s=30.0, silence_timeout_s=60.0)
    session.on_deadline(30.0)
    ping = json.loads(session.to_send()[0])
    session.receive(json.dumps({"method": "pong", "req_id": ping["req_id"]}), 30.1)

    assert {"method", "req_id"} == set(ping)
    assert [] == session.events()
    assert 60.0 == session.next_deadline()


def test_request_carries_the_token_and_its_reply_comes_as_an_event() -> None:
    session = live_session()
    req_id = session.request("cancel_order", {"cl_ord_id": ["kb1"]})
    sent = json.loads(session.to_send()[0])
    reply = {"method": "cancel_order", "success": True, "req_id": req_id, "result": {"cl_ord_id": "kb1"}}
    session.receive(json.dumps(reply), 1.0)

    assert {"cl_ord_id": ["kb1"], "token": TOKEN} == sent["params"]
    assert [Reply(method="cancel_order", req_id=req_id, is_success=True, cl_ord_id=ClOrdId("kb1"))] == session.events()


@pytest.mark.parametrize("method", ["amend_order", "pong"])
def test_reply_of_another_method_answers_nothing(method: str):
    session = live_session()
    req_id = session.request("add_order", {})
    session.receive(json.dumps({"method": method, "success": True, "req_id": req_id}), 1.0)

    assert [ProtocolFault(what="reply that answers no request of this connection")] == session.events()


def test_second_reply_to_one_request_answers_nothing() -> None:
    session = live_session()
    req_id = session.request("add_order", {})
    for _ in range(2):
        session.receive(refusal(req_id, "add_order", "EOrder:Insufficient funds"), 1.0)

    assert [Reply, ProtocolFault] == [type(event) for event in session.events()]


def test_request_before_the_session_is_live_is_refused_and_not_queued() -> None:
    session = make_session()
    session.receive(STATUS, 0.1)
    session.to_send()
    with pytest.raises(VenueUnavailable):
        session.request("add_order", {})

    assert [] == session.to_send()


def test_withdrawn_request_is_never_sent_and_a_sent_one_cannot_be_withdrawn() -> None:
    session = live_session()
    first, second = session.request("add_order", {"n": 1}), session.request("add_order", {"n": 2})
    is_withdrawn = session.withdraw(first)
    sent = [json.loads(text)["req_id"] for text in session.to_send()]

    assert is_withdrawn
    assert [second] == sent
    assert not session.withdraw(second)


def test_too_many_requests_without_an_answer_end_the_connection() -> None:
    session = live_session(max_unanswered=3)
    for _ in range(3):
        session.request("add_order", {})
    with pytest.raises(VenueUnavailable):
        session.request("add_order", {})

    assert "too many requests without an answer" == session.close_reason


def test_refused_token_of_a_request_is_an_event_and_ends_the_connection() -> None:
    session = live_session()
    req_id = session.request("add_order", {})
    session.receive(refusal(req_id, "add_order", "ESession:Invalid session"), 1.0)

    assert ["ESession:Invalid session"] == [event.error for event in session.events() if isinstance(event, Reply)]
    assert "token refused: ESession:Invalid session" == session.close_reason


def test_spot_amounts_leave_out_what_is_earning_and_follow_updates() -> None:
    session = live_session()
    rows = [
        {"asset": "DOT", "balance": 50, "wallets": [{"type": "spot", "id": "main", "balance": 50}]},
        {"asset": "ETH", "balance": 3, "wallets": [{"type": "earn", "id": "bonded", "balance": 3}]},
    ]
    session = make_session()
    session.receive(STATUS, 0.1)
    session.receive(balances(1, *rows, kind="snapshot"), 0.2)
    session.receive(
        balances(2, {"asset": "DOT", "balance": 40, "wallet_type": "spot", "wallet_id": "main"}),
        0.3,
    )

    assert {"DOT": Decimal(40)} == session.spot_amounts()


def test_token_is_in_no_text_but_the_frames_to_the_venue() -> None:
    session = live_session()
    session.request("add_order", {})
    session.receive("not json", 1.0)

    shown = [repr(vars(session)), str(session), str(session.close_reason), repr(session.events())]
    assert [] == [text for text in shown if TOKEN in text]
