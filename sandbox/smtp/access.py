"""Who may send: the token, its permission, and what Exchange grants without showing it in any token.

learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth, and
"smtp-app-rbac-onboarding" beside it. `App.exchange` holds FullAccess and SendAs (Add-MailboxPermission, Add-RecipientPermission) and
"Application SMTP.SendAsApp", by mailbox or "*".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.directory import OUTLOOK, BadToken, Directory, client_of
from sandbox.smtp.sasl import Bearer


def signed_in(directory: Directory, bearer: Bearer) -> bool:
    """Whether this token is good for this mailbox. Exchange says no more than that."""
    try:
        claims = directory.check(bearer.token, [OUTLOOK])
    except BadToken:
        return False
    mailbox = bearer.user.lower()
    if mailbox not in {address.lower() for address in directory.mailboxes}:
        return False
    return _user_may(claims, mailbox) if "scp" in claims else _app_may(directory, claims, mailbox)


def may_send_as(directory: Directory, token: str, mailbox: str, sender: str) -> bool:
    """As the mailbox itself, or as somebody who granted Send As."""
    if sender.lower() == mailbox.lower():
        return True
    return "SendAs" in _granted(directory, directory.check(token, [OUTLOOK]), sender)


def _user_may(claims: Mapping[str, Any], mailbox: str) -> bool:
    return "SMTP.Send" in str(claims["scp"]).split() and str(claims.get("upn", "")).lower() == mailbox


def _app_may(directory: Directory, claims: Mapping[str, Any], mailbox: str) -> bool:
    """With the role in the token the mailbox's own permission counts; without it, Exchange's role assignment."""
    granted = _granted(directory, claims, mailbox)
    wanted = "FullAccess" if "SMTP.SendAsApp" in claims.get("roles", ()) else "Application SMTP.SendAsApp"
    return wanted in granted


def _granted(directory: Directory, claims: Mapping[str, Any], mailbox: str) -> set[str]:
    app = directory.apps.get(client_of(dict(claims)))
    scopes = app.exchange.items() if app else ()
    return {name for where, names in scopes if where == "*" or where.lower() == mailbox.lower() for name in names}
