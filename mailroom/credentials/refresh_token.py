"""The refresh token grant (RFC 6749, 6) through msal: somebody signed in once, with `mailroom login`, and the app goes on as that user.

learn.microsoft.com/entra/identity-platform/refresh-tokens: a token lives 90 days from its issue, each use yields a new one, and the
old one is not revoked. So who only needs an access token leaves the vault's refresh token as it is: the timer alone renews it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mailroom.credentials import _aadsts_users as advice
from mailroom.credentials import _delegated
from mailroom.credentials._delegated import Answer, Client
from mailroom.credentials._sign_in import SignIn
from mailroom.errors import AuthorityRefused, VaultRefused
from mailroom.model.account import Profile
from mailroom.model.token import Token
from mailroom.ports import Parts

KEYS = {**_delegated.KEYS, "refresh_token_secret": True, "username": False}
DELEGATED = True


def mistakes(profile: Profile) -> Iterator[tuple[str, str, str]]:
    yield from _delegated.mistakes(profile)
    if profile.secret is not None and profile.secret == dict(profile.options).get("refresh_token_secret"):
        yield "refresh_token_secret", "found the client secret's name", "give the refresh token a name of its own: it is written there"


def build(profile: Profile, parts: Parts) -> RefreshToken:
    return RefreshToken(Client(profile, parts))


class RefreshToken:
    """`secret_name` is where the vault has the refresh token."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.secret_name = dict(client.profile.options)["refresh_token_secret"]

    async def ask(self, scope: str) -> Token:
        """With the refresh token that the vault has by now, should the one that we remembered be refused."""
        asked_at, kept = self._client.now(), await self._stored()
        try:
            answer = await self._redeemed(kept, scope)
        except AuthorityRefused as refused:
            newer = await self._stored(fresh=True) if _is_grants(refused) else kept
            if newer == kept:
                raise
            asked_at, answer = self._client.now(), await self._redeemed(newer, scope)
        return answer.token(asked_at)

    async def rotated(self, scope: str) -> str:
        """A new refresh token for the vault's newest one, "" where the authority gives none. The caller stores it."""
        return (await self._redeemed(await self._stored(fresh=True), scope)).refresh_token

    def sign_in(self, scope: str) -> SignIn:
        return SignIn(self._client, scope.split())

    async def _stored(self, *, fresh: bool = False) -> str:
        try:
            return await self._client.vault.secret(self.secret_name, fresh=fresh)
        except VaultRefused as refused:
            if refused.code != "vault_secret_missing":
                raise
            raise VaultRefused(refused.code, refused.detail, advice.login(self._client.profile.name)) from refused

    async def _redeemed(self, refresh_token: str, scope: str) -> Answer:
        def question(application: Any) -> dict[str, Any]:
            answer: dict[str, Any] = application.acquire_token_by_refresh_token(refresh_token, scope.split())
            return answer

        try:
            return await self._client.ask(question)
        except AuthorityRefused as refused:
            raise self._explained(refused) from refused

    def _explained(self, refused: AuthorityRefused) -> AuthorityRefused:
        step = advice.REFRESH_STEPS.get(advice.number_of(refused), "")
        if not step and _is_grants(refused):
            step = advice.login(self._client.profile.name)
        return advice.explained(refused, step or refused.next_step)


def _is_grants(refused: AuthorityRefused) -> bool:
    """Whether it is the refresh token that is no good any more, and not the client or the request."""
    return refused.error in ("invalid_grant", "interaction_required", "consent_required")
