"""Azurite as the sandbox starts it: ready when it says so, on its own ports, gone with its parent."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
from pathlib import Path

import httpx
import pytest

from sandbox import azurite as emulator
from sandbox.azurite import Azurite, AzuriteFailed

ROOT = Path(__file__).parents[2]


async def answers(url: str) -> bool:
    """Anything but silence: who asks without a signature is refused."""
    async with httpx.AsyncClient() as client:
        try:
            return (await client.get(url)).status_code >= 400
        except httpx.TransportError:
            return False


async def test_two_run_side_by_side(tmp_path: Path) -> None:
    """Each has three ports of its own, ready at once; stopped, it answers no more, and started again it has the same ports."""
    async with Azurite() as one, Azurite(tmp_path) as two:
        urls = [azurite.url(service) for azurite in (one, two) for service in ("blob", "queue", "table")]
        assert len(set(urls)) == 6
        assert all([await answers(url) for url in urls])
        assert f"TableEndpoint={one.url('table')};" in one.connection_string
        await two.stop()
        assert not await answers(two.url("blob"))
        await two.start()
        assert [two.url(service) for service in ("blob", "queue", "table")] == urls[3:]
        assert await answers(two.url("blob"))
    assert "__azurite_db_blob__.json" in os.listdir(tmp_path)


async def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """A SIGKILL leaves nobody to stop it: it notices that its parent is gone."""
    program = """
        import asyncio, os, signal
        from sandbox.azurite import Azurite
        async def main():
            async with Azurite() as azurite:
                print(azurite.url("blob"), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(main())
    """
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(program), cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    out, _ = await parent.communicate()
    async with asyncio.timeout(10):
        while await answers(out.decode().strip()):
            continue


async def test_what_went_wrong_is_said(tmp_path: Path) -> None:
    """What Azurite says before it ends is in the error, and nothing is left running."""
    broken = Azurite(cert=tmp_path / "missing.pem", key=tmp_path / "missing.key")
    with pytest.raises(AzuriteFailed, match=r"missing\.(pem|key)"):
        await broken.start()
    await broken.stop()


async def test_without_setup_the_command_is_named(tmp_path: Path) -> None:
    """Where the npm package is not installed the error says how it gets there."""
    with pytest.raises(AzuriteFailed, match="make setup"):
        await Azurite(script=tmp_path / "azurite.js").start()


def test_the_account_is_the_well_known_one() -> None:
    """Tools know Azurite's account and key by heart."""
    assert emulator.ACCOUNT == "devstoreaccount1"
    assert emulator.KEY.startswith("Eby8vdM02xNOcqFl")
