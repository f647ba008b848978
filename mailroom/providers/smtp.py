"""SMTP with OAuth 2.0 as a provider: Exchange Online, its High Volume Email, Gmail, and every server that takes XOAUTH2 or OAUTHBEARER."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from mailroom import http
from mailroom.model.account import Account, Size, Traits
from mailroom.ports import Parts
from mailroom.providers import _authorities
from mailroom.providers import _smtp_servers as servers
from mailroom.providers._smtp_sasl import MECHANISMS
from mailroom.providers._smtp_sender import SmtpSender
from mailroom.providers._smtp_servers import Server

# Exchange Online: three connections and 30 messages a minute for a mailbox (smtp-submission-improvements, "sending limits")
TRAITS = Traits(receives=False, rate=30.0, recipients_a_day=10_000, in_flight=3, slice_weight=1, asked_through="graph", uploads=True)
PRESETS = {
    "exchange": TRAITS,
    "hve": Traits(receives=False, rate=600.0, in_flight=10, slice_weight=1, uploads=True),
    "gmail": Traits(receives=False, rate=60.0, recipients_a_day=2_000, in_flight=5, slice_weight=1, asked_through="gmail", uploads=True),
}
APPLICATION, PERSON = "SMTP.SendAsApp", "SMTP.Send"  # of Office 365 Exchange Online
NEEDS = (  # no account declares them: its sign-in has them, or Exchange's own grants, which show in no token
    Size("as an application, to Exchange Online", servers.PRESETS["exchange"].largest, frozenset({APPLICATION})),
    Size("as a person, to Exchange Online", servers.PRESETS["exchange"].largest, frozenset({PERSON})),
    Size("by High Volume Email", servers.PRESETS["hve"].largest, frozenset({"Mail.Send"})),
    Size("by Gmail", servers.PRESETS["gmail"].largest, frozenset({servers.PRESETS["gmail"].scope})),
)
KEYS = {"preset": False, "host": False, "from": False, "scope": False, "mechanism": False}


def mistakes(account: Account) -> Iterator[tuple[str, str, str]]:
    """What is wrong with an account's own options: key, what was found, what would be right."""
    options = dict(account.options)
    for key, known in (("preset", PRESETS), ("mechanism", MECHANISMS)):
        if key in options and options[key] not in known:
            yield key, f"found {options[key][:60]!r}", f"should be one of {', '.join(sorted(known))}"
    if "scope" not in options:  # of a server of its own nobody knows who signs in
        yield from _authorities.mistakes(account, google=options.get("preset") == "gmail")
    yield from servers.mistakes(account)


class Smtp(SmtpSender):
    """Signs in as the account's address, with its token."""

    def server(self, account: Account) -> Server:
        return servers.server(account)


def build(parts: Parts) -> Smtp:
    return Smtp(parts.call_seconds, _trust, parts.store)


def scope(account: Account) -> str:
    """What tokens for this account are asked for."""
    return servers.scope(account)


def delegated_scope(account: Account) -> str:
    """What a user consents to; Google and the others know no other scope than that of applications."""
    wanted = servers.scope(account)
    exchange = account.profile.cloud.outlook_scope
    return f"{exchange.removesuffix('.default')}{PERSON}" if wanted == exchange else wanted


async def _trust(account: Account) -> ssl.SSLContext:
    return http.tls()
