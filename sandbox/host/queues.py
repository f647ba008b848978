"""A small client of the queue service (learn.microsoft.com/rest/api/storageservices/queue-service-rest-api)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from sandbox.host.storage import Storage, StorageFailed

NO_SUCH = 404


@dataclass(frozen=True, slots=True)
class Message:
    """`text` is what lies in the queue, before any decoding. The receipt changes with every update."""

    id: str
    receipt: str
    dequeue_count: int
    inserted: datetime
    expires: datetime
    visible_again: datetime
    text: str


class Queue:
    def __init__(self, storage: Storage, name: str) -> None:
        self._storage = storage
        self.name = name

    async def create(self) -> None:
        """Quiet when it is there already."""
        await self._storage.call("queue", "PUT", self.name)

    async def get(self, count: int, hide: float) -> list[Message]:
        """Up to 32, oldest first; none where there is no such queue yet."""
        query = {"numofmessages": count, "visibilitytimeout": _seconds(hide)}
        response = await self._storage.call("queue", "GET", f"{self.name}/messages", query, but={NO_SUCH})
        if response.status_code == NO_SUCH:
            return []
        return [_message(element) for element in ElementTree.fromstring(response.content)]

    async def put(self, text: str) -> None:
        """Never expires."""
        body = f"<QueueMessage><MessageText>{escape(text)}</MessageText></QueueMessage>".encode()
        await self._storage.call("queue", "POST", f"{self.name}/messages", {"messagettl": -1}, body=body)

    async def hide(self, message: Message, receipt: str, seconds: float) -> str | None:
        """The new receipt; None when the message is gone or somebody else's by now."""
        query: dict[str, str | int] = {"popreceipt": receipt, "visibilitytimeout": _seconds(seconds)}
        try:
            response = await self._storage.call("queue", "PUT", f"{self.name}/messages/{message.id}", query)
        except StorageFailed as error:
            if _outdated(error):
                return None
            raise
        return str(response.headers["x-ms-popreceipt"])

    async def delete(self, message: Message, receipt: str) -> None:
        """Quiet when the message is gone or somebody else's by now."""
        try:
            await self._storage.call("queue", "DELETE", f"{self.name}/messages/{message.id}", {"popreceipt": receipt})
        except StorageFailed as error:
            if not _outdated(error):
                raise


def _outdated(error: StorageFailed) -> bool:
    return error.status == NO_SUCH or error.code == "PopReceiptMismatch"


def _seconds(seconds: float) -> int:
    """The service takes whole ones."""
    return math.ceil(seconds)


def _message(element: ElementTree.Element) -> Message:
    return Message(
        id=element.findtext("MessageId", ""),
        receipt=element.findtext("PopReceipt", ""),
        dequeue_count=int(element.findtext("DequeueCount", "0")),
        inserted=parsedate_to_datetime(element.findtext("InsertionTime", "")),
        expires=parsedate_to_datetime(element.findtext("ExpirationTime", "")),
        visible_again=parsedate_to_datetime(element.findtext("TimeNextVisible", "")),
        text=element.findtext("MessageText", ""),
    )
