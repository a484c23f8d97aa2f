"""Let REST requests in: read their parameters, check who signed them, count them, and hand them on.

The server makes a `RestCall` of every request. Whatever a client sends is answered or refused with a RestError.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from attrs import frozen

from krakenbot.adapters.local_exchange.clock_step import moved_params
from krakenbot.adapters.local_exchange.keys import PERMISSION_DENIED, SignedCall
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.protocol.fields import is_text
from krakenbot.adapters.local_exchange.protocol.rest_private import PrivateRest
from krakenbot.adapters.local_exchange.protocol.rest_public import Params, PublicRest, RestError

BAD_REQUEST = "EAPI:Bad request"


@frozen(kw_only=True)
class RestCall:
    """One request as it came; `path` is `/0/public/NAME` or `/0/private/NAME`, a body of None was too long.

    `received_ns` is when it came, None for now.
    """

    path: str
    body: bytes | None = b""
    query: Params
    content_type: str = ""
    api_key: str = ""
    signature: str = ""
    address: str = ""
    received_ns: int | None = None

    @property
    def name(self) -> str:
        """Return the endpoint's name."""
        return self.path.split("/", maxsplit=3)[-1]


class RestGate:
    """Every REST request passes here."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._public = PublicRest(exchange)
        self._private = PrivateRest(exchange)

    def enter(self, api_key: str) -> str | None:
        """Begin a private call; return the refusal when too many of a known key are under way."""
        if api_key not in self._exchange.keys.keys:
            return None
        return self._exchange.limits.enter(api_key, self._exchange.venue.now_ns)

    def leave(self, api_key: str) -> None:
        """End a private call that was let in."""
        if api_key in self._exchange.keys.keys:
            self._exchange.limits.leave(api_key)

    def public(self, call: RestCall) -> Any:
        """Return the result of a public call.

        Raises RestError with the venue's text.
        """
        params = call.query | parameters(call)
        refusal = self._exchange.limits.public_call(call.address, self._exchange.venue.now_ns)
        if refusal is not None:
            raise RestError(refusal)
        return self._public.answer(call.name, params)

    def private(self, call: RestCall) -> Any:
        """Return the result of a private call.

        Raises RestError with the venue's text.
        """
        params = parameters(call)
        limits, now_ns = self._exchange.limits, self._exchange.venue.now_ns
        refusal = limits.locked(call.api_key, now_ns)
        if refusal is not None:
            raise RestError(refusal)
        signed = SignedCall(
            api_key=call.api_key,
            signature=call.signature,
            path=call.path,
            body=call.body or b"",
            nonce=params.get("nonce", ""),
        )
        key = self._exchange.keys.authenticate(signed, now_ns)
        if isinstance(key, str):
            limits.failed(call.api_key, now_ns)
            raise RestError(key)
        if not key.allows(call.address):
            raise RestError(PERMISSION_DENIED)
        refusal = limits.private_call(key.api_key, key.account.tier, call.name, now_ns)
        if refusal is not None:
            raise RestError(refusal)
        if self._exchange.step_s:
            # After the signature was checked: it is over what the client wrote.
            params = moved_params(params, self._exchange.step_s)
        return self._private.answer(call.name, key, self._exchange.faults.paged(params), call.received_ns)


def parameters(call: RestCall) -> Params:
    """Return the parameters of a form or JSON body as texts.

    Raises RestError when the body is too long or cannot be read.
    """
    if call.body is None:
        raise RestError(BAD_REQUEST)
    try:
        text = call.body.decode()
        if call.content_type.startswith("application/json"):
            document = json.loads(text or "{}", parse_float=str, parse_int=str)
            if not isinstance(document, dict) or not is_text(document, text):
                raise RestError(BAD_REQUEST)
            return {name: _as_text(value) for name, value in document.items() if value is not None}
        return dict(parse_qsl(text, keep_blank_values=True))
    except (ValueError, RecursionError) as error:
        raise RestError(BAD_REQUEST) from error


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(_as_text(item) for item in value)
    return str(value)
