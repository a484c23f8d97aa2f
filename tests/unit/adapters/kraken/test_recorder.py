"""What a recording must not hold: a token, should the venue repeat one."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

import json

import pytest

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.kraken.recorder import FrameRecorder, _RecordingTap

TOKEN = "SeCrEt+t0ken/0123456789"
ACK = '{"method":"subscribe","result":{"channel":"level3","token" : "%s"},"success":true}'


class Recorder(FrameRecorder):
    def __init__(self) -> None:
        super().__init__(parts=None, clock=SystemClock())
        self.kept: list[str] = []

    def keep(self, connection, path, direction, text):
        self.kept.append(text)
        return super().keep(connection, path, direction, text)


class Session:
    """Sends its token once, and keeps what it is handed."""

    close_reason = None

    def __init__(self) -> None:
        self.received: list[str] = []

    def to_send(self):
        return [json.dumps({"method": "subscribe", "params": {"channel": "level3", "token": TOKEN}})]

    def receive(self, text, now_mono):
        self.received.append(text)


@pytest.fixture
def tap():
    return _RecordingTap(Recorder(), Session(), "level3-1", "level3")


@pytest.mark.parametrize("token", ["abc/DEF+1=", 'quo\\"te', "back\\\\"])
def test_token_in_a_received_frame_is_blotted_out_and_the_rest_stays(tap, token):
    kept = json.loads(tap.without_tokens(ACK % token))

    assert {"channel": "level3", "token": "***"} == kept.pop("result")
    assert {"method": "subscribe", "success": True} == kept


@pytest.mark.parametrize("frame", ['{"channel":"book","note":"a token","data":["token"]}', ACK % "", '{"token":null}'])
def test_frame_without_a_token_is_kept_as_it_is(tap, frame):
    tap.receive(frame, 0.0)

    assert [frame] == tap._recorder.kept


@pytest.mark.parametrize(
    "frame",
    [
        json.dumps({"method": "subscribe", "success": False, "error": f"ESession:Invalid session {TOKEN}"}),
        json.dumps({"method": "subscribe", "success": False, "error": json.dumps({"token": TOKEN})}),
        json.dumps({"error": f"EGeneral:Invalid arguments:{TOKEN}"}).replace("/", "\\/"),
        json.dumps({"session_token": TOKEN}),
    ],
)
def test_token_that_was_sent_is_kept_nowhere_however_it_comes_back_and_is_handed_on_whole(tap, frame):
    tap.to_send()
    tap.receive(frame, 0.0)

    assert TOKEN not in tap._recorder.kept[0].replace("\\/", "/")
    assert "***" in tap._recorder.kept[0]
    assert [frame] == tap._session.received
    assert "token refused: ***" == tap.without_tokens(f"token refused: {TOKEN}")
