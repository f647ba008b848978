"""Real servers for the whole run: Postfix and Dovecot, in front of the sandbox's tenant."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.ca import Ca
from sandbox.directory import OUTLOOK, Directory
from sandbox.town import town
from tests.contract import sandbox_town
from tests.servers import dovecot, postfix
from tests.servers.processes import Ports, missing, running

ANNA, BEN = "anna@mailroom.example", "ben@mailroom.example"
WANTED = "MAILROOM_TEST_SERVERS"  # `make test-servers` sets it: then what is missing is a failure, and no reason to skip


@dataclass(frozen=True, slots=True)
class Servers:
    """`client` is the certificate that the relay knows."""

    directory: Directory
    ca: Ca
    ports: Ports
    client: sandbox_town.Certificate

    def token(self, user: str = ANNA, audience: str = OUTLOOK, lifetime: int = 3599) -> str:
        """A person's, as the password grant gives it."""
        directory, resource = self.directory, self.directory.resource(audience)
        assert resource is not None
        directory.lifetime = lifetime
        permissions = {"SMTP.Send", "IMAP.AccessAsUser.All"}
        return directory.issue_delegated(directory.users[user], directory.app("desktop").client_id, resource, permissions, "0")


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    if why := missing():
        (pytest.fail if os.environ.get(WANTED) else pytest.skip)(why)
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as name, ExitStack() as started:
        folder, ports, directory, client = Path(name), Ports.free(), town((ANNA, BEN)), sandbox_town.certificate()
        folder.chmod(0o755)  # other users' processes live in it
        directory.authority = "https://login.example"
        ca = Ca.create(folder / "ca")
        keys = directory.keys.public(directory.issuer(1))
        command = dovecot.configured(folder, ports, ca, keys, directory.issuer(1), OUTLOOK)
        started.enter_context(running(command, folder / "dovecot.log", ports.imap, ports.lmtp, ports.proxy))
        command, stop = postfix.configured(folder, ports, ca, [ANNA, BEN], client.pem)
        started.enter_context(running(command, folder / "postfix.log", ports.submission, ports.relay, ports.inside, stop=stop))
        yield Servers(directory, ca, ports, client)
