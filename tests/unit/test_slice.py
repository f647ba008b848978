"""What the ledger remembers of mails, and how it may change."""

import msgspec

from mailroom.errors import DeliveryInDoubt, Refused
from mailroom.model.message import Receipt
from mailroom.model.slice import Mail, Ref, Slice

NOW = 1_000_000.0


def slice_of(*mails: Mail, claim: str = "", until: float = 0.0) -> Slice:
    return Slice(ref=Ref("billing", "b1"), caller="crm", mails=mails, created=NOW, claim=claim, claim_until=until)


def test_a_claim_takes_only_what_is_due() -> None:
    """Mails that wait for later and mails that ended are left alone by a claim."""
    claimed = slice_of(Mail("now"), Mail("later", due=NOW + 60), Mail("gone", status="sent")).claimed("n", NOW, NOW + 30)
    assert [mail.status for mail in claimed.mails] == ["sending", "pending", "sent"]
    assert [mail.attempt for mail in claimed.mails] == [1, 0, 0]


def test_what_was_sending_under_a_lapsed_claim_is_in_doubt() -> None:
    """Its doubt begins at the claim's end, and it may be asked for a grace later."""
    lapsed = slice_of(Mail("a", status="sending"), claim="n", until=NOW - 10).lapsed(NOW, 300)
    assert lapsed.mails[0].status == "in_doubt"
    assert lapsed.mails[0].doubt_since == NOW - 10
    assert lapsed.due == NOW + 290


def test_a_live_claim_is_not_touched() -> None:
    """While a claim lives its mails are being sent, and the slice's next ticket waits for its end."""
    live = slice_of(Mail("a", status="sending"), claim="n", until=NOW + 10)
    assert live.lapsed(NOW, 300) is live
    assert live.due == NOW + 10


def test_sent_never_goes_back() -> None:
    """Whoever settles later with less knowledge leaves a sent mail sent."""
    sent = Mail("a").sent(Receipt("sendMail"))
    doubt = Mail("a").doubtful(NOW, NOW + 300, DeliveryInDoubt("call_timeout", "No answer."))
    assert slice_of(sent, claim="n").settled({0: doubt}).mails[0].status == "sent"


def test_without_the_claim_only_what_was_sent_is_said() -> None:
    """Who lost the claim may not refuse or put off, but must not keep a sent mail to itself."""
    slice_ = slice_of(Mail("a", status="sending"), Mail("b", status="sending"), claim="other", until=NOW + 10)
    refused = Mail("b").ended("refused", Refused("bad", "Bad."))
    told = slice_.with_sent({0: Mail("a").sent(Receipt("sendMail")), 1: refused})
    assert [mail.status for mail in told.mails] == ["sent", "sending"]
    assert told.claim == "other"


def test_what_is_settled_is_no_longer_owed() -> None:
    """Held, refused, cancelled and sent mails owe nothing; in doubt and pending ones do."""
    done = slice_of(*(Mail(status, status=status) for status in ("sent", "refused", "held", "cancelled")))
    assert not done.owed
    assert all(slice_of(Mail(status, status=status)).owed for status in ("pending", "sending", "in_doubt"))


def test_a_row_of_twenty_mails_fits_a_table_property() -> None:
    """The mails of a full slice, each with its longest words, stay under the 64 KiB that a property may have."""
    why = Refused("a" * 60, "d" * 600, "n" * 600)
    mail = Mail("i" * 100, stamp="s" * 64, provider_id="p" * 200, request_id="r" * 40, path="sendMail").ended("refused", why)
    assert len(msgspec.json.encode([mail] * 20)) * 2 < 65536


def test_what_was_found_and_what_to_do_are_told_apart() -> None:
    """Detail and next step stand each for itself, are taken back together, and what is to be done is never cut short."""
    told = Mail("a").ended("refused", Refused("bad", "d" * 600, "Do this. " * 20))
    assert told.detail is not None
    assert (len(told.detail), told.detail[-1], told.next_step) == (220, "…", "Do this. " * 20)
    assert Mail("a").ended("held", Refused("bad", "Bad.")).next_step is None
    doubt = Mail("a").doubtful(NOW, NOW, DeliveryInDoubt("lost", "Lost.", "Look."))
    assert (doubt.doubtful(NOW, NOW).detail, doubt.doubtful(NOW, NOW).next_step) == ("Lost.", "Look.")
    for after in (doubt.pending(NOW), doubt.sent(Receipt("sendMail"))):
        assert (after.code, after.detail, after.next_step) == (None, None, None)
