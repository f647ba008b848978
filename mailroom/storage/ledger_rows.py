"""The ledger's rows: a slice, its marker while it is owed, and a batch's header. What they are keyed by is told in ledger.py."""

from __future__ import annotations

import msgspec

from mailroom.errors import LedgerNewer
from mailroom.model.batch import Batch
from mailroom.model.row import Row, Value
from mailroom.model.slice import Mail, Ref, Slice


class Marker(msgspec.Struct, frozen=True):
    """An owed slice as the sweep sees it: when its ticket shows, and how often the sweep had to give it a new one.

    That it is scheduled is said by its batch, not by the clock: a clock that jumps back schedules nothing.
    """

    ref: Ref
    created: float
    due: float
    reissued: int
    batch: bool
    scheduled: bool
    etag: str


_mails_of = msgspec.json.Decoder(tuple[Mail, ...]).decode
_COLUMNS = frozenset({"caller", "mails", "created", "batch", "claim", "claim_until", "owed"})


def any_etag(row: Row) -> Row:
    return msgspec.structs.replace(row, etag="")


def slice_key(ref: Ref) -> str:
    return f"s|{ref.unit}|{ref.slice:05}"


def marker_key(ref: Ref, created: float) -> str:
    return f"o|{int(created * 1000):015}|{ref.unit}|{ref.slice:05}"


def unit_prefix(ref: Ref, created: float) -> str:
    """What the keys of all markers of its unit begin with: `}` behind it comes after all of them."""
    return marker_key(ref, created).rpartition("|")[0]


def batch_key(batch_id: str) -> str:
    """The partition of what there is of a batch as a whole."""
    return f"batch|{batch_id}"


def header(batch: Batch, *, commit: bool) -> Row:
    values: dict[str, Value] = {
        "caller": batch.caller,
        "created": batch.created,
        "committed": commit,
        "owed": False,
        "slices": msgspec.json.encode(batch.slices).decode(),
        "refused": batch.refused,
        "accepted": batch.accepted,
        "send_at": batch.send_at,
        "cancelled": batch.cancelled,
    }
    return Row(batch_key(batch.id), "header", values)


def read_batch(batch_id: str, header: Row) -> Batch:
    values = {**header.values, "slices": msgspec.json.decode(str(header.values["slices"]))}
    return msgspec.convert({"id": batch_id, **values}, Batch)


def slice_row(slice_: Slice) -> Row:
    values: dict[str, Value] = {
        "caller": slice_.caller,
        "mails": msgspec.json.encode(slice_.mails).decode(),
        "created": slice_.created,
        "batch": slice_.batch,
        "claim": slice_.claim,
        "claim_until": slice_.claim_until,
        "owed": slice_.owed,
    }
    return Row(slice_.ref.account, slice_key(slice_.ref), values, slice_.etag)


def read_slice(row: Row) -> Slice:
    """Raises LedgerNewer."""
    _, unit, number = row.key.split("|")
    values = row.values
    if not values.keys() <= _COLUMNS:
        raise _newer(row, f"column {min(values.keys() - _COLUMNS)}")
    try:
        mails = _mails_of(str(values["mails"]))
    except msgspec.ValidationError as error:
        raise _newer(row, str(error)) from error
    return Slice(
        ref=Ref(row.partition, unit, int(number)),
        caller=str(values["caller"]),
        mails=mails,
        created=float(values["created"]),
        batch=bool(values["batch"]),
        claim=str(values["claim"]),
        claim_until=float(values["claim_until"]),
        etag=row.etag,
    )


def _newer(row: Row, what: str) -> LedgerNewer:
    detail = f"{row.key} of {row.partition} was written by a newer version: {what}."
    return LedgerNewer("ledger_newer", detail, "Deploy the newer version again; until then this mail is left alone.")


def marker_row(slice_: Slice, due: float) -> Row:
    values: dict[str, Value] = {"due": due, "reissued": 0, "created": slice_.created, "batch": slice_.batch, "owed": True}
    return Row(slice_.ref.account, marker_key(slice_.ref, slice_.created), values)


def read_marker(row: Row) -> Marker:
    _, _, unit, number = row.key.split("|")
    values = row.values
    return Marker(
        ref=Ref(row.partition, unit, int(number)),
        created=float(values["created"]),
        due=float(values["due"]),
        reissued=int(values["reissued"]),
        batch=bool(values["batch"]),
        scheduled=bool(values.get("scheduled")),
        etag=row.etag,
    )
