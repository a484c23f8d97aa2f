"""What a recording must not hold: a token, should the venue repeat one."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

import json

import pytest

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.kraken.protocol.session import Tap
from krakenbot.adapters.kraken.recorder import FrameRecorder, _RecordingTap, without_token

ACK = '{"method":"subscribe","result":{"channel":"level3","token" : "%s"},"success":true}'


@pytest.mark.parametrize("token", ["abc/DEF+1=", "", 'quo\\"te', "back\\\\"])
def test_token_in_a_received_frame_is_blotted_out_and_the_rest_stays(token):
    kept = json.loads(without_token((ACK % token).encode()))

    assert {"channel": "level3", "token": "***"} == kept.pop("result")
    assert {"method": "subscribe", "success": True} == kept


def test_frame_without_a_token_is_kept_as_it_is():
    frame = '{"channel":"book","note":"a token","data":["token"]}'

    assert frame == without_token(frame.encode())
    assert '{"a":"\ufffd"}' == without_token(b'{"a":"\xff"}')


class Recorder(FrameRecorder):
    def __init__(self) -> None:
        super().__init__(parts=None, clock=SystemClock())
        self.kept: list[str] = []

    def keep(self, connection, path, direction, text):
        self.kept.append(text)
        return super().keep(connection, path, direction, text)


def test_what_is_kept_holds_no_token_and_what_is_handed_on_is_whole(monkeypatch):
    handed_on = []
    monkeypatch.setattr(Tap, "receive", lambda self, text, now_mono: handed_on.append(text))
    recorder = Recorder()
    frame = ACK % "secret"
    _RecordingTap(recorder, None, "level3-1", "level3").receive(frame, 0.0)

    assert [frame] == handed_on
    assert [frame.replace("secret", "***")] == recorder.kept
