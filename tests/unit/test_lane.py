"""The pace of one mailbox."""

from hypothesis import given
from hypothesis import strategies as st

from mailroom.model.lane import Lane, Permit

NOW = 1_000_000.0


def permit(name: str, weight: int = 1, until: float = NOW + 60) -> Permit:
    return Permit(name, weight, until)


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
