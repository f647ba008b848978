"""The Blob service: whole blobs put, got, deleted and found by age (`ports.Store`, its second third)."""

from __future__ import annotations

from urllib.parse import quote

from mailroom.storage import markup
from mailroom.storage.wire import Call, Wire, code_of, failure

_NOT_FOUND = frozenset({404})
_CONFLICTS = frozenset({409, 412})
_THERE = frozenset({"BlobAlreadyExists", "ConditionNotMet"})


class Blobs:
    _wire: Wire

    async def put_blob(
        self, container: str, name: str, body: bytes, *, content_type: str = "application/octet-stream", only_if_absent: bool = False
    ) -> bool:
        headers = {"content-type": content_type, "x-ms-blob-type": "BlockBlob"}
        call = Call("put blob", "blob", container, "PUT", _path(container, name), headers, body, repeats=True, makes=True)
        if only_if_absent:
            call = Call(
                "put blob",
                "blob",
                container,
                "PUT",
                _path(container, name),
                {**headers, "if-none-match": "*"},
                body,
                _CONFLICTS,
                makes=True,
            )
        response = await self._wire.call(call)
        if response.is_success or code_of(response) in _THERE:
            return response.is_success
        raise failure(call, response.status_code, code_of(response))

    async def get_blob(self, container: str, name: str) -> bytes | None:
        path = _path(container, name)
        response = await self._wire.call(Call("get blob", "blob", container, "GET", path, expected=_NOT_FOUND, repeats=True))
        return response.content if response.is_success else None

    async def delete_blob(self, container: str, name: str) -> None:
        path = _path(container, name)
        await self._wire.call(Call("delete blob", "blob", container, "DELETE", path, expected=_NOT_FOUND, repeats=True))

    async def old_blobs(self, container: str, before: float, *, top: int = 1000) -> list[str]:
        """A container lists by name, not by age, so this reads on until it has found enough."""
        names: list[str] = []
        marker = ""
        while True:
            path = f"/{container}?restype=container&comp=list" + (f"&marker={quote(marker, safe='')}" if marker else "")
            response = await self._wire.call(Call("list blobs", "blob", container, "GET", path, expected=_NOT_FOUND, repeats=True))
            if not response.is_success:
                return []
            blobs, marker = markup.listing(response.content)
            names += [blob.name for blob in blobs if blob.modified.timestamp() < before]
            if not marker or len(names) >= top:
                return names[:top]


def _path(container: str, name: str) -> str:
    return f"/{container}/{quote(name, safe='/')}"
