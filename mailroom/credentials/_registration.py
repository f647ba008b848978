"""Registers a new version of the certificate with its own application, with the proof that we have a key which is registered already.

learn.microsoft.com/graph/api/application-addkey: an application needs no permission for its own keys, but a still valid certificate.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

import httpx
import msgspec

from mailroom import http
from mailroom.credentials import _aadsts
from mailroom.credentials._assertion import proof
from mailroom.credentials._sources import ByVersion, FromCertificate, Source
from mailroom.credentials._versions import Versions
from mailroom.errors import AccountFault, AuthorityDown, AuthorityRefused
from mailroom.model.account import Profile
from mailroom.model.token import Token
from mailroom.ports import Credential, Parts, Signing

# Graph's pages have named both at different times; a proof for the wrong one is refused with 401 and does nothing.
AUDIENCES = ("00000002-0000-0000-c000-000000000000", "00000003-0000-0000-c000-000000000000")
_NEXT = (
    "Check `register_as`: it is the object id of the app registration, neither its client id nor the enterprise application's object id. "
    "Or upload the certificate there yourself."
)


class _Error(msgspec.Struct, frozen=True):
    code: str = ""


class _Answer(msgspec.Struct, frozen=True):
    error: _Error = _Error()


class Registration:
    """ports.Registrar. `credential_of` asks for tokens with what a source has."""

    def __init__(
        self,
        profile: Profile,
        versions: Versions,
        parts: Parts,
        credential_of: Callable[[Source], Credential],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._object_id = dict(profile.options)["register_as"]
        self._cloud = profile.cloud
        self._versions = versions
        self._parts = parts
        self._credential_of = credential_of
        self._now = now

    async def newest(self) -> str:
        return (await self._parts.vault().public_certificate(self._versions.name)).version

    async def accepted(self, version: str) -> bool:
        try:
            await self._credential_of(ByVersion(self._versions, version)).ask(self._cloud.graph_scope)
        except AuthorityRefused as error:
            if error.code != _aadsts.code(_aadsts.UNKNOWN_KEY):
                raise
            return False
        return True

    async def register(self, version: str) -> None:
        token = await self._credential_of(FromCertificate(self._versions)).ask(self._cloud.graph_scope)
        der = (await self._parts.vault().public_certificate(self._versions.name, version)).der
        refused: AccountFault | None = None
        for audience in AUDIENCES:
            answer = await self._asked(token, der, await self._proof(self._versions.in_use, audience))
            refused = _meaning(answer)
            if answer.status_code != 401:
                break
        if refused is not None:
            raise refused

    async def _proof(self, signer: str, audience: str) -> str:
        async def sign(algorithm: Signing, digest: bytes) -> bytes:
            return await self._versions.sign(signer, algorithm, digest)

        return await proof(self._object_id, audience, await self._versions.thumbprints(signer), sign, self._now())

    async def _asked(self, token: Token, der: bytes, proof: str) -> httpx.Response:
        key = {"type": "AsymmetricX509Cert", "usage": "Verify", "key": base64.b64encode(der).decode()}
        body = msgspec.json.encode({"keyCredential": key, "passwordCredential": None, "proof": proof})
        headers = {"Authorization": f"Bearer {token.value}", "Content-Type": "application/json"}
        url = f"{self._cloud.graph}/applications/{self._object_id}/addKey"
        try:
            return await self._parts.client().post(url, content=body, headers=headers)
        except httpx.RequestError as error:
            raise AuthorityDown("graph_down", f"Graph did not answer ({type(error).__name__}).") from error


def _meaning(answer: httpx.Response) -> AccountFault | None:
    if answer.is_success:
        return None
    status = answer.status_code
    if status == 429 or status >= 500:
        return AuthorityDown("graph_busy", f"Graph answered {status}.", retry_after=http.retry_after(answer.headers))
    try:
        code = msgspec.json.decode(answer.content, type=_Answer).error.code
    except msgspec.DecodeError:
        code = ""
    return AuthorityRefused("registration_refused", f"Graph refused the new key with {status} {code}".rstrip() + ".", _NEXT)
