"""The decision cluster killed at a statement, connections cut around COMMIT, backends terminated."""

from __future__ import annotations

from tests.faults.orders.fault import OnCut, OrderFault, fills
from tests.faults.orders.proxy import Cut, Where
from tests.faults.orders.strike import Strike

ORDER, FILL = "INSERT INTO execution_orders", "INSERT INTO fills"
AROUND: tuple[Where, ...] = ("before", "answered")
PASSED_ON: tuple[Where, ...] = ("after",)
_KILLS: tuple[tuple[str, Where, str], ...] = (
    (ORDER, "after", ""),
    ("COMMIT", "before", ORDER),
    ("COMMIT", "answered", ORDER),
    (FILL, "after", ""),
    ("COMMIT", "before", FILL),
    ("COMMIT", "answered", FILL),
)
_STATEMENTS = (
    ("leases WHERE name = 'execution' FOR SHARE", "", 1),
    ("FROM refresh_requests WHERE generation_id IS NOT NULL", "", 1),
    (ORDER, "", 1),
    (ORDER, "", 2),
    ("COMMIT", ORDER, 1),
    ("UPDATE execution_orders", "", 1),
    ("INSERT INTO execution_order_events", "", 1),
    (FILL, "", 1),
    ("INSERT INTO positions", "", 1),
    ("COMMIT", FILL, 1),
)


def _cut(text: str, where: Where, inside: str = "", nth: int = 1) -> Cut:
    return Cut(text=text, where=where, inside=inside, nth=nth)


def _fault(what: str, cut: Cut, on_cut: OnCut) -> OrderFault:
    return OrderFault(name=f"{what} {cut.name}", cut=cut, on_cut=on_cut, helpers=(fills(100),), lives=((),))


_JOURNAL = ("journal.append:before", "journal.append:after", "journal.clear:before", "journal.clear:after")

FAULTS = (
    *(
        OrderFault(
            name=f"the decision cluster goes away with a fill, and kill -9 at {point}",
            lives=((Strike(point=point),),),
            helpers=(fills(100),),
            cut=_cut("COMMIT", "answered", FILL),
            on_cut="kill cluster",
            away_s=8.0,
        )
        for point in _JOURNAL
    ),
    *(
        _fault("kill -9 of the decision cluster", _cut(text, where, inside, nth), "kill cluster")
        for text, inside, nth in _STATEMENTS
        for where in (AROUND if text == "COMMIT" else PASSED_ON)
    ),
    *(
        _fault("the connection is cut", _cut("COMMIT", where, inside), "abort")
        for inside in (ORDER, FILL)
        for where in AROUND
    ),
    *(
        _fault("the backend is terminated", _cut(text, "before", inside), "terminate backend")
        for text, inside in ((ORDER, ""), ("COMMIT", ORDER), (FILL, ""), ("COMMIT", FILL))
    ),
    *(_fault("kill -9 of execution", _cut(text, where, inside), "kill execution") for text, where, inside in _KILLS),
)
