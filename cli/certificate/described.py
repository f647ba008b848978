"""A certificate in words: what one compares with the portal, and what an assertion names it by."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from cli.certificate.fitness import described, public_key
from mailroom.storage.vault_answers import Item, name_of

SOON = 30


def lines(certificate: x509.Certificate, now: datetime) -> list[str]:
    sha1 = certificate.fingerprint(hashes.SHA1())  # noqa: S303 - RFC 7515 names it x5t; it identifies, it proves nothing
    sha256 = certificate.fingerprint(hashes.SHA256())
    issuer = certificate.issuer.rfc4514_string()
    facts = {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": "itself" if certificate.issuer == certificate.subject else issuer,
        "key": described(public_key(certificate)),
        "serial": f"{certificate.serial_number:x}",
        "not before": f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
        "not after": f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, {left(certificate.not_valid_after_utc, now)}",
        "SHA-1": sha1.hex(),
        "x5t": base64url(sha1),
        "SHA-256": sha256.hex(),
        "x5t#S256": base64url(sha256),
    }
    return [f"  {what:<11} {said}" for what, said in facts.items()]


def versions(items: Sequence[Item], newest: str, now: datetime) -> list[str]:
    """The newest comes first, and signs in. Two of the same second have no order but what the vault itself takes for the newest."""
    ordered = sorted(items, key=lambda item: (version_of(item) == newest, item.attributes.created), reverse=True)
    told = [f"{_version(item, now)}{', the newest' if version_of(item) == newest else ''}" for item in ordered]
    return [f"  {'versions' if place == 0 else '':<11} {line}" for place, line in enumerate(told)]


def named(items: Sequence[Item], now: datetime) -> list[str]:
    """One line for each certificate of a vault."""
    names = [name_of(item) for item in items]
    width = max((len(name) for name in names), default=0)
    return [f"{name:<{width}}  {_ends(item, now)}  x5t {item.x5t}" for name, item in zip(names, items, strict=True)]


def left(end: datetime, now: datetime) -> str:
    days = (end - now).days
    if end <= now:
        return f"expired {(now - end).days} days ago"
    return f"{days} days left" + (": make a new version" if days < SOON else "")


def version_of(item: Item) -> str:
    return item.id.rstrip("/").split("/")[-1]


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _version(item: Item, now: datetime) -> str:
    made = datetime.fromtimestamp(item.attributes.created, UTC)
    return f"{version_of(item)}  made {made:%Y-%m-%d}  {_ends(item, now)}  x5t {item.x5t}"


def _ends(item: Item, now: datetime) -> str:
    end = datetime.fromtimestamp(item.attributes.exp or 0, UTC)
    return f"ends {end:%Y-%m-%d}  {left(end, now)}{'' if item.attributes.enabled else ', disabled'}"
