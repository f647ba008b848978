"""`python -m sandbox up`: the whole sandbox until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sandbox.accounts import Pace
from sandbox.functions import functions
from sandbox.services import Services, services


@asynccontextmanager
async def sandbox(*, lease: float | None = None, log: Path | None = None) -> AsyncIterator[tuple[Services, str, Path]]:
    """The services, the URL of the functions and the file of their log, all gone afterwards (but for a `log` of one's own)."""
    with tempfile.TemporaryDirectory(prefix="mailroom-sandbox-") as name:
        folder = Path(name)
        if log is not None:
            (folder / "functions.log").symlink_to(log)
        async with services(folder) as town:
            town.make_certificate()
            async with functions(town, folder, Pace(), lease=lease) as url:
                yield town, url, log or folder / "functions.log"
                town.faults.clear()  # what hangs on them would hold the functions up


async def up(*, as_json: bool, lease: float | None, log: Path | None) -> None:
    """Until it is cancelled."""
    async with sandbox(lease=lease, log=log) as (town, url, at):
        told = addresses(town, url)
        print(json.dumps(told) if as_json else summary(told, at), flush=True)
        await asyncio.Event().wait()


def addresses(town: Services, url: str) -> dict[str, Any]:
    apps = [town.directory.app(name) for name in ("graph", "caller")]
    return {
        "ca": str(town.ca.bundle),
        "authority": town.authority,
        "tenant": town.directory.tenant,
        "apps": [{"name": app.name, "client_id": app.client_id, "secret": app.secret} for app in apps],
        "scope": town.scope,
        "graph": town.graph,
        "smtp": town.smtp,
        "vault": town.vault,
        "storage": town.storage,
        "functions": url,
        "control": town.control,
        "mailboxes": list(town.mailboxes),
    }


def summary(told: dict[str, Any], log: Path) -> str:
    caller = told["apps"][1]
    mail = json.dumps({"account": told["mailboxes"][0], "to": ["Ann <ann@example.com>"], "subject": "Hello", "text": "Hello Ann"})
    return f"""\
The sandbox is up. Ctrl-C ends it.

  functions   {told["functions"]}
  mailboxes   {told["control"]}   (a page: {", ".join(told["mailboxes"])})
  Entra ID    {told["authority"]}/{told["tenant"]}
  Graph       {told["graph"]}
  SMTP        {told["smtp"]}   (the account reports@contoso.example)
  Key Vault   {told["vault"]}
  trust       {told["ca"]}
  log         {log}

Get a token and send a mail:

  TOKEN=$(curl -s --cacert {told["ca"]} {told["authority"]}/{told["tenant"]}/oauth2/v2.0/token \\
    -d grant_type=client_credentials -d client_id={caller["client_id"]} -d client_secret={caller["secret"]} \\
    -d scope={told["scope"]} | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')

  curl -i {told["functions"]}/messages -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
    -d '{mail}'

  curl {told["functions"]}/health
"""
