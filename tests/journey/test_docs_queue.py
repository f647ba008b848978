"""The examples of docs/queue.md, run as they stand there but for the account's name: what they put on the queue is sent."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from sandbox import identity
from sandbox.azurite import Azurite
from sandbox.ca import Ca
from sandbox.faults import Faults
from sandbox.host.queues import Queue
from sandbox.host.storage import Storage
from sandbox.serve import serve
from sandbox.town import town as tenant
from tests.journey.conftest import Town
from tests.waiting import until

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "queue.md").read_text("utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SHELL = [block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "az storage" in block and "message put" in block]
# an `az` that notes what it is called with, as JSON lines
AZ = f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps(sys.argv[1:]), file=open(os.environ['NOTED'], 'a'))\n"


@dataclass(frozen=True, slots=True)
class Azure:
    """An application's identity, and a queue that takes its bearer token: Azurite over https."""

    env: dict[str, str]
    address: str
    queue: Queue


@pytest_asyncio.fixture
async def azure(tmp_path: Path) -> AsyncIterator[Azure]:
    directory, header, ca = tenant(), identity.new_header(), Ca.create(tmp_path)
    site = await serve(identity.create(directory, Faults(), header), None)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE", "IDENTITY", "MSI"))}
    env |= {"IDENTITY_ENDPOINT": site.url + identity.PATH, "IDENTITY_HEADER": header, "NO_PROXY": "*"}
    env |= {"AZURE_CLIENT_ID": directory.app("mailroom-identity").client_id}
    env |= {"SSL_CERT_FILE": str(ca.bundle), "REQUESTS_CA_BUNDLE": str(ca.bundle)}
    cert, key = ca.cert_for_localhost()
    async with Azurite(cert=Path(cert), key=Path(key)) as azurite, httpx.AsyncClient(verify=ca.context(), trust_env=False) as http:
        queue = Queue(Storage(azurite.connection_string, http), "mail-outbox")
        await queue.create()
        yield Azure(env, azurite.url("queue"), queue)
    await site.stop()


@pytest_asyncio.fixture
async def outbox(town: Town) -> AsyncIterator[Storage]:
    """The storage that the functions read from."""
    async with httpx.AsyncClient(trust_env=False) as http:
        yield Storage(town.told["storage"], http)


def ours(town: Town, content: str, name: str) -> str:
    """The same message, for an account that the town has, under a subject that no other test uses."""
    mail = json.loads(base64.b64decode(content, validate=True))
    assert mail["account"] == "billing"
    mail |= {"account": town.billing, "subject": name, "id": f"{mail['id']}-{name}"}
    return base64.b64encode(json.dumps(mail).encode()).decode()


async def is_sent(town: Town, outbox: Storage, content: str) -> dict[str, Any]:
    """What was put on the queue, as the functions sent it."""
    name = uuid.uuid4().hex
    await Queue(outbox, "mail-outbox").put(ours(town, content, name))
    [sent] = await until(lambda: town.sent(name))
    assert sent["copies"] == 1
    mail: dict[str, Any] = json.loads(base64.b64decode(content))
    return mail


def run(command: list[str], env: dict[str, str]) -> None:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("block", PYTHON, ids=["library", "plain"])
async def test_the_python_examples_put_mails_that_are_sent(town: Town, azure: Azure, outbox: Storage, block: str) -> None:
    """By the identity's token and nothing else; the message never expires, and the functions send it as it came."""
    code = block.replace("https://NAME.queue.core.windows.net", azure.address)
    assert code != block
    await asyncio.to_thread(run, [sys.executable, "-W", "error", "-c", code], azure.env)
    [message] = await azure.queue.get(32, 1)
    assert message.expires.year == 9999
    mail = await is_sent(town, outbox, message.text)
    assert mail["id"].startswith("invoice-2026-11")


def called(tmp_path: Path, block: str) -> list[list[str]]:
    """What the shell makes of the lines: each call of `az`, argument by argument."""
    (tmp_path / "az").write_text(AZ)
    (tmp_path / "az").chmod(0o755)
    noted = tmp_path / "noted"
    run(["bash", "-euc", block], {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "NOTED": str(noted)})
    return [json.loads(line) for line in noted.read_text("utf-8").splitlines()]


def options(call: list[str], *command: str) -> dict[str, str]:
    assert tuple(call[: len(command)]) == command
    pairs = call[len(command) :]
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


PUT = {"--auth-mode": "login", "--account-name": "NAME", "--queue-name": "mail-outbox", "--time-to-live": "-1"}


async def test_the_command_line_puts_a_mail_that_is_sent(town: Town, outbox: Storage, tmp_path: Path) -> None:
    """The shell hands `az` base64 in one piece; umlauts and quotes come through, and the mail is sent."""
    [call] = called(tmp_path, SHELL[0])
    given = options(call, "storage", "message", "put")
    content = given.pop("--content")
    assert given == PUT
    mail = await is_sent(town, outbox, content)
    assert (mail["subject"], mail["text"]) == ("Größe 38", "It's there.")


async def test_a_large_file_goes_beside_its_mail(town: Town, outbox: Storage, tmp_path: Path) -> None:
    """The blob that the first line uploads is the one that the mail of the second line names."""
    upload, put = called(tmp_path, SHELL[1])
    blob = options(upload, "storage", "blob", "upload")
    assert blob.pop("--file") == "plan.pdf"
    body, headers = b"%PDF-1.4 a plan" * 10_000, {"x-ms-blob-type": "BlockBlob"}
    await outbox.call("blob", "PUT", blob["--container-name"], {"restype": "container"}, but={409})  # as the deployment makes it
    await outbox.call("blob", "PUT", f"{blob['--container-name']}/{blob['--name']}", headers=headers, body=body)
    mail = await is_sent(town, outbox, options(put, "storage", "message", "put")["--content"])
    assert mail["attachments"][0]["blob"] == "plan-2026-117.pdf"


async def test_a_message_over_64_kb_is_refused_to_its_sender(azure: Azure) -> None:
    """With the code that the page names, before anything is on the queue."""
    block = PYTHON[0].replace("https://NAME.queue.core.windows.net", azure.address).replace("it is ready", "x" * 50_000)
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", block], env=azure.env, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "RequestBodyTooLarge" in done.stderr, done.stderr[-500:]
    assert "413" in PAGE
    assert await azure.queue.get(32, 1) == []


def test_the_page_shows_what_poison_looks_like() -> None:
    """The reason on the page is the one that the code gives."""
    from mailroom.errors import BadInput
    from send_mail import parse

    [told] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    with pytest.raises(BadInput) as refused:
        parse.message(told["original"].encode())
    assert told["reason"] == str(refused.value)
