"""Links by which others write one blob of ours, and do nothing else: shared access signatures for `create` and `write`.

With a connection string the account's key signs them (learn.microsoft.com/rest/api/storageservices/create-service-sas), else a key that the
identity is given for some hours (.../create-user-delegation-sas): an account of ours takes no shared key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import msgspec

from mailroom.model.account import Storage
from mailroom.storage import markup
from mailroom.storage.wire import VERSION, Call, Wire

PERMISSIONS = "cw"  # create and write; in the order that the service wants
KEY_LIFETIME = 6 * 3600.0
EARLY = 300.0  # seconds by which a key begins before it was asked for: no two clocks agree


class Grant(msgspec.Struct, frozen=True):
    """What a link allows, until a time in seconds since the epoch."""

    account: str
    container: str
    name: str
    until: float
    https: bool


class Links:
    """`now` is storage's clock."""

    def __init__(self, where: Storage, wire: Wire, now: Callable[[], float]) -> None:
        self._where = where
        self._wire = wire
        self._now = now
        self._made: set[str] = set()
        self._key: tuple[dict[str, str], float] = ({}, 0.0)

    async def upload(self, container: str, name: str, lifetime: float) -> str:
        if container not in self._made:  # whoever has the link could not make it
            await self._wire.make("blob", container)
            self._made.add(container)
        until = self._now() + lifetime
        grant = Grant(self._where.account, container, name, until, https=self._where.blob.startswith("https:"))
        said = signed_by_account(grant, self._where.key) if self._where.key else signed_by_identity(grant, await self._delegated(until))
        return f"{self._where.blob}/{container}/{quote(name, safe='/')}?{urlencode(said, quote_via=quote)}"

    async def _delegated(self, until: float) -> dict[str, str]:
        """The key, kept as long as it outlives what it signs."""
        key, ends = self._key
        if ends < until:
            now = self._now()
            ends = max(now + KEY_LIFETIME, until)
            body = markup.wanted_key(_time(now - EARLY), _time(ends))
            path, headers = "/?restype=service&comp=userdelegationkey", {"content-type": "application/xml"}
            answer = await self._wire.call(Call("get delegation key", "blob", "the service", "POST", path, headers, body, repeats=True))
            key = markup.delegation_key(answer.content)
            self._key = (key, ends)
        return key


def signed_by_account(grant: Grant, key: str) -> dict[str, str]:
    """The query of the link: what it allows, and the signature of that by the account's key (base64)."""
    return _signed(grant, {}, [""], key)  # no stored access policy


def signed_by_identity(grant: Grant, key: Mapping[str, str]) -> dict[str, str]:
    """The same by a user delegation key, as `markup.delegation_key` has it."""
    parts = {name: part for name, part in key.items() if name != "value"}
    return _signed(grant, parts, [*parts.values(), "", "", ""], key["value"])  # no other user, no correlation id


def _signed(grant: Grant, key_parts: Mapping[str, str], key_lines: list[str], key: str) -> dict[str, str]:
    until, protocol = _time(grant.until), "https" if grant.https else "https,http"
    place = f"/blob/{grant.account}/{grant.container}/{grant.name}"
    # empty: when it begins; from which address; snapshot, encryption scope and five headers of an answer
    lines = [PERMISSIONS, "", until, place, *key_lines, "", protocol, VERSION, "b", *[""] * 7]
    signature = hmac.digest(base64.b64decode(key), "\n".join(lines).encode(), hashlib.sha256)
    said = {"sv": VERSION, "spr": protocol, "se": until, "sr": "b", "sp": PERMISSIONS, **key_parts}
    return said | {"sig": base64.b64encode(signature).decode()}


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
