"""Registers new versions of certificates with their applications before anybody has to use them, where a profile allows it (`register_as`).

Table MailTokens, partition `keys`: how far each profile's newest version has come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mailroom.errors import MailroomError
from mailroom.events import record
from mailroom.model.places import TOKENS_TABLE
from mailroom.model.row import Change, Row, Value
from mailroom.ports import Registrar, Store

PARTITION = "keys"
AGAIN = 3600.0  # seconds: a directory takes minutes to know a new key everywhere, and what was refused once will be for a while


@dataclass(frozen=True, slots=True)
class Register:
    """`registrars` by the profile's name."""

    registrars: Mapping[str, Registrar]
    store: Store

    async def run(self) -> None:
        """One profile that fails stops no other; an event says why, and the next tick tries again what may pass by itself."""
        for profile, registrar in self.registrars.items():
            try:
                await self._one(profile, registrar)
            except MailroomError as error:
                facts = {"code": error.code, "detail": error.detail, "next_step": error.next_step}
                record("credential.registration_failed", warn=True, profile=profile, **facts)

    async def _one(self, profile: str, registrar: Registrar) -> None:
        version = await registrar.newest()
        state, at = await self._known(profile, version)
        rests = self.store.now() < at + AGAIN
        if state == "accepted" or (state == "refused" and rests):
            return
        if await registrar.accepted(version):
            await self._note(profile, version, "accepted")
            record("credential.accepted", profile=profile, version=version)
        elif not (state == "registered" and rests):
            await self._register(profile, version, registrar)

    async def _register(self, profile: str, version: str, registrar: Registrar) -> None:
        try:
            await registrar.register(version)
        except MailroomError as error:
            if not error.retryable:
                await self._note(profile, version, "refused")
            raise
        await self._note(profile, version, "registered")
        record("credential.registered", profile=profile, version=version)

    async def _known(self, profile: str, version: str) -> tuple[str, float]:
        row = await self.store.get_row(TOKENS_TABLE, PARTITION, profile)
        if row is None or row.values["version"] != version:
            return "", 0.0
        return str(row.values["state"]), float(row.values["at"])

    async def _note(self, profile: str, version: str, state: str) -> None:
        values: dict[str, Value] = {"version": version, "state": state, "at": self.store.now()}
        await self.store.write(TOKENS_TABLE, [Change("upsert", Row(PARTITION, profile, values))])
