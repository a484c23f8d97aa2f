"""The executions feed over a real socket: snapshots, gaps, lag, refusals, silence, and secrets in none of the logs."""

from __future__ import annotations

import logging

import anyio
import pytest

from krakenbot.domain.errors import InvariantViolated, VenueRejected, VenueUnavailable

NEW = {"order_id": "O1", "exec_type": "new", "order_status": "new", "timestamp": "2026-11-01T00:00:00Z"}


def row(number: int) -> dict[str, object]:
    return {**NEW, "order_id": f"O{number}"}


async def test_connection_begins_with_a_snapshot_and_goes_on_with_updates(make_rig) -> None:
    rig = await make_rig()
    rig.venue.snapshot_rows = [row(1)]
    async with rig.opened():
        await rig.venue.report(rig.venue.sockets[0], row(2), row(3))
        batches = [await rig.next_batch(), await rig.next_batch()]

    assert [(True, False, 1, ["O1"]), (False, False, 2, ["O2", "O3"])] == [
        (batch.is_snapshot, batch.gap, batch.sequence, [report.order_id for report in batch.reports])
        for batch in batches
    ]


async def test_status_and_threshold_of_the_venue_can_be_read(make_rig) -> None:
    rig = await make_rig()
    async with rig.opened():
        status = {"channel": "status", "type": "update", "data": [{"system": "cancel_only"}]}
        await rig.venue.send(rig.venue.sockets[0], status)
        await rig.wait_until(lambda: rig.feed.venue_status == "cancel_only")
        max_ratecount = rig.stream.max_ratecount

    assert 125 == max_ratecount


async def test_lost_connection_comes_back_with_a_new_token_and_says_gap(make_rig) -> None:
    rig = await make_rig()
    async with rig.opened():
        await rig.next_batch()
        await rig.venue.sockets[0].close()
        batch = await rig.next_batch()

    assert (True, True) == (batch.is_snapshot, batch.gap)
    assert ["token-canary0", "token-canary1"] == sorted(set(rig.venue.tokens_seen))


async def test_missing_frame_leads_to_a_fresh_snapshot_with_gap_and_nothing_after_the_hole_passes(make_rig) -> None:
    rig = await make_rig()
    async with rig.opened():
        await rig.next_batch()
        rig.venue.sequence += 1
        await rig.venue.report(rig.venue.sockets[0], row(2))
        batch = await rig.next_batch()

    assert (True, True) == (batch.is_snapshot, batch.gap)


async def test_unknown_kind_of_report_leads_to_a_fresh_snapshot_and_is_counted(make_rig) -> None:
    rig = await make_rig()
    async with rig.opened():
        await rig.next_batch()
        await rig.venue.report(rig.venue.sockets[0], {**NEW, "exec_type": "invented"})
        batch = await rig.next_batch()

    assert (True, True) == (batch.is_snapshot, batch.gap)
    assert 1 == rig.stream.faults


async def test_proxy_text_before_the_drop_leads_to_a_reconnection(make_rig) -> None:
    rig = await make_rig()
    async with rig.opened():
        await rig.next_batch()
        await rig.venue.sockets[0].send("CloudFlare WebSocket proxy restarting")
        batch = await rig.next_batch()

    assert (True, True) == (batch.is_snapshot, batch.gap)
    assert "frame is not JSON" == rig.events.fields_of("private_stream_closed")[0]["reason"]


async def test_consumer_that_lags_gets_a_snapshot_with_gap_and_loses_nothing_in_silence(make_rig) -> None:
    rig = await make_rig(buffer_batches=5)
    async with rig.opened():
        for number in range(20):
            await rig.venue.report(rig.venue.sockets[0], row(number))
        await rig.wait_until(lambda: rig.stream.connections == 2 and rig.feed.is_connected)
        await rig.venue.report(rig.venue.sockets[1], row(99))
        batches = [await rig.next_batch(), await rig.next_batch()]

    assert 1 == rig.feed.overflows
    assert [(True, True), (False, False)] == [(batch.is_snapshot, batch.gap) for batch in batches]


async def test_silent_venue_is_left(make_rig) -> None:
    rig = await make_rig(silence_timeout_s=0.4)
    async with rig.opened():
        rig.venue.silent = True
        await rig.wait_until(lambda: not rig.feed.is_connected)
        rig.venue.silent = False
        await rig.wait_until(lambda: rig.stream.connections >= 2 and rig.feed.is_connected)

    assert "no frame and no heartbeat in time" == rig.events.fields_of("private_stream_closed")[0]["reason"]


async def test_refused_key_is_said_once_a_try_and_tried_slowly(make_rig) -> None:
    rig = await make_rig()
    rig.venue.token_error = VenueRejected("EAPI:Invalid key")
    began = anyio.current_time()
    async with rig.feed.open():
        await rig.wait_until(lambda: len(rig.events.fields_of("private_stream_refused")) == 2)

    assert anyio.current_time() - began >= 0.5
    assert [{"reason": "EAPI:Invalid key"}] * 2 == rig.events.fields_of("private_stream_refused")
    assert [] == rig.venue.sockets


async def test_refused_subscription_is_said_loudly_and_tried_slowly(make_rig) -> None:
    rig = await make_rig()
    rig.venue.subscribe_error = "EGeneral:Permission denied"
    began = anyio.current_time()
    async with rig.feed.open():
        await rig.wait_until(lambda: len(rig.events.fields_of("private_stream_refused")) == 2)

    assert anyio.current_time() - began >= 0.5
    reason = "subscription to executions refused: EGeneral:Permission denied"
    assert [{"reason": reason}] * 2 == rig.events.fields_of("private_stream_refused")
    assert not rig.feed.is_connected


async def test_banned_address_is_told_and_waits_as_long_as_the_venue_asks(make_rig) -> None:
    rig = await make_rig()
    rig.venue.ban_s = 1
    began = anyio.current_time()
    async with rig.feed.open():
        await rig.wait_until(lambda: rig.events.fields_of("private_stream_banned"))
        rig.venue.ban_s = None
        await rig.wait_until(lambda: rig.feed.is_connected)

    assert anyio.current_time() - began >= 1.0
    assert [{"retry_after_s": 1.0}] == rig.events.fields_of("private_stream_banned")
    assert 2 == rig.stream.connections


async def test_unreachable_token_is_tried_again(make_rig) -> None:
    rig = await make_rig()
    rig.venue.token_error = VenueUnavailable("GetWebSocketsToken: HTTP 502")
    async with rig.feed.open():
        await rig.wait_until(lambda: len(rig.events.fields_of("private_stream_closed")) >= 2)
        rig.venue.token_error = None
        await rig.wait_until(lambda: rig.feed.is_connected)

    reasons = {fields["reason"] for fields in rig.events.fields_of("private_stream_closed")}
    assert {"no token: GetWebSocketsToken: HTTP 502"} == reasons


async def test_closed_feed_ends_its_connection_and_can_be_opened_again(make_rig) -> None:
    rig = await make_rig()
    async with rig.opened():
        pass
    await rig.wait_until(lambda: rig.venue.sockets[0].close_code is not None)
    was_connected = rig.feed.is_connected
    async with rig.opened():
        batch = await rig.next_batch()

    assert not was_connected
    assert (True, True) == (batch.is_snapshot, batch.gap)


async def test_second_opening_at_the_same_time_is_our_bug(make_rig) -> None:
    rig = await make_rig()
    async with rig.opened():
        with pytest.raises(InvariantViolated):
            async with rig.feed.open():
                pass


async def test_no_log_line_and_no_event_holds_a_token(make_rig, order_of, caplog: pytest.LogCaptureFixture) -> None:
    """Goal: I15 for the private stream. Method: everything logs at DEBUG over a reconnection and a faulty frame."""
    rig = await make_rig()
    with caplog.at_level(logging.DEBUG):
        # the scripted venue's own library logs what it receives; only our side counts
        logging.getLogger("websockets.server").setLevel(logging.WARNING)
        async with rig.opened():
            await rig.gateway.submit(order_of())
            await rig.venue.sockets[0].send("not json")
            await rig.wait_until(lambda: rig.stream.connections == 2 and rig.feed.is_connected)
    shown = f"{caplog.text}{rig.events.said!r}{vars(rig.stream)!r}{vars(rig.gateway)!r}"

    assert 2 == len(set(rig.venue.tokens_seen))
    # the end of a token is enough: libraries shorten what they log
    assert [] == [token for token in rig.venue.tokens_given if token[-7:] in shown]
