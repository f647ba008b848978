"""Whose tokens a provider takes: Google's, or Entra ID's. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mailroom.model.account import Account

GOOGLE = frozenset({"jwt_bearer", "workload_identity"})


def mistakes(account: Account, *, google: bool) -> Iterator[tuple[str, str, str]]:
    """Of the profile's grant: key, what was found, what would be right."""
    grant = account.profile.grant
    if not grant or (grant in GOOGLE) is google:
        return
    found = f"found a profile with grant {grant}"
    if google:
        yield "auth", found, f"should be one with grant {' or '.join(sorted(GOOGLE))}: Google signs in"
    else:
        yield "auth", found, "should be one with another grant, such as client_credentials: Entra ID signs in"
