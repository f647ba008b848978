"""One request to the Gmail API: where it goes and what stands in its headers. Never repeated here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import httpx

from mailroom.http import let_go
from mailroom.model.account import Account
from mailroom.model.token import Token
from mailroom.ports import Store
from mailroom.providers import _gmail_answers as answers
from mailroom.providers import _gmail_json as json
from mailroom.providers._uploads import no_store


class GmailWire:
    """`store` is where uploaded attachments lie."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        store: Callable[[], Store] = no_store,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._store = store
        self._now = now

    async def _read(self, account: Account, path: str, token: Token) -> httpx.Response:
        """`path` goes on behind the user. Raises NotSent where there is no answer."""
        try:
            return let_go(await self._client.get(address(account, path), headers=authorized(token)))
        except httpx.RequestError as error:
            raise answers.unanswered(error) from error

    async def _asked(self, account: Account, path: str, token: Token) -> bytes:
        """The body of a good answer. Raises ProviderError for any other."""
        answer = await self._read(account, path, token)
        failed = answers.to_question(answer.status_code, answer.headers, answer.content)
        if failed:
            raise failed
        return answer.content


def address(account: Account, path: str, prefix: str = "") -> str:
    return f"{account.profile.cloud.gmail}{prefix}{json.user(account.address)}{path}"


def authorized(token: Token) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.value}"}
