"""Sends mails over SMTP: one connection for all mails of a call, one answer for each mail, and never the same content twice.

The call's deadline is kept here, mail by mail, so that a slow server leaves only the mail under way in doubt: what was answered before is
known, and what was not begun was not sent.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from mailroom.errors import DeliveryInDoubt, NotSent, ProviderError, Refused, Throttled, TokenRejected, TooLarge
from mailroom.model.account import AT_ONCE, Account
from mailroom.model.message import Message, Outgoing, Receipt
from mailroom.model.token import Token
from mailroom.ports import Store
from mailroom.providers import _smtp_letter
from mailroom.providers._smtp_connection import Connection, Failed, opened
from mailroom.providers._smtp_letter import Letter
from mailroom.providers._smtp_pool import Key, Loan, Pool
from mailroom.providers._smtp_uploads import SmtpUploads, raw_size

LARGEST = 150 * 1024 * 1024  # Exchange Online's most, as it goes over the wire
LARGE = 1024 * 1024  # from here on a mail is written in a thread
OWN_SHARE = 0.9  # of the call's time: the rest is for telling what became of it
LEAST = 0.1  # of the call's time, for a mail to be begun at all

Answer = Receipt | ProviderError


class SmtpSender(SmtpUploads):
    """ports.Sender. Who derives from it says where mails go, with whose certificate, and whether one signs in.

    `call` gives the seconds that one `send` may take, `store` has the files that were uploaded.
    """

    signs_in = True

    def __init__(
        self,
        call: Callable[[], float],
        tls: Callable[[Account], Awaitable[ssl.SSLContext]],
        store: Callable[[], Store],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        pool: Pool | None = None,
    ) -> None:
        self._call = call
        self._tls = tls
        self._store = store
        self._now = now
        self._monotonic = monotonic
        self._pool = pool or Pool()

    def check(self, message: Message) -> None:
        """What the mail's account takes less than this, its server says when it is sent."""
        size = raw_size(message)
        if size > LARGEST:
            raise TooLarge(
                "mail_too_large_for_path", f"The mail has at least {size} bytes; SMTP takes {LARGEST} here.", "Send a link instead."
            )

    async def send(
        self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE
    ) -> list[Receipt | ProviderError]:
        """One after the other, over one connection."""
        until = self._monotonic() + self._call() * OWN_SHARE
        letters = [await self._written(account, mail) for mail in mails]
        results: list[Answer] = []

        async def open_one() -> Connection:
            return await self._opened(account, token)

        key = Key(account.name, token.fingerprint if self.signs_in else "")
        try:
            async with asyncio.timeout(self._left(until)) as opening:
                async with self._pool.lent(key, account.traits.in_flight, open_one) as loan:
                    opening.reschedule(None)  # from here on each mail has a limit of its own, that knows whether it is in doubt
                    await self._all(loan, letters, until, results)
        except Failed as failed:
            results += [failed.error] * (len(mails) - len(results))
        except TimeoutError:
            results += [self._slow(account)] * (len(mails) - len(results))
        return results

    async def ask(self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE) -> list[Receipt | None]:
        raise NotSent("cannot_ask", "SMTP can't be asked what was sent.", "Look into the mailbox's Sent Items, then decide by hand.")

    def close(self) -> None:
        """Ends the connections that are kept."""
        self._pool.close()

    async def _all(self, loan: Loan, letters: Sequence[Letter | ProviderError], until: float, results: list[Answer]) -> None:
        """Until a server's answer says that the next mails would fare no better."""
        for letter in letters:
            if isinstance(letter, ProviderError):
                results.append(letter)
                continue
            answer, stops = await self._one(loan, letter, until)
            results.append(answer)
            if stops:
                results += [_likewise(answer)] * (len(letters) - len(results))
                return

    async def _one(self, loan: Loan, letter: Letter, until: float) -> tuple[Answer, bool]:
        if self._left(until) < self._call() * LEAST:
            return NotSent("too_late", "The mails before it used up the call's time.", retry_after=1.0), True
        try:
            async with asyncio.timeout(self._left(until)):
                return await self._tried(loan, letter), False
        except Failed as failed:
            return failed.error, failed.stops
        except TimeoutError:
            return self._timed_out(loan.connection), True

    async def _tried(self, loan: Loan, letter: Letter) -> Receipt:
        """Over a new connection where the kept one had ended: then nothing of this mail had been said."""
        connection = loan.connection if loan.connection.alive else await loan.again()
        try:
            return await connection.send(letter)
        except Failed as failed:
            if not failed.stale:
                raise
        return await (await loan.again()).send(letter)

    def _timed_out(self, connection: Connection) -> ProviderError:
        in_doubt = connection.in_doubt
        connection.close()
        if in_doubt:
            return DeliveryInDoubt("call_timeout", f"{connection.server} did not say in time whether it took the mail.")
        return NotSent("server_slow", f"{connection.server} did not answer in time; the mail's content was not sent.")

    def _slow(self, account: Account) -> NotSent:
        return NotSent("server_slow", f"{self.server(account)} did not answer in time.", "Check host, port and network.")

    async def _opened(self, account: Account, token: Token) -> Connection:
        connection = await opened(self.server(account), await self._tls(account), signs_in=self.signs_in)
        if not self.signs_in:
            return connection
        try:
            await connection.sign_in(account.address, token, dict(account.options).get("mechanism"))
        except BaseException:
            connection.close()
            raise
        return connection

    async def _written(self, account: Account, mail: Outgoing) -> Letter | ProviderError:
        if mail.message.uploads:
            return NotSent("not_prepared", "The mail's uploads were not read yet.", retry_after=1.0)
        most, found = self.server(account).recipients, len(mail.message.recipients)
        if found > most:
            return Refused("recipients_too_many", f"The mail has {found} recipients; this server takes {most}.", "Split them up.")
        if raw_size(mail.message) > LARGE:
            return await asyncio.to_thread(_smtp_letter.written, account, mail, self._now())
        return _smtp_letter.written(account, mail, self._now())

    def _left(self, until: float) -> float:
        return until - self._monotonic()


def _likewise(answer: Answer) -> ProviderError:
    """For the mails behind one that showed that the server takes none now: nothing of them was sent."""
    if isinstance(answer, TokenRejected):
        return answer
    if isinstance(answer, NotSent | Throttled):
        return NotSent(answer.code, answer.detail, answer.next_step, retry_after=answer.retry_after)
    return NotSent("not_tried", "The mail before it was left in doubt, so this one was not begun.", retry_after=1.0)
