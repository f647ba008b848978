"""The Blob service: blobs put, got whole or in parts, deleted, found by age, and handed out for others to write (`ports.Store`)."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from urllib.parse import quote

from mailroom.errors import StorageConflict
from mailroom.model.row import Blob
from mailroom.storage import markup
from mailroom.storage.links import Links
from mailroom.storage.wire import Call, Wire, code_of, failure

_NOT_FOUND = frozenset({404})
_NOT_READ = frozenset({404, 412, 416})
_CONFLICTS = frozenset({409, 412})
_THERE = frozenset({"BlobAlreadyExists", "ConditionNotMet"})


class Blobs:
    _wire: Wire
    _links: Links

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

    async def find_blob(self, container: str, name: str) -> Blob | None:
        call = Call("look at blob", "blob", container, "HEAD", _path(container, name), expected=_NOT_FOUND, repeats=True)
        response = await self._wire.call(call)
        if not response.is_success:
            return None
        modified = parsedate_to_datetime(response.headers["last-modified"]).timestamp()
        return Blob(int(response.headers["content-length"]), modified, response.headers["etag"])

    async def read_blob(self, container: str, name: str, start: int, length: int, *, etag: str = "") -> bytes | None:
        headers = {"x-ms-range": f"bytes={start}-{start + length - 1}", **({"if-match": etag} if etag else {})}
        call = Call("read blob", "blob", container, "GET", _path(container, name), headers, expected=_NOT_READ, repeats=True)
        response = await self._wire.call(call)
        if response.status_code == 412:
            raise StorageConflict("storage_conflict", f"{call.what} on {container}: it was changed.")
        if response.status_code == 416:  # no byte of it lies in the range
            return b""
        return response.content if response.is_success else None

    async def upload_link(self, container: str, name: str, lifetime: float) -> str:
        return await self._links.upload(container, name, lifetime)

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
