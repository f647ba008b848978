"""What does not work for a while: what POST answers, that nothing it accepted is lost, and that all of it goes out once afterwards."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.accounts import Pace
from sandbox.azurite import Azurite
from sandbox.services import CERTIFICATE, CUSTOMER, Services
from sandbox.vault import pfx
from tests.journey.own_town import EVERY_SECOND, Functions, OwnTown, new_subject, own_town
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

SECRET = "graph-secret"
BY_SECRET = "by-secret"
IMPATIENT = Pace(sweep=EVERY_SECOND, sync=EVERY_SECOND, claim=8, call=3, grace=1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OwnTown]:
    async with own_town(tmp_path_factory.mktemp("down"), certificate=False) as town:
        yield town


@pytest.fixture(autouse=True)
def _healed(town: OwnTown) -> None:
    """Each test starts with functions of its own, which remember nothing and find no token that is still good."""
    town.services.faults.clear()
    town.services.directory.revoke_all(town.services.directory.app("graph").client_id)


def mail(town: OwnTown, subject: str, **more: Any) -> dict[str, Any]:
    return {"account": town.billing, "to": ["ann@example.com"], "subject": subject, "text": "Hello"} | more


def by_secret(town: OwnTown) -> str:
    """Another account, whose profile signs in with a secret."""
    directory = town.services.directory
    profile = {
        "grant": "client_credentials",
        "tenant": directory.tenant,
        "client_id": directory.app("graph").client_id,
        "secret": SECRET,
    }
    account = {"provider": "graph", "address": CUSTOMER, "auth": BY_SECRET}
    lines = (
        [f"[auth.{BY_SECRET}]"]
        + [f'{key} = "{value}"' for key, value in profile.items()]
        + [f"[accounts.{BY_SECRET}]"]
        + [f'{key} = "{value}"' for key, value in account.items()]
    )
    return "\n" + "\n".join(lines) + "\n"


def says_what_to_do(answer: httpx.Response, status: str, code: str, step: str, town: OwnTown) -> str:
    """The mail's id, once the answer is seen to name the cause and the remedy, and no secret."""
    view = answer.json()
    assert (answer.status_code, view["status"], view["code"]) == (202, status, code), answer.text
    assert step in f"{view['detail']} {view['next_step']}"
    assert answer.headers["Location"] == f"/api/messages/{view['id']}"
    no_secret_in(answer.text, town.services)
    return str(view["id"])


def no_secret_in(text: str, services: Services) -> None:
    secrets = [value for app in services.directory.apps.values() for value in app.secrets] + [
        "PRIVATE KEY",
        "eyJ",
        services.identity_header,
    ]
    assert not [secret for secret in secrets if secret in text]


async def goes_out_once(functions: Functions, town: OwnTown, name: str, subject: str) -> None:
    assert (await functions.settled(name))["status"] == "sent"
    assert await town.copies(subject) == [1]


def no_certificate(services: Services) -> None:
    """No version of it, old or new."""
    if services.vault_contents.certificates.versions(CERTIFICATE):
        services.vault_contents.delete_certificate(CERTIFICATE)
        services.vault_contents.purge_certificate(CERTIFICATE)


def expired_certificate(services: Services) -> None:
    """A year old, valid for a month, and the only one."""
    no_certificate(services)
    key = rsa.generate_private_key(65537, 2048)
    name, then = x509.Name.from_rfc4514_string("CN=mailroom"), datetime.now(UTC) - timedelta(days=365)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    old = builder.not_valid_before(then).not_valid_after(then + timedelta(days=30)).sign(key, hashes.SHA256())
    services.vault_contents.add_certificate(CERTIFICATE, key, old, pfx.complete({}, old, key, issuer="Self"))


def other_certificate(services: Services) -> None:
    """One that nobody registered with the app, and no other."""
    no_certificate(services)
    services.vault_contents.create_certificate(CERTIFICATE)


async def test_a_certificate_that_is_no_good(town: OwnTown) -> None:
    """There is none, or it has expired: answers say so, and with a good one both mails go out, the functions running on."""
    missing, expired = new_subject(), new_subject()
    no_certificate(town.services)
    async with town.functions() as functions:
        answer = await functions.send(**mail(town, missing))
        step = "Create it under this name, or correct the name in accounts.toml."
        first = says_what_to_do(answer, "pending", "vault_certificate_missing", step, town)
        expired_certificate(town.services)
        answer = await functions.send(**mail(town, expired, account=town.support))
        step = "Make a new version in the vault, and upload its public part to the app registration."
        second = says_what_to_do(answer, "pending", "certificate_expired", step, town)
        town.services.make_certificate()
        await goes_out_once(functions, town, first, missing)
        await goes_out_once(functions, town, second, expired)


async def test_what_signs_in_is_not_what_is_registered(town: OwnTown) -> None:
    """An unknown thumbprint is AADSTS700027, whose long text leaves the next step whole; a missing secret stops its own account alone."""
    unregistered, secretless = new_subject(), new_subject()
    other_certificate(town.services)
    async with town.functions(more=by_secret(town)) as functions:
        answer = await functions.send(**mail(town, unregistered))
        first = says_what_to_do(answer, "pending", "aadsts_700027", "Register the newest version of the vault's certificate", town)
        answer = await functions.send(**mail(town, secretless, account=BY_SECRET))
        second = says_what_to_do(answer, "pending", "vault_secret_missing", f"There is no secret '{SECRET}' in the vault. Create", town)
        town.services.vault_contents.set_secret(SECRET, town.services.directory.app("graph").secret)
        await goes_out_once(functions, town, second, secretless)
        assert (await functions.mail(first))["status"] == "pending"
    town.services.make_certificate()
    async with town.functions() as functions:  # an authority that refused is asked again after a minute, or by who does not know of it
        await goes_out_once(functions, town, first, unregistered)


async def test_a_vault_that_is_down(town: OwnTown) -> None:
    """Without its vault the app signs in nowhere; whether it refuses or hangs, answers come in time and mails wait."""
    town.services.make_certificate()
    refusing, hanging = new_subject(), new_subject()
    town.services.faults.add({"service": "vault", "path": CERTIFICATE, "answer": "503"})
    async with town.functions(IMPATIENT) as functions:
        first = says_what_to_do(await functions.send(**mail(town, refusing)), "pending", "vault_down", "check MAILROOM_VAULT_URL", town)
        town.services.faults.clear()
        town.services.faults.add({"service": "vault", "answer": "hang"})
        town.services.directory.revoke_all(town.services.directory.app("graph").client_id)
        began = time.monotonic()
        answer = await functions.send(**mail(town, hanging, account=town.support))
        assert time.monotonic() - began < IMPATIENT.claim
        second = says_what_to_do(answer, "pending", "token_timeout", "Run `mailroom check`", town)
        town.services.faults.clear()
        await goes_out_once(functions, town, first, refusing)
        await goes_out_once(functions, town, second, hanging)


async def test_an_authority_that_nobody_has_reached_yet(town: OwnTown) -> None:
    """New functions that cannot learn the authority's keys let nobody in: 503, and nothing is accepted."""
    town.services.make_certificate()
    town.services.faults.add({"service": "entra", "answer": "503"})
    subject = new_subject()
    async with town.functions() as functions:
        answer = await functions.send(**mail(town, subject))
        assert (answer.status_code, answer.json()["code"]) == (503, "authority_busy")
        assert "This passes by itself" in answer.json()["next_step"]
        town.services.faults.clear()
        assert (await until(lambda: _admitted(functions, town))).json()["status"] in ("sent", "pending")
        assert await town.copies(subject) == []


async def _admitted(functions: Functions, town: OwnTown) -> httpx.Response | None:
    answer = await functions.send(**mail(town, new_subject()))
    return answer if answer.is_success else None


async def test_storage_that_is_down(town: OwnTown, tmp_path: Path) -> None:
    """503 and nothing accepted while it is away; what was accepted before it went is done when it is back, once."""
    town.services.make_certificate()
    refused, cut_off = new_subject(), new_subject()
    (tmp_path / "storage").mkdir()
    async with Azurite(tmp_path / "storage") as storage:
        elsewhere = dataclasses.replace(town.services, storage=storage.connection_string)
        async with town.functions(IMPATIENT, where=elsewhere) as functions:
            warm = new_subject()
            await goes_out_once(functions, town, (await functions.send(**mail(town, warm))).json()["id"], warm)
            town.services.faults.add({"service": "graph", "path": "sendMail", "delay": 1, "times": 1})
            sending = asyncio.create_task(functions.send(**mail(town, cut_off), key="cut off"))
            await until(town.struck)
            await storage.stop()
            accepted = await sending
            assert (accepted.status_code, accepted.json()["status"]) == (202, "sending"), accepted.text
            answer = await functions.send(**mail(town, refused), key="once")
            assert (answer.status_code, answer.json()["code"]) == (503, "storage_down")
            assert answer.json()["next_step"].startswith("Try again a little later")
            no_secret_in(answer.text + accepted.text, town.services)
            assert (await functions.http.get("health")).status_code == 503
            await storage.start()
            await until(lambda: _sent(functions, mail(town, cut_off), "cut off"), 60)
            await goes_out_once(functions, town, accepted.json()["id"], cut_off)
            assert await town.copies(refused) == []
            again = await functions.send(**mail(town, refused), key="once")
            await goes_out_once(functions, town, again.json()["id"], refused)


async def _sent(functions: Functions, mail: dict[str, Any], key: str) -> bool:
    """As the client repeats its request, with its key."""
    await asyncio.sleep(0.5)
    answer = await functions.send(**mail, key=key)
    return bool(answer.is_success and answer.json()["status"] == "sent")
