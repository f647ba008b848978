"""python-o365, with its pause of 200 ms between requests turned off and its token given to it."""

import time

from O365 import Account, MSGraphProtocol
from O365.utils.token import MemoryTokenBackend

from bench.senders.task import GRAPH, MAILBOX, SUBJECT, TEXT, TO, TOKEN, measure_blocking


class Fixed(MSGraphProtocol):
    _protocol_url = GRAPH.removesuffix("v1.0")


class Known(MemoryTokenBackend):
    """A token that is there and good, so that only sending is measured."""

    def get_access_token(self, *, username=None):  # type: ignore[no-untyped-def]
        return {"secret": TOKEN, "expires_on": str(int(time.time()) + 3600)}

    def token_is_expired(self, *, username=None):  # type: ignore[no-untyped-def]
        return False


account = Account(
    ("client", "secret"), protocol=Fixed(), auth_flow_type="credentials", tenant_id="t", token_backend=Known(), requests_delay=0
)
account.con.session = account.con.get_session(load_token=True)
account.con.session.headers["Authorization"] = f"Bearer {TOKEN}"
mailbox = account.mailbox(resource=MAILBOX)


def send() -> None:
    message = mailbox.new_message()
    message.to.add(TO)
    message.subject = SUBJECT
    message.body = TEXT
    assert message.send(save_to_sent_folder=True)


measure_blocking(send)
