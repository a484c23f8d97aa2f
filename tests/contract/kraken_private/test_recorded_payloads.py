"""All recorded payloads of the types that the private side reads: parsed, or refused with the documented error.

They lie outside the project (KRAKENBOT_RECORDINGS, or ../shared/kraken beside it); without them these tests skip.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from krakenbot.adapters.kraken.codec import preflight, rest
from krakenbot.adapters.kraken.codec.private import (
    BalancesMessage,
    ComplaintMessage,
    ExecutionsMessage,
    Reply,
    StatusMessage,
    decode_frame,
)
from krakenbot.adapters.kraken.errors import ErrorKind, error_kind, order_error, read_error
from krakenbot.adapters.kraken.protocol.private import PrivateSession, PrivateSessionSettings
from krakenbot.domain.errors import VenueError, VenueProtocolError, VenueRejected
from krakenbot.domain.execution.reports import ExecutionBatch
from krakenbot.domain.secret import Secret

PROJECT = Path(__file__).parents[3]
RECORDINGS = Path(os.environ.get("KRAKENBOT_RECORDINGS") or PROJECT.parent / "shared" / "kraken")  # noqa: TID251
PAYLOADS = RECORDINGS / "payloads"
# vendor tests with shortened orders: without descr an order has no pair, side or type
ORDERS_WITHOUT_DESCRIPTION = {"krakenasyncrs-2.json", "krakenasyncrs-3.json", "krakenasyncrs-4.json"}
# AssetPairs of 2021: no tick_size, costmin, cost_decimals
PAIRS_OF_2021 = {"krakennet-2.json"}


def payloads(*folders: str) -> list[Any]:
    """Return the files of folders as parameters; one skipped parameter a folder that is not there."""
    found: list[Any] = []
    for folder in folders:
        files = sorted((PAYLOADS / folder).glob("*"))
        reason = f"recorded payloads {folder} are not there: set KRAKENBOT_RECORDINGS"
        found.extend(pytest.param(path, id=f"{folder}/{path.name}") for path in files)
        if not files:
            found.append(pytest.param(None, id=folder, marks=pytest.mark.skip(reason=reason)))
    return found


def exact(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def numbers_of(tree: Any) -> Iterator[Decimal]:
    match tree:
        case Decimal():
            yield tree
        case dict():
            for inner in tree.values():
                yield from numbers_of(inner)
        case list():
            for inner in tree:
                yield from numbers_of(inner)


def result_of(path: Path) -> msgspec.Raw:
    answer = rest.decode_answer(path.read_bytes())
    assert answer.errors == ()
    return answer.result


@pytest.mark.parametrize("path", payloads("ws/executions"))
def test_executions_are_read_whole_and_to_the_last_digit(path: Path) -> None:
    text = path.read_text()
    message = decode_frame(text)
    rows = exact(text)["data"]

    assert isinstance(message, ExecutionsMessage)
    assert () == message.faults
    assert [(row["order_id"], row["exec_type"]) for row in rows] == [
        (report.order_id, report.exec_type.value) for report in message.reports
    ]
    for name in ("order_qty", "cum_qty", "limit_price", "last_qty", "last_price", "cost"):
        read = [getattr(report, name) for report in message.reports]
        assert [str(row[name]) if name in row else "None" for row in rows] == [str(value) for value in read]
    fees = [[(fee["asset"], str(fee["qty"])) for fee in row.get("fees", [])] for row in rows]
    assert fees == [[(fee.asset, str(fee.qty)) for fee in report.fees] for report in message.reports]


@pytest.mark.parametrize("path", payloads("ws/balances"))
def test_balances_are_read_whole_and_to_the_last_digit(path: Path) -> None:
    text = path.read_text()
    message = decode_frame(text)
    rows = exact(text)["data"]

    assert isinstance(message, BalancesMessage)
    assert {row["asset"] for row in rows} == {amount.asset for amount in message.amounts}
    assert {amount.amount for amount in message.amounts} <= set(numbers_of(rows))


@pytest.mark.parametrize("path", payloads("ws/add_order-resp", "ws/amend_order-resp", "ws/cancel_order-resp"))
def test_answer_to_a_trading_request_is_a_success_or_a_definite_refusal(path: Path) -> None:
    text = path.read_text()
    reply, wire = decode_frame(text), json.loads(text)

    assert isinstance(reply, Reply)
    assert (wire["method"], wire.get("req_id"), wire["success"]) == (reply.method, reply.req_id, reply.is_success)
    if wire["success"]:
        names = ("order_id", "cl_ord_id")
        assert [wire["result"].get(name) for name in names] == [reply.order_id, reply.cl_ord_id]
    else:
        error = order_error(str(reply.error), "kb1")
        assert isinstance(error, VenueRejected)
        assert wire["error"] == error.reason


@pytest.mark.parametrize("path", payloads("ws/subscribe-resp"))
def test_answer_to_a_subscription_is_read(path: Path) -> None:
    text = path.read_text()
    reply, wire = decode_frame(text), json.loads(text)

    assert isinstance(reply, Reply)
    assert (wire["success"], wire.get("error")) == (reply.is_success, reply.error)
    assert wire.get("result", {}).get("channel") == reply.channel
    assert wire.get("result", {}).get("maxratecount") == reply.max_ratecount


@pytest.mark.parametrize("path", payloads("ws/error-resp"))
def test_error_without_request_is_a_complaint(path: Path) -> None:
    text = path.read_text()

    assert ComplaintMessage(text=json.loads(text)["error"]) == decode_frame(text)


@pytest.mark.parametrize("path", payloads("ws/status"))
def test_status_is_read(path: Path) -> None:
    text = path.read_text()

    assert StatusMessage(system=json.loads(text)["data"][0]["system"]) == decode_frame(text)


@pytest.mark.parametrize("path", payloads("ws/pong"))
def test_pong_is_a_reply(path: Path) -> None:
    assert isinstance(decode_frame(path.read_text()), Reply)


@pytest.mark.parametrize("path", payloads("rest/SystemStatus"))
def test_system_status_is_read(path: Path) -> None:
    assert json.loads(path.read_text())["result"]["status"] == rest.decode_system_status(result_of(path))


@pytest.mark.parametrize("path", payloads("rest/Time"))
def test_time_is_read(path: Path) -> None:
    assert json.loads(path.read_text())["result"]["unixtime"] == rest.decode_time(result_of(path)).timestamp()


@pytest.mark.parametrize("path", payloads("rest/GetWebSocketsToken"))
def test_token_is_read(path: Path) -> None:
    assert json.loads(path.read_text())["result"]["token"] == rest.decode_token(result_of(path)).reveal()


@pytest.mark.parametrize("path", payloads("rest/GetApiKeyInfo"))
def test_key_info_is_read(path: Path) -> None:
    info = preflight.decode_key_rights(result_of(path))

    assert set(json.loads(path.read_text())["result"]["permissions"]) == info.permissions
    assert info.may_move_funds


@pytest.mark.parametrize("path", payloads("rest/BalanceEx"))
def test_balances_with_holds_are_read(path: Path) -> None:
    wire = exact(path.read_text())["result"]
    balances = rest.decode_balances(result_of(path), rest.PairNames())

    assert len(wire) == len(balances)
    assert sorted(Decimal(row["balance"]) for row in wire.values()) == sorted(row.balance for row in balances.values())
    assert [] == [asset for asset in balances if asset in {"XXBT", "ZUSD", "XETH"}]


@pytest.mark.parametrize("path", payloads("rest/TradeVolume"))
def test_fees_are_read(path: Path) -> None:
    wire = exact(path.read_text())["result"]
    rates = rest.decode_fee_rates(result_of(path), rest.PairNames())
    makers, takers = wire["fees_maker"] or {}, wire["fees"] or {}

    assert [Decimal(row["fee"]) * 100 for row in takers.values()] == [rate.taker_bps for rate in rates.values()]
    assert [Decimal(row["fee"]) * 100 for row in makers.values()] == [rate.maker_bps for rate in rates.values()]


def check_orders(path: Path, key: str, decode: Callable[[msgspec.Raw, rest.PairNames], rest.Page]) -> None:
    wire = json.loads(path.read_text())["result"][key]
    orders = decode(result_of(path), rest.PairNames()).orders

    assert list(wire) == [order.order_id for order in orders]
    assert [(row["vol"], row["vol_exec"], row["status"]) for row in wire.values()] == [
        (f"{order.qty:f}", f"{order.cum_qty:f}", order.status) for order in orders
    ]
    assert [row["descr"]["ordertype"] for row in wire.values()] == [order.order_type for order in orders]


@pytest.mark.parametrize("path", payloads("rest/OpenOrders"))
def test_open_orders_are_read(path: Path) -> None:
    check_orders(path, "open", rest.decode_open_orders)


@pytest.mark.parametrize("path", payloads("rest/ClosedOrders"))
def test_closed_orders_are_read_or_refused_when_they_lack_their_description(path: Path) -> None:
    if path.name in ORDERS_WITHOUT_DESCRIPTION:
        with pytest.raises(VenueProtocolError, match="ClosedOrders not as documented"):
            rest.decode_closed_orders(result_of(path), rest.PairNames())
    else:
        check_orders(path, "closed", rest.decode_closed_orders)


@pytest.mark.parametrize("path", payloads("rest/TradesHistory"))
def test_trades_are_read(path: Path) -> None:
    wire = json.loads(path.read_text())["result"]["trades"]
    fills = rest.decode_fills(result_of(path), rest.PairNames()).fills

    assert [(exec_id, row["price"], row["vol"], row["cost"], row["fee"]) for exec_id, row in wire.items()] == [
        (fill.exec_id, str(fill.price), str(fill.qty), str(fill.cost), str(fill.fee)) for fill in fills
    ]
    assert [row.get("maker", False) for row in wire.values()] == [fill.is_maker for fill in fills]


@pytest.mark.parametrize("path", payloads("rest/AssetPairs"))
def test_pairs_are_read_or_refused_when_they_lack_their_minimums(path: Path) -> None:
    wire = json.loads(path.read_text())["result"]
    if path.name in PAIRS_OF_2021:
        with pytest.raises(VenueProtocolError, match="no row of AssetPairs can be used"):
            rest.decode_asset_pairs(result_of(path))
        return
    pairs = rest.decode_asset_pairs(result_of(path))

    assert {} == pairs.refused
    assert [(row["tick_size"], row["ordermin"], row["costmin"]) for row in wire.values()] == [
        (str(row.price_increment), str(row.qty_min), str(row.cost_min)) for row in pairs.instruments
    ]
    assert {"ETH/BTC", "BTC/USD"} == {row.symbol for row in pairs.instruments}
    assert "BTC/USD" == pairs.names.symbol_of("XXBTZUSD") == pairs.names.symbol_of("XBTUSD")


def test_full_asset_pairs_of_2021_are_refused_row_by_row() -> None:
    path = PAYLOADS / "captures" / "rest-assetpairs-cryptofeed.txt"
    if not path.exists():
        pytest.skip("recorded payload captures/rest-assetpairs-cryptofeed.txt is not there: set KRAKENBOT_RECORDINGS")
    body = path.read_text().splitlines()[0].partition(": ")[2].encode()
    answer = rest.decode_answer(body)
    with pytest.raises(VenueProtocolError, match="no row of AssetPairs can be used"):
        rest.decode_asset_pairs(answer.result)

    # the same rows with the fields that were added since
    rows = json.loads(body)["result"]
    today = {key: {**row, "tick_size": "0.1", "costmin": "0.5", "cost_decimals": 5} for key, row in rows.items()}
    today = {key: {**row, "status": "online"} for key, row in today.items()}
    pairs = rest.decode_asset_pairs(msgspec.Raw(json.dumps(today).encode()))
    named = [key for key, row in rows.items() if "wsname" in row]
    assert len(named) == len(pairs.instruments) > 200
    assert sorted(set(rows) - set(named)) == sorted(pairs.refused)
    assert "BTC/EUR" == pairs.names.symbol_of("XXBTZEUR")
    assert "DOGE" == pairs.names.asset_of("XXDG")


@pytest.mark.parametrize("path", payloads("rest/error"))
def test_error_of_rest_is_mapped_or_a_warning(path: Path) -> None:
    answer = rest.decode_answer(path.read_bytes())
    wire = json.loads(path.read_text())["error"]

    assert wire == [*answer.errors, *answer.warnings]
    assert [text for text in wire if text.startswith("W")] == list(answer.warnings)
    for text in answer.errors:
        assert isinstance(read_error(text), VenueError)
        assert text in str(read_error(text))
        is_state_unknown = text.startswith(("EService:", "EGeneral:Internal"))
        assert is_state_unknown is (error_kind(text) is ErrorKind.STATE_UNKNOWN)


Event = tuple[str, str, str | None]
CAPTURES: dict[str, tuple[list[Event], str | None]] = {
    "executions-limit-amend-amend-cancel-roq.jsonl": (
        [
            ("pending_new", "OVN7VD-7VYHS-APBKHA", "0.00010000"),
            ("new", "OVN7VD-7VYHS-APBKHA", None),
            ("amended", "OVN7VD-7VYHS-APBKHA", "0.00010000"),
            ("amended", "OVN7VD-7VYHS-APBKHA", "0.00005000"),
            ("canceled", "OVN7VD-7VYHS-APBKHA", None),
        ],
        None,
    ),
    "executions-docs-pending-new-trade.jsonl": (
        [
            ("pending_new", "OK4GJX-KSTLS-7DZZO5", "0.005"),
            ("new", "OK4GJX-KSTLS-7DZZO5", None),
            ("trade", "OK4GJX-KSTLS-7DZZO5", None),
        ],
        None,
    ),
    "executions-market-buy-new-trade-filled.jsonl": (
        [
            ("new", "OJUFYI-6DJSE-BNXAKJ", None),
            ("trade", "OJUFYI-6DJSE-BNXAKJ", None),
            ("filled", "OJUFYI-6DJSE-BNXAKJ", None),
        ],
        None,
    ),
    "executions-limit-pending-canceled.jsonl": (
        [("pending_new", "O3M3V4-5FY2F-55AQNT", "1.75351"), ("canceled", "O3M3V4-5FY2F-55AQNT", None)],
        None,
    ),
    # its third frame is of another connection, so that its number breaks the sequence
    "executions-postonly-pending-new-cancel-uche.jsonl": (
        [("pending_new", "OF6QIS-MYM6V-XTHHZF", "0.00009073"), ("new", "OF6QIS-MYM6V-XTHHZF", None)],
        "executions: sequence 2 after 3",
    ),
}


@pytest.mark.parametrize("name", CAPTURES)
def test_recorded_sequence_gives_the_expected_events(name: str) -> None:
    path = PAYLOADS / "captures" / name
    if not path.exists():
        pytest.skip(f"recorded payload captures/{name} is not there: set KRAKENBOT_RECORDINGS")
    frames = path.read_text().splitlines()
    first = json.loads(frames[0])
    if first["type"] != "snapshot":
        before = {"sequence": first["sequence"] - 1} if "sequence" in first else {}
        frames.insert(0, json.dumps({"channel": "executions", "type": "snapshot", "data": [], **before}))
    session = PrivateSession(token=Secret("t"), gap=False, settings=PrivateSessionSettings(), now_mono=0.0)
    for frame in frames:
        session.receive(frame, 0.0)
    batches = [event for event in session.events() if isinstance(event, ExecutionBatch)]
    events = [
        (report.exec_type.value, report.order_id, None if report.order_qty is None else str(report.order_qty))
        for batch in batches
        for report in batch.reports
    ]

    assert CAPTURES[name] == (events, session.close_reason)


def test_every_recorded_executions_sequence_is_expected_here() -> None:
    if not PAYLOADS.exists():
        pytest.skip("recorded payloads are not there: set KRAKENBOT_RECORDINGS")

    assert set(CAPTURES) == {path.name for path in (PAYLOADS / "captures").glob("executions-*.jsonl")}
