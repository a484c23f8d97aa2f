"""The order gateway over a real socket: every way in which an answer comes, comes late, or does not come."""

from __future__ import annotations

import json
from decimal import Decimal

import anyio
import pytest

from krakenbot.domain.errors import OutcomeUnknown, VenueRejected, VenueUnavailable


async def test_acknowledged_order_returns_the_venues_id_and_was_sent_once_with_bare_numbers(make_rig, order_of) -> None:
    rig = await make_rig()
    async with rig.opened():
        order_id = await rig.gateway.submit(order_of())

    assert "O-kb1" == order_id
    assert 1 == len(rig.venue.requests)
    assert '"order_qty":0.00100000,' in rig.venue.texts[0]
    assert '"limit_price":80000.0,' in rig.venue.texts[0]


async def test_amend_and_cancel_reach_the_venue(make_rig, order_of) -> None:
    rig = await make_rig()
    async with rig.opened():
        await rig.gateway.amend(
            order_of(),
            qty=Decimal("0.002"),
            limit_price=Decimal("79999.5"),
            trigger_price=None,
            deadline_at=None,
        )
        await rig.gateway.cancel(order_of().cl_ord_id)
    amend, cancel = rig.venue.requests

    assert ("amend_order", 0.002, 79999.5, True) == (
        amend["method"],
        amend["params"]["order_qty"],
        amend["params"]["limit_price"],
        amend["params"]["post_only"],
    )
    assert ("cancel_order", ["kb1"]) == (cancel["method"], cancel["params"]["cl_ord_id"])


async def test_replies_find_their_requests_whatever_their_order(make_rig, order_of) -> None:
    rig = await make_rig(reply_timeout_s=5.0)
    held = []

    async def hold_until_three(socket, request) -> None:
        held.append(request)
        if len(held) == 3:
            for kept in reversed(held):
                await rig.venue.acknowledge(socket, kept)

    rig.venue.answers["add_order"] = hold_until_three
    ids = {}

    async def submit(name: str) -> None:
        ids[name] = await rig.gateway.submit(order_of(cl_ord_id=name))

    async with rig.opened(), anyio.create_task_group() as tasks:
        for name in ("kb1", "kb2", "kb3"):
            tasks.start_soon(submit, name)

    assert {"kb1": "O-kb1", "kb2": "O-kb2", "kb3": "O-kb3"} == ids


@pytest.mark.parametrize(
    "error",
    ["EOrder:Insufficient funds", "EOrder:Post only order", "EOrder:Unknown order", "EOrder:Rate limit exceeded"],
)
async def test_definite_refusal_is_a_rejection(make_rig, order_of, refuse_with, error: str) -> None:
    rig = await make_rig()
    rig.venue.answers = {name: refuse_with(rig.venue, error) for name in ("add_order", "amend_order", "cancel_order")}
    async with rig.opened():
        with pytest.raises(VenueRejected) as caught:
            await rig.gateway.submit(order_of())
        with pytest.raises(VenueRejected):
            await rig.gateway.cancel(order_of().cl_ord_id)

    assert error == caught.value.reason


@pytest.mark.parametrize(
    "error",
    ["EService:Deadline elapsed", "EService:Unavailable", "EService:Busy", "EGeneral:Internal error:7"],
)
async def test_refusal_that_proves_nothing_is_an_unknown_outcome(make_rig, order_of, refuse_with, error: str) -> None:
    rig = await make_rig()
    rig.venue.answers["add_order"] = refuse_with(rig.venue, error)
    async with rig.opened():
        with pytest.raises(OutcomeUnknown) as caught:
            await rig.gateway.submit(order_of())

    assert ("kb1", error) == (caught.value.cl_ord_id, caught.value.cause)


async def test_missing_reply_is_an_unknown_outcome_and_nothing_is_sent_again(make_rig, order_of) -> None:
    rig = await make_rig()

    async def say_nothing(_socket, _request) -> None:
        pass

    rig.venue.answers["add_order"] = say_nothing
    async with rig.opened():
        with pytest.raises(OutcomeUnknown, match="no reply within"):
            await rig.gateway.submit(order_of())
        await anyio.sleep(0.2)

    assert 1 == len(rig.venue.requests)


async def test_reply_after_the_timeout_is_handed_on(make_rig, order_of) -> None:
    rig = await make_rig(reply_timeout_s=0.1)

    async def answer_late(socket, request) -> None:
        await anyio.sleep(0.3)
        await rig.venue.acknowledge(socket, request)

    rig.venue.answers["add_order"] = answer_late
    async with rig.opened():
        with pytest.raises(OutcomeUnknown):
            await rig.gateway.submit(order_of())
        await rig.wait_until(lambda: rig.late)

    assert [("kb1", "O-kb1")] == [(late.cl_ord_id, late.reply.order_id) for late in rig.late]
    assert ["kb1"] == [fields["cl_ord_id"] for fields in rig.events.fields_of("late_reply")]


async def test_reply_to_a_cancelled_caller_is_handed_on(make_rig, order_of) -> None:
    rig = await make_rig(reply_timeout_s=5.0)

    async def answer_late(socket, request) -> None:
        await anyio.sleep(0.2)
        await rig.venue.acknowledge(socket, request)

    rig.venue.answers["add_order"] = answer_late
    async with rig.opened():
        with anyio.move_on_after(0.1):
            await rig.gateway.submit(order_of())
        await rig.wait_until(lambda: rig.late)

    assert ["kb1"] == [late.cl_ord_id for late in rig.late]


async def test_connection_closed_after_the_send_is_an_unknown_outcome_and_never_resent(make_rig, order_of) -> None:
    rig = await make_rig(reply_timeout_s=5.0)

    async def hang_up(socket, _request) -> None:
        await socket.close()

    rig.venue.answers["add_order"] = hang_up
    async with rig.opened():
        with pytest.raises(OutcomeUnknown, match="connection closed before the reply"):
            await rig.gateway.submit(order_of())
        await rig.wait_until(lambda: rig.stream.connections == 2 and rig.feed.is_connected)
        await anyio.sleep(0.1)

    assert ["add_order"] == [request["method"] for request in rig.venue.requests]


async def test_order_before_the_stream_is_open_is_provably_not_sent(make_rig, order_of) -> None:
    rig = await make_rig()
    with pytest.raises(VenueUnavailable):
        await rig.gateway.submit(order_of())

    assert [] == rig.venue.requests


async def test_order_between_two_connections_is_provably_not_sent(make_rig, order_of) -> None:
    rig = await make_rig()
    async with rig.opened():
        rig.venue.token_error = VenueUnavailable("down")
        await rig.venue.sockets[0].close()
        await rig.wait_until(lambda: not rig.feed.is_connected)
        with pytest.raises(VenueUnavailable):
            await rig.gateway.submit(order_of())

    assert [] == rig.venue.requests


@pytest.mark.parametrize("result", [{"cl_ord_id": "kb1"}, {"order_id": "O1", "cl_ord_id": "kb2"}, {}])
async def test_acknowledgement_that_does_not_name_our_order_is_an_unknown_outcome(make_rig, order_of, result) -> None:
    rig = await make_rig()

    async def acknowledge_wrongly(socket, request) -> None:
        await rig.venue.reply(socket, request, result=result)

    rig.venue.answers["add_order"] = acknowledge_wrongly
    async with rig.opened():
        with pytest.raises(OutcomeUnknown):
            await rig.gateway.submit(order_of())


async def test_complaint_without_req_id_leaves_the_outcome_unknown(make_rig, order_of) -> None:
    rig = await make_rig()

    async def complain(socket, _request) -> None:
        await socket.send(json.dumps({"error": "Malformed request", "method": "error", "success": False}))

    rig.venue.answers["add_order"] = complain
    async with rig.opened():
        with pytest.raises(OutcomeUnknown):
            await rig.gateway.submit(order_of())

    assert {"what": "venue complains: Malformed request"} in rig.events.fields_of("private_protocol_fault")


async def test_expired_token_of_a_request_is_a_rejection_and_leads_to_a_new_connection(
    make_rig, order_of, refuse_with
) -> None:
    rig = await make_rig()
    rig.venue.answers["add_order"] = refuse_with(rig.venue, "ESession:Invalid session")
    async with rig.opened():
        with pytest.raises(VenueRejected):
            await rig.gateway.submit(order_of())
        await rig.wait_until(lambda: rig.stream.connections == 2 and rig.feed.is_connected)

    assert 2 == len(set(rig.venue.tokens_seen))
