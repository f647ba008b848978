"""One request to Microsoft Graph: where it goes and what stands in its headers. Never repeated here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import uuid4

import httpx

from mailroom.http import let_go
from mailroom.model.account import Account
from mailroom.model.token import Token
from mailroom.ports import Store
from mailroom.providers._uploads import no_store


class GraphWire:
    """`store` is where uploaded attachments lie, and what is remembered of drafts."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        store: Callable[[], Store] = no_store,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_id: Callable[[], str] = lambda: str(uuid4()),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._store = store
        self._sleep = sleep
        self._now = now
        self._new_id = new_id

    async def _post(self, account: Account, path: str, token: Token, body: bytes, content_type: str = "") -> httpx.Response:
        headers = self._headers(token) | ({"Content-Type": content_type} if content_type else {})
        return let_go(await self._client.post(account.profile.cloud.graph + path, content=body, headers=headers))

    async def _get(self, url: str, token: Token, *, page_size: int | None = None) -> httpx.Response:
        headers = self._headers(token)
        if page_size:
            headers["Prefer"] += f", odata.maxpagesize={page_size}"
        return let_go(await self._client.get(url, headers=headers))

    async def _delete(self, account: Account, path: str, token: Token) -> httpx.Response:
        return await self._client.delete(account.profile.cloud.graph + path, headers=self._headers(token))

    def _headers(self, token: Token) -> dict[str, str]:
        """Ids are immutable only where every request asks for that (learn.microsoft.com/graph/outlook-immutable-id)."""
        return {"Authorization": f"Bearer {token.value}", "client-request-id": self._new_id(), "Prefer": IMMUTABLE}


IMMUTABLE = 'IdType="ImmutableId"'
