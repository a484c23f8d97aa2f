from __future__ import annotations

import pytest

from krakenbot.adapters.kraken.errors import ErrorKind, error_kind, order_error, read_error
from krakenbot.domain.errors import OutcomeUnknown, VenueRejected, VenueUnavailable

STATE_UNKNOWN = [
    "EService:Unavailable",
    "EService:Busy",
    "EService:Deadline elapsed",
    "EGeneral:Internal error",
    "EGeneral:Internal error:42",
    "EService:A word of tomorrow",
]
REFUSED = [
    "EOrder:Insufficient funds",
    "EOrder:Order minimum not met",
    "EOrder:Post only order",
    "EOrder:Unknown order",
    "EOrder:Tick size check failed",
    "EGeneral:Invalid arguments:volume minimum not met",
    "EService:Market in cancel_only mode",
    "EService:Market in post_only mode",
    "Limit_price field must be a number_float",
    "Currency pair not supported XBT/USD",
    "EBM:limit exceeded:CAL",
    "EAPI:Feature disabled",
    "",
]
RATE = [
    "EAPI:Rate limit exceeded",
    "EOrder:Rate limit exceeded",
    "EOrder:Domain rate limit exceeded",
    "EAuth:Rate limit exceeded",
    "EAuth:Too many requests",
    "EService: Throttled: 1800000000",
]
CREDENTIALS = [
    "EAPI:Invalid key",
    "EAPI:Invalid signature",
    "EGeneral:Permission denied",
    "EAccount:Invalid permissions:trade",
    "EAuth:Account temporary disabled",
    "EAuth:Failed",
]


@pytest.mark.parametrize("text", [*STATE_UNKNOWN, "EMatching:Backlog", "EGeneral:A word of tomorrow"])
def test_order_with_unknown_state_is_never_a_rejection(text: str):
    error = order_error(text, "kb1")

    assert isinstance(error, OutcomeUnknown)
    assert ("kb1", text) == (error.cl_ord_id, error.cause)


@pytest.mark.parametrize("text", [*REFUSED, *RATE, *CREDENTIALS, "EAPI:Invalid nonce", "Token(s) not found"])
def test_definite_refusal_of_an_order_is_a_rejection_with_the_venues_words(text: str):
    error = order_error(text, "kb1")

    assert isinstance(error, VenueRejected)
    assert text == error.reason


@pytest.mark.parametrize("text", [*STATE_UNKNOWN, *RATE, "EGeneral:Temporary lockout", "ESession:Invalid session"])
def test_read_that_may_be_tried_again_is_unavailable(text: str):
    assert isinstance(read_error(text), VenueUnavailable)


@pytest.mark.parametrize("text", [*REFUSED, *CREDENTIALS, "EAPI:Invalid nonce"])
def test_read_that_stays_a_no_is_rejected(text: str):
    assert isinstance(read_error(text), VenueRejected)


@pytest.mark.parametrize("text", CREDENTIALS)
def test_credentials_are_told_apart_from_network(text: str):
    assert ErrorKind.CREDENTIALS is error_kind(text)


def test_rate_limit_of_auth_is_not_taken_for_bad_credentials() -> None:
    assert ErrorKind.RATE is error_kind("EAuth:Rate limit exceeded")
