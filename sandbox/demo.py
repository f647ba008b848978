"""`python -m sandbox demo`: the main job from end to end, each step checked against what the sandbox itself knows."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
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
from sandbox.transcript import Progress, Step, StepFailed, Transcript

LIFETIME = 45  # seconds that a token lives here, instead of about an hour
PACE = Pace(renew_ahead=15)
PATIENCE = 40.0
BATCH = 100
INVOICE = "Invoice 4711"
THANKS = "Thank you, paid today."
RECEIVED, CONTAINER = "mail-received", "mail-inbox"
VAULT_API = {"api-version": "7.4"}

Play = Callable[[Transcript, Path], Awaitable[None]]


async def demo(transcript: Transcript | None = None, play: Play | None = None) -> int:
    """0, or 1 when a step failed."""
    transcript = transcript or Transcript()
    transcript.say("The main job, on this machine: Entra ID, Graph and Key Vault are played by the sandbox, storage is Azurite.\n")
    with tempfile.TemporaryDirectory(prefix="mailroom-demo-") as name:
        try:
            await (play or main_job)(transcript, Path(name))
        except StepFailed as failed:
            transcript.say(f"\n{failed}")
            log = Path(name) / "functions.log"
            transcript.say(f"\nWhat the functions said last:\n{tail(log)}" if log.exists() else "")
            return 1
    transcript.say(f"\nAll of it worked, in {transcript.seconds:.0f} seconds. `make run` leaves the sandbox running for you to try.")
    return 0


async def main_job(transcript: Transcript, folder: Path) -> None:
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
        await self._sent_once({INVOICE})
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

        async def look() -> Progress:
            counts.update((await self._got(f"{self.api}{where}", headers=await self._caller())).json()["counts"])
            return await _counted(counts["sent"], BATCH)

        await step.wait(look, PATIENCE)
        await self._sent_once(set(subjects))
        step.say(f"POST /api/batches: 202, {BATCH} pending; now {counts['sent']} sent, each of them once")

    async def reply(self, step: Step) -> None:
        [invoice] = await self._inbox(CUSTOMER, INVOICE)
        await self._send_as_customer(invoice["internetMessageId"])
        storage = Storage(self.town.storage, self.http)
        event: dict[str, Any] = {}

        async def look() -> Progress:
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
        """Who asks for a token only has a new one in the last sixth of its life, so an earlier renewal is the timer's."""
        first = self._sign_ins()[0]

        async def look() -> Progress:
            lived = (self.town.directory.now() - first.at) / LIFETIME
            return (1, 1) if len(self._sign_ins()) > 1 else (min(lived, 0.99), 1)

        await step.wait(look, LIFETIME)
        left = first.ends - self._sign_ins()[1].at
        _expect(left > LIFETIME / 6, f"the new token came only {left:.0f} seconds before the old one ended")
        step.say(f"by the timer, {left:.0f} seconds ahead")

    def _sign_ins(self) -> list[SignIn]:
        """With the certificate, for Graph."""
        return [one for one in self.town.directory.sign_ins if one.certificate and one.resource == GRAPH]

    async def _sent_once(self, subjects: set[str]) -> None:
        """By what the sandbox itself knows."""
        rows = [row for row in (await self._got(f"{self.town.control}/sent")).json() if row["subject"] in subjects]
        copies = {row["subject"]: row["copies"] for row in rows}
        _expect(set(copies) == subjects, f"{len(subjects - set(copies))} of {len(subjects)} were never sent")
        _expect(set(copies.values()) == {1}, f"sent more than once: {[subject for subject, count in copies.items() if count > 1]}")

    async def _inbox(self, mailbox: str, subject: str) -> list[dict[str, Any]]:
        query = {"$filter": f"subject eq '{subject}'", "$expand": "attachments"}
        where = f"{self.town.graph}/users/{mailbox}/mailFolders/inbox/messages"
        answer = await self._got(where, headers=await self._bearer("graph", f"{GRAPH}/.default"), params=query)
        found: list[dict[str, Any]] = answer.json()["value"]
        return found

    async def _send_as_customer(self, in_reply_to: str) -> None:
        reply = EmailMessage()
        reply["From"], reply["To"], reply["Subject"] = f"Ann <{CUSTOMER}>", self.town.mailboxes[0], f"Re: {INVOICE}"
        reply["In-Reply-To"] = reply["References"] = in_reply_to
        reply.set_content(f"{THANKS}\n")
        head = await self._bearer("graph", f"{GRAPH}/.default") | {"Content-Type": "text/plain"}
        body = base64.b64encode(reply.as_bytes())
        (await self.http.post(f"{self.town.graph}/users/{CUSTOMER}/sendMail", headers=head, content=body)).raise_for_status()

    async def _caller(self) -> dict[str, str]:
        return await self._bearer("caller", self.town.scope)

    async def _bearer(self, app_name: str, scope: str) -> dict[str, str]:
        """A new token each time, as they are short-lived here."""
        app = self.town.directory.app(app_name)
        form = {"grant_type": "client_credentials", "client_id": app.client_id, "client_secret": app.secret, "scope": scope}
        answer = await self.http.post(f"{self.town.authority}/{self.town.directory.tenant}/oauth2/v2.0/token", data=form)
        return {"Authorization": f"Bearer {answer.raise_for_status().json()['access_token']}"}

    async def _got(self, url: str, **how: Any) -> httpx.Response:
        return (await self.http.get(url, **how)).raise_for_status()


async def _counted(done: float, total: float) -> Progress:
    return done, total


def _expect(true: bool, otherwise: str) -> None:
    if not true:
        raise AssertionError(otherwise)
