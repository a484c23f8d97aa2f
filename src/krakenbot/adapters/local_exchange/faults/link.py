"""Play faults on one WebSocket connection: on what it sends, what it receives, and on its life.

`Connection` hands every frame to `send` and every request to `carry` while the plan is armed, and runs `run`
beside its own loops. What the link lets through goes to the connection's queue.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol

import anyio
import msgspec
from attrs import frozen
from starlette.websockets import WebSocket

from krakenbot.adapters.local_exchange.digits import rfc3339_us
from krakenbot.adapters.local_exchange.faults import damage
from krakenbot.adapters.local_exchange.faults.frames import Names, classify_frame, classify_request
from krakenbot.adapters.local_exchange.faults.plan import FaultPlan, Strike
from krakenbot.adapters.local_exchange.faults.rules import Action, Event
from krakenbot.adapters.local_exchange.faults.transports import half_frame
from krakenbot.adapters.local_exchange.faults.vocabulary import Stage

LONGEST_SILENCE_NS: Final = 600 * 10**9
MAX_HELD: Final = 50_000
MAX_COPIES: Final = 1000
_encode = msgspec.json.Encoder().encode


@frozen
class Special:
    """A frame that is no plain text, or the end of a connection."""

    kind: Literal["binary", "halfway", "drop", "close"]
    text: str = ""
    code: int = 1000

    def __len__(self) -> int:
        return len(self.text)


Frame = str | Special
DROP: Final = Special("drop")


class Outlet(Protocol):
    """Where frames go that a link lets through."""

    def queue(self, frame: Frame) -> None:
        """Queue one frame for the socket."""


class Link:
    """The faults of one connection."""

    def __init__(self, plan: FaultPlan, path: str, outlet: Outlet, transport: asyncio.Transport | None) -> None:
        self.path = path
        self.is_deaf = False
        self._plan = plan
        self._name = plan.next_connection(path)
        self._outlet = outlet
        self._transport = transport
        self._is_mute = False
        self._is_swallowing: Literal["no", "acks", "all"] = "no"
        self._offsets: dict[str, int] = {}
        self._swapped: dict[tuple[str, frozenset[str]], list[Frame]] = {}
        self._held: list[tuple[int, int, Frame, bool]] = []
        self._stalled = 0
        self._numbers = itertools.count()
        self._out_until_ns = plan.stalled_until_ns(path, "out") if plan.is_armed else 0
        self._hear_at_ns = 0
        self._hearing = anyio.Event()
        self._changed = anyio.Event()
        if plan.is_armed and (until_ns := plan.stalled_until_ns(path, "in")):
            self.stall("in", until_ns)

    def send(self, text: str) -> None:
        """Take a frame that is to leave, and let pass what the rules leave of it."""
        if self._is_mute or self._is_swallowing == "all":
            return
        if self._is_plain():
            self._outlet.queue(text)
            return
        names, subjects = classify_frame(text)
        if self._is_swallowing == "acks" and "ack" in names:
            return
        strikes = self._plan.strike(Event(Stage.FRAME, names, self.path, subjects, self._name))
        self._renumber_by(names, strikes, text)
        if (offset := self._offsets.get(names[-1].partition(".")[0])) is not None:
            text = damage.renumber(text, offset)
        frames: list[Frame] = [text]
        delay_ns = 0
        for strike in strikes:
            if strike.action.name == "delay":
                delay_ns += strike.action.whole("duration")
            else:
                frames = self._frames_after(strike, frames, names, subjects)
        if "swap" not in (strike.action.name for strike in strikes):
            frames += self._swapped.pop((names[-1], subjects), [])
        self._let_go(frames, delay_ns)

    async def carry(self, text: str, received_ns: int, handle: Callable[[str, int], None]) -> None:
        """Let a request through to `handle`, late, changed, or not at all."""
        await self.hears()
        names, subjects, envelope = classify_request(text)
        strikes = self._plan.strike(Event(Stage.REQUEST, names, self.path, subjects, self._name))
        runs, after = True, []
        for strike in strikes:
            action = strike.action
            match action.name:
                case "delay":
                    await self._plan.wait_until_ns(self._plan.clock.now_ns() + action.whole("duration"))
                case "lose":
                    runs = False
                case "drop":
                    runs = False
                    self._outlet_end(DROP)
                case "refuse" if action.after_executing:
                    self._is_swallowing = "acks"
                    after.append(strike)
                case "refuse" | "answer_text":
                    runs = False
                    self._answer(action, envelope)
                case "run_then_drop":
                    self._is_swallowing = "all"
                    after.append(strike)
                case _:
                    self._affect(strike, at_once=True)
        if runs and not self._is_mute:
            handle(text, received_ns)
        self._is_swallowing = "no"
        for strike in after:
            if strike.action.name == "refuse":
                self._answer(strike.action, envelope)
            else:
                self._outlet_end(DROP)

    def opened(self) -> None:
        """Play the faults of a connection that was just accepted; its status frame comes next."""
        for strike in self._plan.strike(Event(Stage.OPEN, ("open",), self.path, frozenset(), self._name)):
            if strike.action.name == "drop":
                self._outlet_end(DROP)
            else:
                self._affect(strike)

    def end(self, frame: Special) -> None:
        """End the connection after what is queued."""
        self._outlet_end(frame)

    def silence(self) -> None:
        """Neither send nor hear any more, without a word; the connection is cut ten minutes later."""
        self._is_mute = True
        self._deafen(self._plan.clock.now_ns() + LONGEST_SILENCE_NS)

    def stall(self, way: str, until_ns: int) -> None:
        """Stand still in one direction; what waits goes on afterwards, in order."""
        if way == "in":
            self._deafen(until_ns)
        else:
            self._out_until_ns = max(self._out_until_ns, until_ns)

    async def hears(self) -> None:
        """Wait while the connection is deaf."""
        while self.is_deaf:
            await self._hearing.wait()

    async def run(self) -> None:
        """Release what was held back at its time; ends by cancellation."""
        self._plan.links[self] = None
        while True:
            self._changed = anyio.Event()
            self._release()
            due = [self._held[0][0]] if self._held else []
            if self.is_deaf:
                due.append(self._hear_at_ns)
            await self._plan.wait_for(self._changed, min(due, default=None))

    async def send_special(self, socket: WebSocket, frame: Special) -> None:
        """Put a special frame on the socket."""
        match frame.kind:
            case "binary":
                await socket.send_bytes(frame.text.encode())
            case "close":
                await socket.close(frame.code)
            case "halfway" if self._transport is not None:
                self._transport.write(half_frame(frame.text))
                self._transport.close()
            case _ if self._transport is not None:
                self._transport.abort()
            case _:
                await socket.close(1006)

    def abort(self) -> None:
        """Cut the connection at once."""
        self._is_mute = True
        self._hear_again()
        if self._transport is not None:
            self._transport.abort()

    def forget(self) -> None:
        """Forget a connection that has ended."""
        self._plan.links.pop(self, None)
        self._held.clear()
        self._swapped.clear()

    def _is_plain(self) -> bool:
        """Tell whether nothing can happen to a frame, so that it need not be looked at."""
        if self._plan.acts_on_frames or self._is_swallowing != "no" or self._out_until_ns:
            return False
        return not (self._held or self._offsets or self._swapped)

    def _frames_after(self, strike: Strike, frames: list[Frame], names: Names, subjects: frozenset[str]) -> list[Frame]:
        """Return what one strike leaves of the frames."""
        action = strike.action
        if damage.is_damage(action):
            return [self._damaged(strike, frame) for frame in frames]
        texts = [frame for frame in frames if isinstance(frame, str)]
        match action.name:
            case "lose":
                return []
            case "duplicate":
                return frames * (1 + min(action.whole("count", 1), MAX_COPIES))
            case "swap":
                self._swapped.setdefault((names[-1], subjects), []).extend(frames)
                return []
            case "binary":
                return [Special("binary", text) for text in texts]
            case "insert_text":
                return [action.text("text"), *frames]
            case "insert_update":
                updates = [update for text in texts if (update := damage.as_update(text)) is not None]
                if not updates:
                    strike.had_no_effect()
                return [*updates, *frames]
            case "drop":
                return [DROP]
            case "drop_halfway":
                return [Special("halfway", text) for text in texts[:1]]
            case "close":
                return [Special("close", code=action.whole("code", 1000))]
            case "skip_sequence" | "restart_sequence":
                return frames
            case _:
                self._affect(strike)
                return [] if self._is_mute else frames

    def _damaged(self, strike: Strike, frame: Frame) -> Frame:
        if isinstance(frame, str):
            changed = damage.damage(strike.action, frame)
            if changed is not None:
                return changed
        strike.had_no_effect()
        return frame

    def _renumber_by(self, names: Names, strikes: list[Strike], text: str) -> None:
        """Move the sequence of a channel, from this frame on."""
        channel = names[-1].partition(".")[0]
        if names[-1].endswith(".snapshot"):
            self._offsets.pop(channel, None)
        for strike in strikes:
            if strike.action.name not in ("skip_sequence", "restart_sequence"):
                continue
            sequence = damage.sequence_of(text)
            if sequence is None:
                strike.had_no_effect()
            elif strike.action.name == "skip_sequence":
                self._offsets[channel] = self._offsets.get(channel, 0) + strike.action.whole("count")
            else:
                self._offsets[channel] = 1 - sequence

    def _affect(self, strike: Strike, *, at_once: bool = False) -> None:
        """Play an action that is about connections or the venue."""
        action = strike.action
        match action.name:
            case "silence":
                self.silence()
            case "close":
                self._outlet_end(Special("close", code=action.whole("code", 1000)))
            case _ if at_once:
                self._plan.play(strike)
            case _:
                self._plan.schedule(strike)

    def _let_go(self, frames: list[Frame], delay_ns: int) -> None:
        if not frames:
            return
        now_ns = self._plan.clock.now_ns()
        is_stalled = now_ns < self._out_until_ns or self._stalled > 0
        due_ns = max(now_ns + delay_ns, self._out_until_ns if is_stalled else 0)
        for frame in frames:
            if due_ns > now_ns or is_stalled:
                heapq.heappush(self._held, (due_ns, next(self._numbers), frame, is_stalled))
                self._stalled += is_stalled
            else:
                self._leave(frame)
        if len(self._held) > MAX_HELD:
            self._held.clear()
            self._outlet_end(DROP)
        self._changed.set()

    def _release(self) -> None:
        now_ns = self._plan.clock.now_ns()
        while self._held and self._held[0][0] <= now_ns:
            _due, _number, frame, is_stalled = heapq.heappop(self._held)
            self._stalled -= is_stalled
            self._leave(frame)
        if self.is_deaf and self._hear_at_ns <= now_ns:
            if self._is_mute:
                self.abort()
            self._hear_again()

    def _leave(self, frame: Frame) -> None:
        if self._is_mute:
            return
        if isinstance(frame, Special) and frame.kind != "binary":
            self._is_mute = True
        self._outlet.queue(frame)

    def _outlet_end(self, frame: Special) -> None:
        self._leave(frame)
        self._hear_again()

    def _answer(self, action: Action, envelope: dict[str, Any]) -> None:
        if action.name == "answer_text":
            self.send(action.text("text"))
            return
        now = rfc3339_us(self._plan.clock.now_ns())
        answer = {"error": action.text("text"), "success": False, "time_in": now, "time_out": now}
        self.send(_encode(envelope | answer).decode())

    def _deafen(self, until_ns: int) -> None:
        self.is_deaf = True
        self._hear_at_ns = max(self._hear_at_ns, until_ns)
        self._hearing = anyio.Event()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._changed.set()

    def _hear_again(self) -> None:
        if not self.is_deaf:
            return
        self.is_deaf = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._hearing.set()
