"""The report: the names that were promised, and an exit status that says no for each thing that went wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from krakenbot.apps.rehearsal.books import OPEN, FillLine, OrderLine, TradingBook
from krakenbot.apps.rehearsal.collect import Collected
from krakenbot.apps.rehearsal.exchange_truth import exchange_book
from krakenbot.apps.rehearsal.protection import ProtectionChange
from krakenbot.apps.rehearsal.report import NOT_EVIDENCE, build_report, exit_status, render

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOOK = TradingBook(
    orders={"kbe1": OrderLine(cl_ord_id="kbe1", status="filled", cum_qty=Decimal("0.5"))},
    fills={
        "E1": FillLine(
            exec_id="E1",
            cl_ord_id="kbe1",
            price=Decimal(100),
            qty=Decimal("0.5"),
            fee=Decimal("0.125"),
            fee_asset="USD",
        )
    },
    balance_changes={"ABC": Decimal("0.5"), "USD": Decimal("-50.125")},
)
FEED = {"book_ok": 10, "book_bad": 0, "level3_ok": 20, "level3_bad": 0, "frames": {"book": 12, "level3": 21}}
COLLECTED = Collected(
    ledger=BOOK,
    rows={"ticker_samples": 1, "trade_samples": 2, "l2_snap_metrics": 3, "l3_queue_metrics": 4},
    generations=5,
    epochs={"valid": 2, "degraded": 1},
    cycles=6,
    blockers={"SURPLUS": 7},
    orders={"filled": 1},
    orders_by_role={"entry": {"filled": 1}},
    fills=1,
    entries=[],
    protection=[
        ProtectionChange(symbol="ABC/USD", at=AT, protection="bare", position_qty=Decimal(1)),
        ProtectionChange(
            symbol="ABC/USD", at=AT + timedelta(seconds=1), protection="protected", position_qty=Decimal(1)
        ),
    ],
    processes={"ingest": {"feed": FEED}, "execution": {"live_feed": FEED}},
)
RUN = {
    "duration_s": 45.0,
    "symbols": 7,
    "seed": 3,
    "flow": "seeded",
    "profile": "edge",
    "settings_overrides": {"windows.short_s": 10.0},
    "failures": [],
}
PROMISED = {
    "duration_s",
    "symbols",
    "seed",
    "profile",
    "settings_overrides",
    "frames",
    "checksums",
    "rows",
    "generations",
    "epochs",
    "cycles",
    "blockers",
    "orders",
    "fills",
    "seconds",
    "protected_within_s",
    "ledger",
    "exchange",
    "ledger_equals_exchange",
    "orphan_orders",
    "exit_reason",
}


def report(collected: Collected = COLLECTED, exchange: TradingBook = BOOK, **run: Any) -> dict[str, Any]:
    return build_report(
        run={**RUN, **run},
        collected=collected,
        exchange=exchange,
        ended_at=AT + timedelta(seconds=4),
        exit_reason="duration",
    )


def test_every_promised_name_is_there_with_its_parts() -> None:
    found = report()

    assert found.keys() >= PROMISED
    assert found["symbols"] == 7
    assert found["frames"] == {"book": 12, "level3": 21}
    assert found["checksums"] == {"book_ok": 20, "book_bad": 0, "level3_ok": 40, "level3_bad": 0}
    assert found["rows"].keys() == {"ticker_samples", "trade_samples", "l2_snap_metrics", "l3_queue_metrics"}
    assert found["orders"] == {"filled": 1}
    assert found["seconds"].keys() >= {"protected", "guarded", "bare"}
    assert found["seconds"]["bare"] == 1.0
    assert found["seconds"]["protected"] == 3.0
    assert found["protected_within_s"] == {"p50": 1.0, "p99": 1.0, "max": 1.0}
    for side in ("ledger", "exchange"):
        assert found[side].keys() == {"orders", "fills", "balances"}
        assert all(part.keys() == {"count", "hash"} for part in found[side].values())
    assert found["ledger"] == found["exchange"]
    assert found["ledger_equals_exchange"] is True
    assert found["orphan_orders"] == 0
    assert found["exit_reason"] == "duration"
    assert json.loads(json.dumps(found)) == found


def test_a_clean_run_ends_with_zero() -> None:
    assert exit_status(report()) == 0


def test_a_run_without_fills_compares_nothing_and_ends_with_zero() -> None:
    found = report(evolve(COLLECTED, ledger=TradingBook()), TradingBook())

    assert found["ledger_equals_exchange"] is None
    assert exit_status(found) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"orphan_orders": 1},
        {"tie_out": {"tied_at": None, "unexplained": {"ABC": "1 that no ledger entry explains"}}},
        {"ledger_equals_exchange": False},
        {"failures": ["ingest ended with status 1"]},
        {"checksums": {"book_ok": 9, "book_bad": 1, "level3_ok": 9, "level3_bad": 0}},
        {"checksums": {"book_ok": 9, "book_bad": 0, "level3_ok": 9, "level3_bad": 1}},
    ],
)
def test_each_thing_that_is_wrong_alone_ends_non_zero(wrong: dict[str, Any]) -> None:
    assert exit_status({**report(), **wrong}) == 1


@pytest.mark.parametrize("name", ["book_bad", "level3_bad"])
@pytest.mark.parametrize("process", ["ingest", "execution"])
def test_a_bad_checksum_of_either_process_ends_non_zero(name: str, process: str) -> None:
    bad = {**FEED, name: 1}
    processes = {"ingest": {"feed": FEED}, "execution": {"live_feed": FEED}}
    processes[process] = {"feed" if process == "ingest" else "live_feed": bad}

    found = report(evolve(COLLECTED, processes=processes))

    assert found["checksums"][name] == 1
    assert exit_status(found) == 1


@pytest.mark.parametrize("side", ["ledger", "exchange"])
def test_an_orphan_on_either_side_ends_non_zero_even_without_a_fill(side: str) -> None:
    orphan = TradingBook(orders={"kbe2": OrderLine(cl_ord_id="kbe2", status=OPEN, cum_qty=Decimal(0))})
    ledger, exchange = (orphan, TradingBook()) if side == "ledger" else (TradingBook(), orphan)

    found = report(evolve(COLLECTED, ledger=ledger), exchange)

    assert found["orphan_orders"] == 1
    assert exit_status(found) == 1


def test_tie_out_of_the_status_is_told_and_a_difference_ends_non_zero() -> None:
    tied = {"tied_at": "2026-03-01T00:00:01+00:00", "unexplained": {}}
    untied = {"tied_at": None, "unexplained": {"ABC": "1 that no ledger entry explains"}}
    clean, wrong = (
        report(evolve(COLLECTED, processes={"execution": {"live_feed": FEED, "ledger": ledger}}))
        for ledger in (tied, untied)
    )

    assert "up to 2026-03-01T00:00:01+00:00" in render(clean)
    assert "tied out              not yet" in render(report())
    assert "tied out              NO: ABC: 1 that no ledger entry explains" in render(wrong)
    assert (0, 1) == (exit_status(clean), exit_status(wrong))


def test_a_failed_process_ends_non_zero_and_is_said() -> None:
    found = report(failures=["execution ended with status -9"])

    assert exit_status(found) == 1
    assert "failure             execution ended with status -9" in render(found)


def test_a_missing_fill_an_extra_order_and_a_wrong_fee_each_end_non_zero() -> None:
    missing = evolve(BOOK, fills={})
    extra = evolve(BOOK, orders={**BOOK.orders, "x": OrderLine(cl_ord_id="x", status="canceled", cum_qty=Decimal(0))})
    wrong = evolve(BOOK, fills={"E1": evolve(BOOK.fills["E1"], fee=Decimal("0.124"))})
    money = evolve(BOOK, balance_changes={"ABC": Decimal("0.5"), "USD": Decimal("-50.124")})

    for planted in (missing, extra, wrong, money):
        for ledger, exchange in ((planted, BOOK), (BOOK, planted)):
            found = report(evolve(COLLECTED, ledger=ledger), exchange)

            assert found["ledger_equals_exchange"] is False
            assert len(found["differences"]) == 1
            assert exit_status(found) == 1
            assert found["differences"][0] in render(found)
            assert "ledger = exchange     NO" in render(found)


def test_a_process_that_said_nothing_leaves_zeros() -> None:
    found = report(evolve(COLLECTED, processes={}))

    assert found["frames"] == {}
    assert found["checksums"] == {"book_ok": 0, "book_bad": 0, "level3_ok": 0, "level3_bad": 0}
    assert "frames" in render(found)


def test_the_page_for_people_says_that_it_is_no_evidence() -> None:
    page = render(report())

    assert NOT_EVIDENCE in page
    assert "windows.short_s = 10.0" in page
    assert "valid 2, degraded 1" in page
    assert "entry: filled 1" in page


def test_the_exchange_states_its_book_in_its_own_terms() -> None:
    order = {"cl_ord_id": "kbe1", "order_id": "O1", "status": "filled", "filled_qty": "0.50"}
    foreign = {"cl_ord_id": None, "order_id": "O2", "status": "partially_filled", "filled_qty": "0"}
    fill = {
        "exec_id": "E1",
        "cl_ord_id": "kbe1",
        "order_id": "O1",
        "price": "100.0",
        "qty": "0.50",
        "fee": "0.1250",
        "fee_asset": "USD",
    }
    account = {
        "name": "trader",
        "balances": {"ABC": "0.5", "USD": "949.875", "EUR": "0"},
        "orders": [order, foreign],
        "fills": [fill],
    }

    book = exchange_book({"accounts": [{"name": "other"}, account]}, "trader", {"USD": Decimal(1000)})

    assert evolve(book, orders={"kbe1": book.orders["kbe1"]}).summary() == BOOK.summary()
    assert book.open_orders() == {"O2"}
