"""What `make chaos` finds out by: the verdict on each mail, the traps of its proxy, and that a seed fixes its run."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import islice

import pytest

from chaos.load import plan
from chaos.proxy import Action, Proxy, Trap
from chaos.schedule import Density, events
from chaos.verdict import Verdict, judge
from mailroom.model.slice import Mail

SENT, PENDING = Mail("m", "sent", stamp="s1"), Mail("m", "pending", stamp="s1")
HELD, REFUSED = Mail("m", "held", stamp="s1", code="tickets_died"), Mail("m", "refused", stamp="s1", code="expired")


def of_one(copies: Mapping[str, int], *mails: Mail, aside: str | None = None) -> Verdict:
    return judge(["Mail 1"], {"Mail 1": copies}, [("Mail 1", mail) for mail in mails], {"Mail 1": aside} if aside else {})


@pytest.mark.parametrize(
    ("copies", "mails"),
    [({"s1": 1}, [SENT]), ({}, [HELD]), ({"s1": 1}, [HELD]), ({}, [REFUSED])],
)
def test_a_mail_that_is_as_the_ledger_says_is_good(copies: dict[str, int], mails: list[Mail]) -> None:
    """Sent once, or decided and not sent; a held one may have gone, for that is why a person decides."""
    assert of_one(copies, *mails).is_good


@pytest.mark.parametrize(
    ("copies", "mails", "wrong"),
    [
        ({}, [], "lost"),
        ({}, [SENT], "lost"),
        ({}, [SENT], "disagreements"),
        ({}, [PENDING], "owed"),
        ({"s1": 2}, [SENT], "sent_twice"),
        ({"s1": 1, "s2": 1}, [SENT, Mail("m", "sent", stamp="s2")], "sent_twice"),
        ({"s1": 1}, [REFUSED], "disagreements"),
        ({"s1": 1}, [PENDING], "disagreements"),
    ],
)
def test_what_is_wrong_with_a_mail_is_named(copies: dict[str, int], mails: list[Mail], wrong: str) -> None:
    """Each broken promise is found, in the ledger or in the count, and makes the run fail."""
    verdict = of_one(copies, *mails)
    assert getattr(verdict, wrong) == ["Mail 1"]
    assert not verdict.is_good


def test_what_a_person_was_told_is_explained() -> None:
    """What was put aside with a reason is not lost, and is counted by it."""
    verdict = of_one({}, aside="id_missing")
    assert verdict.is_good
    assert verdict.explained == {"put aside: id_missing": 1}


def test_a_seed_fixes_the_run() -> None:
    """The same seed plans the same mails and the same events, another one others."""
    assert plan(1, 500) == plan(1, 500) != plan(2, 500)
    assert sum(len(job.mails) for job in plan(1, 500)) == 500
    one, again, other = (list(islice(events(seed, 2, Density.of(500)), 300)) for seed in (1, 1, 2))
    assert one == again != other


@asynccontextmanager
async def proxied() -> AsyncIterator[tuple[Proxy, list[bytes], list[str]]]:
    """A proxy before a server that remembers its requests, and what the proxy killed for."""
    seen: list[bytes] = []
    killed: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                seen.append(data)
                writer.write(b"answer")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/account"
    proxy = Proxy(f"BlobEndpoint={url};QueueEndpoint={url};TableEndpoint={url};", killed.append, Counter())
    await proxy.start()
    try:
        yield proxy, seen, killed
    finally:
        await proxy.stop()
        server.close()
        await server.wait_closed()


async def ask(proxy: Proxy, what: bytes) -> bytes | None:
    """None where there was no answer."""
    port = int(proxy.connection_string.partition("TableEndpoint=http://127.0.0.1:")[2].partition("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(what)
    try:
        return await reader.read(1000) or None
    except ConnectionError:
        return None
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("action", "answered", "arrived", "kills"),
    [
        ("cut", False, False, 0),
        ("lose", False, True, 0),
        ("kill before", False, False, 1),
        ("kill after", False, True, 1),
        ("busy", True, False, 0),
    ],
)
async def test_a_trap_springs_once_and_where_it_should(action: Action, answered: bool, arrived: bool, kills: int) -> None:
    """A request is cut off, or its answer lost, or its worker killed before or after it took effect; the next one passes."""
    async with proxied() as (proxy, seen, killed):
        proxy.traps.append(Trap(action, after=1, fits=lambda service, head: service == "table" and head.startswith(b"PUT")))
        assert await ask(proxy, b"GET /x") == b"answer"
        assert await ask(proxy, b"PUT /first") == b"answer"
        answer = await ask(proxy, b"PUT /second")
        assert ((answer is not None), b"PUT /second" in seen, len(killed)) == (answered, arrived, kills)
        assert await ask(proxy, b"PUT /third") == b"answer"
        assert not proxy.traps


async def test_what_is_down_answers_nobody_until_it_is_healed() -> None:
    """An outage refuses every call; nothing of it stays."""
    async with proxied() as (proxy, seen, _):
        proxy.down = True
        assert await ask(proxy, b"GET /x") is None
        assert seen == []
        proxy.heal()
        assert await ask(proxy, b"GET /x") == b"answer"
