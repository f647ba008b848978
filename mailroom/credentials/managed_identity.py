"""The app's own managed identity, directly: where roles of Graph or Exchange are granted to it, it takes no app registration and no secret.

learn.microsoft.com/entra/identity/managed-identities-azure-resources/overview. The platform remembers a token for up to a day and gives no
new one before that, so a role that is granted now may show in tokens only tomorrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mailroom.model.account import Profile
from mailroom.model.token import Token
from mailroom.ports import Identity, Parts

KEYS: dict[str, bool] = {}  # which identity is AZURE_CLIENT_ID's to say, for the whole app
DEFAULT = "/.default"


def mistakes(profile: Profile) -> Iterator[tuple[str, str, str]]:
    yield from ()


def build(profile: Profile, parts: Parts) -> ManagedIdentity:
    return ManagedIdentity(parts.identity)


class ManagedIdentity:
    def __init__(self, identity: Callable[[], Identity]) -> None:
        self._identity = identity

    async def ask(self, scope: str) -> Token:
        """For the resource that `scope` names, as RESOURCE/.default. Raises IdentityDown."""
        return await self._identity().token(scope.removesuffix(DEFAULT), fresh=True)
