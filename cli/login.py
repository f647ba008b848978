"""`mailroom login`: somebody signs in for an account, and the app goes on as that user.

By device code, or in the browser of this machine. The refresh token goes into the vault and is shown nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from cli.line import Line
from cli.loopback import Loopback
from mailroom.credentials._sign_in import Device, SignedIn, SignIn
from mailroom.credentials.refresh_token import RefreshToken
from mailroom.errors import AuthorityDown, AuthorityRefused, MailroomError, StorageDown, VaultRefused
from mailroom.model.account import Account, Profile
from mailroom.model.row import Row
from mailroom.ports import Credential, Store, Vault
from mailroom.storage.refresh_tokens import CONTENT_TYPE, TURN, RefreshTokens

Way = Literal["device", "browser"]
SLOWER = 5.0  # RFC 8628, 3.5: what slow_down adds to the interval
BROWSER_SECONDS = 600.0
PAUSE = 5.0


class House(Protocol):
    """What `mailroom.wiring` builds, as far as it is needed here."""

    def credential(self, profile: Profile, /) -> Credential: ...

    def scope(self, account: Account, /) -> str: ...


@dataclass(frozen=True, slots=True)
class Login:
    """`show` tells the person something; `open_page` opens a browser, None where the person does. Without a `store` there are no turns."""

    house: House
    vault: Vault
    store: Store | None
    show: Callable[[str], None]
    open_page: Callable[[str], object] | None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    loopback: Callable[[], Loopback] = field(default=Loopback)

    async def run(self, account: Account, way: Way | None = None) -> AsyncIterator[Line]:
        """The steps, the last one good only when the token is in the vault."""
        credential = self.house.credential(account.profile)
        if not isinstance(credential, RefreshToken):
            yield _no_login(account)
            return
        try:
            await self._reach(credential.secret_name)
            signed_in = await self._signed_in(account, credential.sign_in(self.house.scope(account)), way)
        except MailroomError as error:
            yield failed("sign-in", error)
            return
        whom = expected(account)
        if signed_in.user.lower() not in {name.lower() for name in whom}:
            yield _wrong_user(account, signed_in.user, whom)
            return
        yield Line(True, "sign-in", f"signed in as {signed_in.user}")
        try:
            await self._stored(credential.secret_name, signed_in.refresh_token)
        except MailroomError as error:
            yield failed("vault", error)
            return
        yield Line(True, "vault", f"has the refresh token as {credential.secret_name}; the app uses it, and the timer renews it")

    async def _signed_in(self, account: Account, sign_in: SignIn, way: Way | None) -> SignedIn:
        if (way or ("device" if sign_in.public else "browser")) == "device":
            return await self._by_device(sign_in)
        return await self._by_browser(sign_in, expected(account)[0])

    async def _by_device(self, sign_in: SignIn) -> SignedIn:
        device = await sign_in.device()
        self.show(device.message)
        return await self._polled(sign_in, device)

    async def _polled(self, sign_in: SignIn, device: Device) -> SignedIn:
        """Until somebody has answered. An authority that is down for a moment is asked again, more slowly (RFC 8628, 3.5)."""
        interval, left = device.interval, device.lifetime
        while left > 0:
            await self.sleep(interval)
            left -= max(interval, 1.0)
            try:
                found = await sign_in.polled(device)
            except AuthorityDown:
                interval += SLOWER
                continue
            except AuthorityRefused as refused:
                if refused.error != "slow_down":
                    raise
                interval += SLOWER
                continue
            if found is not None:
                return found
        raise AuthorityRefused("login_expired", "Nobody entered the code in time.", "Run the command again.", error="expired_token")

    async def _by_browser(self, sign_in: SignIn, user: str) -> SignedIn:
        async with self.loopback() as loopback:
            page = await sign_in.page(loopback.address, user)
            self.show(f"Sign in as {user} on this page:\n\n  {page.url}\n")
            if self.open_page is not None:
                await asyncio.to_thread(self.open_page, page.url)
            try:
                async with asyncio.timeout(BROWSER_SECONDS):
                    answer = await loopback.answer(page.state)
            except TimeoutError as error:
                detail = f"Nobody signed in within {BROWSER_SECONDS / 60:.0f} minutes."
                raise AuthorityRefused("login_expired", detail, "Run the command again.") from error
            return await sign_in.redeemed(page, answer)

    async def _reach(self, name: str) -> None:
        """That nobody signs in for nothing: a vault that cannot be read says so first."""
        try:
            await self.vault.secret(name, fresh=True)
        except VaultRefused as refused:
            if refused.code != "vault_secret_missing":
                raise

    async def _stored(self, name: str, refresh_token: str) -> None:
        """In our own turn, so that no timer overwrites it with what it got for the token before. Raises VaultRefused, VaultDown."""
        if self.store is not None:
            tokens = RefreshTokens(self.store, self.vault)
            turn = await self._turn(tokens, name)
            if turn is not None:
                await tokens.put(turn, refresh_token)
                return
        await self.vault.set_secret(name, refresh_token, CONTENT_TYPE)

    async def _turn(self, tokens: RefreshTokens, name: str) -> Row | None:
        """None where storage cannot be reached, or has no turn for us: who has signed in is not turned away for that."""
        for _ in range(int(TURN / PAUSE) + 1):
            try:
                turn = await tokens.turn(name)
            except StorageDown as error:
                self.show(f"Storage was not reached ({error.code}), so the timer is not told of this login.")
                return None
            if turn is not None:
                return turn
            self.show("The app is renewing this very token; waiting for it to end.")
            await self.sleep(PAUSE)
        return None


def expected(account: Account) -> list[str]:
    """Who may sign in for the account: the profile's `username` where it has one, else whoever has the account's address."""
    username = dict(account.profile.options).get("username")
    return [username] if username else [account.address]


def failed(what: str, error: MailroomError) -> Line:
    return Line(False, what, f"{error.detail} ({error.code})", error.next_step)


def _no_login(account: Account) -> Line:
    said = f"[auth.{account.profile.name}] signs in by {account.profile.grant}: nobody has to sign in for it"
    return Line(False, "settings", said, f'Only grant = "refresh_token" needs a login. `mailroom check {account.name}` tests this account.')


def _wrong_user(account: Account, user: str, whom: list[str]) -> Line:
    said = f"signed in as {user}, and not as {whom[0]}: nothing was stored"
    todo = f'Sign in as {whom[0]}; or, where {user} may use this mailbox, say username = "{user}" in [auth.{account.profile.name}].'
    return Line(False, "sign-in", said, todo)
