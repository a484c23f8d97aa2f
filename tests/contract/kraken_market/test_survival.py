"""What a session survives: first frames, lost and partial answers, silence, old data, damage, changed instruments."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest

from krakenbot.adapters.kraken.protocol.market_state import Outage
from krakenbot.domain.values import Symbol

BTC = Symbol("BTC/USD")
CRC = zlib.crc32(b"1001100000000999200000000")
HEARTBEAT = '{"channel":"heartbeat"}'


@pytest.fixture
def desk(make_desk):
    return make_desk(BTC, 1, 8)


def book_text(kind="snapshot", *, at_s=0, checksum=CRC, symbol=BTC, bid=2.0):
    row = {
        "symbol": symbol, "bids": [{"price": 99.9, "qty": bid}], "asks": [{"price": 100.1, "qty": 1.0}],
        "checksum": checksum, "timestamp": f"2026-11-22T10:{at_s // 60:02d}:{at_s % 60:02d}.000001Z",
    }  # fmt: skip
    return json.dumps({"channel": "book", "type": kind, "data": [row]})


def ticker_text(kind="update", last=100.0):
    row = {"symbol": BTC, "bid": 99.9, "ask": 100.1, "last": last, "volume": 5.0}
    return json.dumps({"channel": "ticker", "type": kind, "data": [row]})


def trade_text(kind="update", trade_id=1):
    row = {
        "symbol": BTC, "side": "buy", "price": 100.1, "qty": 1, "trade_id": trade_id,
        "timestamp": "2026-11-22T10:00:00Z",
    }  # fmt: skip
    return json.dumps({"channel": "trade", "type": kind, "data": [row]})


def queue_text(kind="snapshot"):
    at = "2026-11-22T10:00:00.000000001Z"
    sides = [
        [{"order_id": name, "limit_price": price, "order_qty": qty, "timestamp": at}]
        for name, price, qty in (("B", 99.9, 2.0), ("A", 100.1, 1.0))
    ]
    row = {"symbol": BTC, "bids": sides[0], "asks": sides[1], "checksum": CRC, "timestamp": at}
    return json.dumps({"channel": "level3", "type": kind, "data": [row]})


def pair_text(symbol=BTC, **changes):
    pair = {
        "symbol": symbol, "base": symbol[:-4], "quote": "USD", "status": "online", "price_precision": 1,
        "qty_precision": 8, "cost_precision": 5, "price_increment": 0.1, "qty_increment": 1e-8, "qty_min": 1e-5,
        "cost_min": 0.5,
    }  # fmt: skip
    return json.dumps({"channel": "instrument", "type": "update", "data": {"pairs": [pair | changes]}})


def desk_of(make_desk, count):
    """Return a desk of so many symbols whose books have just been asked for, and the request for them."""
    desk = make_desk(BTC, 1, 8)
    symbols = [Symbol(f"S{number}/USD") for number in range(count)]
    for symbol in symbols:
        desk.public.receive(pair_text(symbol), desk.now)
    desk.want(*symbols)
    requests = desk.beat(desk.public, 1)
    [book] = [each for each in requests if each["params"]["channel"] == "book" and each["method"] == "subscribe"]
    return desk, symbols, book


def test_unsolicited_first_status_acknowledges_nothing(make_desk):
    desk = make_desk(BTC, 1, 8)
    session = desk.connect()
    asked = desk.pump(session)
    session.receive('{"channel":"status","type":"update","data":[{"system":"online"}]}', desk.now)
    later = desk.beat(session, 12)

    assert 1 == len(desk.asked(asked, "book"))
    assert "online" == desk.state.venue_status
    # what was not answered in ten seconds is left and asked for again
    assert ("unsubscribe", [BTC]) in desk.asked(later, "book")


def test_symbols_of_one_request_are_acknowledged_one_by_one(make_desk):
    desk, symbols, book = desk_of(make_desk, 3)
    result = {"channel": "book", "symbol": symbols[1]}
    desk.public.receive(
        json.dumps({"method": "subscribe", "success": True, "result": result, "req_id": book["req_id"]}), desk.now
    )
    desk.public.receive(book_text(symbol=symbols[1]), desk.now)
    later = desk.beat(desk.public, 10)

    assert desk.public.subscriptions.is_active("book", symbols[1])
    assert [("unsubscribe", [symbols[0], symbols[2]])] == desk.asked(later, "book")


def test_partial_refusal_costs_only_the_symbol_that_it_names(make_desk):
    desk, symbols, book = desk_of(make_desk, 3)
    desk.refuse(desk.public, book, f"Currency pair not supported {symbols[0]}", symbols[0])
    for symbol in symbols[1:]:
        desk.public.receive(book_text(symbol=symbol), desk.now)

    assert [symbols[0]] == list(desk.quarantined())
    assert symbols[1:] == [symbol for symbol in symbols if desk.state.books[symbol].is_valid]
    assert desk.public.close_reason is None


def test_refusal_that_names_nobody_is_divided_until_the_one_is_found(make_desk):
    desk, symbols, book = desk_of(make_desk, 8)
    waiting, asked = [book], 0
    while waiting:
        request = waiting.pop()
        asked += 1
        if symbols[5] in request["params"]["symbol"]:
            desk.refuse(desk.public, request, "Currency pair not supported")
        else:
            for symbol in request["params"]["symbol"]:
                desk.public.receive(book_text(symbol=symbol), desk.now)
        waiting += [each for each in desk.pump(desk.public) if each["params"]["channel"] == "book"]

    assert [symbols[5]] == list(desk.quarantined())
    assert 7 == sum(book.is_valid for book in desk.state.books.values())
    assert asked <= 7


@pytest.mark.parametrize("error", ["EService:Unavailable", "EAPI:Rate limit exceeded", "EGeneral:Internal error"])
def test_refusal_of_the_moment_is_no_reason_to_leave_a_symbol_out(desk, error):
    session, asked = desk.connect(), 0
    for _ in range(240):
        for request in desk.pump(session):
            if request["params"]["channel"] == "book":
                asked += 1
                desk.refuse(session, request, error, BTC)
        session.receive(HEARTBEAT, desk.now)
        desk.now += 1

    assert 5 <= asked <= 9
    assert {} == desk.state.troubles.refused(["book"], desk.now)
    assert not desk.quarantined()[BTC].is_refused


def test_symbol_refused_for_ever_is_to_be_left_out_and_comes_back_to_be_tried(desk):
    session = desk.connect()
    told: list[Any] = []
    for _ in range(400):
        for request in desk.pump(session):
            if request["params"]["channel"] == "book":
                desk.refuse(session, request, "Currency pair not supported BTC/USD", BTC)
        session.receive(HEARTBEAT, desk.now)
        desk.now += 1
        refused = desk.state.troubles.refused(["book"], desk.now)
        if bool(refused) != bool(told and told[-1]):
            told.append(refused)

    assert {BTC: "book: refused: Currency pair not supported BTC/USD"} == told[0]
    # left out, let in again for one attempt, left out
    assert [True, False, True] == [bool(refused) for refused in told[:3]]


def test_quarantine_outlives_the_connection_and_a_success_ends_it(desk):
    first = desk.connect()
    for request in desk.pump(first):
        if request["params"]["channel"] == "book":
            desk.refuse(first, request, "Currency pair not supported BTC/USD", BTC)
    first.closed("lost")
    desk.now += 5
    second = desk.connect()
    at_once = desk.asked(desk.pump(second), "book")
    held = dict(desk.quarantined())
    asked = desk.asked(desk.beat(second, 40), "book")
    second.receive(book_text(), desk.now)

    assert [] == at_once
    assert 5.0 == held[BTC].age_s
    assert ("subscribe", [BTC]) == asked[0]
    assert {} == desk.quarantined()


def test_many_books_bad_at_once_come_back_without_a_storm(make_desk):
    desk, symbols, _ = desk_of(make_desk, 40)
    for symbol in symbols:
        desk.public.receive(book_text(symbol=symbol), desk.now)
        desk.public.receive(book_text("update", checksum=1, symbol=symbol), desk.now)
    per_second = []
    for _ in range(12):
        requests = desk.beat(desk.public, 1)
        desk.ack_all(desk.public, requests)
        resumed = [
            symbol
            for method, batch in desk.asked(desk.pump(desk.public) + requests, "book")
            for symbol in batch
            if method == "subscribe"
        ]
        for symbol in resumed:
            desk.public.receive(book_text(symbol=symbol), desk.now)
        per_second.append(len(resumed))

    # the test's budget: 5 at once, 5 a second
    assert max(per_second) <= 10
    assert all(book.is_valid for book in desk.state.books.values())


def test_lost_acknowledgement_and_refused_resubscription_do_not_keep_a_book_dead(desk):
    desk.public.receive(book_text(), desk.now)
    desk.public.receive(book_text("update", checksum=1), desk.now)
    desk.pump(desk.public)
    again = [each for each in desk.beat(desk.public, 12) if each["params"]["channel"] == "book"]
    desk.refuse(desk.public, again[-1], "Currency pair not supported BTC/USD", BTC)
    retried = [each for each in desk.beat(desk.public, 30) if each["params"]["channel"] == "book"]
    desk.public.receive(book_text(at_s=59), desk.now)

    assert ["subscribe"] == [each["method"] for each in retried]
    assert desk.state.books[BTC].is_valid


def test_quiet_book_is_left_alone_while_heartbeats_come(desk):
    desk.public.receive(book_text(), desk.now)
    desk.ack_all(desk.public, [{"method": "subscribe", "params": {"channel": "ticker", "symbol": [BTC]}}])
    desk.ack_all(desk.public, [{"method": "subscribe", "params": {"channel": "trade", "symbol": [BTC]}}])
    desk.ack_all(desk.public, [{"method": "subscribe", "params": {"channel": "instrument"}}])
    asked = desk.beat(desk.public, 600)

    assert [] == asked
    assert desk.state.books[BTC].is_valid


@pytest.mark.parametrize("hint", [ticker_text(), trade_text()])
def test_book_that_is_silent_while_the_market_moves_is_fetched_anew(desk, hint):
    desk.public.receive(book_text(), desk.now)
    desk.beat(desk.public, 3)
    desk.public.receive(hint, desk.now)
    before = desk.state.books[BTC].is_valid
    asked = desk.beat(desk.public, 5)

    assert before
    assert ("unsubscribe", [BTC]) in desk.asked(asked, "book")
    assert "silent while the market moved" == desk.state.books[BTC].invalid_reason


def test_book_that_answers_a_hint_a_moment_earlier_or_later_is_not_silent(desk):
    desk.public.receive(book_text(), desk.now)
    desk.beat(desk.public, 3)
    desk.public.receive(ticker_text(), desk.now)
    desk.now += 0.5
    desk.public.receive(book_text("update"), desk.now)
    desk.now += 0.5
    desk.public.receive(trade_text(), desk.now)
    asked = desk.beat(desk.public, 8)

    assert [] == desk.asked(asked, "book")
    assert desk.state.books[BTC].is_valid


def test_trades_that_stay_away_while_the_last_price_moves_are_asked_for_again(desk):
    desk.ack_all(desk.public, [{"method": "subscribe", "params": {"channel": "trade", "symbol": [BTC]}}])
    desk.public.receive(trade_text("snapshot"), desk.now)
    desk.public.receive(ticker_text("snapshot"), desk.now)
    desk.beat(desk.public, 3)
    desk.public.receive(ticker_text(last=100.1), desk.now)
    asked = desk.beat(desk.public, 6)

    assert [("unsubscribe", [BTC])] == desk.asked(asked, "trade")
    assert desk.state.errors["trade: silent while the last price moved"] == 1


def test_level3_that_stands_still_while_the_book_moves_on_is_fetched_anew(desk):
    session = desk.level3()
    session.receive(queue_text(), desk.now)
    desk.public.receive(book_text(), desk.now)
    desk.beat(session, 3)
    crc = zlib.crc32(b"10011000000001000100000000999200000000")
    up = {"symbol": BTC, "bids": [{"price": 100.0, "qty": 1.0}], "asks": [], "checksum": crc,
          "timestamp": "2026-11-22T10:00:04Z"}  # fmt: skip
    desk.public.receive(json.dumps({"channel": "book", "type": "update", "data": [up]}), desk.now)
    is_ahead = desk.state.books[BTC].is_valid
    asked = desk.beat(session, 7)

    assert is_ahead
    assert ("unsubscribe", [BTC]) in desk.asked(asked, "level3")
    assert "silent while the book moved" == desk.state.queues[BTC].invalid_reason


def test_book_that_is_valid_but_old_closes_the_connection(desk):
    for second in range(5):
        desk.public.receive(book_text("update" if second else "snapshot", at_s=second), desk.now)
        desk.beat(desk.public, 1)
    assert desk.public.close_reason is None
    desk.now += 20
    for second in range(5, 10):
        desk.public.receive(book_text("update", at_s=second), desk.now)
        desk.beat(desk.public, 1)

    assert "valid but old: frames come 20.0 s late" == desk.public.close_reason


def test_snapshots_of_books_that_have_long_been_quiet_do_not_look_late(make_desk):
    """Symbols are subscribed little by little; the snapshot of each tells when it last moved."""
    desk, symbols, _ = desk_of(make_desk, 40)
    for symbol in symbols:
        desk.now += 1
        desk.public.receive(book_text(symbol=symbol), desk.now)
        desk.public.receive(HEARTBEAT, desk.now)

    assert desk.public.close_reason is None
    assert desk.public.lag.lag_s is None


def test_late_spells_with_prompt_seconds_in_between_do_not_close_the_connection(desk):
    """Three late readings in a row close it; each spell has two, since a reading is the median of three frames."""
    prompt, late = [(second, second) for second in range(5)], [(17, 5), (18, 6)]
    between = [(second, second) for second in range(19, 25)]
    late_again = [(37, 25), (38, 26)]
    lags = []
    for heard_s, at_s in (*prompt, *late, *between, *late_again, (39, 39)):
        desk.now = 1000.0 + heard_s
        desk.public.receive(book_text("update" if heard_s else "snapshot", at_s=at_s), desk.now)
        desk.public.receive(HEARTBEAT, desk.now)
        lags.append(desk.public.lag.lag_s)

    assert 4 == sum(lag > 10 for lag in lags if lag is not None)
    assert desk.public.close_reason is None


def test_a_snapshot_of_a_valid_book_says_first_that_the_old_one_has_ended(desk):
    desk.public.receive(book_text(), desk.now)
    desk.public.receive(book_text(at_s=1), desk.now)

    assert [
        (BTC, "l2", True, ""),
        (BTC, "l2", False, "new snapshot"),
        (BTC, "l2", True, ""),
    ] == desk.listener.of("validity")


def test_a_lost_connection_takes_its_books_with_it_and_says_so(desk):
    level3 = desk.level3()
    level3.receive(queue_text(), desk.now)
    desk.public.receive(book_text(), desk.now)
    desk.public.closed("reset by peer")
    level3.closed("timed out")

    assert not desk.state.books[BTC].is_valid
    assert not desk.state.queues[BTC].is_valid
    assert [
        (BTC, "l2", False, "connection lost: reset by peer"),
        (BTC, "l3", False, "connection lost: timed out"),
    ] == desk.listener.of("validity")[2:]


@pytest.mark.parametrize(
    "text",
    [
        '{"channel":"book","type":"update","da',
        '{"chan',
        '{"channel":"book","type":"update","data":[{"bids":[]}]}',
        '{"channel":"book","type":"update","data":[{"symbol":"BTX/USD","bids":[{"pri',
    ],
)
def test_damaged_frame_that_names_no_symbol_closes_since_it_may_be_of_any_book(desk, text):
    desk.public.receive(text, desk.now)

    assert "malformed frame that names no symbol" == desk.public.close_reason


@pytest.mark.parametrize(
    "text",
    [
        '{"channel":"weather","type":"update","data":[]}',
        '{"something":"else"}',
        '{"channel":"heartbeat","new":{"a":[1,2]}}',
        '{"channel":"heartbeat","padding":"' + "x" * 1024 * 1024 + '"}',
        '{"method":"subscribe","success":"yes"}',
        '{"channel":"ticker","type":"update","data":[{"symbol":7}]}',
    ],
)
def test_frames_that_concern_no_book_cost_nothing(desk, text):
    desk.public.receive(book_text(), desk.now)
    desk.public.receive(text, desk.now)

    assert desk.public.close_reason is None
    assert desk.state.books[BTC].is_valid


def test_pair_named_token_is_refused_without_losing_the_connection(desk):
    session = desk.level3()
    desk.refuse(session, {"req_id": 1}, "Currency pair not supported TOKEN/USD", BTC)
    about_pair = session.close_reason
    desk.refuse(session, {"req_id": 1}, "Token(s) not found", BTC)

    assert about_pair is None
    # the token is to blame, not the symbol
    assert "refused: Currency pair not supported TOKEN/USD" == desk.quarantined()[BTC].reason
    assert "token refused: Token(s) not found" == session.close_reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"price_increment": 0.5}, "increment changed"), ({"qty_min": 0.1}, "minimum changed")],
)
def test_changed_increment_or_minimum_fetches_the_book_anew_without_blaming_it(desk, change, reason):
    desk.public.receive(book_text(), desk.now)
    desk.public.receive(pair_text(**change), desk.now)
    ask = desk.asked(desk.pump(desk.public), "book")
    desk.ack(desk.public, "unsubscribe", "book")
    asked = desk.asked(desk.pump(desk.public), "book")
    desk.public.receive(book_text(at_s=1), desk.now)

    assert ([("unsubscribe", [BTC])], [("subscribe", [BTC])]) == (ask, asked)
    assert (BTC, "l2", False, reason) in desk.listener.of("validity")
    assert desk.state.books[BTC].is_valid
    assert 0.0 == desk.state.troubles.not_before_mono(("book", BTC))


def test_changed_status_leaves_the_book_alone(desk):
    desk.public.receive(book_text(), desk.now)
    desk.public.receive(pair_text(status="post_only"), desk.now)

    assert desk.state.books[BTC].is_valid
    assert 2 == len(desk.listener.of("instruments"))


def test_reconnect_is_told_once_everything_is_back(desk):
    outage = Outage(since_mono=desk.now - 4.0, reason="closed by the venue", attempts=2)
    session = desk.connect(outage)
    session.receive('{"channel":"status","type":"update","data":[{"system":"online"}]}', desk.now)
    requests = desk.pump(session)
    desk.beat(session, 1)
    early = desk.listener.of("reconnect")
    desk.ack_all(session, requests)
    session.receive(book_text(), desk.now)
    desk.beat(session, 3)
    [(told,)] = desk.listener.of("reconnect")

    assert [] == early
    assert ("public", "closed by the venue", 4.0, 2, 2.0) == (
        told.stream, told.reason, told.gap_s, told.attempts, told.took_s,
    )  # fmt: skip
    assert {"instrument": 1, "book": 1, "ticker": 1, "trade": 1} == told.refetched
    assert {} == told.missing


def test_reconnect_is_told_after_a_while_with_what_is_missing(desk):
    session = desk.connect(Outage(since_mono=desk.now, reason="lost", attempts=1))
    desk.ack_all(session, [each for each in desk.pump(session) if each["params"]["channel"] != "book"])
    desk.beat(session, 32)
    [(told,)] = desk.listener.of("reconnect")

    assert {"book": (BTC,)} == told.missing
    assert "book" not in told.refetched


def test_session_with_nothing_left_closes(desk):
    session = desk.level3()
    session.follow_symbols([], desk.now)
    desk.ack_all(session, desk.pump(session))
    session.receive(HEARTBEAT, desk.now)

    assert "nothing is subscribed any more" == session.close_reason
    assert {} == desk.state.queues


def test_connection_without_heartbeats_is_asked_for_a_sign_of_life_before_it_counts_as_dead(desk):
    session = desk.level3()
    session.receive(HEARTBEAT, desk.now)
    session.on_deadline(desk.now + 2.4)
    early = [text for text in session.to_send() if '"ping"' in text]
    session.on_deadline(desk.now + 2.5)
    session.on_deadline(desk.now + 2.6)
    asked = [text for text in session.to_send() if '"ping"' in text]
    session.receive('{"method":"pong","req_id":0}', desk.now + 2.7)
    session.on_deadline(desk.now + 5.1)
    answered = session.close_reason
    session.on_deadline(desk.now + 7.8)

    assert ([], ['{"method":"ping","req_id":0}']) == (early, asked)
    assert answered is None
    assert "no frame for 5.1 s" == session.close_reason
