"""Event lines: one line each, readable by machine or person, without a secret wherever it hides."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from krakenbot.adapters.telemetry.events import StructuredEvents, mask_secrets
from krakenbot.domain.secret import Secret

KEY = "canary-key-4411"
AWKWARD = 'canary"quoted\\bäck/4412'
SECRETS = (KEY, AWKWARD, "canary-key-4411-longer")


class FixedClock:
    def now(self) -> datetime:
        return datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)

    def now_ns(self) -> int:
        return 0

    def mono(self) -> float:
        return 0.0

    async def sleep(self, duration_s: float) -> None:
        raise AssertionError("a log does not wait")


def make(*, as_json: bool, secrets: tuple[str, ...] = SECRETS) -> tuple[StructuredEvents, io.StringIO]:
    stream = io.StringIO()
    events = StructuredEvents(clock=FixedClock(), stream=stream, process="ingest", as_json=as_json, secrets=secrets)
    return events, stream


def test_a_json_line_holds_name_time_process_and_fields() -> None:
    events, stream = make(as_json=True)

    events.emit("epoch", epoch_id=3, share=0.5, ok=True, none=None, symbol="BTC/USD", reasons=["a", "b"])

    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue()) == {
        "event": "epoch",
        "timestamp": "2026-03-01T12:00:00.123Z",
        "level": "info",
        "process": "ingest",
        "epoch_id": 3,
        "share": 0.5,
        "ok": True,
        "none": None,
        "symbol": "BTC/USD",
        "reasons": ["a", "b"],
    }


def test_a_line_for_people_holds_the_same() -> None:
    events, stream = make(as_json=False)

    events.emit("epoch", epoch_id=3, symbol="BTC/USD")

    assert stream.getvalue().count("\n") == 1
    for word in ("2026-03-01T12:00:00.123Z", "[info", "epoch", "process=ingest", "epoch_id=3", "symbol=BTC/USD"):
        assert word in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_masked_wherever_a_field_holds_it(secret: str, *, as_json: bool) -> None:
    events, stream = make(as_json=as_json)
    text = f"before {secret} after"

    events.emit(
        "failed",
        reason=text,
        error=ValueError(text),
        quoted=KeyError(text),
        group=ExceptionGroup(text, [OSError(text)]),
        nested={"deep": [{"deeper": (text, {text})}], text: 1},
        data=secret.encode(),
        held=Secret(secret),
        holder={"key": Secret(secret)},
    )

    assert "before **** after" in stream.getvalue()
    assert "canary" not in stream.getvalue()
    assert "4411" not in stream.getvalue()
    assert "4412" not in stream.getvalue()


@pytest.mark.parametrize("as_json", [True, False])
def test_what_is_not_secret_is_not_masked(*, as_json: bool) -> None:
    events, stream = make(as_json=as_json, secrets=("ingest", "epoch", "", "2026"))

    events.emit("epoch", reason="ingest went on", code="COOLDOWN")

    assert "epoch" in stream.getvalue()
    assert "COOLDOWN" in stream.getvalue()
    assert "2026-03-01T12:00:00.123Z" in stream.getvalue()
    assert "**** went on" in stream.getvalue()
    assert stream.getvalue().count("****") == 1


def test_values_without_a_json_form_become_text() -> None:
    events, stream = make(as_json=True)
    circular: dict[str, object] = {}
    circular["self"] = circular

    events.emit(
        "odd",
        amount=Decimal("1.50"),
        at=FixedClock().now(),
        nan=float("nan"),
        keys={(1, 2): "pair"},
        circular=circular,
    )

    line = json.loads(stream.getvalue(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert line["amount"] == "1.50"
    assert line["at"] == "2026-03-01T12:00:00.123456+00:00"
    assert line["nan"] == "nan"
    assert line["keys"] == {"(1, 2)": "pair"}
    assert "circular" in line


def test_a_stream_that_cannot_be_written_to_is_counted() -> None:
    events, stream = make(as_json=True)
    stream.close()

    events.emit("lost")
    events.emit("lost")

    assert events.lost == 2


def test_a_longer_secret_is_masked_before_a_shorter_one_within_it() -> None:
    assert mask_secrets("x=abcdef y=abc", ["abc", "abcdef", ""]) == "x=**** y=****"
