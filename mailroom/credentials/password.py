"""The password grant (RFC 6749, 4.3) through msal, for set-ups that cannot do without: a user signs in with nothing but a password.

learn.microsoft.com/entra/identity-platform/v2-oauth-ropc. Whoever needs a second factor, or whose domain is federated, cannot use it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from mailroom.credentials import _aadsts_users as advice
from mailroom.credentials import _delegated
from mailroom.credentials._authority import Wire
from mailroom.credentials._delegated import Client
from mailroom.errors import AuthorityRefused, VaultRefused
from mailroom.model.account import Profile
from mailroom.model.token import Token
from mailroom.ports import Parts

KEYS = {**_delegated.KEYS, "username": True, "password_secret": True}
DELEGATED = True
REST_SECONDS = 900.0  # a wrong password is not tried again for that long, or until the vault has another one
WRONG = 50126
REALM = "/common/userrealm/"


def mistakes(profile: Profile) -> Iterator[tuple[str, str, str]]:
    yield from _delegated.mistakes(profile)


def build(profile: Profile, parts: Parts) -> Password:
    return Password(Client(profile, parts))


class _Wrong(NamedTuple):
    password: str
    why: AuthorityRefused
    until: float

    def __repr__(self) -> str:
        return "_Wrong(...)"


class Password:
    def __init__(self, client: Client) -> None:
        options = dict(client.profile.options)
        self._client = client
        self._username = options["username"]
        self._secret = options["password_secret"]
        self._lock = asyncio.Lock()
        self._wrong: _Wrong | None = None

    async def ask(self, scope: str) -> Token:
        """With the password that the vault has by now, should the one that we remembered be refused."""
        async with self._lock:
            password = await self._password(fresh=self._wrong is not None)
            try:
                return await self._asked(password, scope)
            except AuthorityRefused as refused:
                newer = await self._password(fresh=True) if refused.error == "invalid_grant" else password
                if newer == password:
                    raise
                return await self._asked(newer, scope)

    async def _password(self, *, fresh: bool) -> str:
        password = await self._client.vault.secret(self._secret, fresh=fresh)
        if not password or password != password.strip():
            detail = f"The secret {self._secret!r} is empty, or begins or ends with a space or a line break; no password that works does."
            raise VaultRefused("password_unusable", detail, "Set it again without.")
        return password

    async def _asked(self, password: str, scope: str) -> Token:
        wrong = self._wrong
        if wrong is not None and wrong.password == password and wrong.until > self._client.now():
            raise advice.explained(wrong.why, wrong.why.next_step)
        realm = f"{self._client.profile.cloud.authority}{REALM}{quote(self._username, safe='@')}"
        asked_at, wire = self._client.now(), RealmWire(realm, **self._client.wiring())

        def question(application: Any) -> dict[str, Any]:
            answer: dict[str, Any] = application.acquire_token_by_username_password(self._username, password, scope.split())
            return answer

        try:
            answer = await self._client.ask(question, wire)
        except AuthorityRefused as refused:
            why = _explained(refused, federated=wire.federated)
            if advice.number_of(refused) == WRONG:
                self._wrong = _Wrong(password, why, self._client.now() + REST_SECONDS)
            raise why from refused
        self._wrong = None
        return answer.token(asked_at)


class RealmWire(Wire):
    """Asks for the user's realm where msal would, and answers it that there is nothing to know.

    For of a federated user msal would send the password to the server that the realm names, by WS-Trust; so it goes to Entra ID, which
    takes it where its own policy allows that, and nowhere else. msal also leaves out the authority's port, and quotes no name.
    """

    def __init__(self, realm: str, **options: Any) -> None:
        super().__init__(**options)
        self.federated = False
        self._realm = realm

    def get(self, url: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, **_: Any) -> httpx.Response:
        if REALM not in url:
            return super().get(url, params, headers)
        found = super().get(self._realm, {"api-version": "1.0"}, headers)
        self.federated = found.json().get("account_type") == "Federated"
        return httpx.Response(200, json={}, request=found.request)


def _explained(refused: AuthorityRefused, *, federated: bool) -> AuthorityRefused:
    number = advice.number_of(refused)
    if federated and number in (WRONG, 50034, 50056):
        return advice.explained(refused, advice.FEDERATED)
    return advice.explained(refused, advice.PASSWORD_STEPS.get(number, refused.next_step))
