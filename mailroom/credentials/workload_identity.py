"""Google without a key: the managed identity's token is exchanged (RFC 8693) for one of Google's, with which a service account signs an
assertion at Google itself; that goes the way of `jwt_bearer`.

cloud.google.com/iam/docs/workload-identity-federation-with-other-clouds; iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/
signJwt. No secret anywhere: the pool trusts the identity, and the identity may let the account sign.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from mailroom.credentials import _google_answers as answers
from mailroom.credentials._google_assertion import Signed
from mailroom.credentials.jwt_bearer import TIMEOUT, JwtBearer, posted
from mailroom.errors import AuthorityRefused
from mailroom.model.account import Profile
from mailroom.model.token import Token
from mailroom.ports import Parts

KEYS = {"service_account": True, "workload_provider": True, "audience": False}
PER_MAILBOX = True
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"  # noqa: S105  # a name
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
PROVIDER = "//iam.googleapis.com/projects/"
MARGIN = 300.0


def mistakes(profile: Profile) -> Iterator[tuple[str, str, str]]:
    options = dict(profile.options)
    if "@" not in options.get("service_account", "@"):
        yield "service_account", "found no address", "should be its e-mail address, such as mailroom@PROJECT.iam.gserviceaccount.com"
    if not options.get("workload_provider", PROVIDER).startswith(PROVIDER):
        wanted = f"should be its full name: {PROVIDER}NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"
        yield "workload_provider", "found something else", wanted


def build(profile: Profile, parts: Parts) -> JwtBearer:
    return JwtBearer(profile, SignsAtGoogle(profile, parts), parts.client)


class SignsAtGoogle:
    """Signs by signJwt, as the service account that the federated identity may use."""

    def __init__(self, profile: Profile, parts: Parts, *, timeout: float = TIMEOUT, now: Callable[[], float] = time.time) -> None:
        options = dict(profile.options)
        self._cloud = profile.cloud
        self._email, self._provider = options["service_account"], options["workload_provider"]
        self._audience = options.get("audience", profile.cloud.exchange_audience)
        self._parts = parts
        self._timeout = timeout
        self._now = now
        self._federated: Token | None = None

    async def assertions(self, body: Mapping[str, Any]) -> AsyncGenerator[Signed, None]:
        """One, for Google knows its own keys."""
        token = self._federated
        if token is None or token.good_until(MARGIN) <= self._now():
            token = self._federated = await self._exchanged()
        try:
            signed = await self._signed(body, token)
        except AuthorityRefused:
            self._federated = None  # the next question begins anew: the token may have been the reason
            raise
        yield Signed(signed)

    def taken(self, signed: Signed) -> None:
        """Nothing is remembered of it."""

    async def _exchanged(self) -> Token:
        """Raises IdentityDown, AuthorityRefused, AuthorityDown."""
        subject = await self._parts.identity().token(self._audience)
        form = {
            "grant_type": EXCHANGE,
            "audience": self._provider,
            "scope": SCOPE,
            "requested_token_type": f"{TOKEN_TYPE}access_token",
            "subject_token_type": f"{TOKEN_TYPE}jwt",
            "subject_token": subject.value,
        }
        asked_at = self._now()
        response = await posted(self._parts.client(), f"{self._cloud.google_sts}/v1/token", self._timeout, data=form)
        failed = answers.failure(response, asked_at, SCOPE, federated=True)
        if failed:
            raise failed
        given = answers.given(response, answers.Given)
        return Token(given.access_token, asked_at + given.expires_in, given.expires_in)

    async def _signed(self, body: Mapping[str, Any], token: Token) -> str:
        url = f"{self._cloud.google_iam}/v1/projects/-/serviceAccounts/{quote(self._email, safe='@')}:signJwt"
        payload = msgspec.json.encode({"iss": self._email, **body}).decode()
        headers = {"Authorization": f"Bearer {token.value}"}
        response = await posted(self._parts.client(), url, self._timeout, json={"payload": payload}, headers=headers)
        failed = answers.signing_failure(response, self._email)
        if failed:
            raise failed
        return answers.given(response, answers.Signed).jwt
