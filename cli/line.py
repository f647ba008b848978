"""A step of `mailroom check` or `mailroom login`, as it is printed."""

from __future__ import annotations

from dataclasses import dataclass

from mailroom.errors import MailroomError

MARKS = {True: "✓", False: "✗", None: "–"}
READ = "Does the application have Mail.Read for this mailbox? See step 2 of docs/deploy.md; a new grant takes up to 2 hours."
SEND = READ.replace("Mail.Read", "Mail.Send")
# what to do where the error itself does not say
TODO = {
    "secret": "See step 5 of docs/deploy.md; MAILROOM_VAULT_URL says which vault.",
    "certificate": "See step 5 of docs/deploy.md; MAILROOM_VAULT_URL says which vault.",
    "token": "See steps 1 and 5 of docs/deploy.md.",
    "asking": READ,
    "inbox": READ,
    "large mail": "Does the application have Mail.ReadWrite for this mailbox? See docs/permissions.md; a new grant takes up to 2 hours.",
    "test mail": SEND,
    "mime mail": SEND,
    "test found": READ,
    "mime found": READ,
}


@dataclass(frozen=True, slots=True)
class Line:
    """`ok` is None for what was not checked. `todo` is what to do about it."""

    ok: bool | None
    what: str
    said: str
    todo: str = ""

    def __str__(self) -> str:
        first = f"{MARKS[self.ok]} {self.what:<11} {self.said}"
        return f"{first}\n  → {self.todo}" if self.todo else first


def failed(what: str, error: MailroomError) -> Line:
    return Line(False, what, f"{error.detail} ({error.code})", error.next_step or TODO[what])
