"""With `key = "vault"` no private key enters the process: the vault keeps it, nobody asks for it, and memory holds none of it."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailroom.errors import VaultRefused
from sandbox.directory import GRAPH
from tests.contract.sandbox_azure import KINDS, NAME, SCOPE, Azure, azure

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
LEAST = ("Key Vault Reader", "Key Vault Crypto User")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sky(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Azure]:
    async with azure(tmp_path_factory.mktemp("azure")) as running:
        yield running


@pytest.fixture
def place(sky: Azure, monkeypatch: pytest.MonkeyPatch) -> Azure:
    for name, value in {**sky.env, "REQUESTS_CA_BUNDLE": str(sky.office.ca.bundle)}.items():
        monkeypatch.setenv(name, value)
    return sky.fresh()


async def test_it_signs_in_without_the_right_to_read_the_key(place: Azure) -> None:
    """The identity may see certificates and use keys, and read no secret: neither is one asked for, nor would it be given."""
    place.new_version(exportable=False)
    asked: list[str] = []

    async def note(request: httpx.Request) -> None:
        asked.append(request.url.path)

    place.office.http.event_hooks["request"].append(note)
    try:
        with place.roles(*LEAST):
            token = await place.credential().ask(SCOPE)
            to_the_vault = [path for path in asked if NAME in path]
            with pytest.raises(VaultRefused) as refused:
                await place.parts().vault().secret(NAME)
    finally:
        place.office.http.event_hooks["request"].remove(note)
    assert place.directory.check(token.value, [GRAPH])["appid"] == place.app.client_id
    version = place.registered()[0]
    assert to_the_vault == [f"/certificates/{NAME}", f"/keys/{NAME}/{version}/sign"]
    assert refused.value.code == "vault_forbidden"


async def test_a_key_that_cannot_leave_is_told_from_one_that_can(place: Azure) -> None:
    """Without `key = "vault"` such a certificate is refused with what to do, even to who may read secrets."""
    place.new_version(exportable=False)
    with pytest.raises(VaultRefused, match="exportable") as refused:
        await place.credential(place.profile("certificate")).ask(SCOPE)
    assert refused.value.code == "certificate_key_missing"


async def test_without_the_role_to_sign(place: Azure) -> None:
    """The error names the role; the authority is not asked."""
    place.new_version(exportable=False)
    asked = place.faults.add({"service": "entra", "path": "/token", "delay": 0})
    with place.roles("Key Vault Reader"), pytest.raises(VaultRefused, match="Key Vault Crypto User") as refused:
        await place.credential().ask(SCOPE)
    assert (refused.value.code, asked.hits) == ("vault_forbidden", 0)


def needles(place: Azure) -> list[bytes]:
    """What would be in memory were the key there: its numbers, as DER and as OpenSSL hold them, and its PEM where that is not public."""
    kept = place.contents.certificates.find(NAME)
    assert isinstance(kept.key, rsa.RSAPrivateKey)
    numbers, public = kept.key.private_numbers(), kept.certificate.public_bytes(Encoding.DER)
    parts = [number.to_bytes((number.bit_length() + 7) // 8, order) for number in (numbers.d, numbers.p, numbers.q) for order in ORDERS]
    lines = kept.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).splitlines()[1:-2]
    return [*parts, *(line for line in lines if base64.b64decode(line) not in public)]


ORDERS: tuple[Literal["big", "little"], ...] = ("big", "little")

CHILD = """
import asyncio, sys
from mailroom import wiring

async def main():
    profile = wiring.settings().profiles["office"]
    token = await wiring.credential(profile).ask(profile.cloud.graph_scope)
    print("token", token.fingerprint, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await wiring.client().aclose()

asyncio.run(main())
"""


def accounts(place: Azure, kind: str) -> str:
    cloud = "\n".join(f'{key} = "{getattr(place.cloud, key)}"' for key in ("authority", "graph", "graph_scope", "vault_resource"))
    options = "\n".join(f'{key} = "{value}"' for key, value in KINDS[kind])
    return f"""cloud = "sandbox"
[clouds.sandbox]
{cloud}
[auth.office]
grant = "client_credentials"
tenant = "{place.directory.tenant}"
client_id = "{place.app.client_id}"
certificate = "{NAME}"
{options}
"""


def memory(pid: int) -> bytes:
    """Everything that the process could have written."""
    found = []
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as mem:
        for line in maps:
            where, mode, *_ = line.split()
            if mode.startswith("rw") and "[v" not in line:  # not vvar and its like, which nobody may read
                start, end = (int(part, 16) for part in where.split("-"))
                mem.seek(start)
                found.append(mem.read(end - start))
    return b"".join(found)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="another process's memory is read from /proc")
@pytest.mark.parametrize("kind", KINDS)
async def test_no_private_key_in_memory(place: Azure, kind: str, tmp_path: Path) -> None:
    """A process with the product's own wiring signs in; its memory is searched for the key, which is found where the key is read."""
    place.new_version(exportable=kind == "certificate")
    (tmp_path / "accounts.toml").write_text(accounts(place, kind))
    env = {
        **place.env,
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "MAILROOM_ACCOUNTS": str(tmp_path / "accounts.toml"),
        "MAILROOM_VAULT_URL": place.vault,
        "AZURE_CLIENT_ID": place.identity.client_id,
        "SSL_CERT_FILE": str(place.office.ca.bundle),
        "REQUESTS_CA_BUNDLE": str(place.office.ca.bundle),
    }
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, env=env, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    told = await asyncio.wait_for(child.stdout.readline(), 60)
    assert told.startswith(b"token "), told
    held = await asyncio.to_thread(memory, child.pid)
    await child.communicate(b"\n")
    assert child.returncode == 0
    assert NAME.encode() in held
    found = [needle for needle in needles(place) if needle in held]
    assert bool(found) == (kind == "certificate")
