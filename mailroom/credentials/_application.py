"""msal's application and its own wire, for one thread: it reads the authority's metadata and asks for tokens.

Nothing here is safe to share. A thread cannot be stopped: who gives up waiting for one leaves the application to it and makes another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from mailroom.credentials._authority import Wire
from mailroom.errors import AuthorityDown
from mailroom.model.account import Profile


class Assertion(msgspec.Struct, frozen=True):
    """A JWT that says who the application is: signed by its certificate's key, or by the issuer of a managed identity's tokens."""

    value: str

    def __repr__(self) -> str:
        return "Assertion(…)"


Proof = str | Assertion  # a secret, or what was signed


class Application:
    """`ask` blocks. The first one makes two calls, the metadata's and the token's; later ones only the token's."""

    def __init__(self, profile: Profile, proof: Proof, wire: Wire) -> None:
        self._proof = proof
        self._profile = profile
        self._wire = wire
        self._msal: Any = None

    def takes(self, proof: Proof) -> bool:
        """Another secret takes another application; assertions come new for each question."""
        return proof == self._proof or (isinstance(proof, Assertion) and isinstance(self._proof, Assertion))

    def ask(self, scope: str, proof: Proof) -> dict[str, Any]:
        with self._wire:
            self._proof = proof
            self._msal = self._msal or self._built()
            self._msal.remove_tokens_for_client()  # the keyring remembers tokens; who asks here wants a new one
            answer: dict[str, Any] = self._msal.acquire_token_for_client([scope])
            return answer

    def _built(self) -> Any:
        import msal  # type: ignore[import-untyped]

        profile = self._profile
        try:
            return msal.ConfidentialClientApplication(
                profile.client_id,
                client_credential=credential(self._proof, self._assertion),
                authority=f"{profile.cloud.authority}/{profile.tenant}",
                instance_discovery=False,
                http_client=self._wire,
            )
        except KeyError as error:
            raise AuthorityDown(
                "authority_unreadable", "The authority's metadata lack an endpoint.", "Check the profile's `cloud`."
            ) from error

    def _assertion(self) -> str:
        return self._proof.value if isinstance(self._proof, Assertion) else ""


def credential(proof: Proof, assertion: Callable[[], str]) -> str | dict[str, Callable[[], str]]:
    """What msal calls `client_credential`."""
    return proof if isinstance(proof, str) else {"client_assertion": assertion}
