"""kill -9 at each named point between plan and end of an order, and again during the recovery from it."""

from __future__ import annotations

from tests.faults.orders.fault import SALES, OrderFault, fills
from tests.faults.orders.strike import Strike

_ENTRY = (
    ("store.insert_entry:before", "", 1),
    ("store.insert_entry:after", "", 1),
    ("store.apply:before", "submit_sent", 1),
    ("store.apply:after", "submit_sent", 1),
    ("gateway.submit:before", "entry", 1),
    ("gateway.submit:after", "entry", 1),
    ("feed.batch:before", "pending_new", 1),
    ("feed.batch:before", "new", 1),
    ("feed.batch:after", "new", 1),
    ("store.apply:before", "report_new", 1),
    ("store.apply:after", "report_new", 1),
)
_FILLED = (
    ("feed.batch:before", "trade", 1),
    ("feed.batch:after", "trade", 1),
    ("feed.batch:before", "filled", 1),
    ("store.apply:before", "fill", 1),
    ("store.apply:after", "fill", 1),
    ("store.apply:before", "closed", 1),
    ("store.apply:after", "closed", 1),
    ("gateway.submit:before", "protective_stop", 1),
    ("gateway.submit:after", "protective_stop", 1),
    ("store.apply:after", "protective_stop", 1),
)
_PARTS = (
    ("store.apply:before", "fill", 2),
    ("store.apply:after", "fill", 2),
    ("gateway.amend:before", "protective_stop", 1),
    ("gateway.amend:after", "protective_stop", 1),
)
_CANCELLED = (
    ("gateway.cancel:before", "entry", 1),
    ("gateway.cancel:after", "entry", 1),
    ("feed.batch:before", "canceled", 1),
    ("store.apply:before", "closed", 1),
    ("lease.release:before", "", 1),
)
_REPLACED = (
    ("store.apply:before", "row", 1),
    ("store.apply:after", "row", 1),
    ("gateway.submit:before", "protective_stop", 2),
    ("gateway.submit:after", "protective_stop", 2),
)
_RECOVERY = (
    ("lease.acquire:after", ""),
    ("store.load_live:before", ""),
    ("store.load_live:after", ""),
    ("query.instruments:after", ""),
    ("feed.open:before", ""),
    ("feed.batch:before", "snapshot"),
    ("feed.batch:after", "snapshot"),
    ("query.open_orders:before", ""),
    ("query.open_orders:after", ""),
    ("query.closed_orders:after", ""),
    ("query.fills:after", ""),
    ("query.balances:before", ""),
    ("store.apply:before", ""),
    ("store.apply:after", ""),
    ("store.apply:before", "fill"),
    ("gateway.submit:before", "protective_stop"),
    ("gateway.submit:after", "protective_stop"),
)
STOP_GONE = Strike(
    point="gateway.submit:after",
    only="protective_stop",
    action="rules",
    rules=("after 800 ms: cancel orders of {account}",),
)
TOLD = Strike(point="gateway.submit:after", only="entry", action="terminate")


def _at(point: str, only: str = "", nth: int = 1) -> Strike:
    return Strike(point=point, only=only, nth=nth)


def _fault(strike: Strike, *helpers: Strike, among: str = "") -> OrderFault:
    return OrderFault(name=f"kill -9 at {strike.text}{among}", lives=((strike,),), helpers=helpers)


FAULTS = (
    *(_fault(_at(*point)) for point in _ENTRY),
    *(_fault(_at(*point), fills(100)) for point in _FILLED),
    *(
        OrderFault(name=f"kill -9 at {strike.text}", lives=((strike,),), helpers=(fills(100),), settings=SALES[role])
        for role in SALES
        for strike in (_at("gateway.submit:before", role), _at("gateway.submit:after", role))
    ),
    *(_fault(_at(*point), fills(30, 30, every_ms=2600), among=", entry filled in parts") for point in _PARTS),
    *(_fault(_at(*point), TOLD, among=", in a clean stop") for point in _CANCELLED),
    *(_fault(_at(*point), fills(100), STOP_GONE, among=", the stop was cancelled") for point in _REPLACED),
    *(
        OrderFault(
            name=f"kill -9 after the ack of an entry that fills meanwhile, then at {strike.text}",
            lives=((_at("gateway.submit:after", "entry"),), (strike,)),
            helpers=(fills(60, first_ms=200),),
        )
        for strike in (_at(*point) for point in _RECOVERY)
    ),
)
