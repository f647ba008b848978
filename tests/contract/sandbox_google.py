"""The sandbox's Google, served for one test or one module."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec

from mailroom.model.account import Account, Cloud, Profile
from mailroom.providers import gmail
from sandbox.ca import Ca
from sandbox.faults import Faults
from sandbox.google import Google, ServiceAccount, Workspace, create
from sandbox.serve import serve

ANNA, BEN = "anna@workspace.example", "ben@workspace.example"
ROBOT = "mailroom@project-1.iam.gserviceaccount.com"


@dataclass
class Office:
    """`robot` may act for Anna and Ben in the three scopes of Gmail that Mailroom knows."""

    google: Google
    faults: Faults
    http: httpx.AsyncClient
    robot: ServiceAccount = field(init=False)

    def __post_init__(self) -> None:
        self.robot = self.workspace.account(ROBOT)

    @property
    def workspace(self) -> Workspace:
        return self.google.workspace

    @property
    def cloud(self) -> Cloud:
        url = self.workspace.url
        places = dict.fromkeys(("gmail", "google_authority", "google_sts", "google_iam"), url)
        return Cloud("https://login.example", "https://graph.example/v1.0", "scope", "vault", "storage", **places)

    def profile(self, **changes: Any) -> Profile:
        return msgspec.structs.replace(Profile("google", "jwt_bearer", "", "", self.cloud, secret="robot", subject=ANNA), **changes)

    def account(self, address: str = ANNA, permissions: frozenset[str] = frozenset({"gmail.send", "gmail.readonly"})) -> Account:
        profile = self.profile(subject=address)
        return Account("billing", "gmail", address, profile, receive=True, permissions=permissions, traits=gmail.TRAITS)


@asynccontextmanager
async def office(folder: Path) -> AsyncIterator[Office]:
    workspace, faults, ca = Workspace({ANNA, BEN}), Faults(), Ca.create(folder)
    google = create(workspace, faults)
    served = await serve(google, ca)
    workspace.url = served.url
    try:
        async with httpx.AsyncClient(verify=ca.context(), timeout=5.0) as http:
            yield Office(google, faults, http)
    finally:
        faults.clear()
        await served.stop()


def fresh(office: Office) -> Office:
    """The same servers with nothing left of the test before."""
    office.faults.clear()
    office.workspace.now = time.time
    office.workspace.accounts.clear()
    office.workspace.sign_ins.clear()
    office.robot = office.workspace.account(ROBOT)
    return office
