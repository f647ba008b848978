"""What many tests need: one Azurite for the whole run, and a client of one's own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from mailroom import http
from mailroom.model.account import Storage
from sandbox import azurite as emulator
from sandbox.azurite import Azurite


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def azurite() -> AsyncIterator[Azurite]:
    async with Azurite() as started:
        yield started


@pytest.fixture
def storage(azurite: Azurite) -> Storage:
    return Storage(azurite.url("blob"), azurite.url("queue"), azurite.url("table"), emulator.ACCOUNT, emulator.KEY)


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with http.new_client() as made:
        yield made


@pytest.fixture
def place() -> str:
    """A name for a table, container or queue that no other test uses."""
    return f"t{uuid.uuid4().hex}"
