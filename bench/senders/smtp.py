"""aiosmtplib over one connection without TLS, which costs it least; the mail is built each time, as for the others."""

import asyncio
from email.message import EmailMessage

import aiosmtplib

from bench.senders.task import MAILBOX, SUBJECT, TASK, TEXT, TO, measure


async def main() -> None:
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=TASK["smtp"], start_tls=False) as client:

        async def send() -> None:
            mail = EmailMessage()
            mail["From"], mail["To"], mail["Subject"] = MAILBOX, TO, SUBJECT
            mail.set_content(TEXT)
            await client.send_message(mail)

        await measure(send)


asyncio.run(main())
