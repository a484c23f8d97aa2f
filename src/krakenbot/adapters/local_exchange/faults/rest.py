"""Play faults on REST: before a request is carried out, after it, and on the answer's way.

The server calls `play` with a function that carries the request out, once the plan is armed.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import anyio.lowlevel
from attrs import define, field
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from krakenbot.adapters.local_exchange.faults import damage
from krakenbot.adapters.local_exchange.faults.plan import FaultPlan, Strike
from krakenbot.adapters.local_exchange.faults.rules import Action, Event
from krakenbot.adapters.local_exchange.faults.vocabulary import Stage
from krakenbot.adapters.local_exchange.web import json_response

HANG_NS: Final = 120 * 10**9
TURNS_TO_CLOSE: Final = 5
REASONS: Final = {
    429: "Too Many Requests",
    502: "Bad gateway",
    503: "Service Temporarily Unavailable",
    504: "Gateway time-out",
    520: "Web server is returning an unknown error",
}
Execute = Callable[[], bytes]


def html(status: int) -> Response:
    """Return the page that stands in front of the venue when it is down."""
    reason = REASONS.get(status, "Error")
    page = f"<!DOCTYPE html><html><head><title>{status}: {reason}</title></head><body><h1>{reason}</h1></body></html>"
    return Response(page, status_code=status, media_type="text/html")


class CutResponse(Response):
    """An answer that breaks off: `share` of its body is sent, then the connection is cut; None sends nothing."""

    def __init__(self, plan: FaultPlan, content: bytes = b"", share: float | None = None) -> None:
        super().__init__(content, media_type="application/json")
        self._plan = plan
        self._share = share

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what shall arrive, and cut."""
        transport = self._plan.transports.of(scope)
        if self._share is not None:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            part = self.body[: int(len(self.body) * self._share)]
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if transport is not None:
            # What was written still goes out; an abort would throw it away.
            transport.close() if self._share is not None else transport.abort()
        # The server has to see that the connection is gone before the answer ends.
        while (await receive())["type"] != "http.disconnect":
            await anyio.lowlevel.checkpoint()


@define
class _Play:
    """What the strikes on one request add up to."""

    replaced: Response | None = None
    changes: list[Strike] = field(factory=list)
    cuts: float | None = None
    is_dropped: bool = False
    gzips: bool = False
    hangs: bool = False
    page_shift: int = 0


class RestFaults:
    """The faults of one exchange's REST side."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan

    async def play(self, request: Request, execute: Execute) -> Response:
        """Answer a request as the rules say."""
        name = request.path_params["name"]
        subjects = frozenset(value for key, value in request.query_params.items() if key == "pair")
        strikes = self._plan.strike(Event(Stage.REST, ("rest", name), None, subjects, "rest"))
        play = _Play()
        for strike in strikes:
            before = await self._before(strike, play)
            if before is not None:
                return before
        if not strikes:
            return Response(execute(), media_type="application/json")
        self._plan.page_shift = play.page_shift
        content = execute()
        self._plan.page_shift = 0
        if play.hangs:
            await self._plan.wait_until_ns(self._plan.clock.now_ns() + HANG_NS)
            return CutResponse(self._plan)
        if play.is_dropped:
            return CutResponse(self._plan)
        if play.replaced is not None:
            return play.replaced
        content = self._changed(content, play.changes, name)
        if play.cuts is not None:
            return CutResponse(self._plan, content, play.cuts)
        if play.gzips:
            packed = bytearray(gzip.compress(content))
            # A wrong checksum at the end is an error for every content; lost bits may look like a text that goes on.
            packed[-8] ^= 0xFF
            return Response(bytes(packed), media_type="application/json", headers={"Content-Encoding": "gzip"})
        return Response(content, media_type="application/json")

    async def _before(self, strike: Strike, play: _Play) -> Response | None:
        """Play a strike before the request is carried out; return the answer when there is nothing more to do."""
        action = strike.action
        match action.name:
            case "delay":
                await self._plan.wait_until_ns(self._plan.clock.now_ns() + action.whole("duration"))
            case "hang" if not action.after_executing:
                await self._plan.wait_until_ns(self._plan.clock.now_ns() + HANG_NS)
                return CutResponse(self._plan)
            case "hang":
                play.hangs = True
            case "drop":
                return CutResponse(self._plan)
            case "run_then_drop":
                play.is_dropped = True
            case "drop_halfway":
                play.cuts = 0.5
            case "damage_gzip":
                play.gzips = True
            case "shift_pages":
                play.page_shift += action.whole("count")
            case "hide" | "set" | "remove":
                play.changes.append(strike)
            case "refuse" | "answer_text" | "answer_status" | "answer_html" | "answer_empty":
                answer = _answer(action)
                if not action.after_executing:
                    return answer
                play.replaced = answer
            case _:
                self._plan.play(strike)
        return None

    def _changed(self, content: bytes, changes: list[Strike], name: str) -> bytes:
        text = content.decode()
        for strike in changes:
            if strike.action.name == "hide":
                changed = self._hidden(strike.action, text, name)
            else:
                changed = damage.damage(strike.action, text)
            if changed is None:
                strike.had_no_effect()
            else:
                text = changed
        return text.encode()

    def _hidden(self, action: Action, text: str, name: str) -> str | None:
        """Return an answer without orders or fills that are too new; None when it has none of those."""
        document = damage.loads(text)
        result = document.get("result") if isinstance(document, dict) else None
        if not isinstance(result, dict):
            return None
        is_fills = action.text("what") == "fills"
        time, groups = ("time", ["trades"]) if is_fills else ("opentm", ["open", "closed"])
        rows = next((result[group] for group in groups if isinstance(result.get(group), dict)), None)
        rows = result if rows is None and name in ("QueryOrders", "QueryTrades") else rows
        if rows is None:
            return None
        since_ns = self._plan.clock.now_ns() - action.whole("duration")
        hidden = [key for key, row in rows.items() if _moment_ns(row, time) > since_ns]
        for key in hidden:
            del rows[key]
        if isinstance(result.get("count"), str):
            result["count"] = damage.number(int(result["count"]) - len(hidden))
        if rows is result and not rows and hidden:
            document = {"error": ["EOrder:Unknown order"]}
        return damage.dumps(document) if hidden else None


async def refused_upgrade(plan: FaultPlan, websocket: WebSocket, path: str) -> bool:
    """Play the faults of an upgrade; tell whether the connection is over with it."""
    for strike in plan.strike(Event(Stage.UPGRADE, ("upgrade",), path, frozenset(), f"{path} -")):
        if strike.action.name not in ("answer_status", "drop"):
            plan.play(strike)
            continue
        transport = plan.transports.of(websocket.scope)
        if strike.action.name == "answer_status":
            await websocket.send_denial_response(html(strike.action.whole("status")))
        elif transport is not None:
            transport.abort()
        # uvicorn reports an application that returns before it has seen that the connection is gone.
        for _ in range(TURNS_TO_CLOSE):
            await anyio.lowlevel.checkpoint()
        return True
    return False


def _answer(action: Action) -> Response:
    match action.name:
        case "refuse":
            return json_response({"error": [action.text("text")]})
        case "answer_text":
            return Response(action.text("text"), media_type="application/json")
        case "answer_status":
            return html(action.whole("status"))
        case "answer_html":
            return html(200)
        case _:
            return Response(b"", media_type="application/json")


def _moment_ns(row: Any, name: str) -> int:
    seconds = row.get(name) if isinstance(row, dict) else None
    return int(Decimal(seconds) * 10**9) if isinstance(seconds, str) else 0
