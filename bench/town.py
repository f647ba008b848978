"""Where the variants send: the sandbox's Entra, vault and identity endpoint, Azurite, and a Graph that accepts at once whatever it is sent.

Graph has a fixed answer here because its own work is no part of a client's cold start; all variants pay the same for the rest.
"""

from __future__ import annotations

import json
import os
import sysconfig
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mailroom import http
from mailroom.model.account import Storage
from mailroom.model.places import TOKENS_TABLE
from mailroom.model.row import Change
from mailroom.storage.rest import RestStore
from sandbox import azurite as emulator
from sandbox import entra, identity, vault
from sandbox.azurite import Azurite
from sandbox.ca import Ca
from sandbox.directory import API, GRAPH, Directory
from sandbox.faults import Faults
from sandbox.serve import Served, serve
from sandbox.town import town as tenant

MAILBOX = "anna@mailroom.example"
CERTIFICATE = "mailroom-graph"
ACCOUNTS = """
cloud = "sandbox"
keep_days = 30
[clouds.sandbox]
authority = "{authority}"
graph = "{graph}/v1.0"
vault_resource = "https://vault.azure.net"
[auth.office]
grant = "client_credentials"
tenant = "{tenant}"
client_id = "{client_id}"
certificate = "{certificate}"
[accounts.anna]
provider = "graph"
address = "{mailbox}"
auth = "office"
receive = true
rate = 60000
[callers.caller]
client_id = "{caller}"
accounts = ["*"]
operations = ["send", "read"]
[api]
tenant = "{tenant}"
audience = ["{audience}", "{api}"]
"""


@dataclass(frozen=True, slots=True)
class Town:
    """`environment` is that of a function app here, and of the variants."""

    environment: dict[str, str]
    storage: Storage
    caller_token: str

    async def forget_tokens(self) -> None:
        async with http.new_client() as client:
            store = RestStore(self.storage, client, None, resource="")  # type: ignore[arg-type]  # a key needs no identity
            sealed = await store.query(TOKENS_TABLE, "sealed")
            await store.write(TOKENS_TABLE, [Change("delete", row) for row in sealed])


@asynccontextmanager
async def town(root: Path) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        ca, directory, faults, contents, header = Ca.create(folder), tenant(), Faults(), vault.Vault(), identity.new_header()

        async def served(app: ASGIApp, with_tls: Ca | None = ca) -> Served:
            started = await serve(app, with_tls)
            stack.push_async_callback(started.stop)
            return started

        directory.authority = (await served(entra.create(directory, faults))).url
        graph = await served(Starlette(routes=[Route("/v1.0/{path:path}", accept, methods=["POST"])]))
        directory.alias(GRAPH, graph.url)
        keys = await served(vault.create(directory, faults, contents))
        platform = await served(identity.create(directory, faults, header), None)
        azurite = await stack.enter_async_context(Azurite())
        certificate = contents.create_certificate(CERTIFICATE).certificate.public_bytes(Encoding.DER)
        directory.register_certificate(directory.app("graph").client_id, certificate)
        accounts = folder / "accounts.toml"
        accounts.write_text(_accounts(directory, graph.url))
        caller_token = directory.issue(directory.app("caller").client_id, API)
        yield Town(
            environment=_plain_environment()
            | {
                "PYTHONPATH": os.pathsep.join([str(root), sysconfig.get_paths()["purelib"]]),
                "SSL_CERT_FILE": str(ca.bundle),
                "REQUESTS_CA_BUNDLE": str(ca.bundle),
                "MAILROOM_ACCOUNTS": str(accounts),
                "MAILROOM_VAULT_URL": vault.url(keys),
                "AzureWebJobsStorage": azurite.connection_string,
                "IDENTITY_ENDPOINT": platform.url + identity.PATH,
                "IDENTITY_HEADER": header,
                "AZURE_CLIENT_ID": directory.app("mailroom-identity").client_id,
                "BENCH_WHERE": json.dumps(_where(directory, graph.url, caller_token)),
            },
            storage=Storage(azurite.url("blob"), azurite.url("queue"), azurite.url("table"), emulator.ACCOUNT, emulator.KEY),
            caller_token=caller_token,
        )


async def accept(request: Request) -> Response:
    await request.body()
    return Response(status_code=202)


def _accounts(directory: Directory, graph: str) -> str:
    return ACCOUNTS.format(
        authority=directory.authority,
        graph=graph,
        tenant=directory.tenant,
        client_id=directory.app("graph").client_id,
        certificate=CERTIFICATE,
        mailbox=MAILBOX,
        caller=directory.app("caller").client_id,
        audience=API,
        api=directory.app("mailroom-api").client_id,
    )


def _where(directory: Directory, graph: str, caller_token: str) -> dict[str, str]:
    app = directory.app("graph")
    return {
        "authority": directory.authority,
        "tenant": directory.tenant,
        "client_id": app.client_id,
        "client_secret": app.secret,
        "graph": f"{graph}/v1.0",
        "graph_scope": f"{graph}/.default",
        "mailbox": MAILBOX,
        "account": "anna",
        "caller_token": caller_token,
    }


def _plain_environment() -> dict[str, str]:
    """Ours but for what would change a cold start: byte code is kept, and nothing is read before the variant."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
