"""One bad line in the middle of very many: named, and nothing is sent."""

from __future__ import annotations

import pytest

from send_mail.portions import LINES
from tests.intake import IntakeRoom

pytestmark = pytest.mark.slow

LINES_ALL = 1_000_000


async def test_one_bad_line_among_a_million() -> None:
    """The half million before it were written in the meantime: they are all forgotten."""
    room = IntakeRoom(lines=LINES, seconds=60.0)
    lines = [b'{"account":"billing","to":["a@example.com"],"id":"%d"}\n' % number for number in range(LINES_ALL)]
    lines[LINES_ALL // 2] = b'{"account":"billing","to":["a@example.com"],"attachments":[{"name":"a","content":"%"}]}\n'
    found = await room.post(b"".join(lines))
    await room.taken_in()
    intake = await room.intakes.read(found.id)
    assert intake is not None
    assert intake.fault is not None
    assert (intake.fault.code, intake.fault.field) == ("base64_invalid", f"line {LINES_ALL // 2 + 1}: attachments[0].content")
    assert not [row for row in room.fake.tables["MailLedger"].values() if row.partition == "billing"]
    assert await room.ledger.batch(found.id) is None
    assert room.provider.calls == 0
