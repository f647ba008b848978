"""Making and importing certificates on the wire to the sandbox's vault, when it is slow, refuses, or does not answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from cli.certificate.vault import POLLS, CertificateVault, Wish
from mailroom.errors import VaultDown, VaultRefused
from mailroom.identity import Identity
from mailroom.storage.vault_wire import VaultWire
from sandbox.directory import VAULT
from tests.contract.certificate_place import KEY, ROOT, STORE, Command
from tests.contract.sandbox_azure import NAME, Azure, azure
from tests.contract.sandbox_town import certificate

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sky(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Azure]:
    async with azure(tmp_path_factory.mktemp("azure")) as running:
        yield running


@pytest.fixture
def place(sky: Azure) -> Azure:
    place = sky.fresh()
    place.contents.polls, place.contents.outcome = 0, "completed"
    place.identity.azure_roles = {"Key Vault Certificates Officer"}
    return place


@pytest.fixture
def vault(place: Azure) -> CertificateVault:
    who = Identity(place.office.http, place.env, client_id=place.identity.client_id, sleep=place.sleep)
    wire = VaultWire(place.vault, place.office.http, who, resource=VAULT, sleep=place.sleep)
    return CertificateVault(wire, place.sleep)


async def test_it_waits_until_the_vault_has_made_it(place: Azure, vault: CertificateVault) -> None:
    """While the vault is at it the version before is not taken for the new one."""
    before = place.new_version()
    place.contents.polls = 5
    made = await vault.make(NAME, Wish())
    assert place.contents.polls == 0
    assert made.version not in ("", before)
    assert len(place.slept) == 5


async def test_it_does_not_wait_for_ever(place: Azure, vault: CertificateVault) -> None:
    """A minute, then it says where to look."""
    place.contents.polls = POLLS + 1
    with pytest.raises(VaultDown, match=f"certificate show {NAME}") as down:
        await vault.make(NAME, Wish())
    assert down.value.code == "vault_certificate_pending"
    assert len(place.slept) == POLLS


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
async def test_it_says_when_the_vault_gave_up(place: Azure, vault: CertificateVault, outcome: str) -> None:
    """With the vault's own reason."""
    place.contents.outcome = outcome
    with pytest.raises(VaultRefused, match="The issuer did not sign") as refused:
        await vault.make(NAME, Wish())
    assert refused.value.code == "vault_certificate_not_made"


@pytest.mark.parametrize("answer", ["503", "429", "cut"])
@pytest.mark.parametrize("verb", ["create", "import"])
async def test_what_may_have_been_done_is_not_done_again(place: Azure, vault: CertificateVault, answer: str, verb: str) -> None:
    """One attempt: whoever loses the answer is told how to see whether there is a new version, and there is never a second one."""
    fault = place.faults.add({"service": "vault", "path": f"/{verb}", "method": "POST", "answer": answer, "after_accepting": True})
    signed = certificate()
    with pytest.raises(VaultDown, match=f"certificate show {NAME}"):
        await (vault.make(NAME, Wish()) if verb == "create" else vault.bring(NAME, signed.key_pem + signed.pem, 2048, None))
    assert fault.hits == 1
    assert len(place.contents.certificates.versions(NAME)) == 1


@pytest.mark.parametrize("exportable", [True, False])
async def test_an_import_stays_as_the_one_before(place: Azure, vault: CertificateVault, exportable: bool) -> None:
    """A profile that reads its key goes on doing so after an import without a word about it; the first import keeps its key in."""
    place.new_version(exportable=exportable)
    signed = certificate()
    kept = await vault.bring(NAME, signed.key_pem + signed.pem, 2048, None)
    assert kept.exportable is exportable
    assert kept.cer == signed.der
    assert (await vault.bring("first", signed.key_pem + signed.pem, 2048, None)).exportable is False


async def test_an_imported_one_is_followed_by_a_made_one(place: Azure, vault: CertificateVault) -> None:
    """Its issuer was somebody else; the new version is signed by itself, in the same form as before."""
    signed = certificate()
    await vault.bring(NAME, signed.key_pem + signed.pem, 2048, True)
    made = await vault.make(NAME, Wish())
    assert made.policy is not None
    assert made.policy["issuer"]["name"] == "Self"
    assert made.policy["secret_props"]["contentType"] == "application/x-pem-file"
    assert made.exportable is True
    assert made.cer != signed.der


@pytest.mark.slow
async def test_a_person_is_asked(place: Azure, tmp_path: Path) -> None:
    """At a terminal the passwords are typed, unseen: the store's, then, where that does not open the key, the key's own."""
    told, status = await _typed(
        Command(place, tmp_path), ["import", str(Path(__file__).parents[1] / "keystores/two-passwords.jks"), NAME], [STORE, KEY]
    )
    assert status == 0, told
    assert told.index("password: ") < told.index("key password: ") < told.index(f"✓ {NAME} was imported")
    assert STORE not in told
    assert KEY not in told
    assert len(place.contents.certificates.versions(NAME)) == 1


@pytest.mark.slow
async def test_a_new_password_is_typed_twice(place: Azure, tmp_path: Path) -> None:
    """Two that differ lock nothing."""
    arguments = ["make", NAME, "--local", str(tmp_path / "keys")]
    told, status = await _typed(Command(place, tmp_path), arguments, ["one-secret", "another-secret"])
    assert (status, "password_mistyped" in told) == (1, True), told
    assert not (tmp_path / "keys").exists()
    told, status = await _typed(Command(place, tmp_path), arguments, ["one-secret", "one-secret"])
    assert status == 0, told
    assert (tmp_path / "keys" / f"{NAME}.pfx").exists()
    assert "one-secret" not in told


async def _typed(command: Command, arguments: list[str], answers: list[str]) -> tuple[str, int]:
    """All that the terminal showed, and the exit status; each answer is typed when it is asked for."""
    terminal, theirs = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *command.line(*arguments), cwd=ROOT, env=command.env(), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown = await asyncio.to_thread(_answered, terminal, list(answers))
    os.close(terminal)
    return shown, await process.wait()


def _answered(terminal: int, answers: list[str]) -> str:
    shown = ""
    while True:
        try:
            piece = os.read(terminal, 4096).decode()
        except OSError:  # how Linux says that the other end was closed
            return shown
        shown += piece
        if answers and piece.endswith(": "):
            os.write(terminal, f"{answers.pop(0)}\n".encode())
