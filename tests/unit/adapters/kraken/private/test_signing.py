from __future__ import annotations

import pytest

from krakenbot.adapters.kraken.signing import Credentials, sign
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.secret import Secret

# the vector of Kraken's own documentation, guides/spot-rest-auth
PRIVATE_KEY = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
BODY = b"nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
SIGNATURE = "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="


def make_credentials() -> Credentials:
    return Credentials(api_key=Secret("the-api-key"), private_key=Secret(PRIVATE_KEY))


def test_signature_is_that_of_the_documented_vector() -> None:
    signature = sign(make_credentials(), path="/0/private/AddOrder", nonce=1616492376594, body=BODY)

    assert SIGNATURE == signature


@pytest.mark.parametrize(
    ("path", "nonce", "body"),
    [
        ("/0/private/Balance", 1616492376594, BODY),
        ("/0/private/AddOrder", 1616492376595, BODY),
        ("/0/private/AddOrder", 1616492376594, BODY + b"0"),
    ],
)
def test_signature_depends_on_path_nonce_and_body(path: str, nonce: int, body: bytes):
    assert SIGNATURE != sign(make_credentials(), path=path, nonce=nonce, body=body)


def test_private_key_that_is_not_base64_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        Credentials(api_key=Secret("k"), private_key=Secret("canary not base64!"))

    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_credentials_show_neither_key() -> None:
    printed = repr(make_credentials())

    assert "the-api-key" not in printed
    assert PRIVATE_KEY not in printed
