"""Keys without sockets: nonces and their window, expiry, revocation, and what the accounts file says of them."""

from __future__ import annotations

import json

import pytest

from krakenbot.adapters.local_exchange.keys import (
    INVALID_KEY,
    INVALID_NONCE,
    AccountsFileError,
    SignedCall,
    parse_accounts,
    sign,
)

S = 1_000_000_000
PATH = "/0/private/Balance"


@pytest.fixture
def call(desk):
    def send(nonce, now_ns=0):
        text = str(nonce)
        body = f"nonce={text}".encode()
        signature = sign(b"s", PATH, body, text).decode()
        signed = SignedCall(api_key="alice", signature=signature, path=PATH, body=body, nonce=text)
        return desk.keys.authenticate(signed, now_ns)

    return send


def test_the_vendors_signature_vector_is_reproduced():
    import base64

    secret = base64.b64decode(
        "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
    )
    body = b"nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"

    expected = b"4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="
    assert expected == sign(secret, "/0/private/AddOrder", body, "1616492376594")


def test_without_a_window_every_nonce_must_be_higher(desk, call):
    key = desk.keys.keys["alice"]
    answers = [call(nonce) for nonce in (5, 5, 4, 6)]

    assert [key, INVALID_NONCE, INVALID_NONCE, key] == answers


def test_inside_its_window_a_lower_nonce_is_good_once(desk, call):
    key = desk.keys.keys["alice"]
    key.nonce_window = 10
    answers = [call(nonce) for nonce in (100, 95, 95, 91, 90, 101, 91, 92, 100)]

    assert [key, key, INVALID_NONCE, key, INVALID_NONCE, key, INVALID_NONCE, key, INVALID_NONCE] == answers
    assert key.last_nonce == 101


@pytest.mark.parametrize("nonce", ["", "-1", "1.5", "abc", "²", str(2**64), "9" * 30])
def test_a_nonce_is_an_unsigned_integer_of_64_bits(desk, call, nonce):
    assert INVALID_NONCE == call(nonce)
    assert desk.keys.keys["alice"].last_nonce == 0


def test_a_key_ends_with_its_validity(desk, call):
    key = desk.keys.keys["alice"]
    key.valid_until_s = 100

    assert key is call(1, 100 * S - 1)
    assert INVALID_KEY == call(2, 100 * S)


def test_a_revoked_key_and_its_tokens_are_refused(desk, call):
    token = desk.token(desk.alice)
    before = desk.keys.resolve(token, desk.venue.now_ns)
    revoked = desk.keys.revoke("alice")

    assert before is not None
    assert revoked
    assert not desk.keys.revoke("nobody")
    assert INVALID_KEY == call(1)
    assert desk.keys.resolve(token, desk.venue.now_ns) is None


def test_the_accounts_file_may_say_more_of_a_key():
    key = {"api_key": "k", "api_secret": "", "nonce_window": 15, "valid_until": 99, "ip_allowlist": ["127.0.0.1"]}
    (entry,) = parse_accounts(json.dumps([{"name": "a", "keys": [key], "balances": {}}]))

    assert (15, 99, ("127.0.0.1",)) == (
        entry.keys[0].nonce_window,
        entry.keys[0].valid_until_s,
        entry.keys[0].ip_allowlist,
    )


def test_the_accounts_file_may_name_a_tier():
    text = json.dumps(
        [{"name": "a", "keys": [], "balances": {}, "tier": "starter"}, {"name": "b", "keys": [], "balances": {}}]
    )
    with pytest.raises(AccountsFileError) as caught:
        parse_accounts(text.replace("starter", "gold"))

    assert ["starter", "pro"] == [entry.tier for entry in parse_accounts(text)]
    assert "accounts[0].tier" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [
    ("nonce_window", -1), ("nonce_window", True), ("valid_until", "soon"), ("ip_allowlist", "127.0.0.1"),
    ("ip_allowlist", [1]),
])  # fmt: skip
def test_a_wrong_figure_of_a_key_names_the_place(name, value):
    key = {"api_key": "k", "api_secret": "", name: value}
    with pytest.raises(AccountsFileError) as caught:
        parse_accounts(json.dumps([{"name": "a", "keys": [key], "balances": {}}]))

    assert f"accounts[0].keys[0].{name}" in str(caught.value)
