"""Whether a certificate of the vault can sign now: each check raises VaultRefused with what was found and what to do."""

from __future__ import annotations

from datetime import datetime

from mailroom.errors import VaultRefused

LEAST_BITS = 2048
RENEW = "Make a new version in the vault, and upload its public part to the app registration."


def check_enabled(name: str, enabled: bool) -> None:
    if not enabled:
        detail = f"This version of the certificate {name!r} is disabled."
        raise VaultRefused("vault_certificate_disabled", detail, "Enable it, or make a new version.")


def check_key(name: str, fit: bool) -> None:
    if not fit:
        detail = f"The certificate {name!r} has no RSA key of {LEAST_BITS} bits or more."
        raise VaultRefused("certificate_key_unfit", detail, RENEW)


def check_times(name: str, not_before: datetime, not_after: datetime, now: datetime) -> None:
    if not_after <= now:
        detail = f"The certificate {name!r} expired on {not_after:%Y-%m-%d %H:%M} UTC."
        raise VaultRefused("certificate_expired", detail, RENEW)
    if not_before > now:
        detail = f"The certificate {name!r} is not valid before {not_before:%Y-%m-%d %H:%M} UTC."
        raise VaultRefused("certificate_not_yet_valid", detail, "Wait until then, or check this machine's clock.")
