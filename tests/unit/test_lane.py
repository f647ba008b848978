"""The pace of one mailbox."""

from hypothesis import given
from hypothesis import strategies as st

from mailroom.model.lane import DAY, HOUR, Lane, Permit

NOW = 1_000_000.0


def permit(name: str, weight: int = 1, until: float = NOW + 60) -> Permit:
    return Permit(name, weight, until)


def test_a_lane_says_why_it_makes_a_mail_wait() -> None:
    """Whoever is put off learns which of the lane's reasons it was."""
    permit, codes = Permit("p", 1, NOW + 60), []
    resting = Lane().pause(NOW + 30, "throttled").pause(NOW + 10, "vault_down")
    spent = Lane(hours=((int(NOW // 3600), 100),))
    for lane, a_day in ((resting, 0), (Lane(permits=(permit,) * 4), 0), (Lane(shared=NOW + 60), 0), (spent, 100)):
        until = lane.take(NOW, 30.0, 1, permit, single=False, recipients=1, a_day=a_day)
        assert isinstance(until, float)
        codes.append(lane.reason(NOW, until).code)
    assert codes == ["lane_paused", "lane_busy", "lane_busy", "lane_spent"]
    assert "throttled" in resting.reason(NOW, NOW + 30).detail


def test_four_requests_are_in_flight_at_most() -> None:
    """A fifth request to the same mailbox waits until one comes back."""
    lane = Lane()
    for name in "abcd":
        taken = lane.take(NOW, 6000, 0, permit(name), single=False)
        assert isinstance(taken, Lane)
        lane = taken
    assert isinstance(lane.take(NOW, 6000, 0, permit("e"), single=False), float)
    assert isinstance(lane.release("a").take(NOW, 6000, 0, permit("e"), single=False), Lane)


def test_a_dead_workers_permit_expires() -> None:
    """A permit counts only until its claim ends, so a killed worker does not block the mailbox for ever."""
    lane = Lane(permits=(permit("dead", 4, NOW - 1),))
    assert isinstance(lane.take(NOW, 30, 1, permit("next"), single=False), Lane)


def test_a_slice_of_twenty_moves_the_lane_by_forty_seconds() -> None:
    """At 30 mails a minute the next slice's slot is 40 seconds after one of 20 mails."""
    taken = Lane().take(NOW, 30, 20, permit("a", 4), single=False)
    assert isinstance(taken, Lane)
    assert taken.release("a").take(NOW, 30, 20, permit("b", 4), single=False) == NOW + 40


def test_singles_go_ahead_of_batches() -> None:
    """While batches fill the lane a single mail still finds a slot of its own share."""
    busy = Lane(shared=NOW + 40)
    assert isinstance(busy.take(NOW, 30, 1, permit("single"), single=True), Lane)
    assert busy.take(NOW, 30, 20, permit("batch", 4), single=False) == NOW + 40


def test_a_pause_holds_everything() -> None:
    """Retry-After moves the whole lane, singles too, and a shorter pause does not shorten a longer one."""
    lane = Lane().pause(NOW + 30).pause(NOW + 10)
    assert lane.take(NOW, 30, 1, permit("a"), single=True) == NOW + 30


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20), st.booleans()), max_size=200), st.floats(10, 600))
def test_the_rate_is_kept_whatever_comes(arrivals: list[tuple[float, int, bool]], rate: float) -> None:
    """Over any run the mails let through exceed the rate by no more than one slice, one single and five seconds' worth."""
    lane, now, sent = Lane(), NOW, 0
    for at, (pause, mails, single) in enumerate(arrivals):
        now += pause
        count = 1 if single else mails
        taken = lane.take(now, rate, count, permit(str(at)), single=single)
        if isinstance(taken, Lane):
            lane, sent = taken.release(str(at)), sent + count
    assert sent <= rate / 60 * (now - NOW + 5) + 20 + 2 + rate / 60 * 60 * 0.2


def day(lane: Lane, now: float, recipients: int, a_day: int = 100) -> Lane | float:
    taken = lane.take(now, 6e6, 1, permit(str(now), until=now + 1), single=False, recipients=recipients, a_day=a_day)
    return taken if isinstance(taken, float) else taken.release("none")


def test_a_days_recipients_fill_the_lane() -> None:
    """What is beyond them is told when the first of them are a day old, by the hour, and never earlier."""
    lane = day(Lane(), NOW, 60)
    assert isinstance(lane, Lane)
    lane = day(lane, NOW + 2 * HOUR, 40)
    assert isinstance(lane, Lane)
    room = day(lane, NOW + 3 * HOUR, 1)
    assert isinstance(room, float)
    assert NOW + DAY <= room <= NOW + DAY + HOUR
    later = day(lane, NOW + 3 * HOUR, 61)
    assert isinstance(later, float)
    assert NOW + 2 * HOUR + DAY <= later <= NOW + 3 * HOUR + DAY
    assert isinstance(day(lane, room, 60), Lane)
    assert day(lane, room, 61) == later


def test_what_is_more_than_a_day_takes_goes_alone() -> None:
    """A limit that was lowered after a slice was made does not hold it for ever."""
    assert isinstance(day(Lane(), NOW, 500), Lane)
    full = day(Lane(), NOW, 1)
    assert isinstance(full, Lane)
    assert isinstance(day(full, NOW + 1, 500), float)


def test_a_pause_counts_nothing() -> None:
    """Who may not go uses up neither day nor slot, and is told the later of two times."""
    lane = Lane(hours=((int(NOW // HOUR), 100),)).pause(NOW + 10)
    room = day(lane, NOW, 1)
    assert isinstance(room, float)
    assert room > NOW + DAY
    assert day(lane.pause(NOW + 9 * DAY), NOW, 1) == NOW + 9 * DAY


def test_to_whom_nothing_was_sent_is_not_counted() -> None:
    """The recipients of a mail that came back unsent are given back with the permit, once however often that is said."""
    taken = Lane().take(NOW, 6000, 5, permit("a"), single=False, recipients=50, a_day=100)
    assert isinstance(taken, Lane)
    back = taken.release("a", 30)
    assert back.hours == ((int(NOW // HOUR), 20),)
    assert back.release("a", 30) == back
    assert taken.release("a", 99).hours == ()


@given(st.lists(st.tuples(st.floats(0, 3 * HOUR), st.integers(1, 40), st.integers(0, 40)), max_size=120))
def test_no_24_hours_have_more_than_a_days_recipients(arrivals: list[tuple[float, int, int]]) -> None:
    """In whatever way they come, and some come back; and the lane stays small."""
    lane, now, sent = Lane(), NOW, []
    for at, (pause, recipients, back) in enumerate(arrivals):
        now += pause
        taken = lane.take(now, 6e6, 1, permit(str(at), until=now + 1), single=False, recipients=recipients, a_day=100)
        if isinstance(taken, Lane):
            back = min(back, recipients)
            lane = taken.release(str(at), back)
            sent.append((now, recipients - back))
        assert len(lane.hours) <= 26
    for since, _ in sent:
        assert sum(count for when, count in sent if since <= when < since + DAY) <= 100
