"""Name what a fault script may speak of: places, actions with their words, and values.

The parser reads these tables, and `docs/faults.md` lists them. A place is a point that a message passes; an
action is what happens there. `SCOPES` says which actions fit which kind of place.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import product
from typing import Final

from attrs import frozen

PATHS: Final = ("public", "private", "level3")
CHANNELS: Final = ("ticker", "trade", "book", "instrument", "level3", "executions", "balances")
EXEC_TYPES: Final = ("pending_new", "new", "trade", "filled", "canceled", "expired", "amended", "restated", "status")
METHODS: Final = (
    "subscribe",
    "unsubscribe",
    "ping",
    "add_order",
    "amend_order",
    "cancel_order",
    "cancel_all",
    "cancel_all_orders_after",
)
ENDPOINTS: Final = (
    *("Time", "SystemStatus", "Assets", "AssetPairs", "Ticker", "Depth", "Trades"),
    *("GetWebSocketsToken", "GetApiKeyInfo", "Balance", "BalanceEx", "TradeVolume", "OpenOrders", "ClosedOrders"),
    *("QueryOrders", "TradesHistory", "QueryTrades", "Ledgers", "AddOrder", "AmendOrder", "CancelOrder"),
    *("CancelAll", "CancelAllOrdersAfter"),
)
SYSTEM_MODES: Final = ("online", "post_only", "cancel_only", "maintenance")
PAIR_STATUSES: Final = (
    *("cancel_only", "delisted", "limit_only", "maintenance", "online", "post_only", "reduce_only"),
    "work_in_progress",
)
NOISE: Final = frozenset({"the", "a", "an"})
UNITS_NS: Final = {"ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}


class Stage(StrEnum):
    """The kinds of points at which a fault can strike."""

    ACCEPT = "accept"
    UPGRADE = "upgrade"
    OPEN = "open"
    REQUEST = "request"
    FRAME = "frame"
    REST = "rest"
    NOW = "now"


@frozen
class Place:
    """A point by stage and name; `path` None means any WebSocket path."""

    stage: Stage
    name: str
    path: str | None = None


def _frame_names() -> list[str]:
    names = ["frame", "status", "heartbeat", "pong", "ack"]
    names.extend(f"{method}.ack" for method in METHODS if method != "ping")
    for channel in CHANNELS:
        names.extend((channel, f"{channel}.snapshot", f"{channel}.update"))
    names.extend(f"executions.{exec_type}" for exec_type in EXEC_TYPES)
    return names


def _places() -> dict[str, Place]:
    places = {"accept": Place(Stage.ACCEPT, "accept"), "rest": Place(Stage.REST, "rest")}
    places |= {f"rest.{name}": Place(Stage.REST, name) for name in ENDPOINTS}
    stages = [(Stage.FRAME, name) for name in _frame_names()]
    stages += [(Stage.REQUEST, name) for name in (*METHODS, "request")]
    stages += [(Stage.UPGRADE, "upgrade"), (Stage.OPEN, "open")]
    for (stage, name), path in product(stages, (None, *PATHS)):
        places[name if path is None else f"{path}.{name}"] = Place(stage, name, path)
    return places


PLACES: Final = _places()
"""Every place by its name in a script, with and without the path in front."""

_EVENTS = frozenset({Stage.REQUEST, Stage.FRAME, Stage.REST})
_FRAME = frozenset({Stage.FRAME})
_BODY = frozenset({Stage.FRAME, Stage.REST})
_LINK = frozenset({Stage.OPEN, Stage.REQUEST, Stage.FRAME, Stage.NOW})
_REST = frozenset({Stage.REST})
_VENUE = frozenset({Stage.REQUEST, Stage.FRAME, Stage.REST, Stage.NOW, Stage.OPEN})


@frozen
class Pattern:
    """One way to word an action: literal words, `<name:type>` slots, optional groups in brackets."""

    action: str
    words: str
    scopes: frozenset[Stage]


PATTERNS: Final = (
    # The connection.
    Pattern("drop", "drop [connection]", frozenset(Stage) - {Stage.NOW}),
    Pattern("drop_path", "drop <path:path>", _LINK),
    Pattern("drop_halfway", "drop halfway", _BODY),
    Pattern("run_then_drop", "accept then drop [connection]", frozenset({Stage.REQUEST, Stage.REST})),
    Pattern("close", "close [connection] [with code <code:int>]", _LINK - {Stage.NOW}),
    Pattern("close_path", "close <path:path> [with code <code:int>]", _LINK),
    Pattern("silence", "silence [connection]", (_LINK - {Stage.NOW}) | {Stage.ACCEPT}),
    Pattern("silence_path", "silence <path:path>", _LINK),
    Pattern("stall", "stall <path:path> <way:way> [for <duration:duration>]", _LINK),
    # Answers in place of the usual one.
    Pattern("refuse", "refuse <text:text> [after executing]", frozenset({Stage.REQUEST, Stage.REST})),
    Pattern("answer_text", "answer text <text:text>", frozenset({Stage.REQUEST, Stage.REST})),
    Pattern("answer_status", "answer <status:int> [after executing]", frozenset({Stage.UPGRADE, Stage.REST})),
    Pattern("answer_html", "answer html [after executing]", _REST),
    Pattern("answer_empty", "answer empty [after executing]", _REST),
    Pattern("damage_gzip", "damage gzip", _REST),
    Pattern("hang", "hang [after executing]", _REST),
    Pattern("hide", "hide <what:hidden> for <duration:duration>", _REST),
    Pattern("shift_pages", "shift pages by <count:int>", _REST),
    # Whole messages.
    Pattern("lose", "lose [<place:place>]", frozenset({Stage.REQUEST, Stage.FRAME})),
    Pattern("delay", "delay [<place:place>] by <duration:duration>", _EVENTS),
    Pattern("duplicate", "duplicate [<place:place>] [<count:int> times]", _FRAME),
    Pattern("swap", "swap [<place:place>] with next", _FRAME),
    Pattern("binary", "send as binary", _FRAME),
    Pattern("insert_text", "insert text <text:text>", _FRAME),
    Pattern("insert_update", "insert update", _FRAME),
    # The content of a message.
    Pattern("corrupt_checksum", "corrupt checksum", _FRAME),
    Pattern("truncate", "truncate [<place:place>]", _FRAME),
    Pattern("replace_text", "replace with text <text:text>", _FRAME),
    Pattern("bloat", "bloat to <count:int> kb", _FRAME),
    Pattern("double_rows", "double rows", _FRAME),
    Pattern("keep_only", "keep only <names:names>", _FRAME),
    Pattern("set", "set <field:word> to <value:value>", _BODY),
    Pattern("remove", "remove <field:word>", _BODY),
    Pattern("shift_timestamps", "shift timestamps by <duration:duration>", _FRAME),
    Pattern("skip_sequence", "skip sequence by <count:int>", _FRAME),
    Pattern("restart_sequence", "restart sequence", _FRAME),
    Pattern("cross_book", "cross book", _FRAME),
    Pattern("empty_book", "empty book", _FRAME),
    Pattern("unknown_level", "remove unknown level", _FRAME),
    Pattern("overflow_depth", "overflow depth", _FRAME),
    # The venue itself.
    Pattern("mode", "mode <mode:mode>", _VENUE),
    Pattern("cancel_order", "cancel order of <account:name> [reason <text:text>]", _VENUE),
    Pattern("cancel_orders", "cancel orders of <account:name> [reason <text:text>]", _VENUE),
    Pattern(
        "place_order", "place order of <account:name> <side:side> <qty:number> <symbol:word> at <price:number>", _VENUE
    ),
    Pattern("fill_order", "fill [<percent:number> % of] order of <account:name>", _VENUE),
    Pattern("dead_man", "fire dead-man-switch of <account:name>", _VENUE),
    Pattern("expire_tokens", "expire tokens", _VENUE),
    Pattern("revoke_key", "revoke key <key:name>", _VENUE),
    Pattern("balance", "change balance of <account:name> by <amount:number> <asset:word>", _VENUE),
    Pattern("pair_status", "instrument <symbol:word> status <status:status>", _VENUE),
    Pattern("pair_price_step", "instrument <symbol:word> price step <price:number>", _VENUE),
    Pattern("pair_minimum", "instrument <symbol:word> minimum <qty:number>", _VENUE),
    Pattern("fees", "fees of <account:name> maker <maker:number> taker <taker:number> bps", _VENUE),
)

WORD_LISTS: Final = {
    "path": PATHS,
    "way": ("in", "out"),
    "hidden": ("orders", "fills"),
    "mode": SYSTEM_MODES,
    "side": ("buy", "sell"),
    "status": PAIR_STATUSES,
    "place": tuple(PLACES),
}
"""Slot types that take one word out of a list."""
