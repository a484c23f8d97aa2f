"""The reports that wait for their order: which of them goes when there is no room, and in what order they come back."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

from krakenbot.domain.execution.orphans import Orphans


def test_oldest_report_makes_room_and_the_others_come_back_in_the_order_in_which_they_came(make):
    orphans = Orphans(waiting_max=3, foreign_max=10)
    reports = [make.report("canceled", order_id=f"O-{number}", reason=str(number)) for number in range(4)]
    dropped = [orphans.keep(report) for report in reports]

    assert [None, None, None, reports[0]] == dropped
    assert reports[1:3] == orphans.take(lambda report: report.order_id != "O-3")
    assert reports[3:] == orphans.take(lambda report: True)
    assert (0, 1) == (len(orphans), orphans.dropped)


def test_trade_that_names_its_symbol_waits_for_its_order_and_a_first_row_without_our_id_does_not(make):
    orphans = Orphans(waiting_max=10, foreign_max=10)
    orphans.keep(make.trade("E-1", "1", symbol="ABC/USD"))
    waiting = len(orphans)
    orphans.keep(make.report("pending_new", order_id="O-2", symbol="ABC/USD"))
    orphans.keep(make.report("canceled", order_id="O-2"))

    assert (1, 1, 2) == (waiting, len(orphans), orphans.foreign_reports)


def test_report_that_comes_twice_waits_once(make):
    orphans = Orphans(waiting_max=10, foreign_max=10)
    for _ in range(2):
        orphans.keep(make.report("new"))

    assert 1 == len(orphans)
