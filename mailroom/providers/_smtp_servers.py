"""Which server an account sends through, what it takes, and what its tokens are for. Pure.

learn.microsoft.com/exchange/mail-flow-best-practices: "Authenticated client SMTP submission", and for High Volume Email
"oauth-high-volume-mails-m365". Gmail: developers.google.com/gmail/imap/xoauth2-protocol.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from mailroom.model.account import Account, Cloud

MEGABYTE = 1024 * 1024
IMPLICIT_TLS = 465  # RFC 8314; every other port begins in the clear and must offer STARTTLS

_SERVER = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::(\d{1,5}))?")


class Server(msgspec.Struct, frozen=True):
    """`largest` is in bytes as they go over the wire; the server's own SIZE may be less."""

    host: str
    port: int
    largest: int = 150 * MEGABYTE
    recipients: int = 500

    @property
    def at_once(self) -> bool:
        """Whether TLS begins at once."""
        return self.port == IMPLICIT_TLS

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Preset(msgspec.Struct, frozen=True):
    """`host` and `scope` "" are the cloud's own for Exchange."""

    host: str = ""
    scope: str = ""
    largest: int = 150 * MEGABYTE
    recipients: int = 500


PRESETS = {
    "exchange": Preset(),
    "hve": Preset("smtp.hve.mx.microsoft:587", "https://outlook.office.com/.default", 10 * MEGABYTE, 50),
    "gmail": Preset(scope="https://mail.google.com/", largest=35_882_577, recipients=500),
}


def preset(account: Account) -> Preset:
    return PRESETS[dict(account.options).get("preset", "exchange")]


def server(account: Account, *, port: int = 587) -> Server:
    """Where the account's mails go; `port` is for a host that names none."""
    known, cloud = preset(account), account.profile.cloud
    text = dict(account.options).get("host") or _usual_host(account, known, cloud)
    host, given = split(text) or ("", None)
    return Server(host, given or port, known.largest, known.recipients)


def scope(account: Account) -> str:
    options = dict(account.options)
    return options.get("scope") or preset(account).scope or account.profile.cloud.outlook_scope


def split(text: str) -> tuple[str, int | None] | None:
    """HOST or HOST:PORT; None for what is neither."""
    found = _SERVER.fullmatch(text)
    port = int(found[2]) if found and found[2] else None
    return (found[1], port) if found and (port is None or 0 < port < 65536) else None


def mistakes(account: Account) -> Iterator[tuple[str, str, str]]:
    """What is wrong with an account's own options: key, what was found, what would be right."""
    options = dict(account.options)
    if options.get("host") and split(options["host"]) is None:  # "" was told to be missing or wrong already
        yield "host", f"found {options['host'][:60]!r}", "should be HOST or HOST:PORT, such as smtp.office365.com:587"
    if options.get("from") and not re.fullmatch(r"[^\s@<>\"(),:;]+@[^\s@<>\"(),:;]+\.[^\s@<>\"(),:;.]+", options["from"]):
        yield "from", f"found {options['from'][:60]!r}", "should be an address with a domain, such as no-reply@example.com"


def _usual_host(account: Account, known: Preset, cloud: Cloud) -> str:
    return known.host or (cloud.gmail_smtp if dict(account.options).get("preset") == "gmail" else cloud.smtp)
