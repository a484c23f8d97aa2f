"""What the content actions do to frames, and that no action fails on any frame."""

from __future__ import annotations

import json
import zlib
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krakenbot.adapters.local_exchange.faults import damage
from krakenbot.adapters.local_exchange.faults.rules import Action
from krakenbot.adapters.local_exchange.faults.vocabulary import PATTERNS, Stage

LEVEL3 = (
    '{"channel":"level3","type":"snapshot","data":[{"symbol":"A/B","checksum":1,"timestamp":"2026-01-01T00:00:00.123456789Z",'
    '"bids":[{"order_id":"O1","limit_price":1.0,"order_qty":2.50,"timestamp":"2026-01-01T00:00:00.000000001Z"}],'
    '"asks":[{"order_id":"O2","limit_price":1.1,"order_qty":0.10,"timestamp":"2026-01-01T00:00:00.000000002Z"}]}]}'
)
FRAMES = [
    LEVEL3,
    LEVEL3.replace("snapshot", "update"),
    '{"channel":"book","type":"update","data":[{"symbol":"A/B","bids":[],"asks":[],"checksum":1}]}',
    '{"channel":"book","type":"snapshot","data":[{"symbol":"A/B","bids":[],"asks":[],"checksum":0}]}',
    '{"channel":"instrument","type":"snapshot","data":{"assets":[],"pairs":[{"symbol":"A/B"}]}}',
    '{"channel":"executions","type":"snapshot","data":[],"sequence":1}',
    '{"channel":"status","type":"update","data":[{"system":"online"}]}',
    '{"channel":"heartbeat"}',
    '{"method":"pong","req_id":1}',
    '{"error":["EOrder:Unknown order"]}',
    "{}",
    "[1]",
    "5",
    "",
    "no json",
]
SLOTS = {"names": "symbol", "field": "data.0.*.symbol", "value": "NaN", "count": "4", "text": "x", "duration": "5"}
CONTENT = [action for pattern in PATTERNS if damage.is_damage(action := Action(pattern.action, SLOTS))]


def test_every_content_action_is_one_of_the_language() -> None:
    assert 13 == len(CONTENT)
    assert {Stage.FRAME} == {stage for p in PATTERNS if p.action == "double_rows" for stage in p.scopes}


@pytest.mark.parametrize(("action", "text"), list(product(CONTENT, FRAMES)))
def test_an_action_changes_a_frame_or_does_not_apply(action: Action, text: str) -> None:
    changed = damage.damage(action, text)

    assert changed is None or changed != text


NAMES = st.sampled_from(["channel", "type", "data", "bids", "asks", "price", "qty", "checksum", "0"])
LEAVES = st.none() | st.integers(0, 9) | st.sampled_from(["book", "level3", "snapshot", "1.0", "x"])
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=8
)


@given(st.sampled_from(CONTENT), DOCUMENTS)
def test_no_document_makes_an_action_fail(action: Action, document: object) -> None:
    for text in (json.dumps(document), json.dumps({"channel": "book", "type": "snapshot", "data": [document]})):
        changed = damage.damage(action, text)

        assert changed is None or changed != text


def test_numbers_keep_their_text() -> None:
    text = '{"a":1.50,"b":[0.00000010,1e-08,-3],"c":null,"d":true,"e":"\\u00e9"}'

    assert text == damage.dumps(damage.loads(text))


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("data.0.qty", "NaN", '{"data":[{"qty":NaN},{"qty":2.0}]}'),
        ("data.*.qty", "0", '{"data":[{"qty":0},{"qty":0}]}'),
        ("data.1.new", '"x"', '{"data":[{"qty":1.0},{"qty":2.0,"new":"x"}]}'),
        ("data.5.qty", "0", None),
        ("other.qty", "0", None),
        ("channel", "null", '{"data":[{"qty":1.0},{"qty":2.0}],"channel":null}'),
    ],
)
def test_a_field_is_set_by_its_path(field: str, value: str, expected: str | None) -> None:
    text = '{"data":[{"qty":1.0},{"qty":2.0}]}'

    assert expected == damage.damage(Action("set", {"field": field, "value": value}), text)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("data.0", '{"data":[{"qty":2.0}]}'),
        ("data.*", '{"data":[]}'),
        ("data.*.qty", '{"data":[{},{}]}'),
        ("data.0.no", None),
        ("data", "{}"),
    ],
)
def test_a_field_is_removed_by_its_path(field: str, expected: str | None) -> None:
    text = '{"data":[{"qty":1.0},{"qty":2.0}]}'

    assert expected == damage.damage(Action("remove", {"field": field}), text)


def test_timestamps_keep_their_digits_when_they_move() -> None:
    text = '"2026-01-01T00:00:00.123456789Z" "2026-01-01T00:00:00.123456Z" "2026-01-01T00:00:00Z"'
    moved = damage.damage(Action("shift_timestamps", {"duration": str(-3600 * 10**9)}), text)

    assert '"2025-12-31T23:00:00.123456789Z" "2025-12-31T23:00:00.123456Z" "2025-12-31T23:00:00Z"' == moved


def test_a_crossed_level3_book_has_a_right_checksum() -> None:
    crossed = damage.damage(Action("cross_book"), LEVEL3)

    assert crossed is not None
    row = json.loads(crossed)["data"][0]
    assert row["bids"][0]["limit_price"] >= row["asks"][0]["limit_price"]
    # 1.1 and 0.10 of the ask, 1.1 and 2.50 of the bid.
    assert zlib.crc32(b"1110" + b"11250") == row["checksum"]
