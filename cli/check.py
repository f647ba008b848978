"""`mailroom check`: does this account work, step by step, and if not, what is to be done.

A token proves no permission: Exchange's own grants leave no trace in it, and a role in it may be scoped away. So each permission is
proven by using it: reading by reading, sending by sending, and only where an address for it was given. What was sent must then be found
by its stamp, for a search that finds nothing makes a mail go again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

from cli.house import House
from cli.line import Line, failed
from cli.trial import Trial, stamped
from mailroom.errors import BadSettings, MailroomError
from mailroom.model.account import Account, Profile
from mailroom.model.token import Token
from mailroom.ports import Preparer

SOON = 30
LOGIN = "Nobody has signed in yet: run `mailroom login` for this account."


async def run(
    account: Account, house: House, *, send_to: str | None = None, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> AsyncIterator[Line]:
    yield Line(True, "settings", _signs_in(account.profile) if account.traits.signs_in else f"{account.provider} needs no sign-in")
    yield await _material(account, house)
    try:
        token = await house.credential(account.profile).ask(house.scope(account))
    except MailroomError as error:
        yield failed("token", error)
        for what in ("asking", "inbox", "test mail"):
            yield Line(None, what, "not checked: there is no token")
        return
    if account.traits.signs_in:
        yield Line(True, "token", f"a new one, good for {(token.expires_at - time.time()) / 60:.0f} minutes")
    trial = Trial(house, account, token, sleep)
    yield await _asking(account, trial)
    yield await _inbox(account, house, token)
    for needed in sorted(_for_large(account)):
        yield await _large(account, house, token, needed, send_to)
    if not account.send or send_to is None:
        yield _unsent(account)
        return
    async for line in trial.mails(send_to):
        yield line


def settings_wrong(error: BadSettings) -> Line:
    return Line(False, "settings", "\n  ".join(error.mistakes), "Correct accounts.toml or the environment, then check again.")


def verdict(wrong: int, skipped: int) -> str:
    left = f" {skipped} not checked." if skipped else ""
    return f"{wrong} failed.{left}" if wrong else f"Nothing failed.{left}"


async def _material(account: Account, house: House) -> Line:
    """What the grant signs in with, or the provider shows, as the vault has it. Never shown, only described."""
    profile = account.profile
    if account.vault_certificates:
        return await _certificate(account.vault_certificates[0], house, stays=False)
    if profile.certificate:
        return await _certificate(profile.certificate, house, stays=dict(profile.options).get("key") == "vault")
    if profile.vault_secrets:
        try:
            for name in profile.vault_secrets:
                await house.vault().secret(name, fresh=True)
        except MailroomError as error:
            login = error.code == "vault_secret_missing" and name == dict(profile.options).get("refresh_token_secret")
            return Line(False, "secret", f"{error.detail} ({error.code})", LOGIN) if login else failed("secret", error)
        return Line(
            True, "secret", f"{' and '.join(profile.vault_secrets)} {'is' if len(profile.vault_secrets) == 1 else 'are'} in the vault"
        )
    return Line(None, "vault", "nothing to check: this grant signs in with nothing from the vault")


async def _certificate(name: str, house: House, *, stays: bool) -> Line:
    """`stays`: its key never leaves the vault, so the public part is all there is to see."""
    try:
        found = await (house.vault().public_certificate(name) if stays else house.certificates().certificate(name))
    except MailroomError as error:
        return failed("certificate", error)
    days = (found.not_after - datetime.now(UTC)).days
    todo = (
        f"Make a new version (`mailroom certificate make {name}`), and register it where the old one is, before then."
        if days < SOON
        else ""
    )
    where = "is in the vault, where its key stays" if stays else "is in the vault"
    said = f"{name} {where}, thumbprint {found.thumbprint_sha1}, ends {found.not_after:%Y-%m-%d} (in {days} days)"
    return Line(True, "certificate", said, todo)


async def _asking(account: Account, trial: Trial) -> Line:
    if not account.can_be_asked:
        then = "a person decides" if account.in_doubt == "hold" else "it is sent again"
        return Line(None, "asking", f"not checked: {_unasked(account)}, so where an answer is lost {then}")
    try:
        await trial.ask(stamped(account, account.address))
    except MailroomError as error:
        return failed("asking", error)
    through = f" through {account.asked.provider}" if account.asked else ""
    return Line(True, "asking", f"sent mail can be searched{through}, so a lost answer is no lost mail")


async def _inbox(account: Account, house: House, token: Token) -> Line:
    if not account.can_be_asked or not account.traits.receives:
        return Line(None, "inbox", f"not checked: {_unasked(account)}")
    try:
        page = await house.inbox(account).page(account, None, token, ids_only=True)
    except MailroomError as error:
        return failed("inbox", error)
    more = "" if page.last else ", more follow"
    return Line(True, "inbox", f"{account.folder} can be read: {len(page.arrivals)} mails on the first page{more}")


def _for_large(account: Account) -> frozenset[str]:
    """What the account declares for large mails alone."""
    return account.permissions.intersection(name for size in account.traits.sizes for name in size.needs)


async def _large(account: Account, house: House, token: Token, needed: str, send_to: str | None) -> Line:
    """A draft that is deleted at once: only writing proves that one may write."""
    sender = house.sender(account)
    if not isinstance(sender, Preparer) or not account.send or send_to is None:
        return Line(None, "large mail", f"not tried, so {needed} is not proven; --send-to ADDRESS tries it with a draft, deleted at once")
    try:
        await sender.rehearse(account, token)
    except MailroomError as error:
        return failed("large mail", error)
    return Line(True, "large mail", f"{needed} works: a draft was made and deleted")


def _unsent(account: Account) -> Line:
    if not account.send:
        return Line(None, "test mail", "not sent: the account does not send (send = false)")
    permission = _least(account, account.traits.sending)
    return Line(None, "test mail", f"not sent, so {permission} is not proven; give --send-to ADDRESS to send one")


def _unasked(account: Account) -> str:
    if not account.traits.asking:
        return f"{account.provider} only sends, and can't be asked"
    return f"its permissions hold no {_least(account, account.traits.asking)}"


def _least(account: Account, wanted: frozenset[str]) -> str:
    """The least permission of those; a provider without permissions has none to name."""
    return next((name for name in account.traits.permissions if name in wanted), "permission for it")


def _signs_in(profile: Profile) -> str:
    facts = {"as client": profile.client_id, "of tenant": profile.tenant, "for": profile.subject}
    told = "".join(f" {name} {value}" for name, value in facts.items() if value)
    return f"[auth.{profile.name}] signs in by {profile.grant}{told}"
