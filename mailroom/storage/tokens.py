"""The sealed cache: access tokens that outlive a process, and bars on those that a provider refused. Table MailTokens.

A token lies there as a JWE (RFC 7516: `dir`, A256GCM) under a key that only the vault has. A row that cannot be opened, because it was
sealed with an older key or tampered with, is as good as none.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from mailroom.errors import VaultRefused
from mailroom.model.places import TOKENS_TABLE
from mailroom.model.row import Change, Row
from mailroom.model.token import Token
from mailroom.ports import Store, Vault
from mailroom.storage import seal as sealing

SEAL_SECRET = "mailroom-seal"  # noqa: S105  # its name in the vault
SEALED, BARS = "sealed", "bar"
VALUE_LIMIT = 32 * 1024  # characters: tables count two bytes for each
UNBARRED_SECONDS = 15.0
SEAL_SECONDS = 60.0


class _Content(msgspec.Struct, frozen=True):
    """`key` binds the content to its row: moved under another account's key it opens to nothing."""

    key: str
    value: str
    expires_at: float
    lifetime: float = 3600.0


class _Seal(NamedTuple):
    key: bytes
    kid: str
    read_at: float

    def __repr__(self) -> str:
        return f"_Seal({self.kid})"


class SealedTokens:
    def __init__(self, store: Store, vault: Vault, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._vault = vault
        self._now = now
        self._seal: _Seal | None = None
        self._bars: dict[str, tuple[bool, float]] = {}

    async def get(self, key: str) -> Token | None:
        row, seal = await asyncio.gather(self._store.get_row(TOKENS_TABLE, SEALED, _digest(key)), self._known_seal())
        if row is None or seal is None or float(row.values["ends"]) <= self._now():
            return None
        token = _opened(row, key, seal)
        if token is None and seal.read_at + SEAL_SECONDS <= self._now():  # another instance may have changed the key
            token = _opened(row, key, await self._newest_seal())
        return token

    async def put(self, key: str, token: Token) -> None:
        seal = await self._known_seal() or await self._new_seal()
        sealed = _sealed(_Content(key, token.value, token.expires_at, token.lifetime), seal)
        if len(sealed) <= VALUE_LIMIT:  # what no row can hold is asked for again by every process
            await self._store.write(TOKENS_TABLE, [Change("upsert", Row(SEALED, _digest(key), {"jwe": sealed, "ends": token.expires_at}))])

    async def bar(self, token: Token) -> None:
        self._bars[token.fingerprint] = (True, token.expires_at)
        await self._store.write(TOKENS_TABLE, [Change("upsert", Row(BARS, token.fingerprint, {"ends": token.expires_at}))])
        await self._forget_ended_bars()

    async def barred(self, token: Token) -> bool:
        barred, until = self._bars.get(token.fingerprint, (False, 0.0))
        if until > self._now():
            return barred
        barred = await self._store.get_row(TOKENS_TABLE, BARS, token.fingerprint) is not None
        self._bars = {name: known for name, known in self._bars.items() if known[1] > self._now()}
        self._bars[token.fingerprint] = (barred, token.expires_at if barred else self._now() + UNBARRED_SECONDS)
        return barred

    async def _forget_ended_bars(self) -> None:
        """A token that has ended needs no bar; bars are rare, so whoever sets one tidies up."""
        rows = await self._store.query(TOKENS_TABLE, BARS, top=100)
        await self._store.write(
            TOKENS_TABLE, [Change("delete", Row(BARS, row.key)) for row in rows if float(row.values["ends"]) <= self._now()]
        )

    async def _known_seal(self) -> _Seal | None:
        """None where there is no key yet, so that nothing can have been sealed."""
        if self._seal is None:
            try:
                self._seal = self._as_seal(await self._vault.secret(SEAL_SECRET))
            except VaultRefused as refused:
                if refused.code != "vault_secret_missing":
                    raise
        return self._seal

    async def _newest_seal(self) -> _Seal:
        self._seal = self._as_seal(await self._vault.secret(SEAL_SECRET, fresh=True))
        return self._seal

    async def _new_seal(self) -> _Seal:
        """Of two that make one at the same time the vault's newest wins; what was sealed with the other is lost: a token, no more."""
        made = sealing.encoded(secrets.token_bytes(32))
        await self._vault.set_secret(SEAL_SECRET, made, "application/octet-stream")
        return await self._newest_seal()

    def _as_seal(self, secret: str) -> _Seal:
        raw = _raw_key(secret)
        return _Seal(raw, hashlib.sha256(raw).hexdigest()[:16], self._now())


def _sealed(content: _Content, seal: _Seal) -> str:
    return sealing.sealed(msgspec.json.encode(content), seal.key, seal.kid)


def _opened(row: Row, key: str, seal: _Seal) -> Token | None:
    try:
        content = msgspec.json.decode(sealing.opened(str(row.values["jwe"]), seal.key), type=_Content)
    except (sealing.Unopened, ValueError):
        return None
    return Token(content.value, content.expires_at, content.lifetime) if content.key == key else None


def _raw_key(secret: str) -> bytes:
    try:
        raw = sealing.decoded(secret)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        detail = f"The secret {SEAL_SECRET!r} is no key of 32 bytes in base64url."
        raise VaultRefused("seal_unreadable", detail, "Set such a key as a new version; only cached tokens are lost.")
    return raw


def _digest(key: str) -> str:
    """Keys hold scopes, and a table key takes no slash."""
    return hashlib.sha256(key.encode()).hexdigest()
