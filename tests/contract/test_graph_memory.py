"""A mail of 150 MB goes through a process of its own, whose memory hardly knows of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailroom.model.account import Storage
from mailroom.model.places import UPLOADS_CONTAINER
from mailroom.storage.rest import RestStore
from sandbox import graph as sandbox_graph
from sandbox.ca import Ca
from sandbox.directory import GRAPH
from sandbox.faults import Faults
from sandbox.serve import serve
from sandbox.town import town

# the peak that `resource` knows counts the parent's memory in, from before the child was itself
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process its peak")]

ROOT = Path(__file__).parents[2]
SIZE = 150 * 1024 * 1024
ROOM = 32 * 1024 * 1024  # what a mail of any size may take besides what a small one does
BLOCK = 4 * 1024 * 1024
ANNA, BEN = "anna@mailroom.example", "ben@mailroom.example"

# Sends one mail for each upload that it is told of, the first to warm up, and says how far its memory rose over the first.
CHILD = """
import asyncio, json, re, sys
from pathlib import Path
import httpx
from mailroom import http
from mailroom.model.account import Account, Cloud, Profile, Storage
from mailroom.model.message import Address, Attachment, Message, Outgoing
from mailroom.model.token import Token
from mailroom.providers.graph import TRAITS, Graph
from mailroom.storage.rest import RestStore

async def main(told):
    cloud = Cloud("https://login.example", told["graph"], "scope", "vault", "storage")
    account = Account("billing", "graph", told["from"], Profile("graph", "client_credentials", "t", "c", cloud),
                      permissions=frozenset({"Mail.Send", "Mail.ReadWrite"}), traits=TRAITS)
    token, peaks = Token(told["token"], 2e9), []
    async with http.new_client() as client:
        store = RestStore(Storage(**told["storage"]), client, None, resource="")
        graph = Graph(client, lambda: store)
        for name in told["uploads"]:
            known = await store.find_blob(told["container"], name)
            file = Attachment("a.pdf", b"", "application/pdf", None, name, known.size, known.etag)
            message = Message("billing", to=(Address(told["to"]),), subject=name, text="x", attachments=(file,))
            ready = await graph.prepare(account, Outgoing(name.replace("/", "."), message), token)
            [receipt] = await graph.send(account, [ready], token)
            assert receipt.path == "draft", receipt
            peaks.append(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)
    print(json.dumps(peaks))

asyncio.run(main(json.load(sys.stdin)))
"""


@pytest.fixture
async def graph(tmp_path: Path) -> AsyncIterator[tuple[Any, dict[str, Any], str]]:
    directory, ca = town((ANNA, BEN)), Ca.create(tmp_path)
    directory.authority = "https://login.example"
    office = sandbox_graph.create(directory, Faults())
    served = await serve(office, ca)
    token = directory.issue(directory.app("graph").client_id, GRAPH, ["Mail.Send", "Mail.ReadWrite"])
    yield office, {"graph": f"{served.url}/v1.0", "token": token, "from": ANNA, "to": BEN}, str(ca.bundle)
    await served.stop()


async def test_memory_stays_flat(graph: Any, storage: Storage, client: httpx.AsyncClient, place: str) -> None:
    """150 MB from storage to Graph, chunk by chunk: at most 32 MB above what 4 MB take, and it arrives whole."""
    office, told, bundle = graph
    store = RestStore(storage, client, None, resource="")  # type: ignore[arg-type]  # a key needs no identity
    await put(store, client, f"{place}/small", 4_000_000)
    whole = await put(store, client, f"{place}/large", SIZE)
    there = {name: getattr(storage, name) for name in ("blob", "queue", "table", "account", "key")}
    told |= {"uploads": [f"{place}/small", f"{place}/large"], "storage": there, "container": UPLOADS_CONTAINER}
    small, large = await child(told, bundle)
    assert large - small < ROOM, f"{(large - small) / 1024 / 1024:.0f} MB more"
    [item] = [one for one in office.office.mailbox(BEN).folder("inbox").items.values() if one.props["subject"].endswith("large")]
    assert hashlib.sha256(item.attachments[0].content).hexdigest() == whole


async def put(store: RestStore, client: httpx.AsyncClient, name: str, size: int) -> str:
    """As an uploader does, block by block over a link; the SHA-256 of the whole."""
    link, ids, whole = await store.upload_link(UPLOADS_CONTAINER, name, 600), [], hashlib.sha256()
    for at in range(0, size, BLOCK):
        ids.append(f"{at:012}")
        block = (hashlib.sha256(ids[-1].encode()).digest() * (BLOCK // 32))[: min(BLOCK, size - at)]
        whole.update(block)
        (await client.put(f"{link}&comp=block&blockid={ids[-1]}", content=block)).raise_for_status()
    listed = "".join(f"<Latest>{one}</Latest>" for one in ids)
    body = f"<?xml version='1.0'?><BlockList>{listed}</BlockList>".encode()
    (await client.put(f"{link}&comp=blocklist", content=body)).raise_for_status()
    return whole.hexdigest()


async def child(told: dict[str, Any], bundle: str) -> list[int]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD),
        cwd=ROOT,
        env={"SSL_CERT_FILE": bundle},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate(json.dumps(told).encode())
    assert process.returncode == 0, errors.decode()
    found: list[int] = json.loads(out)
    return found
