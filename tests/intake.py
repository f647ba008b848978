"""A sending room that accepts batches out of blobs, on the same fakes, with steps small enough to be killed between any two of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mailroom.errors import Forbidden
from mailroom.model.batch import Batch
from mailroom.model.intake import Intake
from mailroom.model.places import UPLOADS_CONTAINER
from mailroom.storage.intakes import StoredIntakes
from mailroom.storage.outbox import read_intake, read_ticket
from send_mail.intake import Begin, wanted
from send_mail.take_in import LATE, TakeIn
from tests.sending import Killed, Room

CALLER = "crm"


class IntakeRoom(Room):
    """`lines` are those of a portion; each ticket does one step, unless it has `seconds`."""

    def __init__(self, *, lines: int = 4, seconds: float = 0.0, **account: Any) -> None:
        self.lines, self.seconds = lines, seconds
        super().__init__(**account)

    def start(self, prefix: str = "p") -> None:
        super().start(prefix)
        self.intakes = StoredIntakes(self.store)
        self.take_in = TakeIn(self.accept, self.intakes, allow, self.seconds, self.lines, self.real)

    def add_account(self, name: str, **fields: Any) -> None:
        self.deliver.accounts[name] = msgspec.structs.replace(self.account, name=name, **fields)  # type: ignore[index]

    async def upload(self, body: bytes, name: str = "u1") -> None:
        await self.fake.put_blob(UPLOADS_CONTAINER, f"{CALLER}/{name}", body)

    async def post(self, body: bytes | None = None, *, key: str | None = None, send_at: float = 0.0, **fields: Any) -> Intake | Batch:
        """As POST /api/batches does it, with the upload put there first where `body` is one."""
        if body is not None:
            await self.upload(body)
        request = json.dumps({"blob": "u1", "format": "ndjson"} | fields).encode()
        order = wanted(request)
        assert order is not None
        return await Begin(self.accept, self.intakes, CALLER)(request, order, "hash", key, send_at=send_at)

    async def work_off(self) -> int:
        """As in `Room`, with the tickets of intakes."""
        tickets = await self.fake.receive("mail-outbox", top=32, hide=30.0)
        for ticket in tickets:
            ref, batch_id = read_ticket(ticket.body), read_intake(ticket.body)
            try:
                if ref is not None:
                    await self.deliver.work(ref)
                else:
                    assert batch_id is not None
                    await self.take_in.work(batch_id)
            except Killed:
                self.start()
                continue
            await self.fake.delete_ticket("mail-outbox", ticket)
        return len(tickets)

    async def taken_in(self, rounds: int = 40) -> None:
        """Until no intake has work left: tickets are worked off, and where none is alive the sweep revives."""
        for _ in range(rounds):
            while await self.work_off():
                pass
            if not await StoredIntakes(self.fake).waiting():
                return
            self.pass_time(LATE + 1)
            await self.alive(self.take_in.revive)
        raise AssertionError("it never ends")


def allow(caller: str, account: str) -> None:
    if account == "secret":
        raise Forbidden("account_not_allowed", f"{caller} may not use {account}.", "Ask.")


def mail(number: int = 0, **fields: Any) -> dict[str, Any]:
    return {"account": "billing", "to": [f"ann{number}@example.com"], "subject": f"Mail {number}", "id": f"id-{number}"} | fields


def ndjson(values: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)
