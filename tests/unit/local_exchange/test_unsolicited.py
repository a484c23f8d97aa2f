"""What the venue sends without being asked, and how it answers what is odd; without sockets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from krakenbot.adapters.local_exchange.matching.operator import Operator
from krakenbot.adapters.local_exchange.protocol.announcements import PROXY_RESTARTING
from krakenbot.adapters.local_exchange.protocol.session import Session

S = 1_000_000_000


@pytest.fixture
def connect(desk, make_frames):
    def make(path: Any) -> Any:
        frames = make_frames()
        session = Session(desk.exchange, path, frames)
        session.open()
        return session, frames

    return make


def send(desk: Any, session: Session, method: str, **params: Any) -> None:
    text = json.dumps({"method": method, "params": params} if params else {"method": method})
    session.receive(text, desk.venue.now_ns, desk.venue.now_ns)


def test_the_first_frame_names_version_and_maintenance(connect):
    _session, frames = connect("public")
    (frame,) = frames.take()

    row = frame["data"][0]
    assert ("status", "update", "online", [], "v2") == (
        frame["channel"],
        frame["type"],
        row["system"],
        row["upcoming_maintenance"],
        row["api_version"],
    )
    assert row["version"].startswith("2.0.")
    assert row["connection_id"] > 2**53


def test_a_change_of_mode_is_told_to_everybody_and_maintenance_hides_the_connection_id(desk, connect):
    connections = [connect(path) for path in ("public", "private", "level3")]
    closed, closed_frames = connect("public")
    closed.close()
    for _session, frames in connections:
        frames.take()
    closed_frames.take()
    operator = Operator(desk.venue)
    operator.set_system("maintenance")
    operator.set_system("cancel_only")

    for _session, frames in connections:
        maintenance, after = (frame["data"][0] for frame in frames.take())
        assert ("maintenance", "cancel_only") == (maintenance["system"], after["system"])
        assert "connection_id" not in maintenance
        assert after["connection_id"] > 2**53
    assert [] == closed_frames.take()


def test_only_changed_pairs_are_told_to_those_who_read_instruments(desk, connect):
    reader, frames = connect("public")
    _other, others = connect("public")
    send(desk, reader, "subscribe", channel="instrument")
    frames.take()
    others.take()
    Operator(desk.venue).change_rules(desk.symbol, status="post_only")
    (update,) = frames.take()
    send(desk, reader, "unsubscribe", channel="instrument")
    frames.take()
    Operator(desk.venue).change_rules(desk.symbol, status="online")

    assert ("update", []) == (update["type"], update["data"]["assets"])
    assert [(desk.symbol, "post_only")] == [(row["symbol"], row["status"]) for row in update["data"]["pairs"]]
    assert [] == frames.take() == others.take()


def test_a_bare_text_reaches_every_connection(desk, connect):
    connections = [connect(path) for path in ("public", "private", "level3")]
    desk.exchange.announcements.tell_all(PROXY_RESTARTING)

    assert ["CloudFlare WebSocket proxy restarting"] * 3 == [frames.texts[-1] for _session, frames in connections]


def test_an_idle_connection_is_overdue_after_a_minute_and_a_ping_counts(desk, connect):
    session, _frames = connect("public")
    start_ns = desk.venue.now_ns
    desk.venue.now_ns = start_ns + 50 * S
    send(desk, session, "ping")

    assert not session.is_overdue(start_ns + 110 * S - 1)
    assert session.is_overdue(start_ns + 110 * S)


def test_a_subscribed_connection_is_never_idle(desk, connect):
    session, _frames = connect("public")
    send(desk, session, "subscribe", channel="trade", symbol=[desk.symbol])

    assert not session.is_overdue(desk.venue.now_ns + 3600 * S)


def test_pings_do_not_keep_a_private_connection_without_a_private_subscription(desk, connect):
    session, _frames = connect("private")
    token, start_ns = desk.token(desk.alice), desk.venue.now_ns
    desk.venue.now_ns = start_ns + 59 * S
    send(desk, session, "ping")
    bare = session.is_overdue(start_ns + 60 * S)
    send(desk, session, "subscribe", channel="balances", token=token)
    held = session.is_overdue(start_ns + 600 * S)
    desk.venue.now_ns = start_ns + 100 * S
    send(desk, session, "unsubscribe", channel="balances", token=token)

    assert (True, False) == (bare, held)
    assert not session.is_overdue(start_ns + 160 * S - 1)
    assert session.is_overdue(start_ns + 160 * S)


def test_a_token_that_only_failed_to_subscribe_still_expires(desk, connect):
    session, frames = connect("level3")
    token = desk.token(desk.alice)
    send(desk, session, "subscribe", channel="level3", symbol=["NO/USD"], token=token)
    desk.venue.now_ns += 900 * S
    frames.take()
    send(desk, session, "subscribe", channel="level3", symbol=[desk.symbol], token=token)

    assert "ESession:Invalid session" == frames.take()[0]["error"]


@pytest.mark.parametrize(("rule", "error"), [("shared", None), ("separate", "ESession:Invalid session")])
def test_a_token_of_private_connections_serves_level3_by_the_rule(rule, error, make_desk, make_frames):
    desk, frames = make_desk(level3_token=rule), make_frames()
    token = desk.token(desk.alice)
    send(desk, Session(desk.exchange, "private", frames), "subscribe", channel="balances", token=token)
    frames.take()
    level3 = Session(desk.exchange, "level3", frames)
    send(desk, level3, "subscribe", channel="level3", symbol=[desk.symbol], token=token)
    send(desk, level3, "subscribe", channel="level3", symbol=[desk.symbol], token=desk.token(desk.alice))

    replies = frames.take()
    assert error == replies[0].get("error")
    assert ["snapshot"] == [reply["type"] for reply in replies if "channel" in reply]


def test_level3_unsubscribes_with_a_token_only(desk, connect):
    session, frames = connect("level3")
    token = desk.token(desk.alice)
    send(desk, session, "subscribe", channel="level3", symbol=[desk.symbol], token=token)
    frames.take()
    send(desk, session, "unsubscribe", channel="level3", symbol=[desk.symbol])
    send(desk, session, "unsubscribe", channel="level3", symbol=[desk.symbol], token=token)
    without, ended = frames.take()

    assert "Token(s) not found" == without["error"]
    assert {"channel": "level3", "depth": 10, "symbol": desk.symbol} == ended["result"]


def test_executions_of_all_users_come_without_a_snapshot(desk, connect):
    session, frames = connect("private")
    desk.order(desk.alice, "buy", "0.5", "100.0")
    frames.take()
    send(desk, session, "subscribe", channel="executions", token=desk.token(desk.alice), users="all", snap_trades=True)
    ack, snapshot = frames.take()

    assert (False, False, []) == (ack["result"]["snap_orders"], ack["result"]["snap_trades"], snapshot["data"])


def test_messages_beyond_the_rate_are_not_carried_out(desk, connect):
    session, frames = connect("public")
    frames.take()
    for _ in range(desk.exchange.limits.settings.message_burst + 1):
        send(desk, session, "ping")
    answers = frames.take()

    assert {"Error": "Exceeded msg rate"} == answers.pop()
    assert {"pong"} == {answer["method"] for answer in answers}
