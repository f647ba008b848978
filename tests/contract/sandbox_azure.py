"""The sandbox's Entra, Key Vault, identity endpoint and Graph together, with our real vault and identity on the wire to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from mailroom.credentials._sources import source_of
from mailroom.credentials.client_credentials import ClientCredentials
from mailroom.identity import Identity
from mailroom.model.account import Cloud, Profile
from mailroom.storage.certificates import VaultCertificates
from mailroom.storage.vault import RestVault
from sandbox import graph, identity, vault
from sandbox.directory import GRAPH, STORAGE, VAULT, App, Directory
from sandbox.faults import Faults
from sandbox.serve import serve
from tests.contract.sandbox_town import Office, certificate, office
from tests.fakes import FakeParts

SCOPE = f"{GRAPH}/.default"
NAME = "mailroom-graph"
KINDS: dict[str, tuple[tuple[str, str], ...]] = {"certificate": (), "vault": (("key", "vault"),)}


@dataclass
class Azure:
    """`env` is what the platform sets for the app; `time` is our clock. `graph` ends in /v1.0."""

    office: Office
    contents: vault.Vault
    vault: str
    graph: str
    env: dict[str, str]
    app: App
    time: float = field(default_factory=time.time)
    slept: list[float] = field(default_factory=list)

    @property
    def directory(self) -> Directory:
        return self.office.directory

    @property
    def faults(self) -> Faults:
        return self.office.faults

    @property
    def identity(self) -> App:
        return self.directory.app("mailroom-identity")

    @property
    def cloud(self) -> Cloud:
        return Cloud(self.directory.authority, self.graph, SCOPE, VAULT, STORAGE)

    def fresh(self) -> Azure:
        """With an application and a vault's content that no other test has."""
        self.faults.clear()
        self.directory.now = time.time
        app = self.directory.register(App("rotating", app_roles={GRAPH: ["Mail.Send", "Mail.Read"]}))
        for shelf in (self.contents.certificates, self.contents.secrets):
            shelf._here.clear()
        return Azure(self.office, self.contents, self.vault, self.graph, self.env, app)

    def parts(self) -> FakeParts:
        who = Identity(self.office.http, self.env, client_id=self.identity.client_id, sleep=self.sleep)
        safe = RestVault(self.vault, self.office.http, who, resource=VAULT, sleep=self.sleep, now=lambda: self.time)
        certificates = VaultCertificates(self.vault, self.env, client_id=self.identity.client_id, now=lambda: self.time)
        return FakeParts(self.office.http, vault=safe, certificates=certificates, identity=who)

    def profile(self, kind: str = "vault", **changes: Any) -> Profile:
        good = Profile("office", "client_credentials", self.directory.tenant, self.app.client_id, self.cloud, options=KINDS[kind])
        return msgspec.structs.replace(good, certificate=NAME, **changes)

    def credential(self, profile: Profile | None = None) -> ClientCredentials:
        profile = profile or self.profile()
        source = source_of(profile, self.parts(), lambda: self.time)
        return ClientCredentials(profile, source, now=lambda: self.time, tls=self.office.ca.context)

    def new_version(self, *, registered: bool = True, exportable: bool = True, starts: timedelta = timedelta(-1), **attributes: Any) -> str:
        signed = certificate(starts=starts)
        policy = {
            "key_props": {"exportable": exportable, "key_size": 2048, "kty": "RSA"},
            "secret_props": {"contentType": "application/x-pkcs12"},
        }
        made = self.contents.add_certificate(NAME, signed.key, signed.certificate, policy, **attributes)
        made.created += len(self.contents.certificates.versions(NAME))  # two of one second have an order too
        if registered:
            self.register(made.version)
        return made.version

    def register(self, version: str) -> None:
        made = self.contents.certificates.find(NAME, version)
        self.directory.register_certificate(self.app.client_id, made.certificate.public_bytes(Encoding.DER))

    def registered(self) -> list[str]:
        """Which versions the application has."""
        known = {one.certificate: one.version for one in self.contents.certificates.versions(NAME)}
        return [known[certificate] for certificate in self.app.certificates]

    def later(self, seconds: float) -> None:
        """Both clocks go on."""
        self.time += seconds
        self.directory.now = lambda: self.time

    @contextmanager
    def roles(self, *names: str) -> Iterator[None]:
        """The identity has these roles on the vault and no others."""
        before, self.identity.azure_roles = self.identity.azure_roles, set(names)
        try:
            yield
        finally:
            self.identity.azure_roles = before

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


@asynccontextmanager
async def azure(folder: Path) -> AsyncIterator[Azure]:
    async with office(folder) as entra, AsyncExitStack() as running:
        directory, faults, header = entra.directory, entra.faults, identity.new_header()
        contents = vault.Vault(lambda: directory.now())
        locked = await serve(vault.create(directory, faults, contents), entra.ca)
        running.push_async_callback(locked.stop)
        site = await serve(identity.create(directory, faults, header), None)
        running.push_async_callback(site.stop)
        mail = await serve(graph.create(directory, faults), entra.ca)
        running.push_async_callback(mail.stop)
        running.callback(faults.clear)
        env = {"IDENTITY_ENDPOINT": site.url + identity.PATH, "IDENTITY_HEADER": header}
        yield Azure(entra, contents, vault.url(locked), f"{mail.url}/v1.0", env, directory.app("graph"))
