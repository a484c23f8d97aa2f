from __future__ import annotations

import copy
import json
import logging
import pickle

import pytest
from attrs import asdict, frozen

from krakenbot.domain.secret import Secret

CANARY = "canary-7f3a"


@frozen(kw_only=True)
class Holder:
    secret: Secret


def test_secret_is_masked_wherever_it_is_printed() -> None:
    secret = Secret(CANARY)

    printed = [repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", "%s %r" % (secret, secret), repr([secret])]  # noqa: UP031

    assert [] == [text for text in printed if CANARY in text]
    assert "****" == str(secret)


def test_secret_is_masked_inside_records() -> None:
    holder = Holder(secret=Secret(CANARY))

    assert CANARY not in repr(holder)
    assert CANARY not in repr(asdict(holder))


def test_secret_is_masked_in_log_records(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").info("key %s", Secret(CANARY))

    assert "key ****" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize("copier", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps])
def test_secret_refuses_to_be_copied_out(copier) -> None:
    with pytest.raises(TypeError) as caught:
        copier(Secret(CANARY))

    assert CANARY not in str(caught.value)


def test_secrets_compare_by_text_and_only_with_secrets() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert {Secret("a")} == {Secret("a"), Secret("a")}
    assert not Secret("")


def test_reveal_returns_the_text() -> None:
    assert CANARY == Secret(CANARY).reveal()
