"""`python -m sandbox demo`: the main job from end to end, each step checked against what the sandbox itself knows."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx

from sandbox.accounts import Pace
from sandbox.directory import GRAPH, VAULT, SignIn
from sandbox.functions import functions, tail
from sandbox.host.queues import Queue
from sandbox.host.storage import Storage
from sandbox.pdf import pdf
from sandbox.services import CERTIFICATE, CUSTOMER, Services, services
from sandbox.transcript import Step, StepFailed, Transcript

LIFETIME = 45  # seconds that a token lives here, instead of about an hour
PACE = Pace(renew_ahead=15)
PATIENCE = 40.0
BATCH = 100
INVOICE = "Invoice 4711"
RECEIVED = "mail-received"


async def demo() -> int:
    transcript = Transcript()
    transcript.say("The main job, on this machine: Entra ID, Graph and Key Vault are played by the sandbox, storage is Azurite.\n")
    with tempfile.TemporaryDirectory(prefix="mailroom-demo-") as name:
        try:
            await _play(transcript, Path(name))
        except StepFailed as failed:
            transcript.say(f"\n{failed}")
            log = Path(name) / "functions.log"
            transcript.say(f"\nWhat the functions said last:\n{tail(log)}" if log.exists() else "")
            return 1
    transcript.say(f"\nAll of it worked, in {transcript.seconds:.0f} seconds. `make run` leaves the sandbox running for you to try.")
    return 0


async def _play(transcript: Transcript, folder: Path) -> None:
    async with services(folder, lifetime=LIFETIME, customers=[CUSTOMER]) as town, httpx.AsyncClient(verify=town.ca.context(), trust_env=False, timeout=30) as http:
        with transcript.step("the sandbox is up") as step:
            step.say(f"Entra ID {town.authority}, Graph {town.graph},")
            step.say(f"Key Vault {town.vault}, mailboxes {', '.join(town.mailboxes)}")
        with transcript.step("a certificate, made and registered") as step:
            await make_certificate(step, town, http)
        async with functions(town, folder, PACE) as url:
            show = Demo(town, http, url)
            for title, act in show.acts():
                with transcript.step(title) as step:
                    await act(step)
