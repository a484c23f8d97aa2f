from __future__ import annotations

import json
from decimal import Decimal

import pytest

from krakenbot.adapters.kraken.codec.private import (
    BalancesMessage,
    ComplaintMessage,
    ExecutionsMessage,
    NotJsonError,
    Reply,
    StatusMessage,
    UnknownMessage,
    WalletAmount,
    canonical_cl_ord_id,
    decode_frame,
    encode_request,
)
from krakenbot.domain.errors import VenueProtocolError
from krakenbot.domain.execution.reports import ExecType, Fee
from krakenbot.domain.values import Asset, Side

TRADE = (
    '{"order_id":"O1","exec_id":"T1","exec_type":"trade","trade_id":7,"symbol":"BTC/USD","side":"buy",'
    '"last_qty":0.00010000,"last_price":80000.10,"liquidity_ind":"m","cost":8.00001,"order_type":"limit",'
    '"timestamp":"2026-11-01T00:00:00.123456Z","order_status":"partially_filled","cum_qty":0.00010000,'
    '"fees":[{"asset":"USD","qty":-0.0016}],"ratecount":12}'
)


def executions(*rows: str, kind: str = "update", sequence: int | None = 2) -> ExecutionsMessage:
    tail = "" if sequence is None else f',"sequence":{sequence}'
    frame = f'{{"channel":"executions","type":"{kind}","data":[{",".join(rows)}]{tail}}}'
    message = decode_frame(frame.encode())
    assert isinstance(message, ExecutionsMessage)
    return message


def changed(row: str, **fields: object) -> str:
    return json.dumps({**json.loads(row), **fields})


def test_trade_row_keeps_every_digit_of_its_text() -> None:
    report = executions(TRADE).reports[0]

    assert ExecType.TRADE is report.exec_type
    assert ("0.00010000", "80000.10", "8.00001") == (str(report.last_qty), str(report.last_price), str(report.cost))
    assert (Side.BUY, "T1", 7, True) == (report.side, report.exec_id, report.trade_id, report.is_maker)
    assert (Fee(asset=Asset("USD"), qty=Decimal("-0.0016")),) == report.fees
    assert Decimal(12) == report.ratecount
    assert 123456 == report.at.microsecond


def test_all_fees_of_a_trade_are_read_each_in_its_asset() -> None:
    fees = [{"asset": "USD", "qty": 0.5}, {"asset": "BTC", "qty": 0.001}]
    report = executions(changed(TRADE, fees=fees)).reports[0]

    assert [("USD", Decimal("0.5")), ("BTC", Decimal("0.001"))] == [(fee.asset, fee.qty) for fee in report.fees]


def test_sparse_row_has_none_for_what_it_does_not_say() -> None:
    row = '{"timestamp":"2026-11-01T00:00:00Z","order_status":"new","exec_type":"new","order_id":"O1"}'
    report = executions(row).reports[0]

    assert (None, None, None, None) == (report.symbol, report.side, report.order_qty, report.cl_ord_id)
    assert () == report.fees


def test_trigger_of_a_stop_is_read_and_its_state() -> None:
    row = (
        '{"timestamp":"2026-11-01T00:00:00Z","exec_type":"new","order_id":"O1","stop_price":0.0,'
        '"triggers":{"reference":"index","price":79000.5,"price_type":"static","status":"triggered"}}'
    )
    report = executions(row).reports[0]

    assert (Decimal("79000.5"), True) == (report.trigger_price, report.triggered)


@pytest.mark.parametrize("price_type", ["pct", "quote"])
def test_trigger_stated_as_a_distance_is_no_price(price_type: str) -> None:
    row = (
        '{"timestamp":"2026-11-01T00:00:00Z","exec_type":"new","order_id":"O1","limit_price":2,'
        f'"limit_price_type":"{price_type}",'
        f'"triggers":{{"price":5,"price_type":"{price_type}","status":"untriggered"}}}}'
    )
    report = executions(row).reports[0]

    assert (None, None, False) == (report.trigger_price, report.limit_price, report.triggered)


def test_price_below_zero_is_a_distance() -> None:
    row = (
        '{"timestamp":"2026-11-01T00:00:00Z","exec_type":"amended","order_id":"O1","limit_price":-2,'
        '"triggers":{"price":-5,"price_type":"static"}}'
    )
    report = executions(row).reports[0]

    assert (None, None) == (report.trigger_price, report.limit_price)


@pytest.mark.parametrize(
    "fields",
    [
        {"exec_type": "invented"},
        {"exec_type": None},
        {"order_id": ""},
        {"order_id": 5},
        {"timestamp": "yesterday"},
        {"timestamp": "2026-11-01T00:00:00"},
        {"side": "both"},
        {"last_qty": 0},
        {"last_price": 0.0},
        {"last_qty": -1},
        {"last_qty": None},
        {"exec_id": None},
        {"symbol": None},
        {"last_price": "NaN"},
        {"cost": "Infinity"},
        {"cost": -0.01},
        {"cum_qty": -1},
        {"order_qty": -1},
        {"fees": [{"asset": "USD"}]},
    ],
)
def test_row_that_cannot_be_true_is_a_fault_beside_the_good_rows(fields: dict[str, object]):
    good = changed(TRADE, exec_id="T2")
    message = executions(changed(TRADE, **fields), good)

    assert ["T2"] == [report.exec_id for report in message.reports]
    assert 1 == len(message.faults)


@pytest.mark.parametrize("number", ["1e999999", "1e-999999", "1e31", "9" * 400, "1e99999999999999999999999"])
def test_number_beyond_any_price_is_a_fault(number: str):
    message = executions(TRADE.replace("80000.10", number))

    assert () == message.reports
    assert 1 == len(message.faults)


@pytest.mark.parametrize("text", ["CloudFlare WebSocket proxy restarting", "", "{", '{"channel":"execu', "\xff"])
def test_text_that_is_not_json_is_told_apart(text: str):
    with pytest.raises(NotJsonError):
        decode_frame(text.encode("latin-1"))


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "5",
        "null",
        '"executions"',
        '{"channel":5}',
        '{"channel":"executions"}',
        '{"channel":"executions","type":"update"}',
        '{"channel":"executions","type":"other","data":[]}',
        '{"channel":"executions","type":"update","data":{}}',
        '{"channel":"executions","type":"update","data":[],"sequence":"1"}',
        '{"channel":"executions","type":"update","data":[],"sequence":1.5}',
        '{"channel":"balances","type":"other","data":[],"sequence":1}',
        '{"channel":"status","type":"update","data":[{}]}',
        '{"channel":"status"}',
        '{"method":"add_order"}',
        '{"method":"add_order","success":"yes"}',
        '{"method":"add_order","success":true,"result":[]}',
        '{"method":"add_order","success":true,"result":{"order_id":7}}',
    ],
)
def test_json_that_is_not_as_documented_is_a_protocol_error(text: str):
    with pytest.raises(VenueProtocolError) as caught:
        decode_frame(text)

    assert not isinstance(caught.value, NotJsonError)


def test_errors_name_the_place_and_never_the_content() -> None:
    frame = '{"channel":"status","type":"update","data":[{"system":5,"canary":"canary"}]}'
    with pytest.raises(VenueProtocolError) as caught:
        decode_frame(frame)

    assert "canary" not in str(caught.value)
    assert "system" in str(caught.value)


@pytest.mark.parametrize("row", ['{"asset":"canary"}', '{"asset":"canary","balance":1e99}', "7"])
def test_balance_that_cannot_be_read_is_named_and_leaves_the_others(row: str):
    frame = f'{{"channel":"balances","type":"snapshot","data":[{row},{{"asset":"USD","balance":2}}],"sequence":1}}'
    message = decode_frame(frame)

    assert isinstance(message, BalancesMessage)
    assert ["USD"] == [amount.asset for amount in message.amounts]
    assert 1 == len(message.faults)
    assert "canary" not in message.faults[0]


def test_status_without_connection_id_is_read() -> None:
    frame = '{"channel":"status","type":"update","data":[{"api_version":"v2","system":"maintenance","new_key":[1]}]}'

    assert StatusMessage(system="maintenance") == decode_frame(frame)


def test_balances_are_kept_by_wallet() -> None:
    frame = (
        '{"channel":"balances","type":"snapshot","sequence":1,"data":[{"asset":"MATIC","balance":500,"wallets":'
        '[{"type":"spot","id":"main","balance":300},{"type":"earn","id":"flex","balance":200}]},'
        '{"asset":"USD","balance":1.50,"wallets":[]}]}'
    )
    message = decode_frame(frame)

    assert isinstance(message, BalancesMessage)
    assert [("MATIC", "spot", "300"), ("MATIC", "earn", "200"), ("USD", "spot", "1.50")] == [
        (row.asset, row.wallet_type, str(row.amount)) for row in message.amounts
    ]


def test_balance_update_replaces_its_wallet() -> None:
    frame = (
        '{"channel":"balances","type":"update","sequence":2,"data":[{"asset":"USD","amount":-20,"fee":0.05,'
        '"balance":118.0677,"wallet_type":"spot","wallet_id":"main","type":"trade"}]}'
    )
    message = decode_frame(frame)

    assert isinstance(message, BalancesMessage)
    expected = WalletAmount(asset=Asset("USD"), wallet_type="spot", wallet_id="main", amount=Decimal("118.0677"))
    assert (expected,) == message.amounts


def test_reply_with_foreign_req_id_matches_nothing() -> None:
    reply = decode_frame('{"method":"add_order","success":true,"req_id":"|1|","result":{"order_id":"O1"}}')

    assert isinstance(reply, Reply)
    assert reply.req_id is None


@pytest.mark.parametrize(
    "text",
    ['{"Error": "Exceeded msg rate"}', '{"error":"Exceeded msg rate","method":"error","success":false}'],
)
def test_complaint_is_tied_to_no_request(text: str):
    assert ComplaintMessage(text="Exceeded msg rate") == decode_frame(text)


def test_unknown_channel_is_named() -> None:
    assert UnknownMessage(name="channel futures") == decode_frame('{"channel":"futures","data":7}')


def test_numbers_of_a_request_are_bare_fixed_point_tokens() -> None:
    text = encode_request("add_order", {"order_qty": Decimal("1E-8"), "t": {"price": Decimal(5)}, "p": True}, 9)

    assert '{"method":"add_order","params":{"order_qty":0.00000001,"t":{"price":5.0},"p":true},"req_id":9}' == text


@pytest.mark.parametrize("text", ["0.00010000", "80000.1", "123456789012345678901.123456789", "-3", "0", "1E+3"])
def test_number_of_a_request_has_the_value_of_its_decimal(text: str):
    encoded = json.loads(encode_request("m", {"n": Decimal(text)}, 1), parse_float=Decimal, parse_int=Decimal)

    assert Decimal(text) == encoded["params"]["n"]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("6d1b345e-2821-40e2-ad83-4ecb18a06876", "6D1B345E-2821-40E2-AD83-4ECB18A06876", True),
        ("6d1b345e-2821-40e2-ad83-4ecb18a06876", "6d1b345e282140e2ad834ecb18a06876", True),
        ("kbe0a1b2c3d4e5f6g7", "kbe0a1b2c3d4e5f6g7", True),
        ("kbe0a1b2c3d4e5f6g7", "KBE0a1b2c3d4e5f6g7", False),
        ("kb-1", "kb1", False),
    ],
)
def test_ids_are_compared_in_their_canonical_form(one: str, other: str, is_same: bool):
    assert is_same is (canonical_cl_ord_id(one) == canonical_cl_ord_id(other))


def test_a_text_that_a_database_cannot_hold_is_made_readable():
    row = {"order_id": "O1", "exec_type": "canceled", "timestamp": "2026-01-01T00:00:00Z", "reason": "no\x00pe"}
    frame = json.dumps({"channel": "executions", "type": "update", "sequence": 2, "data": [row]})

    message = decode_frame(frame)

    assert isinstance(message, ExecutionsMessage)
    assert "no?pe" == message.reports[0].reason


def test_an_id_that_a_database_cannot_hold_is_a_protocol_fault():
    row = {"order_id": "O\x001", "exec_type": "canceled", "timestamp": "2026-01-01T00:00:00Z"}
    frame = json.dumps({"channel": "executions", "type": "update", "sequence": 2, "data": [row]})

    message = decode_frame(frame)

    assert isinstance(message, ExecutionsMessage)
    assert () == message.reports
    assert message.faults
