"""Gmail's search, as far as programs use it to find one mail: support.google.com/mail/answer/7190.

Terms are all wanted, those in braces any of them: `rfc822msgid:ID`, `to:`, `cc:`, `bcc:`, `from:` with an address, `after:` and
`before:` with seconds since the epoch, `in:` with a label, `subject:` and plain words.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sandbox.google.errors import bad
from sandbox.google.mailbox import Mail

_TERM = re.compile(r"\{([^{}]*)\}|(\S+)")
Matches = Callable[[Mail], bool]


def matcher(query: str) -> Matches:
    terms = [_group(found[1]) if found[1] is not None else _term(found[2]) for found in _TERM.finditer(query)]
    return lambda mail: all(term(mail) for term in terms)


def _group(inside: str) -> Matches:
    terms = [_term(word) for word in inside.split()]
    return lambda mail: any(term(mail) for term in terms)


def _term(word: str) -> Matches:
    name, colon, value = word.partition(":")
    value = value.strip('"')
    if not colon:
        return lambda mail: word.lower() in mail.subject.lower()
    if name == "rfc822msgid":
        return lambda mail: mail.message_id.strip("<>") == value.strip("<>")
    if name in ("to", "cc", "bcc", "from"):
        return lambda mail: value.lower() in mail.people(name)
    if name in ("after", "before"):
        if not value.isdigit():
            raise bad(f"Invalid value for {name}: {value}")
        return lambda mail: (mail.date >= int(value) * 1000) is (name == "after")
    if name == "in":
        return lambda mail: value.upper() in mail.labels
    return lambda mail: value.lower() in mail.subject.lower()
