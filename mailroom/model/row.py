"""What lies in storage: table rows, changes to them, queue tickets, and what is known of a blob."""

from __future__ import annotations

from typing import Literal

import msgspec

Value = str | int | float | bool | bytes


class Row(msgspec.Struct, frozen=True):
    """A table entity. `values` has no system properties; int is Edm.Int64, float Edm.Double, bytes Edm.Binary (at most 64 KiB)."""

    partition: str
    key: str
    values: dict[str, Value] = {}
    etag: str = ""


class Change(msgspec.Struct, frozen=True):
    """`row.etag` makes a merge, replace or delete conditional; "" does not care. An `upsert` replaces whatever is there."""

    verb: Literal["insert", "merge", "replace", "upsert", "delete"]
    row: Row


class Blob(msgspec.Struct, frozen=True):
    """A blob that was not read. `size` is in bytes, `modified` in seconds since the epoch; `etag` is another after each change."""

    size: int
    modified: float
    etag: str


class Ticket(msgspec.Struct, frozen=True):
    """A queue message in our hands. A `bare` one was put there as it is, not in base64."""

    id: str
    receipt: str
    body: bytes
    dequeue_count: int
    bare: bool = False
