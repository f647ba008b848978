"""Received mails in storage: each as it came (`.eml`) and as JSON, then a CloudEvent on a queue that tells of them.

Names are made of account and message id alone, so whoever does it again does the same again. CloudEvents 1.0: github.com/cloudevents/spec
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from mailroom.model.account import Account
from mailroom.model.page import Arrival
from mailroom.model.places import INBOX_CONTAINER, RECEIVED_QUEUE
from mailroom.model.received import Received
from mailroom.ports import Store
from mailroom.storage.cursors import name_of

EVENT_TYPE = "mailroom.mail.received"
SUBJECT_SHOWN = 500  # characters in the event: a queue message has 48 KiB, the whole subject is in the JSON


class StoredInbox:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def put(self, account: Account, arrival: Arrival, raw: bytes, mail: Received) -> None:
        """The event comes last: whoever reads it finds the mail."""
        eml, json = names(account, arrival)
        await self._store.put_blob(INBOX_CONTAINER, eml, raw, content_type="message/rfc822")
        body = msgspec.json.encode(_head(account, arrival) | {"eml": eml} | msgspec.to_builtins(mail))
        await self._store.put_blob(INBOX_CONTAINER, json, body, content_type="application/json")
        await self._store.put_ticket(RECEIVED_QUEUE, msgspec.json.encode(event(account, arrival, mail)))


def names(account: Account, arrival: Arrival) -> tuple[str, str]:
    stem = f"{account.name}/{arrival.received.astimezone(UTC):%Y/%m/%d}/{name_of(account, arrival.id)}"
    return f"{stem}.eml", f"{stem}.json"


def event(account: Account, arrival: Arrival, mail: Received) -> dict[str, Any]:
    """`eml` and `json` are names in the container `mail-inbox`; `from` is the bare address."""
    eml, json = names(account, arrival)
    sender = mail.sender[0].address if mail.sender else ""
    about = {"subject": mail.subject[:SUBJECT_SHOWN], "from": sender[:SUBJECT_SHOWN], "eml": eml, "json": json}
    return {
        "specversion": "1.0",
        "id": name_of(account, arrival.id),
        "source": f"/mailroom/accounts/{quote(account.name, safe='')}",
        "type": EVENT_TYPE,
        "subject": json,
        "time": _time(arrival.received),
        "datacontenttype": "application/json",
        "data": _head(account, arrival) | about,
    }


def _head(account: Account, arrival: Arrival) -> dict[str, Any]:
    return {"account": account.name, "id": arrival.id, "received": _time(arrival.received)}


def _time(at: datetime) -> str:
    """RFC 3339, in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
