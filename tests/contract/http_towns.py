"""The sandbox's Graph and its Gmail as towns (towns.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec

from mailroom import http
from mailroom.errors import TokenRejected
from mailroom.model.account import Account, Cloud, Profile
from mailroom.model.token import Token
from mailroom.providers import gmail, graph
from sandbox import graph as sandbox_graph
from sandbox.ca import Ca
from sandbox.directory import GRAPH, Directory
from sandbox.faults import Faults
from sandbox.google.workspace import READONLY, SEND
from sandbox.graph import Graph
from sandbox.graph.mime import source
from sandbox.serve import serve
from sandbox.town import town
from tests.contract import sandbox_google
from tests.contract.towns import ANNA, BEN, Manner, ReadTown, Wrong, trusting, wrongs
from tests.fakes import FakeParts, FakeStore


def manner_of(service: str, path: str) -> Manner:
    def at(answer: str, wait: float | None = None) -> Wrong:
        return Wrong({"service": service, "path": path, "answer": answer, "retry_after": wait}, wait)

    throttled = (at("429", 1.0), at("503", 2.0), at("503"))
    unclear = (at("500"), at("504"), at("html"), at("garbage"))
    known = wrongs(at("401"), throttled, unclear, cut=(at("cut"),), lost=at("cut"))
    return Manner(known, rejected=(TokenRejected, "token_rejected"), unfit="recipient_invalid")


@asynccontextmanager
async def strangers(account: Account, build: Callable[[FakeParts], Any]) -> AsyncIterator[list[tuple[Account, Any]]]:
    """Over connections of our own, and over httpx's, which serve behind a proxy."""
    with trusting(None):
        async with http.new_client() as own, httpx.AsyncClient(verify=http.tls()) as usual:
            yield [(account, build(FakeParts(client))) for client in (own, usual)]


@dataclass
class GraphTown:
    directory: Directory
    graph: Graph
    faults: Faults
    client: httpx.AsyncClient
    url: str
    store: FakeStore = field(default_factory=FakeStore)

    service = "graph"
    manner = manner_of(service, "sendMail")

    def account(self, address: str = ANNA, host: str = "") -> Account:
        url = f"http://{host}/v1.0" if host else self.url
        cloud = Cloud("https://login.example", url, f"{GRAPH}/.default", "vault", "storage")
        return Account("billing", "graph", address, Profile("graph", "client_credentials", "t", "c", cloud), traits=graph.TRAITS)

    def token(self, address: str = ANNA) -> Token:
        return Token(self.directory.issue(self.directory.app("graph").client_id, GRAPH), 2e9)

    def turn_away(self, token: Token) -> None:
        self.directory.revoke(token.value)

    def inbox(self, address: str = BEN) -> list[bytes]:
        return [source(item) for item in self.graph.office.mailbox(address).folder("inbox").items.values()]

    def copies(self) -> dict[str, int]:
        return {row.stamp: row.copies for row in self.graph.office.sent.values()}

    def provider(self) -> Any:
        return graph.build(FakeParts(self.client, store=self.store))

    def strangers(self) -> AbstractAsyncContextManager[list[tuple[Account, Any]]]:
        return strangers(self.account(), graph.build)

    def forget(self) -> None:
        self.graph.deltas.forget(gone=True)


@dataclass
class GoogleTown:
    office: sandbox_google.Office
    faults: Faults
    client: httpx.AsyncClient
    store: FakeStore = field(default_factory=FakeStore)

    service = "google"
    manner = manner_of(service, "messages/send")

    def account(self, address: str = ANNA, host: str = "") -> Account:
        here = self.office.account(address)
        if not host:
            return here
        cloud = msgspec.structs.replace(self.office.cloud, gmail=f"http://{host}")
        return msgspec.structs.replace(here, profile=msgspec.structs.replace(here.profile, cloud=cloud))

    def token(self, address: str = ANNA) -> Token:
        return Token(self.office.workspace.issue(address, [SEND, READONLY]), 2e9)

    def turn_away(self, token: Token) -> None:
        self.office.workspace.revoke(token.value)

    def inbox(self, address: str = BEN) -> list[bytes]:
        return [one.raw for one in self.office.google.office.mailbox(address).mails.values() if "INBOX" in one.labels]

    def copies(self) -> dict[str, int]:
        return {row.stamp: row.copies for row in self.office.google.office.sent.values()}

    def provider(self) -> Any:
        return gmail.build(FakeParts(self.client, store=self.store))

    def strangers(self) -> AbstractAsyncContextManager[list[tuple[Account, Any]]]:
        return strangers(self.account(), gmail.build)

    def forget(self) -> None:
        for address in (ANNA, BEN):
            self.office.google.office.mailbox(address).forget()


@asynccontextmanager
async def graph_town(folder: Path) -> AsyncIterator[GraphTown]:
    directory, ca, faults = town((ANNA, BEN)), Ca.create(folder), Faults()
    directory.authority = "https://login.example"
    app = sandbox_graph.create(directory, faults)
    served = await serve(app, ca)
    try:
        with trusting(ca.bundle):
            async with http.new_client() as client:
                yield GraphTown(directory, app, faults, client, f"{served.url}/v1.0")
    finally:
        faults.clear()
        await served.stop()


@asynccontextmanager
async def google_town(folder: Path) -> AsyncIterator[GoogleTown]:
    async with sandbox_google.office(folder) as office:
        with trusting(Ca(folder).bundle):
            async with http.new_client() as client:
                yield GoogleTown(office, office.faults, client)


READ_TOWNS: dict[str, Callable[[Path], AbstractAsyncContextManager[ReadTown]]] = {"graph": graph_town, "gmail": google_town}
