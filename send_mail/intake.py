"""POST /api/batches that names an upload: a batch too large for a request is looked at, noted down, and accepted in the background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from mailroom.errors import BadInput
from mailroom.events import record
from mailroom.model.batch import Batch
from mailroom.model.intake import Intake
from mailroom.model.message import Attachment, Message
from mailroom.model.places import OUTBOX_CONTAINER, UPLOADS_CONTAINER
from mailroom.storage.intakes import StoredIntakes
from send_mail import parse, portions, templates
from send_mail.accept import Accept
from send_mail.portions import Head, Window
from send_mail.spread import Spread
from send_mail.templates import Asked, Merge
from send_mail.uploads import LIFETIME, NAME

CANCELLED = "batch_cancelled"
_NONE = (b"", b"null")  # what a template is that is not there


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The object that POST /api/batches takes for a batch that lies in an upload.

    With a template each line holds one recipient's variables, else it is a message. `attachments` go with every mail of a template.
    """

    blob: str
    format: Literal["ndjson", "csv"]
    template: msgspec.Raw = msgspec.Raw()
    attachments: list[parse.File] = []
    sender: str | None = msgspec.field(name="from", default=None)
    accounts: list[str] = []
    partial: bool = False
    send_at: str | None = None
    time_zone: str | None = None

    @property
    def asked(self) -> Asked | None:
        """The template as a request would have it, without its recipients. Raises BadInput."""
        if bytes(self.template) in _NONE:
            return None
        whole: dict[str, Any] = {"template": self.template, "recipients": []}
        if self.sender is not None:
            whole["from"] = self.sender
        return templates.asked(msgspec.json.encode(whole))


class Order(msgspec.Struct, frozen=True):
    """What was wanted, as it waits beside the batch: the request, who sends what names no account, and what all mails share."""

    wanted: bytes
    accounts: tuple[str, ...] = ()
    shared: tuple[Attachment, ...] = ()


def wanted(body: bytes) -> Wanted | None:
    """None where the body names no upload. Raises BadInput."""
    body = parse.without_bom(body).lstrip()
    if not body.startswith(b"{") or not _names_a_blob(body):
        return None
    try:
        found = msgspec.json.decode(body, type=Wanted)
    except msgspec.ValidationError as error:
        raise parse.bad(str(error), Wanted.__struct_encode_fields__) from error
    _check(found)
    return found


def _names_a_blob(body: bytes) -> bool:
    try:
        return "blob" in msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return False


def _without_files(body: bytes) -> bytes:
    """What all mails share is kept apart, looked up and pinned down."""
    fields = msgspec.json.decode(parse.without_bom(body), type=dict[str, msgspec.Raw])
    return msgspec.json.encode({name: value for name, value in fields.items() if name != "attachments"})


def _check(found: Wanted) -> None:
    if not NAME.fullmatch(found.blob):
        what = f"{found.blob[:80]!r} can't be the name of an upload."
        raise BadInput("upload_invalid", what, "Use the `blob` that POST /api/attachments answered.", field="blob")
    none = bytes(found.template) in _NONE
    if found.format == "csv" and none:
        raise BadInput("field_missing", "template is missing: CSV holds recipients, no mails.", "Add it.", field="template")
    if none:
        for name in ("attachments", "sender"):
            if getattr(found, name):
                field = "from" if name == "sender" else name
                raise BadInput("field_unknown", f"{field} belongs to a template.", "Put it into each line.", field=field)


@dataclass(frozen=True, slots=True)
class Begin:
    """Takes the order of one caller. What is wrong with it by itself is said at once; a wrong line is found later."""

    accept: Accept
    intakes: StoredIntakes
    caller: str

    async def __call__(
        self, body: bytes, order: Wanted, request: str, key: str | None = None, *, accounts: Sequence[str] = (), send_at: float = 0.0
    ) -> Intake | Batch:
        """The intake, or what the same key and request have made of one before. Raises BadInput, Conflict."""
        asked = order.asked
        senders = tuple((asked.accounts if asked else ()) or order.accounts or accounts)
        if senders:
            Spread(senders, self.accept.deliver.accounts)
        begun = await self.accept.begun(self.caller, request, key)
        if isinstance(begun, Batch):
            return begun
        unit, created = begun
        known = await self.intakes.read(unit)
        if known is not None:
            return known
        shared = await self._pinned(parse.attachments(order.attachments))
        if asked is not None:
            Merge.of(asked, shared)
        intake = await self._looked_at(order, Intake(unit, self.caller, request, f"{self.caller}/{order.blob}", 0, "", created))
        intake = msgspec.structs.replace(intake, partial=order.partial, send_at=send_at if send_at > created else 0.0)
        await self._put_away(unit, Order(_without_files(body), senders, shared))
        return await self._begun(intake)

    async def _looked_at(self, order: Wanted, intake: Intake) -> Intake:
        """With what is known of the upload, and where its lines begin."""
        deliver = self.accept.deliver
        blob = await deliver.store.find_blob(UPLOADS_CONTAINER, intake.blob)
        if blob is None:
            what = f"There is no upload {order.blob!r} of yours."
            raise BadInput("upload_missing", what, "PUT the batch to the URL of POST /api/attachments first.", field="blob")
        if deliver.store.now() - blob.modified > LIFETIME:
            what = f"{order.blob!r} was uploaded more than {LIFETIME / 3600:g} hours ago."
            raise BadInput("upload_expired", what, "Upload the batch again.", field="blob")
        head = await begins(order, Window(deliver.store, intake.blob, blob.size, blob.etag))
        if head.offset == blob.size:
            raise BadInput("batch_empty", "The upload is empty.", "Put one message, or one recipient, on each line.", field="blob")
        return msgspec.structs.replace(intake, size=blob.size, etag=blob.etag, offset=head.offset, line=head.line)

    async def _pinned(self, attachments: tuple[Attachment, ...]) -> tuple[Attachment, ...]:
        uploads, carrier = self.accept.uploads, Message("", attachments=attachments)
        return uploads.attached(carrier, await uploads.find([carrier], self.caller), self.caller).attachments

    async def _put_away(self, unit: str, order: Order) -> None:
        await self.accept.deliver.store.put_blob(OUTBOX_CONTAINER, order_name(unit), msgspec.msgpack.encode(order))
        if order.shared:
            await self.accept.deliver.outbox.share(unit, order.shared)

    async def _begun(self, intake: Intake) -> Intake:
        intake = await self.intakes.begin(intake)
        record("intake.begun", batch=intake.id, bytes=intake.size)
        await self.accept.deliver.outbox.nudge_intake(intake.id)
        return intake


async def begins(order: Wanted, window: Window) -> Head:
    """Where the lines begin. Raises BadInput where they can't."""
    start = await window.read(0, portions.HEAD)
    if order.format == "ndjson":
        return portions.ndjson_head(start)
    return portions.csv_head(start, last=len(start) == window.size)


def order_name(batch_id: str) -> str:
    return f"batches/{batch_id}/order"


def view(intake: Intake) -> dict[str, Any]:
    """What its caller is told of a batch that is not accepted yet, or never will be."""
    found: dict[str, Any] = {"id": intake.id, "status": "accepting", "lines": intake.line, "bytes": intake.offset, "of_bytes": intake.size}
    if intake.refused:
        found["lines_refused"] = intake.refused
    if intake.fault is None:
        return found
    fault = {name: value for name, value in msgspec.to_builtins(intake.fault).items() if value and name != "status"}
    return found | {"status": "cancelled" if intake.fault.code == CANCELLED else "refused"} | fault
