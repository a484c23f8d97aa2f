"""The private session: executions, balances and our requests on one connection, without a socket.

Enters: frames of ws-auth and requests of the order gateway. Leaves: frames to send, execution batches, replies and
faults. Made anew for every connection by private_stream.py, with a fresh token.

Order of a connection: the venue's `status`, our two subscriptions, their acknowledgements, both snapshots, then
updates. A break in `sequence`, an execution that cannot be read, silence or text that is not JSON end the connection:
the next one starts with a snapshot, and says that reports may have been missed. A balance that cannot be read is
counted and left out; orders don't wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, assert_never

from attrs import define, field, frozen

from krakenbot.adapters.kraken.codec import envelope
from krakenbot.adapters.kraken.codec.private import (
    BalancesMessage,
    ComplaintMessage,
    ExecutionsMessage,
    HeartbeatMessage,
    NotJsonError,
    Reply,
    StatusMessage,
    UnknownMessage,
    decode_frame,
    encode_request,
)
from krakenbot.adapters.kraken.errors import ErrorKind, error_kind
from krakenbot.domain.errors import VenueProtocolError, VenueUnavailable
from krakenbot.domain.execution.reports import ExecutionBatch
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import Asset

_SYSTEMS: Final = frozenset({"online", "post_only", "cancel_only", "maintenance"})
_SPOT: Final = "spot"
_SUBSCRIPTIONS: Final[dict[str, dict[str, bool]]] = {
    "executions": {"snap_orders": True, "snap_trades": True, "order_status": True, "ratecounter": True},
    "balances": {"snapshot": True},
}


@frozen(kw_only=True)
class PrivateSessionSettings:
    """Time limits in seconds and bounds of one session.

    `setup_timeout_s` is from the connection to both snapshots. `silence_timeout_s` is how long no frame at all may
    come: Kraken sends a heartbeat every second. `ping_interval_s` keeps the venue from closing an idle socket.
    """

    setup_timeout_s: float = 10.0
    silence_timeout_s: float = 5.0
    ping_interval_s: float = 30.0
    max_unanswered: int = 256


@frozen(kw_only=True)
class ProtocolFault:
    """Something that the venue's documentation does not allow; `what` holds no content of the frame."""

    what: str


PrivateEvent = ExecutionBatch | Reply | ProtocolFault


@define
class _Channel:
    """How far the subscription of one channel has come."""

    subscribe_id: int | None = None
    is_acknowledged: bool = False
    has_snapshot: bool = False
    sequence: int | None = None

    @property
    def is_live(self) -> bool:
        return self.is_acknowledged and self.has_snapshot


@define
class _Outgoing:
    req_id: int
    text: str = field(repr=False)


class PrivateSession:
    """One connection's protocol state; implements `protocol.session.Session`.

    `gap` goes into the first batch: True when an earlier connection has been lost. After each `receive` or
    `on_deadline` you must take `events`.
    """

    def __init__(self, *, token: Secret, gap: bool, settings: PrivateSessionSettings, now_mono: float) -> None:
        self._token = token
        self._gap = gap
        self._settings = settings
        self._outbox: list[_Outgoing] = []
        self._unanswered: dict[int, str] = {}
        self._events: list[PrivateEvent] = []
        self._next_req_id = 1
        self._channels = {name: _Channel() for name in _SUBSCRIPTIONS}
        self._wallets: dict[tuple[Asset, str, str], Decimal] = {}
        self._setup_deadline = now_mono + settings.setup_timeout_s
        self._last_frame_mono = now_mono
        self._next_ping_mono = now_mono + settings.ping_interval_s
        self._close_reason: str | None = None
        self._venue_status = "unknown"
        self._max_ratecount: int | None = None
        self._is_refused = False
        self._faults = 0

    @property
    def close_reason(self) -> str | None:
        """Return why the connection must be closed; None while it is good."""
        return self._close_reason

    @property
    def is_live(self) -> bool:
        """Tell whether both channels are subscribed and have given their snapshots."""
        return self._close_reason is None and all(channel.is_live for channel in self._channels.values())

    @property
    def has_execution_snapshot(self) -> bool:
        """Tell whether the executions snapshot of this connection has come."""
        return self._channels["executions"].has_snapshot

    @property
    def is_refused(self) -> bool:
        """Tell whether the venue refused a subscription, other than for the token's age or trouble of its own."""
        return self._is_refused

    @property
    def venue_status(self) -> str:
        """Return online, post_only, cancel_only, maintenance or unknown."""
        return self._venue_status

    @property
    def max_ratecount(self) -> int | None:
        """Return the threshold of the trading counter of this account; None until the subscription is answered."""
        return self._max_ratecount

    @property
    def faults(self) -> int:
        """Return how many protocol faults this connection has seen."""
        return self._faults

    def spot_amounts(self) -> dict[Asset, Decimal]:
        """Return what the spot wallets hold, by asset; holds of open orders are not taken off."""
        amounts: dict[Asset, Decimal] = {}
        for (asset, wallet_type, _), amount in self._wallets.items():
            if wallet_type == _SPOT:
                amounts[asset] = amounts.get(asset, Decimal(0)) + amount
        return amounts

    def events(self) -> list[PrivateEvent]:
        """Return and forget what has happened, in order."""
        events, self._events = self._events, []
        return events

    def request(self, method: str, params: Mapping[str, Any]) -> int:
        """Queue a trading request with the token and return its req_id; its Reply comes as an event.

        Raises: VenueUnavailable when the session is not live, or too many requests have no answer; nothing is
        queued then.
        """
        if not self.is_live:
            raise VenueUnavailable("the private stream is not live")
        if len(self._unanswered) >= self._settings.max_unanswered:
            self.close("too many requests without an answer")
            raise VenueUnavailable("too many requests without an answer")
        return self._queue(method, params)

    def withdraw(self, req_id: int) -> bool:
        """Take back a request that is still queued; False when its text has been handed to the socket."""
        for position, outgoing in enumerate(self._outbox):
            if outgoing.req_id == req_id:
                del self._outbox[position]
                self._unanswered.pop(req_id, None)
                return True
        return False

    def close(self, reason: str) -> None:
        """Ask for the end of the connection; the first reason stays."""
        if self._close_reason is None:
            self._close_reason = reason

    def to_send(self) -> list[str]:
        """Return and forget the frames to be sent, in order."""
        texts = [outgoing.text for outgoing in self._outbox]
        self._outbox.clear()
        return texts

    def next_deadline(self) -> float | None:
        """Return the monotonic time at which `on_deadline` wants to be called."""
        if self._close_reason is not None:
            return None
        deadline = min(self._last_frame_mono + self._settings.silence_timeout_s, self._next_ping_mono)
        return deadline if self.is_live else min(deadline, self._setup_deadline)

    def on_deadline(self, now_mono: float) -> None:
        """Check silence and set-up time, and send the ping that is due."""
        if now_mono >= self._last_frame_mono + self._settings.silence_timeout_s:
            self.close("no frame and no heartbeat in time")
        elif not self.is_live and now_mono >= self._setup_deadline:
            self.close("no snapshots in time")
        elif now_mono >= self._next_ping_mono:
            self._next_ping_mono = now_mono + self._settings.ping_interval_s
            req_id = self._take_req_id("ping")
            self._outbox.append(_Outgoing(req_id, envelope.encode_request("ping", None, req_id)))

    def receive(self, text: str | bytes, now_mono: float) -> None:
        """Take one frame as received; never raises for its content."""
        if self._close_reason is not None:
            return
        self._last_frame_mono = now_mono
        try:
            message = decode_frame(text)
        except NotJsonError as error:
            self._fault(str(error), close=True)
            return
        except VenueProtocolError as error:
            # it may have been an execution, and the next sequence number may be long in coming
            self._fault(str(error), close=True)
            return
        match message:
            case HeartbeatMessage():
                pass
            case StatusMessage(system=system):
                self._on_status(system)
            case Reply():
                self._on_reply(message)
            case ExecutionsMessage():
                self._on_executions(message)
            case BalancesMessage():
                self._on_balances(message)
            case ComplaintMessage(text=complaint):
                self._fault(f"venue complains: {complaint}")
            case UnknownMessage(name=name):
                self._fault(f"unknown {name}")
            case _:
                assert_never(message)

    def _on_status(self, system: str) -> None:
        self._venue_status = system if system in _SYSTEMS else "unknown"
        if self._channels["executions"].subscribe_id is None:
            for channel, options in _SUBSCRIPTIONS.items():
                self._channels[channel].subscribe_id = self._queue("subscribe", {"channel": channel, **options})

    def _queue(self, method: str, params: Mapping[str, Any]) -> int:
        req_id = self._take_req_id(method)
        self._outbox.append(
            _Outgoing(req_id, encode_request(method, {**params, "token": self._token.reveal()}, req_id)),
        )
        return req_id

    def _take_req_id(self, method: str) -> int:
        req_id = self._next_req_id
        self._next_req_id += 1
        self._unanswered[req_id] = method
        return req_id

    def _on_reply(self, reply: Reply) -> None:
        method = None if reply.req_id is None else self._unanswered.get(reply.req_id)
        expected = "pong" if method == "ping" else method
        if reply.req_id is None or method is None or reply.method != expected:
            self._fault("reply that answers no request of this connection")
            return
        del self._unanswered[reply.req_id]
        if not reply.is_success and reply.error is not None and error_kind(reply.error) is ErrorKind.SESSION:
            self.close(f"token refused: {reply.error}")
        if method == "subscribe":
            self._on_subscribed(reply)
        elif method != "ping":
            self._events.append(reply)

    def _on_subscribed(self, reply: Reply) -> None:
        for name, channel in self._channels.items():
            if channel.subscribe_id != reply.req_id:
                continue
            if not reply.is_success:
                # An error of the service itself says nothing of the key.
                passing = {ErrorKind.SESSION, ErrorKind.STATE_UNKNOWN}
                self._is_refused = error_kind(reply.error or "") not in passing
                self.close(f"subscription to {name} refused: {reply.error}")
            channel.is_acknowledged = reply.is_success
            if name == "executions":
                self._max_ratecount = reply.max_ratecount

    def _on_executions(self, message: ExecutionsMessage) -> None:
        if not self._is_in_sequence("executions", message.is_snapshot, message.sequence):
            return
        for fault in message.faults:
            self._fault(f"execution report not readable: {fault}", close=not message.is_snapshot)
        if message.faults and not message.is_snapshot:
            return
        # a snapshot with an unreadable row is still the best there is: used, and to be reconciled
        self._events.append(
            ExecutionBatch(
                reports=message.reports,
                is_snapshot=message.is_snapshot,
                gap=self._gap or bool(message.faults),
                sequence=message.sequence,
            )
        )
        self._gap = False

    def _on_balances(self, message: BalancesMessage) -> None:
        if not self._is_in_sequence("balances", message.is_snapshot, message.sequence):
            return
        for fault in message.faults:
            self._fault(f"balance not readable: {fault}")
        if message.is_snapshot:
            self._wallets.clear()
        for row in message.amounts:
            self._wallets[row.asset, row.wallet_type, row.wallet_id] = row.amount

    def _is_in_sequence(self, name: str, is_snapshot: bool, sequence: int | None) -> bool:
        channel = self._channels[name]
        if not channel.has_snapshot and not is_snapshot:
            self._fault(f"{name}: update before the snapshot", close=True)
            return False
        if channel.has_snapshot and channel.sequence is not None and sequence != channel.sequence + 1:
            self._fault(f"{name}: sequence {sequence} after {channel.sequence}", close=True)
            return False
        if sequence is None:
            self._fault(f"{name}: frame without sequence")
        channel.has_snapshot = True
        channel.sequence = sequence
        return True

    def _fault(self, what: str, *, close: bool = False) -> None:
        self._faults += 1
        self._events.append(ProtocolFault(what=what))
        if close:
            self.close(what)
