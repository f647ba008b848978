"""No sign-in: what an account has whose provider knows us otherwise (`signs_in` of its traits is False). No profile names it."""

from __future__ import annotations

from collections.abc import Iterator

from mailroom.model.account import Profile
from mailroom.model.token import NO_TOKEN, Token
from mailroom.ports import Parts

KEYS: dict[str, bool] = {}


def mistakes(profile: Profile) -> Iterator[tuple[str, str, str]]:
    """Providers that need no sign-in have no `auth` at all."""
    yield "grant", "found none", "leave the profile out: an account of a provider without sign-in has no auth"


def build(profile: Profile, parts: Parts) -> NoSignIn:
    return NoSignIn()


class NoSignIn:
    async def ask(self, scope: str) -> Token:
        return NO_TOKEN
