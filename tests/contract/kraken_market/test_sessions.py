"""The public and level3 sessions fed by hand: subscriptions, refusals, liveness, bad input, precision changes."""

from __future__ import annotations

import json
import zlib

import pytest

from krakenbot.domain.values import Side, Symbol

BTC = Symbol("BTC/USD")


@pytest.fixture
def desk(make_desk):
    return make_desk(BTC, 1, 8)


def book_text(kind, bids, asks, checksum, *, at="2026-11-22T10:00:00.000001Z", symbol=BTC):
    sides = [[{"price": price, "qty": qty} for price, qty in side] for side in (bids, asks)]
    row = {"symbol": symbol, "bids": sides[0], "asks": sides[1], "checksum": checksum, "timestamp": at}
    return json.dumps({"channel": "book", "type": kind, "data": [row]})


def snapshot(at="2026-11-22T10:00:00.000001Z"):
    return book_text("snapshot", [(99.9, 2.0)], [(100.1, 1.0)], zlib.crc32(b"1001100000000999200000000"), at=at)


def test_instrument_is_asked_first_and_books_only_when_precisions_are_known(make_desk):
    desk = make_desk(BTC, 1, 8)
    unknown = make_desk(Symbol("NEW/USD"), 1, 8)
    unknown.want(Symbol("NEW/USD"), Symbol("OTHER/USD"))
    asked = unknown.pump(unknown.public)

    assert [] == asked
    assert [Symbol("NEW/USD")] == list(unknown.state.books)
    assert BTC in desk.state.books


def test_requests_state_depth_trigger_and_snapshot(make_desk):
    desk = make_desk(BTC, 1, 8)
    desk.want()
    for channel in ("book", "ticker", "trade"):
        desk.ack(desk.public, "unsubscribe", channel)
    left = desk.pump(desk.public)
    for channel in ("book", "ticker", "trade"):
        desk.ack(desk.public, "unsubscribe", channel)
    desk.want(BTC)
    asked = {each["params"]["channel"]: each["params"] for each in desk.pump(desk.public)}

    assert {"book", "ticker", "trade"} == {each["params"]["channel"] for each in left}
    assert {"channel": "book", "symbol": [BTC], "depth": 10, "snapshot": True} == asked["book"]
    assert {"channel": "ticker", "symbol": [BTC], "event_trigger": "bbo", "snapshot": True} == asked["ticker"]
    assert {"channel": "trade", "symbol": [BTC], "snapshot": True} == asked["trade"]


def test_level3_requests_carry_token_and_depth_for_both_directions(desk):
    session = desk.level3()
    session.resync(BTC, "asked", desk.now)
    [left] = desk.pump(session)

    assert "unsubscribe" == left["method"]
    assert {"channel": "level3", "symbol": [BTC], "depth": 10, "token": "a-token"} == left["params"]


def test_bad_book_is_left_before_it_is_asked_for_again(desk):
    desk.public.receive(snapshot(), desk.now)
    desk.public.receive(book_text("update", [(99.9, 1.0)], [], 1), desk.now)
    first = desk.pump(desk.public)
    desk.public.receive(snapshot("2026-11-22T10:00:01Z"), desk.now)
    ignored = desk.state.l2.ok
    desk.ack(desk.public, "unsubscribe", "book")
    second = desk.pump(desk.public)
    desk.public.receive(snapshot("2026-11-22T10:00:02Z"), desk.now)

    assert ["unsubscribe"] == [each["method"] for each in first]
    assert ["subscribe"] == [each["method"] for each in second]
    assert 1 == ignored
    assert (2, 1, 1) == (desk.state.l2.ok, desk.state.l2.bad, desk.state.resyncs)
    assert desk.state.books[BTC].is_valid


def test_lost_unsubscribe_reply_does_not_keep_a_book_dead(desk):
    desk.public.receive(snapshot(), desk.now)
    desk.public.receive(book_text("update", [(99.9, 1.0)], [], 1), desk.now)
    desk.pump(desk.public)
    desk.now += 4
    desk.public.receive('{"channel":"heartbeat"}', desk.now)
    desk.now += 4
    desk.public.receive('{"channel":"heartbeat"}', desk.now)
    desk.now += 3
    asked = desk.pump(desk.public)

    assert ["subscribe"] == [each["method"] for each in asked if each["params"]["channel"] == "book"]


def test_book_that_never_verifies_is_quarantined_but_never_given_up(desk):
    asked = 0
    for _ in range(400):
        for request in desk.pump(desk.public):
            asked += request["method"] == "subscribe" and request["params"]["channel"] == "book"
            for _ in request["params"].get("symbol", ()):
                desk.ack(desk.public, request["method"], request["params"]["channel"])
            if request["method"] == "subscribe" and request["params"]["channel"] == "book":
                desk.public.receive(book_text("snapshot", [(99.9, 2.0)], [], 1), desk.now)
        desk.public.receive('{"channel":"heartbeat"}', desk.now)
        desk.now += 1

    found = desk.quarantined()[BTC]
    # a few quick ones, then one in 45 to 75 s: in 400 s neither a storm nor a death
    assert 7 <= asked <= 12
    assert ("book", "checksum mismatch", False) == (found.channel, found.reason, found.is_refused)
    assert 380 < found.age_s <= 400
    assert {} == desk.state.troubles.refused(["book"], desk.now)


def test_refusal_names_the_symbol_and_is_retried_slowly(desk):
    desk.public.resync(BTC, "to have something to refuse", desk.now)
    desk.pump(desk.public)
    desk.ack(desk.public, "unsubscribe", "book")
    [asked] = desk.pump(desk.public)
    refusal = {
        "method": "subscribe", "success": False, "req_id": asked["req_id"], "symbol": BTC,
        "error": "Currency pair not supported BTC/USD",
    }  # fmt: skip
    desk.public.receive(json.dumps(refusal), desk.now)
    soon = desk.pump(desk.public)
    quarantined = desk.quarantined()
    for _ in range(12):
        desk.now += 4
        desk.public.receive('{"channel":"heartbeat"}', desk.now)
    later = desk.pump(desk.public)

    assert "refused: Currency pair not supported BTC/USD" == quarantined[BTC].reason
    assert quarantined[BTC].is_refused
    assert [] == soon
    assert "book" in [each["params"]["channel"] for each in later]
    assert desk.public.close_reason is None


def test_refused_token_closes_the_level3_connection(desk):
    session = desk.level3()
    session.receive('{"method":"subscribe","success":false,"req_id":1,"error":"ESession:Invalid session"}', desk.now)

    assert "token refused: ESession:Invalid session" == session.close_reason


def test_silence_closes_and_traffic_does_not(desk):
    desk.public.receive('{"channel":"heartbeat"}', desk.now)
    desk.public.on_deadline(desk.now + 4.9)
    assert desk.public.close_reason is None
    desk.public.on_deadline(desk.now + 5.1)

    assert "no frame for 5.1 s" == desk.public.close_reason


def test_text_that_is_no_json_closes_the_connection(desk):
    desk.public.receive("CloudFlare WebSocket proxy restarting", desk.now)

    assert "text that is no JSON" == desk.public.close_reason


@pytest.mark.parametrize(
    "bad",
    [
        '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":"1","qty":1}],"asks":[],"checksum":1}]}',
        '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":-1,"qty":1}],"asks":[],"checksum":1}]}',
        '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":1e400,"qty":1}],"asks":[],"checksum":1}]}',
        '{"channel":"book","type":"other","data":[{"symbol":"BTC/USD","bids":[],"asks":[],"checksum":1}]}',
        '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[],"asks":[],"checksum":99999999999}]}',
        '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[',
    ],
)
def test_malformed_book_frame_drops_that_book_and_asks_anew(desk, bad):
    desk.public.receive(snapshot(), desk.now)
    desk.public.receive(bad, desk.now)

    assert {"public: malformed book": 1} == desk.state.errors
    assert not desk.state.books[BTC].is_valid
    assert ("BTC/USD", "l2", False, "malformed frame") in desk.listener.of("validity")
    assert "unsubscribe" == desk.pump(desk.public)[0]["method"]


def test_numbers_too_large_for_any_book_make_it_invalid_not_wrong(desk):
    desk.public.receive(snapshot(), desk.now)
    desk.public.receive(book_text("update", [(9e16, 1.0)], [], 1), desk.now)
    assert {"book: number too large": 1} == desk.state.errors
    desk.ack(desk.public, "unsubscribe", "book")
    desk.pump(desk.public)
    desk.ack(desk.public, "unsubscribe", "book")
    desk.pump(desk.public)
    desk.public.receive(book_text("snapshot", [(9.0, 9e17)], [], 1), desk.now)

    assert {"book: number too large": 2} == desk.state.errors
    assert not desk.state.books[BTC].is_valid


def test_large_quantity_is_decoded_again_exactly(desk):
    lots = 2**53 + 1
    text = book_text("snapshot", [], [], zlib.crc32(f"999{lots}".encode()))
    text = text.replace('"bids": []', f'"bids": [{{"price": 99.9, "qty": {lots // 10**8}.{lots % 10**8:08d}}}]')
    desk.public.receive(text, desk.now)

    assert {} == desk.state.errors
    assert [(999, lots)] == desk.state.books[BTC].levels(Side.BUY, 10)
    assert 1 == desk.state.frames["book decoded exactly"]


def test_frame_of_an_unknown_channel_is_counted(desk):
    desk.public.receive('{"channel":"weather","type":"update","data":[]}', desk.now)

    assert {"public: malformed weather": 1} == desk.state.errors
    assert desk.public.close_reason is None


def test_book_of_a_symbol_that_nobody_wants_is_counted_not_kept(desk):
    desk.public.receive(book_text("snapshot", [(1.0, 1.0)], [], 1, symbol="ETH/USD"), desk.now)

    assert 1 == desk.state.frames["book of no wanted symbol"]
    assert [BTC] == list(desk.state.books)


def test_changed_precision_drops_the_book_and_is_told(desk, make_desk):
    desk.public.receive(snapshot(), desk.now)
    pair = {
        "symbol": BTC, "base": "BTC", "quote": "USD", "status": "online", "price_precision": 2, "qty_precision": 8,
        "cost_precision": 5, "price_increment": 0.01, "qty_increment": 1e-8, "qty_min": 5e-5, "cost_min": 0.5,
    }  # fmt: skip
    text = json.dumps({"channel": "instrument", "type": "update", "data": {"assets": [], "pairs": [pair]}})
    desk.public.receive(text, desk.now)

    assert "precision changed" == desk.state.books[BTC].invalid_reason
    assert 2 == desk.state.instruments[BTC].price_precision
    assert 2 == len(desk.listener.of("instruments"))


def test_odd_pair_does_not_cost_the_others(desk):
    good = {
        "symbol": "ETH/USD", "base": "ETH", "quote": "USD", "status": "some_new_word", "price_precision": 2,
        "qty_precision": 8, "cost_precision": 5, "price_increment": 0.01, "qty_increment": 1e-8, "qty_min": 0.001,
        "cost_min": 0.5,
    }  # fmt: skip
    bad = [{**good, "symbol": "A/B", "price_increment": 0}, {**good, "symbol": "C/D", "qty_min": "x"}, 7]
    text = json.dumps({"channel": "instrument", "type": "update", "data": {"assets": [], "pairs": [*bad, good]}})
    desk.public.receive(text, desk.now)

    assert {"public: malformed instrument": 3} == desk.state.errors
    assert "unknown" == desk.state.instruments[Symbol("ETH/USD")].status.value


def test_trade_finer_than_the_precision_is_refused(desk):
    row = {"symbol": BTC, "side": "buy", "price": 1.05, "qty": 1, "trade_id": 1, "timestamp": "2026-11-22T10:00:00Z"}
    desk.public.receive(json.dumps({"channel": "trade", "type": "update", "data": [row]}), desk.now)
    huge = json.dumps({"channel": "trade", "type": "update", "data": [row]}).replace("1.05", "1e999999")
    desk.public.receive(huge, desk.now)

    assert {"public: malformed trade": 2} == desk.state.errors
    assert [] == desk.listener.of("trades")


def test_overload_is_counted_and_pauses_subscribing(desk):
    desk.public.receive('{"Error": "Exceeded msg rate"}', desk.now)
    desk.public.resync(BTC, "to have something to ask", desk.now)
    desk.pump(desk.public)
    desk.ack(desk.public, "unsubscribe", "book")

    assert {"public: Exceeded msg rate": 1} == desk.state.errors
    assert [] == desk.pump(desk.public)
    desk.now += 1
    assert 1 == len(desk.pump(desk.public))


def test_many_bad_books_at_once_are_resynced_within_the_budget(make_desk):
    desk = make_desk(BTC, 1, 8)
    names = [Symbol(f"S{number}/USD") for number in range(50)]
    for name in names:
        text = json.dumps({"channel": "instrument", "type": "update", "data": {"pairs": [pair_of(name)]}})
        desk.public.receive(text, desk.now)
    desk.want(*names)
    desk.pump(desk.public)
    desk.now += 1
    desk.pump(desk.public)
    for name in names:
        desk.public.receive(book_text("snapshot", [(1.0, 1.0)], [], 1, symbol=name), desk.now)
    left = desk.pump(desk.public)
    for name in names:
        desk.public.receive(
            json.dumps({"method": "unsubscribe", "success": True, "result": {"channel": "book", "symbol": name}}),
            desk.now,
        )
    at_once = sum(len(each["params"]["symbol"]) for each in desk.pump(desk.public))
    desk.now += 2
    later = sum(len(each["params"]["symbol"]) for each in desk.pump(desk.public))

    assert 50 == sum(len(each["params"]["symbol"]) for each in left)
    assert (5, 5) == (at_once, later)


def pair_of(name):
    return {
        "symbol": name, "base": name[:-4], "quote": "USD", "status": "online", "price_precision": 1, "qty_precision": 8,
        "cost_precision": 5, "price_increment": 0.1, "qty_increment": 1e-8, "qty_min": 5e-5, "cost_min": 0.5,
    }  # fmt: skip
