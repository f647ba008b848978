"""What a token says, once it is proven: the checks of one token that was never seen before.

learn.microsoft.com/entra/identity-platform/access-token-claims-reference; RFC 7519; RFC 8725 for what to refuse.
"""

from __future__ import annotations

import base64
import re

import msgspec

from mailroom.errors import Forbidden, Unauthorized
from mailroom.gate.keys import SigningKeys, Trusted
from mailroom.model.account import Api

# Entra's clocks and the platform's are kept, so a minute is plenty; Microsoft's own libraries allow five.
SKEW = 60.0
ALGORITHM = "RS256"
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_GET_A_TOKEN = "Get one by client credentials from the tenant in [api], for the scope AUDIENCE/.default."  # noqa: S105  # advice


class Claims(msgspec.Struct, frozen=True):
    client: str
    roles: frozenset[str]
    exp: float


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str
    crit: msgspec.Raw | None = None


class _Payload(msgspec.Struct, frozen=True):
    """Entra's claims of both versions; `azp` is version 2's, `appid` version 1's."""

    iss: str
    aud: str
    exp: int | float
    tid: str
    nbf: int | float = 0
    roles: list[str] = []
    scp: str | None = None
    idtyp: str | None = None
    azp: str | None = None
    appid: str | None = None


async def checked(token: str, api: Api, keys: SigningKeys, now: float) -> Claims:
    """Raises Unauthorized, Forbidden, AuthorityDown."""
    trusted = await keys.find(_header(token).kid)
    if trusted is None:
        raise Unauthorized("token_signature", "The token is signed with a key that the tenant in [api] has not published.", _GET_A_TOKEN)
    payload = _payload(_verified(token, trusted))
    _check_issuer(payload, trusted)
    if payload.aud not in api.audiences:
        wanted = f"Ask for a token for {' or '.join(sorted(api.audiences))}."
        raise Unauthorized("token_audience", f"The token is for {payload.aud[:100]!r}, not for us.", wanted)
    _check_times(payload, now)
    return _claims(payload)


def _header(token: str) -> _Header:
    parts = _COMPACT.fullmatch(token)
    try:
        header = msgspec.json.decode(_decoded(parts[1]) if parts else b"", type=_Header)
        if parts and not _is_canonical(parts[3]):
            raise ValueError("the signature has bits to spare")
    except ValueError as error:
        raise Unauthorized("token_malformed", "The bearer token is no signed JWT that names its key.", _GET_A_TOKEN) from error
    if header.alg != ALGORITHM or header.crit is not None:
        found = f"The token is signed with {header.alg[:20]!r}" + (" and has a `crit` header" if header.crit is not None else "")
        raise Unauthorized("token_signature", f"{found}; only {ALGORITHM} is taken.", _GET_A_TOKEN)
    return header


def _verified(token: str, trusted: Trusted) -> str:
    """The payload's part, once its signature is proven: RS256 is RSASSA-PKCS1-v1_5 with SHA-256 over the two first parts (RFC 7518, 3.3).

    By hand on cryptography, since importing a JOSE library takes longer than all the rest of the gate's work on a cold start.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    signed, _, signature = token.rpartition(".")
    try:
        trusted.key.verify(_decoded(signature), signed.encode(), PKCS1v15(), SHA256())
    except InvalidSignature as error:
        raise Unauthorized("token_signature", "The token's signature is wrong: it was changed, or cut.", _GET_A_TOKEN) from error
    return signed.partition(".")[2]


def _payload(part: str) -> _Payload:
    try:
        return msgspec.json.decode(_decoded(part), type=_Payload)
    except ValueError as error:  # msgspec's own errors are ValueErrors
        raise Unauthorized("token_malformed", f"The token's claims are not Entra's: {error}.", _GET_A_TOKEN) from error


def _check_issuer(payload: _Payload, trusted: Trusted) -> None:
    """Who issued it must be our tenant, in the form of either version, and so must be the issuer that its key is published for."""
    if payload.iss not in trusted.issuers or payload.tid.lower() != trusted.tenant:
        detail = f"The token was issued by {payload.iss[:200]!r} for tenant {payload.tid[:60]!r}."
        raise Unauthorized("token_issuer", detail, f"Get one from {trusted.issuers[0]}.")


def _check_times(payload: _Payload, now: float) -> None:
    if payload.exp + SKEW <= now:
        raise Unauthorized("token_expired", f"The token ended {now - payload.exp:.0f} seconds ago.", "Get a new one.")
    if payload.nbf - SKEW > now:
        detail = f"The token is good in {payload.nbf - now:.0f} seconds only."
        raise Unauthorized("token_not_yet_valid", detail, "Check the clock of this machine.")


def _claims(payload: _Payload) -> Claims:
    if payload.scp is not None or payload.idtyp not in (None, "app"):
        raise Forbidden("token_delegated", "The token is a user's; only applications may call.", _GET_A_TOKEN)
    client = payload.azp or payload.appid
    if not client:
        raise Unauthorized("token_malformed", "The token names no client (azp, appid).", _GET_A_TOKEN)
    return Claims(client.lower(), frozenset(payload.roles), float(payload.exp))


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _is_canonical(part: str) -> bool:
    """The last character may hold bits that say nothing: only one form of a token is its form (RFC 4648, 3.5)."""
    return base64.urlsafe_b64encode(_decoded(part)).rstrip(b"=") == part.encode()
