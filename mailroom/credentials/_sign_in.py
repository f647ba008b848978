"""One person's sign-in, for `mailroom login`: the device authorization grant (RFC 8628), or an authorization code with PKCE (RFC 7636).

What comes back is the refresh token for the vault, and who it was that signed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mailroom.credentials import _aadsts_users as advice
from mailroom.credentials._delegated import Answer, Client, is_public
from mailroom.errors import AuthorityDown, AuthorityRefused, BadInput

PENDING = frozenset({"authorization_pending", "slow_down"})
STEPS: Mapping[str, str] = {
    "authorization_declined": "Run the command again, and accept.",
    "access_denied": "Run the command again, and accept; where an administrator has to consent, let them do so first.",
    "expired_token": "Run the command again, and enter the code while it is good.",
    "bad_verification_code": "Run the command again.",
}


class Device(NamedTuple):
    """What a person is told, and how to ask whether they have done it; seconds."""

    message: str
    interval: float
    lifetime: float
    flow: dict[str, Any]


class Page(NamedTuple):
    """Where the browser goes, and the state that its answer must bring back."""

    url: str
    state: str
    flow: dict[str, Any]


class SignedIn(NamedTuple):
    user: str
    refresh_token: str

    def __repr__(self) -> str:
        return f"SignedIn({self.user})"


class SignIn:
    """Raises AuthorityRefused, AuthorityDown, VaultRefused, VaultDown."""

    def __init__(self, client: Client, scopes: Sequence[str]) -> None:
        self._client = client
        self._scopes = list(scopes)

    @property
    def public(self) -> bool:
        return is_public(self._client.profile)

    async def device(self) -> Device:
        if not self.public:
            raise BadInput(
                "login_needs_browser", "Only a public client signs in by device code; this profile has a credential.", "Use --browser."
            )
        flow = await self._called(lambda application: dict(application.initiate_device_flow(scopes=self._scopes)))
        try:
            return Device(str(flow["message"]), float(flow["interval"]), float(flow["expires_in"]), flow)
        except KeyError as error:
            raise AuthorityDown(
                "authority_unreadable", "The authority's answer is no device code.", "Check the profile's `cloud`."
            ) from error

    async def polled(self, device: Device) -> SignedIn | None:
        """None as long as nobody has answered; raises AuthorityRefused with error `slow_down` too."""
        try:
            return _signed_in(
                await self._asked(lambda one: one.acquire_token_by_device_flow(dict(device.flow), exit_condition=lambda _: True))
            )
        except AuthorityRefused as refused:
            if refused.error == "authorization_pending":
                return None
            raise

    async def page(self, redirect_uri: str, user: str) -> Page:
        """`user` is whom the page expects; the answer comes by form post (OAuth 2.0 Form Post Response Mode), so in no address."""
        flow = await self._called(
            lambda application: dict(
                application.initiate_auth_code_flow(
                    self._scopes, redirect_uri=redirect_uri, login_hint=user, prompt="select_account", response_mode="form_post"
                )
            )
        )
        return Page(str(flow["auth_uri"]), str(flow["state"]), flow)

    async def redeemed(self, page: Page, response: Mapping[str, str]) -> SignedIn:
        """What the browser brought; msal checks state, nonce and the code's verifier."""
        if "error" in response:
            raise _refused(response)
        return _signed_in(await self._asked(lambda one: one.acquire_token_by_auth_code_flow(dict(page.flow), dict(response))))

    async def _asked(self, question: Any) -> Answer:
        try:
            return await self._client.ask(question)
        except AuthorityRefused as refused:
            raise advice.explained(refused, _step(refused)) from refused

    async def _called(self, question: Any) -> dict[str, Any]:
        try:
            return await self._client.call(question)
        except AuthorityRefused as refused:
            raise advice.explained(refused, _step(refused)) from refused


def _signed_in(answer: Answer) -> SignedIn:
    claims = answer.id_token_claims
    user = str(claims.get("preferred_username") or claims.get("upn") or claims.get("email") or "")
    if not answer.refresh_token or not user:
        detail = f"The authority's answer has no {'refresh token' if user else 'name of the user'}."
        raise AuthorityDown(
            "authority_unreadable", detail, "Check the profile's `cloud`, and that the app registration may use offline_access."
        )
    return SignedIn(user, answer.refresh_token)


def _refused(response: Mapping[str, str]) -> AuthorityRefused:
    """RFC 6749, 4.1.2.1: what the authority says by way of the browser."""
    error, detail = response["error"], response.get("error_description", "").split("\n")[0].partition(" Trace ID:")[0].strip()
    number = detail.removeprefix("AADSTS").partition(":")[0]
    code = f"aadsts_{number}" if number.isdigit() else "authority_refused"
    refused = AuthorityRefused(code, detail or f"The authority answered {error}.", error=error)
    return advice.explained(refused, _step(refused))


def _step(refused: AuthorityRefused) -> str:
    return (
        STEPS.get(refused.error)
        or advice.LOGIN_STEPS.get(advice.number_of(refused))
        or refused.next_step
        or "See the sign-in log of Entra ID."
    )
