"""One call to Key Vault: with the identity's token, repeated while the vault asks for patience, its refusals as our errors.

learn.microsoft.com/azure/key-vault/general/overview-throttling
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import quote

import httpx

from mailroom.errors import VaultDown, VaultRefused
from mailroom.http import repeated, retry_after
from mailroom.identity import Identity
from mailroom.storage.vault_answers import AGAIN, Item, Kind, Page, decode, inner_code, refusal

API_VERSION = "7.4"
PAUSES = (1.0, 2.0, 4.0)
TIMEOUT = 10.0

_ROLES = {
    ("secret", "GET"): "Key Vault Secrets User",
    ("secret", "PUT"): "Key Vault Secrets Officer",
    ("certificate", "GET"): "Key Vault Certificate User",
    ("certificate", "POST"): "Key Vault Certificates Officer",
    ("key", "POST"): "Key Vault Crypto User",
}


class VaultWire:
    """`url` is the vault's, `resource` what its tokens are for: https://vault.azure.net, or another cloud's."""

    def __init__(
        self,
        url: str,
        client: httpx.AsyncClient,
        identity: Identity,
        *,
        resource: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = url.rstrip("/")
        self._client = client
        self._identity = identity
        self._resource = resource
        self._sleep = sleep

    def address(self, *path: str) -> str:
        """Of what stands under these names; empty ones at the end, as of a version that is not said, are left out."""
        return f"{self._url}/{'/'.join(quote(part, safe='') for part in path if part)}?api-version={API_VERSION}"

    async def call(self, kind: Kind, name: str, method: str, url: str, body: bytes | None = None, *, once: bool = False) -> httpx.Response:
        """A good answer. What is not as good done twice as once says `once`. Raises VaultRefused, VaultDown, IdentityDown."""

        async def ask() -> httpx.Response:
            token = await self._identity.token(self._resource)
            headers = {"Authorization": f"Bearer {token.value}", "Content-Type": "application/json"}
            return await self._client.request(method, url, content=body, headers=headers, timeout=TIMEOUT)

        try:
            response = await repeated(ask, pauses=() if once else PAUSES, again=AGAIN, sleep=self._sleep)
        except httpx.RequestError as error:
            raise VaultDown("vault_down", f"The vault did not answer ({type(error).__name__}).") from error
        if not response.is_success:
            wait = retry_after(response.headers)
            raise refusal(kind, name, response.status_code, inner_code(response), role=_ROLES[kind, method], wait=wait)
        return response

    async def items(self, kind: Kind, *path: str, name: str = "") -> AsyncIterator[Item]:
        """Of a list, page by page."""
        link: str | None = self.address(*path)
        while link:
            page = decode(await self.call(kind, name, "GET", link), Page)
            for item in page.value:
                yield item
            link = self._checked(page.next_link)

    def _checked(self, link: str | None) -> str | None:
        """The next page's address comes from outside, and our token goes to it."""
        if link and httpx.URL(link).copy_with(raw_path=b"/") != httpx.URL(self._url).copy_with(raw_path=b"/"):
            raise VaultRefused("vault_unreadable", "The vault's list goes on at another address than its own.", "Check MAILROOM_VAULT_URL.")
        return link
