"""What a client's SASL response says.

XOAUTH2: learn.microsoft.com/exchange, "Authenticate an IMAP, POP or SMTP connection using OAuth". OAUTHBEARER: RFC 7628.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

_XOAUTH2 = re.compile(rb"user=([^\x01]*)\x01auth=Bearer ([^\x01]+)\x01\x01")
_OAUTHBEARER = re.compile(rb"n,(?:a=([^,]*))?,\x01((?:[A-Za-z]+=[^\x01]*\x01)*)\x01")


class Bearer(NamedTuple):
    user: str
    token: str


def xoauth2(response: bytes) -> Bearer | None:
    found = _XOAUTH2.fullmatch(response)
    return Bearer(found[1].decode(), found[2].decode()) if found else None


def oauthbearer(response: bytes) -> Bearer | None:
    found = _OAUTHBEARER.fullmatch(response)
    if found is None:
        return None
    pairs = dict(pair.split(b"=", 1) for pair in found[2].split(b"\x01") if pair)
    scheme, _, token = pairs.get(b"auth", b"").decode().partition(" ")
    user = (found[1] or b"").decode().replace("=2C", ",").replace("=3D", "=")
    return Bearer(user, token) if scheme.lower() == "bearer" and token else None


def refusal(scope: str) -> bytes:
    """What a 334 tells before the failure (RFC 7628, 3.2.2)."""
    return json.dumps({"status": "invalid_token", "scope": scope}).encode()
