"""Stand-ins that keep the promises of `mailroom.ports` in memory; tests/contract runs each of them beside the real one."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding

from mailroom.errors import AccountFault, MailroomError, StorageConflict, StorageDown, TooLarge, VaultRefused
from mailroom.model.certificate import CertificateVersion, PublicCertificate
from mailroom.model.row import Blob, Change, Row, Ticket, Value
from mailroom.ports import Signing
from mailroom.storage import fitness
from mailroom.storage.entities import check_key
from mailroom.storage.queues import check_size

PROPERTY_BYTES = 64 * 1024
ROWS_A_PAGE = 3


@dataclass
class _Blob:
    body: bytes
    modified: float
    content_type: str
    etag: str


@dataclass
class _Queued:
    id: str
    body: bytes
    visible_at: float
    dequeue_count: int = 0
    receipt: str = ""
    bare: bool = False


@dataclass
class _Fault:
    operation: str
    error: MailroomError
    after: bool


@dataclass
class FakeStore:
    """Storage in memory. `fail_next` makes one operation fail, before it does anything or after it took effect (a lost answer)."""

    now: Callable[[], float] = time.time
    tables: dict[str, dict[tuple[str, str], Row]] = field(default_factory=dict)
    blobs: dict[tuple[str, str], _Blob] = field(default_factory=dict)
    queues: dict[str, list[_Queued]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    _faults: list[_Fault] = field(default_factory=list)
    _number: itertools.count[int] = field(default_factory=itertools.count)

    def fail_next(self, operation: str, error: MailroomError | None = None, *, after: bool = False, times: int = 1) -> None:
        """`operation` is a method's name, or "*" for whatever comes next."""
        error = error or StorageDown("storage_down", f"{operation} was told to fail.")
        self._faults += [_Fault(operation, error, after)] * times

    async def get_row(self, table: str, partition: str, key: str) -> Row | None:
        await self._begin("get_row")
        row = self.tables.get(table, {}).get((check_key(partition), check_key(key)))
        self._end("get_row")
        return row

    async def write(self, table: str, changes: Sequence[Change]) -> list[str]:
        if len(changes) > 100 or len({change.row.partition for change in changes}) > 1:
            raise ValueError("a transaction takes at most 100 changes of one partition")
        await self._begin("write")
        after = dict(self.tables.get(table, {}))
        etags = [self._apply(after, change) for change in changes]
        self.tables[table] = after
        self._end("write")
        return etags

    async def query(self, table: str, partition: str, first: str = "", last: str = "", *, top: int | None = None) -> list[Row]:
        await self._begin("query")
        keys = sorted(key for where, key in self.tables.get(table, {}) if where == partition and first <= key and (not last or key < last))
        found = [self.tables[table][partition, key] for key in keys]
        self._end("query")
        return found[:top]

    async def old_rows(self, table: str, before: float, after: str = "") -> tuple[list[Row], str]:
        await self._begin("old_rows")
        places = sorted(place for place in self.tables.get(table, {}) if "\n".join(place) > after)
        page, further = places[:ROWS_A_PAGE], "\n".join(places[ROWS_A_PAGE - 1]) if len(places) > ROWS_A_PAGE else ""
        rows = [self.tables[table][place] for place in page]
        self._end("old_rows")
        return [row for row in rows if isinstance(created := row.values.get("created"), float) and created < before], further

    async def put_blob(
        self, container: str, name: str, body: bytes, *, content_type: str = "application/octet-stream", only_if_absent: bool = False
    ) -> bool:
        await self._begin("put_blob")
        taken = not (only_if_absent and (container, name) in self.blobs)
        if taken:
            self.blobs[container, name] = _Blob(body, self.now(), content_type, f'"{next(self._number)}"')
        self._end("put_blob")
        return taken

    async def get_blob(self, container: str, name: str) -> bytes | None:
        await self._begin("get_blob")
        blob = self.blobs.get((container, name))
        self._end("get_blob")
        return None if blob is None else blob.body

    async def find_blob(self, container: str, name: str) -> Blob | None:
        await self._begin("find_blob")
        blob = self.blobs.get((container, name))
        self._end("find_blob")
        return None if blob is None else Blob(len(blob.body), blob.modified, blob.etag)

    async def read_blob(self, container: str, name: str, start: int, length: int, *, etag: str = "") -> bytes | None:
        await self._begin("read_blob")
        blob = self.blobs.get((container, name))
        self._end("read_blob")
        if blob is not None and etag not in ("", blob.etag):
            raise StorageConflict("storage_conflict", "It was changed.")
        return None if blob is None else blob.body[start : start + length]

    async def upload_link(self, container: str, name: str, lifetime: float) -> str:
        await self._begin("upload_link")
        self._end("upload_link")
        return f"https://storage.example/{container}/{name}?se={self.now() + lifetime:.0f}"

    async def delete_blob(self, container: str, name: str) -> None:
        await self._begin("delete_blob")
        self.blobs.pop((container, name), None)
        self._end("delete_blob")

    async def old_blobs(self, container: str, before: float, *, top: int = 1000) -> list[str]:
        await self._begin("old_blobs")
        found = sorted(name for (where, name), blob in self.blobs.items() if where == container and blob.modified < before)
        self._end("old_blobs")
        return found[:top]

    async def put_ticket(self, queue: str, body: bytes, *, delay: float = 0.0) -> None:
        check_size(queue, body)
        await self._begin("put_ticket")
        self.queues.setdefault(queue, []).append(_Queued(f"m{next(self._number)}", body, self.now() + delay))
        self._end("put_ticket")

    async def receive(self, queue: str, *, top: int = 32, hide: float = 30.0) -> list[Ticket]:
        await self._begin("receive")
        visible = [message for message in self.queues.get(queue, []) if message.visible_at <= self.now()][:top]
        for message in visible:
            message.dequeue_count += 1
            message.visible_at = self.now() + hide
            message.receipt = f"r{next(self._number)}"
        self._end("receive")
        return [Ticket(message.id, message.receipt, message.body, message.dequeue_count, message.bare) for message in visible]

    async def delete_ticket(self, queue: str, ticket: Ticket) -> None:
        await self._begin("delete_ticket")
        messages = self.queues.get(queue, [])
        messages[:] = [message for message in messages if (message.id, message.receipt) != (ticket.id, ticket.receipt)]
        self._end("delete_ticket")

    async def queue_length(self, queue: str) -> int:
        await self._begin("queue_length")
        self._end("queue_length")
        return len(self.queues.get(queue, []))

    async def _begin(self, operation: str) -> None:
        self.calls.append(operation)
        await asyncio.sleep(0)  # as over a network, others may come in between
        self._fail(operation, after=False)

    def _end(self, operation: str) -> None:
        self._fail(operation, after=True)

    def _fail(self, operation: str, *, after: bool) -> None:
        fault = next((fault for fault in self._faults if fault.operation in (operation, "*") and fault.after == after), None)
        if fault is not None:
            self._faults.remove(fault)
            raise fault.error

    def _apply(self, rows: dict[tuple[str, str], Row], change: Change) -> str:
        row = change.row
        at = check_key(row.partition), check_key(row.key)
        there = rows.get(at)
        if change.verb == "delete" and there is None and not row.etag:
            return ""
        lost = there is not None if change.verb == "insert" else there is None or row.etag not in ("", there.etag)
        if lost and change.verb != "upsert":
            raise StorageConflict("storage_conflict", f"{change.verb} lost.")
        if change.verb == "delete":
            del rows[at]
            return ""
        _check_sizes(row.values)
        values = {**there.values, **row.values} if change.verb == "merge" and there else dict(row.values)
        rows[at] = msgspec.structs.replace(row, values=values, etag=f'W/"{next(self._number)}"')
        return rows[at].etag


def _check_sizes(values: dict[str, Value]) -> None:
    for name, value in values.items():
        size = len(value.encode("utf-16-le")) if isinstance(value, str) else len(value) if isinstance(value, bytes) else 8
        if size > PROPERTY_BYTES:
            raise TooLarge("storage_too_large", f"{name} has {size} bytes, a property takes {PROPERTY_BYTES}.")


@dataclass
class FakeVault:
    """A vault in memory. `reads` counts which secrets it was asked for; `fault` is raised instead of any answer."""

    secrets: dict[str, str] = field(default_factory=dict)
    certificates: dict[str, list[tuple[x509.Certificate, rsa.RSAPrivateKey]]] = field(default_factory=dict)  # the newest last
    alive: list[tuple[str, str, datetime]] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    fault: AccountFault | None = None

    async def secret(self, name: str, *, fresh: bool = False) -> str:
        await self._begin()
        self.reads.append(name)
        if name not in self.secrets:
            raise VaultRefused("vault_secret_missing", f"There is no secret {name!r} in the vault.")
        return self.secrets[name]

    async def set_secret(self, name: str, value: str, content_type: str = "text/plain") -> None:
        await self._begin()
        self.secrets[name] = value

    async def ends(self) -> list[tuple[str, str, datetime]]:
        await self._begin()
        return self.alive

    async def public_certificate(self, name: str, version: str = "") -> PublicCertificate:
        found, _ = await self._certificate(name, version)
        der = found.public_bytes(Encoding.DER)
        times = found.not_valid_before_utc, found.not_valid_after_utc
        fitness.check_times(name, *times, datetime.now(UTC))
        return PublicCertificate(name, _version(found), der, hashlib.sha1(der).hexdigest(), hashlib.sha256(der).hexdigest(), *times)

    async def certificate_versions(self, name: str) -> list[CertificateVersion]:
        await self._certificate(name, "")
        return [
            CertificateVersion(_version(one), one.not_valid_before_utc, one.not_valid_before_utc, one.not_valid_after_utc)
            for one, _ in reversed(self.certificates[name])
        ]

    async def sign(self, name: str, version: str, algorithm: Signing, digest: bytes) -> bytes:
        _, key = await self._certificate(name, version)
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256().digest_size)
        return key.sign(digest, pss if algorithm == "PS256" else padding.PKCS1v15(), Prehashed(hashes.SHA256()))

    async def _certificate(self, name: str, version: str) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
        await self._begin()
        for found in reversed(self.certificates.get(name, [])):
            if version in ("", _version(found[0])):
                return found
        raise VaultRefused("vault_certificate_missing", f"There is no certificate {name!r} in the vault.")

    async def _begin(self) -> None:
        await asyncio.sleep(0)
        if self.fault:
            raise self.fault


def _version(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:032x}"[:32]


class FakeParts:
    """ports.Parts: whatever a test has at hand."""

    def __init__(self, http: Any = None, *, vault: Any = None, certificates: Any = None, identity: Any = None, store: Any = None) -> None:
        self.client = lambda: http
        self.store = lambda: store
        self.vault = lambda: vault
        self.certificates = lambda: certificates
        self.identity = lambda: identity
        self.call_seconds = lambda: 30.0
