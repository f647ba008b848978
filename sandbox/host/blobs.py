"""The host's own blobs in the container `azure-webjobs-hosts`: what it knows of its timers, and the locks that make them singletons.

Locks are blob leases (learn.microsoft.com/rest/api/storageservices/lease-blob).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sandbox.host.storage import Storage

NO_SUCH = 404
CONFLICT = 409
LEASED = 412


@dataclass(frozen=True, slots=True)
class HostBlobs:
    CONTAINER: ClassVar = "azure-webjobs-hosts"
    storage: Storage

    async def create(self) -> None:
        """Quiet when the container is there already."""
        await self.storage.call("blob", "PUT", self.CONTAINER, {"restype": "container"}, but={CONFLICT})

    async def read(self, name: str) -> bytes | None:
        response = await self.storage.call("blob", "GET", f"{self.CONTAINER}/{name}", but={NO_SUCH})
        return None if response.status_code == NO_SUCH else response.content

    async def write(self, name: str, body: bytes, *, only_if_absent: bool = False) -> None:
        headers = {"x-ms-blob-type": "BlockBlob"} | ({"if-none-match": "*"} if only_if_absent else {})
        await self.storage.call(
            "blob", "PUT", f"{self.CONTAINER}/{name}", headers=headers, body=body, but={CONFLICT, LEASED} if only_if_absent else ()
        )

    async def lease(self, name: str, seconds: int) -> str | None:
        """Takes the lock, for 15 to 60 seconds; None when another holds it."""
        await self.write(name, b"", only_if_absent=True)
        return await self._lease(name, {"x-ms-lease-action": "acquire", "x-ms-lease-duration": str(seconds)}, but=CONFLICT)

    async def renew(self, name: str, lease: str) -> bool:
        """False when the lock was lost."""
        return await self._lease(name, {"x-ms-lease-action": "renew", "x-ms-lease-id": lease}, but=CONFLICT) is not None

    async def release(self, name: str, lease: str) -> None:
        """Quiet when the lock was lost."""
        await self._lease(name, {"x-ms-lease-action": "release", "x-ms-lease-id": lease}, but=CONFLICT)

    async def _lease(self, name: str, headers: dict[str, str], but: int) -> str | None:
        response = await self.storage.call("blob", "PUT", f"{self.CONTAINER}/{name}", {"comp": "lease"}, headers=headers, but={but})
        return None if response.status_code == but else response.headers.get("x-ms-lease-id", "")
