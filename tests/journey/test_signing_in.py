"""Accounts that sign in without a secret: by a key that stays in the vault, and by the managed identity, itself or for an application.

A request comes in over HTTP, a mail goes out, and the timer renews what there is to renew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding

from sandbox.directory import GRAPH, App
from sandbox.services import CUSTOMER
from tests.journey.own_town import Functions, OwnTown, new_subject, own_town
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

STAYS = "stays-in-the-vault"
POLICY = {"issuer": {"name": "Self"}, "key_props": {"exportable": False, "kty": "RSA", "key_size": 2048}}
WAYS = ("vault", "federated", "identity")


@dataclass(frozen=True, slots=True)
class Place:
    town: OwnTown
    functions: Functions
    app: App

    async def sends(self, way: str) -> bool:
        subject = new_subject()
        answer = await self.functions.send(account=way, to=[CUSTOMER], subject=subject, text="Hello")
        return (await self.functions.settled(answer.json()["id"]))["status"] == "sent" and await self.town.copies(subject) == [1]

    def new_version(self) -> bytes:
        """In the vault, and nowhere else; its public part."""
        return self.town.services.vault_contents.create_certificate(STAYS, POLICY).certificate.public_bytes(Encoding.DER)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with own_town(tmp_path_factory.mktemp("signing-in")) as town:
        directory = town.services.directory
        identity = directory.app("mailroom-identity")
        identity.app_roles[GRAPH] = ["Mail.Send", "Mail.Read"]
        app = directory.register(App("no-secret", app_roles={GRAPH: ["Mail.Send", "Mail.Read"]}))
        directory.trust(app, identity)
        directory.mailboxes |= {f"{way}@contoso.example" for way in WAYS}
        made = town.services.vault_contents.create_certificate(STAYS, POLICY)
        directory.register_certificate(app.client_id, made.certificate.public_bytes(Encoding.DER))
        async with town.functions(more=accounts(directory.tenant, app)) as functions:
            yield Place(town, functions, app)


def accounts(tenant: str, app: App) -> str:
    who = f'grant = "client_credentials"\ntenant = "{tenant}"\nclient_id = "{app.client_id}"'
    profiles = {
        "vault": f'{who}\ncertificate = "{STAYS}"\nkey = "vault"\nregister_as = "{app.application_id}"',
        "federated": f'{who}\nfederated = "managed_identity"',
        "identity": 'grant = "managed_identity"',
    }
    return "".join(
        f'\n[auth.{way}]\n{profile}\n[accounts.{way}]\nprovider = "graph"\naddress = "{way}@contoso.example"\nauth = "{way}"\n'
        for way, profile in profiles.items()
    )


@pytest.mark.parametrize("way", WAYS)
async def test_a_mail_goes_out_without_a_secret(place: Place, way: str) -> None:
    """Through the running functions, with what the app's identity may do and nothing else."""
    assert await place.sends(way)


async def test_the_timer_registers_a_new_version(place: Place) -> None:
    """Made in the vault, it is registered with its application without anybody's doing and without a restart; mails go on meanwhile."""
    new = place.new_version()

    async def known() -> bool:
        assert await place.sends("vault")
        return any(one.public_bytes(Encoding.DER) == new for one in place.app.certificates)

    assert await until(known)
    place.app.certificates[:] = [one for one in place.app.certificates if one.public_bytes(Encoding.DER) == new]
    place.town.services.directory.revoke_all(place.app.client_id)  # so that another token is asked for
    assert await place.sends("vault")
