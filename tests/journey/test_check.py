"""`mailroom check` as a person runs it, against Entra ID, Key Vault and Graph of the sandbox."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.accounts import Pace, accounts_toml
from sandbox.directory import GRAPH, App
from sandbox.functions import ROOT, environment
from tests.journey.own_town import OwnTown, own_town

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

SUBJECT = "Mailroom check"
ROLES = ["Mail.Read", "Mail.ReadWrite", "Mail.Send"]
STRANGER = """
[accounts.stranger]
provider = "graph"
address = "nobody@contoso.example"
auth = "sandbox"
send = true
receive = true
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OwnTown]:
    async with own_town(tmp_path_factory.mktemp("check")) as town:
        (town.folder / "accounts.toml").write_text(accounts_toml(town.services, Pace()) + STRANGER)
        yield town


@pytest.fixture
def graph_app(town: OwnTown) -> App:
    """The application, with all its roles again."""
    app = town.services.directory.app("graph")
    app.app_roles[GRAPH] = list(ROLES)
    return app


async def check(town: OwnTown, *arguments: str) -> tuple[int, dict[str, tuple[str, str]], str]:
    """Exit status; of each line its mark and what to do about it, by its subject; all that was printed."""
    env = environment(town.services, town.folder / "accounts.toml")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.main", "check", *arguments, cwd=ROOT, env=env | {"PYTHONUTF8": "1"}, stdout=PIPE, stderr=PIPE
    )
    said, complained = await process.communicate()
    assert complained == b"", complained.decode()
    printed = said.decode()
    found: dict[str, tuple[str, str]] = {}
    for line in printed.splitlines():
        if line[:1] in "✓✗–" and line[1:2] == " ":
            last = line[2:14].strip()
            found[last] = line[0], ""
        elif line.startswith("  → "):
            found[last] = found[last][0], line[4:]
    return process.returncode or 0, found, printed


def marks(found: dict[str, tuple[str, str]]) -> str:
    """Of the lines that every account has."""
    return "".join(found[what][0] for what in ("settings", "certificate", "token", "asking", "inbox", "test mail"))


async def test_an_account_that_works(town: OwnTown, graph_app: App) -> None:
    """Every line passes, two test mails go and are found again, one by its property and one by its header; nothing printed is secret."""
    before = len(await town.copies(SUBJECT))
    status, found, printed = await check(town, town.billing, "--send-to", "ann@fabrikam.example")
    assert (status, marks(found)) == (0, "✓✓✓✓✓✓"), printed
    assert {mark for mark, _ in found.values()} == {"✓"}
    assert {"test found", "mime mail", "mime found"} < set(found)
    assert printed.splitlines()[-1] == "Nothing failed."
    assert "eyJ" not in printed
    assert "PRIVATE" not in printed
    assert len(await town.copies(SUBJECT)) == before + 2
    inbox = await town.graph("GET", f"/users/ann@fabrikam.example/mailFolders/inbox/messages?$filter=subject eq '{SUBJECT}'")
    assert len(inbox["value"]) == 2


async def test_without_an_address_no_mail_is_sent(town: OwnTown, graph_app: App) -> None:
    """What was not tried is said to be not tried, and is no failure."""
    before = len(await town.copies(SUBJECT))
    status, found, printed = await check(town, town.billing)
    assert (status, marks(found)) == (0, "✓✓✓✓✓–"), printed
    assert "--send-to" in printed
    assert len(await town.copies(SUBJECT)) == before


async def test_a_permission_to_send_that_was_revoked(town: OwnTown, graph_app: App) -> None:
    """Reading passes, sending fails and says whose permission is missing."""
    graph_app.app_roles[GRAPH].remove("Mail.Send")
    status, found, printed = await check(town, town.billing, "--send-to", "ann@fabrikam.example")
    assert (status, marks(found)) == (1, "✓✓✓✓✓✗"), printed
    assert "Grant the app Mail.Send for this mailbox" in found["test mail"][1]


async def test_no_permission_at_all(town: OwnTown, graph_app: App) -> None:
    """A token comes, but opens nothing: each line that fails says what to do."""
    graph_app.app_roles[GRAPH].clear()
    status, found, printed = await check(town, town.billing, "--send-to", "ann@fabrikam.example")
    assert (status, marks(found)) == (1, "✓✓✓✗✗✗"), printed
    for what, permission in {"asking": "Mail.Read", "inbox": "Mail.Read", "test mail": "Mail.Send"}.items():
        assert f"Grant the app {permission} for this mailbox" in found[what][1], printed


async def test_a_mailbox_that_is_not_there(town: OwnTown, graph_app: App) -> None:
    """The tenant has no such mailbox: the address in accounts.toml is what to look at."""
    status, found, printed = await check(town, "stranger", "--send-to", "ann@fabrikam.example")
    assert (status, marks(found)) == (1, "✓✓✓✗✗✗"), printed
    assert {found[what][1] for what in ("asking", "inbox", "test mail")} == {
        "Check the account's address: the tenant has no such mailbox."
    }, printed


async def test_an_app_that_is_disabled(town: OwnTown, graph_app: App) -> None:
    """Without a token nothing further is tried, and the token's line says what to do."""
    graph_app.disabled = True
    try:
        status, found, printed = await check(town, town.billing)
    finally:
        graph_app.disabled = False
    assert (status, marks(found)) == (1, "✓✓✗–––"), printed
    assert "disabled" in found["token"][1]
