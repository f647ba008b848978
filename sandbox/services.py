"""Everything that the sandbox plays, in this process and on free ports: Entra ID, Key Vault, the identity endpoint, Graph, SMTP, its
control, and Azurite beside them. The functions run in a process of their own: `functions.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from starlette.types import ASGIApp

from sandbox import entra, identity, smtp, vault
from sandbox.azurite import Azurite
from sandbox.ca import Ca
from sandbox.control import create as create_control
from sandbox.directory import API, GRAPH, OUTLOOK, Directory
from sandbox.faults import Faults
from sandbox.google import Google, Workspace
from sandbox.google import create as create_google
from sandbox.graph import Graph
from sandbox.graph import create as create_graph
from sandbox.serve import Served, serve
from sandbox.town import town

MAILBOXES = ("billing@contoso.example", "support@contoso.example")
REPORTS = "reports@contoso.example"  # its account sends by SMTP
NOTICES = "notices@contoso.example"  # the same, and Graph is asked what it sent
ORDERS = "orders@northwind.example"  # its account is at Google
ROBOT, GOOGLE_KEY = "mailroom@northwind-mail.iam.gserviceaccount.com", "mailroom-google"
CUSTOMER = "ann@fabrikam.example"
CERTIFICATE = "mailroom-graph"


@dataclass(frozen=True, slots=True)
class Services:
    """URLs end without a slash; `graph` ends in /v1.0 and `authority` has no tenant."""

    ca: Ca
    directory: Directory
    faults: Faults
    vault_contents: vault.Vault
    mailboxes: tuple[str, ...]
    authority: str
    vault: str
    graph: str
    identity: str
    identity_header: str
    control: str
    storage: str
    smtp: str
    google: Google

    @property
    def scope(self) -> str:
        return f"{API}/.default"

    def make_certificate(self) -> None:
        """A new version in the vault, its public part registered with the app `graph`."""
        self.register(self.vault_contents.create_certificate(CERTIFICATE).certificate.public_bytes(Encoding.DER))

    def register(self, der: bytes) -> None:
        self.directory.register_certificate(self.directory.app("graph").client_id, der)


@asynccontextmanager
async def services(folder: Path, *, lifetime: int = 3599, customers: Collection[str] = ()) -> AsyncIterator[Services]:
    """`folder` gets the CA's files; `lifetime` is that of applications' tokens, in seconds; `customers` have mailboxes but no account."""
    async with AsyncExitStack() as running:
        ca, faults, directory = Ca.create(folder / "ca"), Faults(), town((*MAILBOXES, REPORTS, NOTICES, *customers), lifetime=lifetime)
        storage = await running.enter_async_context(Azurite())
        contents, header = vault.Vault(directory.now), identity.new_header()
        graph = create_graph(directory, faults)

        async def start(app: ASGIApp, tls: Ca | None) -> Served:
            served = await serve(app, tls)
            running.push_async_callback(served.stop)
            return served

        directory.authority = (await start(entra.create(directory, faults), ca)).url
        google = create_google(Workspace({ORDERS}), faults)
        google.workspace.url = (await start(google, ca)).url
        _connect(graph, google)
        contents.set_secret(GOOGLE_KEY, google.workspace.account(ROBOT).new_json_key(), "application/json")
        graph_at = await start(graph, ca)
        directory.alias(GRAPH, graph_at.url)
        vault_at = await start(vault.create(directory, faults, contents), ca)
        identity_at = await start(identity.create(directory, faults, header), None)
        control_at = await start(create_control(faults, graph, directory, google), None)
        smtp_at = await smtp.serve(directory, faults, graph.office, ca)
        running.push_async_callback(smtp_at.stop)
        directory.app("graph").app_roles[OUTLOOK] = ["SMTP.SendAsApp"]
        for mailbox in (REPORTS, NOTICES):
            directory.app("graph").exchange[mailbox] = {"FullAccess"}
        running.callback(faults.clear)  # first of all: what hangs would hold the servers up
        yield Services(
            ca=ca,
            directory=directory,
            faults=faults,
            vault_contents=contents,
            mailboxes=MAILBOXES,
            authority=directory.authority,
            vault=vault.url(vault_at),
            graph=f"{graph_at.url}/v1.0",
            identity=f"{identity_at.url}{identity.PATH}",
            identity_header=header,
            control=control_at.url,
            storage=storage.connection_string,
            smtp=smtp_at.url,
            google=google,
        )


def _connect(graph: Graph, google: Google) -> None:
    """Mail between the two, as the internet carries it."""

    def to_graph(address: str, raw: bytes) -> None:
        if address.lower() in {known.lower() for known in graph.directory.mailboxes}:
            graph.office.receive(address, raw)

    def to_google(address: str, raw: bytes) -> None:
        if google.workspace.mailbox(address):
            google.office.receive(address, raw)

    google.office.elsewhere, graph.office.elsewhere = to_graph, to_google
