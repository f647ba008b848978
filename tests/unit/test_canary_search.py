"""The search of the canary's journey finds what it should: else nothing would be proved by its finding none."""

from __future__ import annotations

import base64
from urllib.parse import quote, quote_plus

import pytest

from tests.journey.canary import LIKE_SECRETS, Canaries, forms


@pytest.mark.parametrize("around", [b"", b"x", b"xy"])
def test_the_search_sees_every_form(around: bytes) -> None:
    """In whatever it is wrapped, and wherever it begins there."""
    secret = bytes(range(250, 256)) + b"a secret~ with/all+sorts"
    wrapped = around + secret + around
    ways = [
        wrapped,
        wrapped.hex().encode(),
        wrapped.hex().upper().encode(),
        quote(wrapped).encode(),
        quote_plus(wrapped).encode(),
        base64.b64encode(wrapped),
    ]
    ways += [base64.urlsafe_b64encode(wrapped)]
    canaries = Canaries()
    canaries.add("it", secret)
    assert [canaries.found({"here": way}) for way in ways] == [{("it", "here")}] * len(ways)
    assert canaries.found({"here": wrapped[:-8] + b"?"}) == set()


def test_what_is_like_a_secret_is_found() -> None:
    """A signed token, a token of Google's and a key, whoever made them; a sealed token (JWE, with no key of its own) is none."""
    places = {
        "jws": b"x eyJhbGciOiJSUzI1NiJ9." + b"c" * 30 + b"." + b"s" * 30,
        "jwe": b"eyJhbGciOiJkaXIifQ.." + b"i" * 20 + b"." + b"c" * 30,
    }
    places |= {"google": b"ya29.c." + b"g" * 40, "pem": b"-----BEGIN PRIVATE KEY-----"}
    assert {place for _, place in Canaries().found(places)} == {"jws", "google", "pem"}
    assert len(LIKE_SECRETS) == 3


def test_what_is_too_short_is_refused() -> None:
    """It would turn up by chance."""
    with pytest.raises(ValueError, match="too short"):
        list(forms(b"secret"))
