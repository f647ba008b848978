"""RestStore with the managed identity's bearer token, on Azurite's https: the way it goes on Azure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from mailroom.errors import StorageDown
from mailroom.identity import Identity
from mailroom.model.account import Storage
from mailroom.model.row import Change, Row
from mailroom.storage.rest import RestStore
from sandbox import identity
from sandbox.azurite import ACCOUNT, Azurite
from sandbox.ca import Ca
from sandbox.directory import GRAPH, STORAGE
from sandbox.faults import Faults
from sandbox.serve import serve
from sandbox.town import town


@pytest_asyncio.fixture
async def bearer(tmp_path: Path) -> AsyncIterator[tuple[Storage, httpx.AsyncClient, Identity]]:
    directory, header, ca = town(), identity.new_header(), Ca.create(tmp_path)
    site = await serve(identity.create(directory, Faults(), header), None)
    env = {"IDENTITY_ENDPOINT": site.url + identity.PATH, "IDENTITY_HEADER": header}
    cert, key = ca.cert_for_localhost()
    async with Azurite(cert=Path(cert), key=Path(key)) as azurite, httpx.AsyncClient(verify=ca.context()) as client:
        where = Storage(azurite.url("blob"), azurite.url("queue"), azurite.url("table"), ACCOUNT)
        yield where, client, Identity(client, env, client_id=directory.app("mailroom-identity").client_id)
    await site.stop()


async def test_a_bearer_token_opens_all_three_services(bearer: tuple[Storage, httpx.AsyncClient, Identity], place: str) -> None:
    """Tables, transactions, blobs and queues take the identity's token; one for another audience is refused, with the role to give."""
    where, client, who = bearer
    store = RestStore(where, client, who, resource=STORAGE)
    row = Row("billing@contoso.example", "s|1", {"n": 1})
    [etag] = await store.write(place, [Change("insert", row)])
    await store.write(place, [Change("replace", Row(row.partition, row.key, {"n": 2}, etag)), Change("insert", Row(row.partition, "t"))])
    assert [found.key for found in await store.query(place, row.partition)] == ["s|1", "t"]
    assert await store.put_blob(place, "a/b c", b"body")
    assert await store.get_blob(place, "a/b c") == b"body"
    assert await store.old_blobs(place, store.now() + 60) == ["a/b c"]
    await store.put_ticket(place, b"ticket")
    [ticket] = await store.receive(place)
    await store.delete_ticket(place, ticket)
    assert await store.queue_length(place) == 0

    wrong = RestStore(where, client, who, resource=GRAPH)
    for call, role in (
        (wrong.get_row(place, "p", "k"), "Storage Table Data Contributor"),
        (wrong.get_blob(place, "a"), "Storage Blob Data Contributor"),
        (wrong.put_ticket(place, b"x"), "Storage Queue Data Contributor"),
    ):
        with pytest.raises(StorageDown, match=role) as refused:
            await call
        assert refused.value.code == "storage_forbidden"
