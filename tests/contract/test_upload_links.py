"""Links to write one blob, on Azurite, signed by the account's key and by the identity's: what they allow, and that it is nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from mailroom.identity import Identity
from mailroom.model.account import Storage
from mailroom.storage.rest import RestStore
from sandbox import identity
from sandbox.azurite import ACCOUNT, KEY, Azurite
from sandbox.ca import Ca
from sandbox.directory import STORAGE
from sandbox.faults import Faults
from sandbox.serve import serve
from sandbox.town import town

PUT = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2020-12-06"}
NAME = "5e0c/a b'ü~1.pdf"

Stores = dict[str, RestStore]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stores(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Stores, httpx.AsyncClient]]:
    """One Azurite over https, and two ways of being somebody to it."""
    directory, header, ca = town(), identity.new_header(), Ca.create(tmp_path_factory.mktemp("links"))
    site = await serve(identity.create(directory, Faults(), header), None)
    env = {"IDENTITY_ENDPOINT": site.url + identity.PATH, "IDENTITY_HEADER": header}
    cert, key = ca.cert_for_localhost()
    async with Azurite(cert=Path(cert), key=Path(key)) as azurite, httpx.AsyncClient(verify=ca.context()) as client:
        ends = (azurite.url("blob"), azurite.url("queue"), azurite.url("table"), ACCOUNT)
        who = Identity(client, env, client_id=directory.app("mailroom-identity").client_id)
        by_key = RestStore(Storage(*ends, KEY), client, who, resource=STORAGE)
        yield {"key": by_key, "identity": RestStore(Storage(*ends), client, who, resource=STORAGE)}, client
    await site.stop()


pytestmark = pytest.mark.asyncio(loop_scope="module")
both = pytest.mark.parametrize("signer", ["key", "identity"])


@both
async def test_whoever_has_the_link_writes_the_blob(stores: tuple[Stores, httpx.AsyncClient], place: str, signer: str) -> None:
    """A plain PUT with no other credential, into a container that nobody had made; twice, for the first answer may be lost."""
    store, client = stores[0][signer], stores[1]
    link = await store.upload_link(place, NAME, 600)
    for body in (b"first", b"%PDF-1.7 whole"):
        assert (await client.put(link, content=body, headers=PUT)).status_code == 201
    assert await store.get_blob(place, NAME) == b"%PDF-1.7 whole"


@both
async def test_a_large_file_goes_up_block_by_block(stores: tuple[Stores, httpx.AsyncClient], place: str, signer: str) -> None:
    """As Azure's own tools do it."""
    store, client = stores[0][signer], stores[1]
    link = await store.upload_link(place, NAME, 600)
    for block in ("MDAx", "MDAy"):
        assert (await client.put(f"{link}&comp=block&blockid={block}", content=block.encode())).status_code == 201
    blocks = b"<?xml version='1.0'?><BlockList><Latest>MDAx</Latest><Latest>MDAy</Latest></BlockList>"
    assert (await client.put(f"{link}&comp=blocklist", content=blocks)).status_code == 201
    assert await store.get_blob(place, NAME) == b"MDAxMDAy"


@both
async def test_the_link_does_nothing_else(stores: tuple[Stores, httpx.AsyncClient], place: str, signer: str) -> None:
    """It reads nothing, deletes nothing, lists nothing, and opens no neighbour, be it of a longer name."""
    store, client = stores[0][signer], stores[1]
    link = await store.upload_link(place, NAME, 600)
    await store.put_blob(place, NAME, b"there")
    path, _, query = link.partition("?")
    container = path.partition(f"/{place}/")[0] + f"/{place}"
    tries = [
        await client.get(link),
        await client.head(link),
        await client.delete(link),
        await client.get(f"{container}?restype=container&comp=list&{query}"),
        await client.put(f"{path}x?{query}", content=b"x", headers=PUT),
        await client.put(f"{container}/other?{query}", content=b"x", headers=PUT),
        await client.put(link.replace("sp=cw", "sp=rcw"), content=b"x", headers=PUT),
        await client.put(path, content=b"x", headers=PUT),
    ]
    assert all(answer.status_code in (403, 404) for answer in tries), [answer.status_code for answer in tries]
    assert await store.get_blob(place, NAME) == b"there"


@both
async def test_the_link_ends(stores: tuple[Stores, httpx.AsyncClient], place: str, signer: str) -> None:
    """After its time it is a link to nothing."""
    store, client = stores[0][signer], stores[1]
    link = await store.upload_link(place, NAME, -60)
    assert (await client.put(link, content=b"x", headers=PUT)).status_code == 403


async def test_one_delegation_key_signs_many_links(stores: tuple[Stores, httpx.AsyncClient], place: str) -> None:
    """The identity's key is asked for when there is none that outlives the link, not for each link."""
    store, client, asked = stores[0]["identity"], stores[1], []

    async def note(request: httpx.Request) -> None:
        asked.append(request.url.params.get("comp"))

    client.event_hooks = {"request": [note]}
    for lifetime in (600, 600, 7 * 3600, 600):
        await store.upload_link(place, "b", lifetime)
    client.event_hooks = {}
    assert asked.count("userdelegationkey") == 1
