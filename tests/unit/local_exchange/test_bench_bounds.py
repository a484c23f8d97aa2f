"""Short forms of the benches with loose bounds, in CPU time; `./kb bench` has the true ones."""

from __future__ import annotations

import io
import time
from collections import Counter

from tests.bench import matching
from tests.bench._order_script import Player, draw_script, make_exchange

SYMBOLS = 5
EVENTS = 3_000
LEAST_EVENTS_PER_S = 8_000


def test_matching_and_publishing_reach_a_loose_part_of_the_promised_rate():
    script = draw_script(SYMBOLS, EVENTS)
    rates = []
    for _ in range(3):
        exchange = make_exchange(SYMBOLS)
        readers = matching.subscribe(exchange, matching.Counting)
        player = Player(exchange)
        started = time.process_time()
        player.play(script)
        rates.append(EVENTS / (time.process_time() - started))

    assert max(rates) >= LEAST_EVENTS_PER_S
    assert all(reader.frames > 100 for reader in readers)


def test_a_script_has_the_mix_that_it_says():
    script = draw_script(SYMBOLS, EVENTS)

    kinds = Counter(name.partition(" ")[0] for name, _ in script)
    assert 0.44 < kinds["place"] / EVENTS < 0.49
    assert 0.42 < kinds["pull"] / EVENTS < 0.47
    assert 0.015 < kinds["reduce"] / EVENTS < 0.045
    assert 0.035 < kinds["take"] / EVENTS < 0.065
    assert EVENTS // 50 == kinds["add"] + kinds["amend"] + kinds["cancel"]


def test_the_same_events_give_the_same_record_and_the_same_frames():
    script = draw_script(SYMBOLS, EVENTS)
    records, frames = [], []
    for _ in range(2):
        file = io.BytesIO()
        exchange = make_exchange(SYMBOLS, file)
        readers = matching.subscribe(exchange, matching.Counting)
        Player(exchange).play(script)
        records.append(file.getvalue())
        frames.append([(reader.frames, reader.chars) for reader in readers])

    assert records[0] == records[1]
    assert len(records[0].splitlines()) > EVENTS // 50
    assert frames[0] == frames[1]
