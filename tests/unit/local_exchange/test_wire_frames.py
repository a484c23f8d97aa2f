"""Frames that are encoded here, against the library's own encoder."""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode

from krakenbot.adapters.local_exchange.sockets import text_frame


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_a_text_becomes_the_bytes_that_the_library_would_send(length):
    text = "é" * (length // 2) + "x" * (length % 2)

    assert Frame(Opcode.TEXT, text.encode()).serialize(mask=False) == text_frame(text)
