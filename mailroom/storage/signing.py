"""How a storage request says who asks: a bearer token on Azure, a shared key where a connection string gave one.

The key signs a digest of the request: learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Protocol
from urllib.parse import parse_qsl

from mailroom.identity import Identity


class Authorize(Protocol):
    async def __call__(self, service: str, method: str, target: str, headers: dict[str, str], length: int) -> str:
        """The Authorization header for a request to `target`, its path and query as on the wire, with a body of that length."""
        ...


class Bearer:
    def __init__(self, identity: Identity, resource: str) -> None:
        self._identity = identity
        self._resource = resource

    async def __call__(self, service: str, method: str, target: str, headers: dict[str, str], length: int) -> str:
        token = await self._identity.token(self._resource)
        return f"Bearer {token.value}"


class SharedKey:
    def __init__(self, account: str, key: str) -> None:
        self._account = account
        self._key = base64.b64decode(key)

    async def __call__(self, service: str, method: str, target: str, headers: dict[str, str], length: int) -> str:
        text = string_to_sign(self._account, service, method, target, headers, length)
        signature = hmac.digest(self._key, text.encode(), hashlib.sha256)
        return f"SharedKey {self._account}:{base64.b64encode(signature).decode()}"


def string_to_sign(account: str, service: str, method: str, target: str, headers: dict[str, str], length: int) -> str:
    """Header names are lower case. Tables sign neither the x-ms- headers nor, but for `comp`, the query."""
    path, _, query = target.partition("?")
    content_type = headers.get("content-type", "")
    if service == "table":
        return f"{method}\n\n{content_type}\n{headers['x-ms-date']}\n/{account}{path}"  # no call of ours has a `comp`
    ours = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()) if name.startswith("x-ms-"))
    asked = "".join(f"\n{name}:{value}" for name, value in sorted(parse_qsl(query)))
    # encoding, language, length, MD5, type; then Date, the four conditions, of which we send two, and Range
    conditions = f"{headers.get('if-match', '')}\n{headers.get('if-none-match', '')}"
    standard = f"\n\n{length or ''}\n\n{content_type}\n\n\n{conditions}\n\n\n"
    return f"{method}\n{standard}{ours}/{account}{path}{asked}"
