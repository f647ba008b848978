"""How a bearer token signs in to a mail server: XOAUTH2 and OAUTHBEARER. Pure.

XOAUTH2: developers.google.com/gmail/imap/xoauth2-protocol, learn.microsoft.com/exchange "Authenticate an IMAP, POP or SMTP connection using
OAuth". OAUTHBEARER: RFC 7628.
"""

from __future__ import annotations

import base64
from collections.abc import Collection

import msgspec

MECHANISMS = ("xoauth2", "oauthbearer")  # the first that a server offers is taken: Exchange documents XOAUTH2 alone


class _Challenge(msgspec.Struct, frozen=True):
    """RFC 7628, 3.2.2; Google's `status` is a number as text."""

    status: str | int = ""
    scope: str = ""


def chosen(offered: Collection[str], wanted: str | None) -> str | None:
    """The mechanism to use, of those that the server offers in lower case."""
    return next((name for name in ([wanted] if wanted else MECHANISMS) if name in offered), None)


def response(mechanism: str, user: str, token: str, host: str, port: int) -> bytes:
    """The client's whole response, in base64."""
    plain = xoauth2(user, token) if mechanism == "xoauth2" else oauthbearer(user, token, host, port)
    return base64.b64encode(plain)


def xoauth2(user: str, token: str) -> bytes:
    return f"user={user}\x01auth=Bearer {token}\x01\x01".encode()


def oauthbearer(user: str, token: str, host: str, port: int) -> bytes:
    """The authzid is a saslname (RFC 5801, 4): `=` and `,` are written as =3D and =2C."""
    name = user.replace("=", "=3D").replace(",", "=2C")
    return f"n,a={name},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01".encode()


def dismissal(mechanism: str) -> bytes:
    """What the client answers to the error that the server tells in a 334; only then comes the failure itself.

    OAUTHBEARER: one %x01 (RFC 7628, 3.2.3). XOAUTH2: an empty line ("Error Response" of Google's page).
    """
    return b"AQ==" if mechanism == "oauthbearer" else b""


def challenge(text: str) -> str:
    """What the 334 said, as a sentence's part: "invalid_token, scope mail.send"; "" where it said nothing that can be read."""
    try:
        read = msgspec.json.decode(base64.b64decode(text), type=_Challenge)
    except (ValueError, msgspec.DecodeError):
        return ""
    return ", ".join(part for part in (str(read.status)[:40], f"scope {read.scope[:100]}" if read.scope else "") if part)
