"""`mailroom batch` and `mailroom outbox` as a person runs them, through the functions of the town and on its storage."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.journey.conftest import ROOT, Town
from tests.journey.test_smtp import REPORTS

pytestmark = pytest.mark.slow

ACCOUNTS = """
cloud = "sandbox"
[clouds.sandbox]
authority = "{authority}"
graph = "{graph}"
graph_scope = "https://graph.microsoft.com/.default"
vault_resource = "https://vault.azure.net"
storage_resource = "https://storage.azure.com"
[auth.sandbox]
grant = "client_credentials"
tenant = "{tenant}"
client_id = "{client_id}"
certificate = "mailroom-graph"
[accounts."{billing}"]
provider = "graph"
address = "{billing}"
auth = "sandbox"
[callers.caller]
client_id = "{caller}"
accounts = ["*"]
operations = ["send"]
[api]
tenant = "{tenant}"
audience = ["{audience}"]
"""

Command = list[str]


@pytest.fixture
def env(town: Town, tmp_path: Path) -> dict[str, str]:
    """What a caller's machine knows; nothing of this one's own Azure is left in it."""
    accounts = tmp_path / "accounts.toml"
    caller = town.apps["caller"]
    told = {**town.told, "billing": town.billing, "client_id": town.apps["graph"]["client_id"], "caller": caller["client_id"]}
    accounts.write_text(ACCOUNTS.format(**told, audience=town.told["scope"].removesuffix("/.default")), "utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE", "IDENTITY", "MAILROOM", "MSI"))}
    return kept | {
        "MAILROOM_ACCOUNTS": str(accounts),
        "MAILROOM_URL": town.told["functions"],
        "MAILROOM_CLIENT_ID": caller["client_id"],
        "MAILROOM_CLIENT_SECRET": caller["secret"],
        "AzureWebJobsStorage": town.told["storage"],
        "SSL_CERT_FILE": town.told["ca"],
        "NO_PROXY": "*",
        "PYTHONUTF8": "1",
        "COLUMNS": "100",
    }


def mailroom(env: dict[str, str], *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    command = [sys.executable, "-m", "cli.main", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, input=stdin, capture_output=True, check=False, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def sign() -> str:
    return f"B{uuid.uuid4().hex[:12]}"


def ndjson(town: Town, subject: str, count: int, *more: object) -> bytes:
    return "\n".join(json.dumps(one) for one in [town.mail(subject=subject)] * count + list(more)).encode()


def total(town: Town, subject: str) -> tuple[int, int]:
    """How many mails, and the copies of all of them."""
    rows = town.sent(subject)
    return len(rows), sum(row["copies"] for row in rows)


def test_a_file_is_sent_once_however_often_the_command_runs(town: Town, env: dict[str, str], tmp_path: Path) -> None:
    """Watched to its end in plain lines; the same command again is the same batch; with --again it is another."""
    subject, file = sign(), tmp_path / "mails.ndjson"
    file.write_bytes(ndjson(town, subject, 30))
    code, said, complained = mailroom(env, "batch", str(file), "--watch")
    assert (code, complained) == (0, "")
    first, *rest = said.splitlines()
    assert first.endswith("30 mails accepted")
    assert rest[-1] == "done: 30 sent"
    assert "\x1b" not in said
    assert total(town, subject)[1] == 30
    code, again, _ = mailroom(env, "batch", str(file))
    assert again.split()[1] == first.split()[1]
    assert total(town, subject)[1] == 30
    code, said, _ = mailroom(env, "batch", str(file), "--again", "--watch")
    assert said.split()[1] != first.split()[1]
    assert total(town, subject)[1] == 60


def test_a_bad_line_is_named_and_nothing_goes(town: Town, env: dict[str, str], tmp_path: Path) -> None:
    """One line on stderr, status 1; with --partial the others go, and the bad one is listed with what to do."""
    subject, file = sign(), tmp_path / "mails.ndjson"
    file.write_bytes(ndjson(town, subject, 2, town.mail(subject=subject, to=["ann"])))
    code, said, complained = mailroom(env, "batch", str(file))
    assert (code, said, complained.count("\n")) == (1, "", 1)
    assert complained.startswith("mailroom: address_without_domain: line 3: to[0]")
    code, said, _ = mailroom(env, "batch", "-", "--partial", "--watch", stdin=file.read_bytes())
    assert code == 1
    assert "2 mails accepted, 1 refused" in said
    assert "done: 2 sent, 1 refused" in said
    assert "  line 3: to[0]: 'ann' has no domain." in said.replace("address_without_domain: ", "")
    assert "→ Write the whole address" in said
    assert total(town, subject)[1] == 2


def test_a_template_is_rehearsed_then_sent(town: Town, env: dict[str, str], tmp_path: Path) -> None:
    """Recipients from a CSV of a spreadsheet, byte order mark and semicolons included; --dry-run shows the mails and sends none."""
    subject, people, template = sign(), tmp_path / "people.csv", tmp_path / "invoice.json"
    people.write_bytes("\ufeffname;email\r\nÄnn;ann@example.com\r\nBen;ben@example.com\r\n".encode())
    template.write_text(json.dumps({"to": ["{{ email }}"], "subject": subject, "text": "Dear {{ name }}"}), "utf-8")
    asked = ["batch", str(people), "--template", str(template), "--account", town.billing]
    code, said, complained = mailroom(env, *asked, "--dry-run")
    assert (code, complained) == (0, "")
    assert said.startswith("2 mails would go; that takes ")
    assert "text: Dear Änn" in said
    assert town.sent(subject) == []
    code, said, complained = mailroom(env, *asked, "--watch")
    assert (code, complained, said.splitlines()[-1]) == (0, "", "done: 2 sent")
    assert total(town, subject)[1] == 2


def test_a_file_too_large_for_a_request_is_uploaded(town: Town, env: dict[str, str], tmp_path: Path) -> None:
    """Read in the background and sent, each mail once; the same file again is told to have been accepted before."""
    subject, file = sign(), tmp_path / "mails.json"
    file.write_text(json.dumps([town.mail(subject=subject, text="x" * 100_000)] * 160), "utf-8")
    code, said, complained = mailroom(env, "batch", str(file), "--watch")
    assert (code, complained) == (0, "")
    assert "160 mails accepted" in said
    assert said.splitlines()[-1] == "done: 160 sent"
    assert total(town, subject)[1] == 160
    code, _, complained = mailroom(env, "batch", str(file))
    assert code == 1
    assert complained.startswith("mailroom: idempotency_key_reused: This file was accepted")
    assert total(town, subject)[1] == 160


def terminal(env: dict[str, str], arguments: Command, until: Callable[[str], bool], end: int | None = None) -> tuple[int, str]:
    """The command on a terminal of its own: its status and all that was drawn; `end` is a signal to send once `until` is so."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cli.main", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that were started in the background ignore it, as would their children
    with subprocess.Popen(command, cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        drawn, late = "", time.monotonic() + 60
        try:
            while part := os.read(ours, 4096).decode("utf-8", "replace"):
                drawn += part
                if end is not None and until(drawn):
                    process.send_signal(end)
                    end = None
                assert time.monotonic() < late, drawn
        except OSError:  # what Linux says where the other end is closed
            pass
        os.close(ours)
    return process.returncode, drawn


def test_on_a_terminal_there_is_a_bar(town: Town, env: dict[str, str], tmp_path: Path) -> None:
    """It is drawn over itself and gone at the end."""
    subject, file = sign(), tmp_path / "mails.ndjson"
    file.write_bytes(ndjson(town, subject, 60))
    code, drawn = terminal(env, ["batch", str(file), "--watch"], lambda drawn: False)
    assert code == 0, drawn
    assert "\r\x1b[2K[" in drawn
    assert "##] 100%  60 sent" in drawn
    assert drawn.endswith("\r\x1b[2Kdone: 60 sent\r\n")


def test_who_stops_watching_stops_nothing(town: Town, env: dict[str, str], tmp_path: Path) -> None:
    """Ctrl-C ends the watching with a line that says how to go on; --follow shows the same batch's end."""
    subject, file = sign(), tmp_path / "mails.ndjson"
    file.write_bytes(ndjson(town, subject, 20))
    town.fault(service="graph", path="sendMail", answer="503", retry_after=1)
    code, drawn = terminal(env, ["batch", str(file), "--watch"], lambda drawn: "[" in drawn.partition("\x1b[2K")[2], signal.SIGINT)
    town.heal()
    assert code == 130
    assert "the batch goes on" in drawn
    name = drawn.split()[1].rstrip(":")
    code, said, complained = mailroom(env, "batch", "--follow", name)
    assert (code, complained, said.splitlines()[-1]) == (0, "", "done: 20 sent")
    assert total(town, subject)[1] == 20


def test_a_batch_is_cancelled_from_a_terminal(town: Town, env: dict[str, str], tmp_path: Path) -> None:
    """One for next month: nothing of it goes; said twice it is the same."""
    subject, file = sign(), tmp_path / "mails.ndjson"
    file.write_bytes(ndjson(town, subject, 3))
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 30 * 86400 - 600))
    name = mailroom(env, "batch", str(file), "--send-at", later)[1].split()[1].rstrip(":")
    for _ in range(2):
        assert mailroom(env, "batch", "--cancel", name) == (0, f"batch {name}: cancelled; 3 cancelled\n", "")
    code, said, _ = mailroom(env, "batch", "--follow", name)
    assert (code, said.splitlines()[-1]) == (1, "done: 3 cancelled")
    assert town.sent(subject) == []


def test_refused_mails_are_listed_and_retried_from_a_terminal(town: Town, env: dict[str, str], tmp_path: Path) -> None:
    """Line by line, or for a spreadsheet; once the server knows the recipient, that mail goes, and the other not again."""
    subject, file = sign(), tmp_path / "mails.ndjson"
    file.write_bytes(b"\n".join(json.dumps(town.mail(account=REPORTS, subject=subject, to=[to])).encode() for to in ("a@x.se", "=b@x.se")))
    town.fault(service="smtp", path="rcpt to:<=b@", answer="550 5.1.1 User unknown")
    code, said, _ = mailroom(env, "batch", str(file), "--watch")
    name = said.split()[1].rstrip(":")
    assert (code, "done: 1 sent, 1 refused" in said) == (1, True), said
    code, listed, complained = mailroom(env, "batch", "--failures", name)
    assert (code, complained) == (0, "")
    assert [(row["line"], row["status"]) for row in map(json.loads, listed.splitlines())] == [(2, "refused")]
    rows = list(csv.DictReader(io.StringIO(mailroom(env, "batch", "--failures", name, "--csv")[1].removeprefix("\ufeff"))))
    assert [(row["line"], row["code"]) for row in rows] == [("2", "recipient_refused")]
    town.heal()
    code, said, complained = mailroom(env, "batch", "--retry", name, "--watch")
    assert (code, complained) == (0, "")
    assert said.startswith(f"batch {name}: 1 mails are tried once more; ")
    assert said.splitlines()[-1] == "done: 2 sent"
    assert mailroom(env, "batch", "--failures", name) == (0, "", "")
    assert total(town, subject)[1] == 2


MISSING = [
    ({"MAILROOM_URL": ""}, "MAILROOM_URL: not set"),
    ({"MAILROOM_URL": "http://example.com/api"}, 'MAILROOM_URL: found "http://example.com/api"'),
    ({"MAILROOM_CLIENT_SECRET": ""}, "MAILROOM_CLIENT_SECRET: not set"),
    ({"MAILROOM_CLIENT_SECRET": "wrong"}, "sign_in_refused: AADSTS7000215"),
    ({"MAILROOM_URL": "http://127.0.0.1:9/api"}, "functions_unreachable: 127.0.0.1:9 did not answer"),
]


@pytest.mark.parametrize(("changed", "said"), MISSING, ids=[said.partition(":")[0] + str(at) for at, (_, said) in enumerate(MISSING)])
def test_what_is_missing_is_said(env: dict[str, str], tmp_path: Path, changed: dict[str, str], said: str) -> None:
    """Status 1, what to set or to check, and no secret."""
    (tmp_path / "m.ndjson").write_text("{}")
    code, out, complained = mailroom(env | changed, "batch", str(tmp_path / "m.ndjson"))
    assert code == 1
    assert said in out + complained
    assert env["MAILROOM_CLIENT_SECRET"] not in out + complained
    assert complained.count("\n") <= 1


def test_the_poison_queue_is_worked_off_from_a_terminal(town: Town, env: dict[str, str], tmp_path: Path) -> None:
    """Listed with its reason, put back corrected and sent; another is dropped, which needs --yes."""
    import base64

    import azure.storage.queue as azure

    subject = sign()
    wrong = town.mail(subject=subject, to=["ann"], id=subject)
    with azure.QueueClient.from_connection_string(
        town.told["storage"], "mail-outbox", message_encode_policy=azure.TextBase64EncodePolicy()
    ) as queue:
        queue.send_message(json.dumps(wrong))
        queue.send_message(f"Dear {subject}")
        queue.send_message(base64.b64encode(b"x").decode())

    def listed() -> list[str]:
        lines = mailroom(env, "outbox", "list")[1].splitlines()
        found = [above for above, line in pairwise(lines) if subject in line]
        return found if len(found) == 2 else []

    bad = {line.split()[1].rstrip(":"): line.split()[0] for line in town.until(listed)}
    assert set(bad) == {"address_without_domain", "not_json"}
    right = tmp_path / "right.json"
    right.write_text(json.dumps(wrong | {"to": ["ann@example.com"]}), "utf-8")
    code, _, complained = mailroom(env, "outbox", "requeue", bad["address_without_domain"], "--with", str(right))
    assert (code, complained) == (0, ""), complained
    town.until(lambda: town.sent(subject))
    assert total(town, subject) == (1, 1)
    assert mailroom(env, "outbox", "drop", bad["not_json"])[0] == 2
    assert "status_wrong" in mailroom(env, "outbox", "drop", subject, "--yes")[2]
    assert "status          sent" in mailroom(env, "outbox", "show", subject)[1]
