"""The test mails of `mailroom check`: each is sent, then found again by its stamp.

A search that has never found anything says nothing by finding nothing, and a mail that is wrongly not found would go twice.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from cli.house import House
from cli.line import Line, failed
from mailroom.errors import DeliveryInDoubt, MailroomError
from mailroom.model.account import Account
from mailroom.model.message import Address, Message, Outgoing, Receipt
from mailroom.model.token import Token

EVERY, LOOKS = 5.0, 24  # seconds, and how often: Exchange files the copy some time after its answer
WITHIN = f"{EVERY * LOOKS:.0f} seconds"


@dataclass(frozen=True, slots=True)
class Trial:
    house: House
    account: Account
    token: Token
    sleep: Callable[[float], Awaitable[None]]

    async def ask(self, mail: Outgoing) -> bool:
        """Whether it was sent, as far as whoever is asked can tell. Raises what is answered to the question."""
        asked, token = self.account, self.token
        if self.account.asked:
            asked = self.account.asked
            token = await self.house.credential(asked.profile).ask(self.house.scope(asked))
        [found] = await self.house.sender(asked).ask(asked, [mail], token)
        return found is not None

    async def mails(self, to: str) -> AsyncIterator[Line]:
        """One of each kind that is asked for in a way of its own."""
        account, kinds = self.account, {"test": stamped(self.account, to)}
        if account.traits.asks_headers and account.can_be_asked and account.ask_mime:
            kinds["mime"] = stamped(account, to, answers="<check@mailroom.invalid>")
        for kind, mail in kinds.items():
            yield (line := await self._send(kind, mail))
            if line.ok and account.can_be_asked:
                yield await self._find(kind, mail)

    async def _send(self, kind: str, mail: Outgoing) -> Line:
        what = f"{kind} mail"
        try:
            [answer] = await self.house.sender(self.account).send(self.account, [mail], self.token)
        except MailroomError as error:
            return failed(what, error)
        if not isinstance(answer, Receipt):
            return failed(what, answer)
        request = f", request id {answer.request_id}" if answer.request_id else ""
        return Line(True, what, f"taken for {mail.message.to[0].address}{request}")

    async def _find(self, kind: str, mail: Outgoing) -> Line:
        what = f"{kind} found"
        try:
            for _ in range(LOOKS):
                if await self._sees(mail):
                    return Line(True, what, f"the {kind} mail is among those that were sent, by its stamp")
                await self.sleep(EVERY)
        except MailroomError as error:
            return failed(what, error)
        return Line(False, what, f"the {kind} mail was taken, but not found by its stamp within {WITHIN}", self._unfound(kind))

    async def _sees(self, mail: Outgoing) -> bool:
        try:
            return await self.ask(mail)
        except DeliveryInDoubt:  # Exchange is still at work on it
            return False

    def _unfound(self, kind: str) -> str:
        instead = "say `ask_mime = false` for this account" if kind == "mime" else "take the permission to read from its `permissions`"
        instead = "leave its `ask_auth` out" if self.account.asked else instead
        return f"Check once more. If it stays so, {instead}, and `in_doubt` decides; else a mail whose answer is lost might go twice."


def stamped(account: Account, to: str, answers: str | None = None) -> Outgoing:
    """`answers` another mail: Graph takes it as MIME."""
    text = f"This mail was sent by `mailroom check {account.name}`. It works."
    message = Message(account=account.name, to=(Address(to),), subject="Mailroom check", text=text, in_reply_to=answers)
    return Outgoing(stamp=f"check.{secrets.token_hex(8)}", message=message, accepted=time.time(), in_header=account.asked is not None)
