"""The host's own access to its storage account: signed REST calls with the key of a connection string.

How the key signs: learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key. Azurite's blobs know no Shared Key Lite.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import quote, urlencode, urlsplit

import httpx

VERSION = "2021-12-02"


class StorageFailed(Exception):
    """Storage answered with a status that the call has no use for."""

    def __init__(self, response: httpx.Response) -> None:
        code = response.headers.get("x-ms-error-code", "")
        super().__init__(f"{response.request.method} {response.request.url.path} answered {response.status_code} {code}")
        self.status = response.status_code
        self.code = code


class Storage:
    """One storage account. Endpoints and key come from a connection string such as AzureWebJobsStorage holds."""

    def __init__(self, connection: str, http: httpx.AsyncClient) -> None:
        parts = dict(part.partition("=")[::2] for part in connection.split(";") if part)
        self._account = parts["AccountName"]
        self._key = base64.b64decode(parts["AccountKey"])
        self._endpoints = {service: _endpoint(parts, service) for service in ("blob", "queue")}
        self._http = http

    async def call(
        self,
        service: str,
        method: str,
        path: str,
        query: Mapping[str, str | int] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        but: Collection[int] = (),
    ) -> httpx.Response:
        """Raises StorageFailed unless it is a success or one of the statuses in `but`."""
        url = f"{self._endpoints[service]}/{quote(path)}" + (f"?{urlencode(query)}" if query else "")
        sent = {"x-ms-date": format_datetime(datetime.now(UTC), usegmt=True), "x-ms-version": VERSION, **(headers or {})}
        if body:
            sent["content-type"] = "application/octet-stream"
        sent["authorization"] = self._signature(method, urlsplit(url).path, query or {}, sent, len(body))
        response = await self._http.request(method, url, headers=sent, content=body)
        if not response.is_success and response.status_code not in but:
            raise StorageFailed(response)
        return response

    def _signature(self, method: str, path: str, query: Mapping[str, str | int], headers: Mapping[str, str], length: int) -> str:
        """Of the eleven standard headers our calls have the length, the type and If-None-Match."""
        ours = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()) if name.startswith("x-ms-"))
        resource = f"/{self._account}{path}" + "".join(f"\n{name}:{value}" for name, value in sorted(query.items()))
        standard = f"\n\n{length or ''}\n\n{headers.get('content-type', '')}\n\n\n\n{headers.get('if-none-match', '')}\n\n\n"
        signed = hmac.digest(self._key, f"{method}\n{standard}{ours}{resource}".encode(), hashlib.sha256)
        return f"SharedKey {self._account}:{base64.b64encode(signed).decode()}"


def _endpoint(parts: Mapping[str, str], service: str) -> str:
    scheme, suffix = parts.get("DefaultEndpointsProtocol", "https"), parts.get("EndpointSuffix", "core.windows.net")
    return parts.get(f"{service.capitalize()}Endpoint", f"{scheme}://{parts['AccountName']}.{service}.{suffix}").rstrip("/")
