"""`python -m sandbox demo`: the main job from end to end, each step checked against what the sandbox itself knows."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from sandbox.accounts import Pace
from sandbox.directory import VAULT
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
    async with AsyncExitStack() as running:
        with transcript.step("the sandbox is up") as step:
            town = await running.enter_async_context(services(folder, lifetime=LIFETIME, customers=[CUSTOMER]))
            http = await running.enter_async_context(httpx.AsyncClient(verify=town.ca.context(), trust_env=False, timeout=30))
            step.say(f"mailboxes {', '.join(town.mailboxes)}")
        show = Demo(town, http)
        with transcript.step("a certificate, made and registered") as step:
            await show.certificate(step)
        with transcript.step("the functions are up") as step:
            show.api = await running.enter_async_context(functions(town, folder, PACE))
            step.say(show.api)
        for title, act in show.acts.items():
            with transcript.step(title) as step:
                await act(step)


@dataclass(slots=True)
class Demo:
    town: Services
    http: httpx.AsyncClient
    api: str = ""

    @property
    def acts(self) -> dict[str, Callable[[Step], Awaitable[None]]]:
        return {
            "a token, fetched with it": self.token,
            "a mail, sent over HTTP": self.mail,
            f"a batch of {BATCH}, queued and sent": self.batch,
            "a reply, received": self.reply,
            "a token, renewed before it ends": self.renewal,
        }

    async def certificate(self, step: Step) -> None:
        """As an administrator would: the vault makes it, and its public part goes to the app registration."""
        where, head = f"{self.town.vault}/certificates/{CERTIFICATE}", await self._bearer("graph", f"{VAULT}/.default")
        policy = {"issuer": {"name": "Self"}, "x509_props": {"subject": "CN=mailroom"}, "key_props": {"kty": "RSA", "key_size": 2048}}
        answer = await self.http.post(f"{where}/create", params=VAULT_API, headers=head, json={"policy": policy})
        answer.raise_for_status()
        made = (await self._got(where, headers=head, params=VAULT_API)).json()
        self.town.register(base64.b64decode(made["cer"]))
        step.say(f"{CERTIFICATE}, RSA 2048, its key in the vault")
        step.say(f"thumbprint {base64.urlsafe_b64decode(made['x5t'] + '==').hex().upper()}")

    async def token(self, step: Step) -> None:
        await step.wait(lambda: _counted(len(self._sign_ins()), 1), PATIENCE)
        step.say(f"for Graph, with a signed assertion; valid for {LIFETIME} seconds")

    async def mail(self, step: Step) -> None:
        attachment = pdf(f"{INVOICE}: 1,250.00 EUR")
        mail = {
            "account": self.town.mailboxes[0],
            "to": [f"Ann <{CUSTOMER}>"],
            "subject": INVOICE,
            "text": "Dear Ann, your invoice is attached.",
            "html": "<p>Dear Ann,</p><p>your <b>invoice</b> is attached.</p>",
            "attachments": [{"name": "invoice.pdf", "type": "application/pdf", "content": base64.b64encode(attachment).decode()}],
        }
        answer = await self.http.post(f"{self.api}/messages", json=mail, headers=await self._caller())
        _expect(answer.status_code == 202 and answer.json()["status"] == "sent", f"{answer.status_code} {answer.text}")
        await self._sent_once(step, {INVOICE})
        [seen] = await self._inbox(CUSTOMER, INVOICE)
        [file] = seen["attachments"]
        _expect(base64.b64decode(file["contentBytes"]) == attachment, "the PDF did not arrive as it was sent")
        step.say(f"POST /api/messages: 202, sent; one copy in Sent Items of {self.town.mailboxes[0]},")
        step.say(f"and in {CUSTOMER}'s inbox, {file['name']} ({len(attachment)} bytes) unharmed")

    async def batch(self, step: Step) -> None:
        subjects = [f"Statement {number} of {BATCH}" for number in range(1, BATCH + 1)]
        mails = [
            {"account": self.town.mailboxes[0], "to": [CUSTOMER], "subject": subject, "text": "Your statement."} for subject in subjects
        ]
        answer = await self.http.post(f"{self.api}/batches", json=mails, headers=await self._caller())
        _expect(answer.status_code == 202, f"{answer.status_code} {answer.text}")
        where = answer.headers["Location"].removeprefix("/api")
        counts: dict[str, int] = {}

        async def look() -> tuple[float, float]:
            counts.update((await self._got(f"{self.api}{where}", headers=await self._caller())).json()["counts"])
            return await _counted(counts["sent"], BATCH)

        await step.wait(look, PATIENCE)
        await self._sent_once(step, set(subjects))
        step.say(f"POST /api/batches: 202, {BATCH} pending; now {counts['sent']} sent, each of them once")

    async def reply(self, step: Step) -> None:
        [invoice] = await self._inbox(CUSTOMER, INVOICE)
        await self._send_as_customer(invoice["internetMessageId"])
        storage = Storage(self.town.storage, self.http)
        event: dict[str, Any] = {}

        async def look() -> tuple[float, float]:
            for message in await Queue(storage, RECEIVED).get(1, PATIENCE):
                event.update(json.loads(base64.b64decode(message.text)))
            return await _counted(len(event) > 0, 1)

        await step.wait(look, PATIENCE)
        data = event["data"]
        _expect((data["from"], data["subject"]) == (CUSTOMER, f"Re: {INVOICE}"), f"the event tells of another mail: {data}")
        eml = (await storage.call("blob", "GET", f"{CONTAINER}/{data['eml']}")).content
        mail = (await storage.call("blob", "GET", f"{CONTAINER}/{data['json']}")).json()
        _expect(THANKS.encode() in eml and THANKS in mail["text"], "the stored mail is not what was sent")
        step.say(f"an event on queue {RECEIVED}: {data['from']}, {data['subject']!r}")
        step.say(f"{CONTAINER}/{data['eml'].rpartition('/')[0]}/ has it as .eml ({len(eml)} bytes) and as JSON")

    async def renewal(self, step: Step) -> None:
        first, before = self._sign_ins()[0], len(self._sign_ins())
        if before > 1:
            first, before = self._sign_ins()[-1], before

        async def look() -> tuple[float, float]:
            return await _counted(len(self._sign_ins()), before + 1)

        await step.wait(look, LIFETIME)
