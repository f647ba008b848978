"""`mailroom certificate` as a process, with the sandbox's vault on the other side of the wire."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path

from tests.contract.sandbox_azure import Azure

ROOT = Path(__file__).parents[2]
STORE, KEY = "store-pass-1", "key-pass-1"


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str

    def fact(self, what: str) -> str:
        """What the line of that name says."""
        return next(line.strip().removeprefix(what).strip() for line in self.out.splitlines() if line.strip().startswith(f"{what} "))


@dataclass(frozen=True)
class Command:
    azure: Azure
    folder: Path

    async def __call__(self, *arguments: str | Path, **env: str) -> Ended:
        process = await asyncio.create_subprocess_exec(
            *self.line(*arguments), cwd=ROOT, env=self.env() | env, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        out, err = await process.communicate(b"")
        return Ended(process.returncode or 0, out.decode(), err.decode())

    def line(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "cli.main", "certificate", *map(str, arguments)]

    def password(self, value: str, name: str = "password.txt") -> Path:
        file = self.folder / name
        file.write_text(f"{value}\n")
        return file

    def env(self) -> dict[str, str]:
        return {
            **self.azure.env,
            "PYTHONUTF8": "1",
            "MAILROOM_ACCOUNTS": "accounts.example.toml",
            "MAILROOM_VAULT_URL": self.azure.vault,
            "AZURE_CLIENT_ID": self.azure.identity.client_id,
            "SSL_CERT_FILE": str(self.azure.office.ca.bundle),
        }
