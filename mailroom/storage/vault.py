"""Key Vault over its REST API, for what the hot path needs: secrets read and set, and when they and certificates end.

learn.microsoft.com/rest/api/keyvault. Certificates with their keys are `certificates.py`'s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

import httpx
import msgspec

from mailroom.errors import VaultDown, VaultRefused
from mailroom.flight import Flight
from mailroom.http import repeated, retry_after
from mailroom.identity import Identity
from mailroom.storage.vault_answers import AGAIN, Item, Kind, Page, Secret, decode, inner_code, name_of, refusal

API_VERSION = "7.4"
KEEP_SECONDS = 6 * 3600.0
PAUSES = (1.0, 2.0, 4.0)  # learn.microsoft.com/azure/key-vault/general/overview-throttling
TIMEOUT = 10.0

_ROLES = {
    ("secret", "GET"): "Key Vault Secrets User",
    ("secret", "PUT"): "Key Vault Secrets Officer",
    ("certificate", "GET"): "Key Vault Certificate User",
}


class _Kept(NamedTuple):
    value: str
    until: float


class RestVault:
    """`url` is the vault's, `resource` what its tokens are for: https://vault.azure.net, or another cloud's."""

    def __init__(
        self,
        url: str,
        client: httpx.AsyncClient,
        identity: Identity,
        *,
        resource: str,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        keep: float = KEEP_SECONDS,
    ) -> None:
        self._url = url.rstrip("/")
        self._client = client
        self._identity = identity
        self._resource = resource
        self._now = now
        self._sleep = sleep
        self._keep = keep
        self._kept: dict[str, _Kept] = {}
        self._flight = Flight[str]()

    async def secret(self, name: str, *, fresh: bool = False) -> str:
        kept = self._kept.get(name)
        if kept is not None and kept.until > self._now() and not fresh:
            return kept.value
        return await self._flight.join((name, fresh), lambda: self._read(name))

    async def set_secret(self, name: str, value: str, content_type: str = "text/plain") -> None:
        body = msgspec.json.encode({"value": value, "contentType": content_type})
        await self._call("secret", name, "PUT", self._address(f"/secrets/{quote(name, safe='')}"), body)
        self._kept.pop(name, None)

    async def ends(self) -> list[tuple[str, str, datetime]]:
        secrets, certificates = await asyncio.gather(self._list("secret"), self._list("certificate"))
        return [*secrets, *certificates]

    async def _read(self, name: str) -> str:
        response = await self._call("secret", name, "GET", self._address(f"/secrets/{quote(name, safe='')}"))
        value = decode(response, Secret).value
        self._kept[name] = _Kept(value, self._now() + self._keep)
        return value

    async def _list(self, kind: Kind) -> list[tuple[str, str, datetime]]:
        items: list[Item] = []
        link: str | None = self._address(f"/{kind}s")
        while link:
            page = decode(await self._call(kind, "", "GET", link), Page)
            items += page.value
            link = self._checked(page.next_link)
        alive = [item for item in items if item.attributes.enabled and not (kind == "secret" and item.managed)]
        return [
            (kind, name_of(item), datetime.fromtimestamp(item.attributes.exp, UTC)) for item in alive if item.attributes.exp is not None
        ]

    async def _call(self, kind: Kind, name: str, method: str, url: str, body: bytes | None = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            token = await self._identity.token(self._resource)
            headers = {"Authorization": f"Bearer {token.value}", "Content-Type": "application/json"}
            return await self._client.request(method, url, content=body, headers=headers, timeout=TIMEOUT)

        try:
            response = await repeated(ask, pauses=PAUSES, again=AGAIN, sleep=self._sleep)
        except httpx.RequestError as error:
            raise VaultDown("vault_down", f"The vault did not answer ({type(error).__name__}).") from error
        if not response.is_success:
            wait = retry_after(response.headers)
            raise refusal(kind, name, response.status_code, inner_code(response), role=_ROLES[kind, method], wait=wait)
        return response

    def _address(self, path: str) -> str:
        return f"{self._url}{path}?api-version={API_VERSION}"

    def _checked(self, link: str | None) -> str | None:
        """The next page's address comes from outside, and our token goes to it."""
        if link and httpx.URL(link).copy_with(raw_path=b"/") != httpx.URL(self._url).copy_with(raw_path=b"/"):
            raise VaultRefused("vault_unreadable", "The vault's list goes on at another address than its own.", "Check MAILROOM_VAULT_URL.")
        return link
