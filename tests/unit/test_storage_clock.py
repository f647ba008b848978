"""Storage's clock as our monotonic one tells it: close to the truth, and led back when ours drifts."""

from email.utils import formatdate

from hypothesis import given
from hypothesis import strategies as st

from mailroom.storage.clock import StorageClock


class Machine:
    """A monotonic clock that may run fast or slow, beside the true time that storage knows."""

    def __init__(self, rate: float = 1.0, wall: float = 0.0) -> None:
        self.true, self.monotonic, self.rate, self.wall = 1_795_000_000.0, 50.0, rate, wall
        self.clock = StorageClock(lambda: self.monotonic, lambda: self.wall)

    def wait(self, seconds: float) -> None:
        self.true += seconds
        self.monotonic += seconds * self.rate

    def call(self, there: float = 0.01, back: float = 0.01) -> None:
        sent = self.monotonic
        self.wait(there)
        date = formatdate(int(self.true), usegmt=True)
        self.wait(back)
        self.clock.saw(date, sent, self.monotonic)


def test_before_any_answer_local_time_has_to_do() -> None:
    """There is nothing better; an answer without a Date changes nothing."""
    machine = Machine(wall=77.0)
    machine.clock.saw(None, 50.0, 51.0)
    assert machine.clock.now() == 77.0


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0.001, 0.5), st.floats(0.001, 0.5)), min_size=1, max_size=60))
def test_never_more_than_a_second_and_the_way_off(calls: list[tuple[float, float, float]]) -> None:
    """However late answers come, the error stays within the second that Date leaves open and one call's time."""
    machine = Machine()
    for pause, there, back in calls:
        machine.wait(pause)
        machine.call(there, back)
        assert -1.0 - back - 1e-6 <= machine.clock.now() - machine.true <= 1e-6 + 1.0


def test_many_answers_close_in() -> None:
    """Answers at different moments within the second leave little of it open."""
    machine = Machine()
    for _ in range(40):
        machine.wait(0.137)
        machine.call()
    assert -0.1 < machine.clock.now() - machine.true < 0.05


def test_a_fast_clock_is_led_back_and_a_slow_one_forth() -> None:
    """A monotonic clock that gains or loses a second an hour stays right over a day."""
    for rate in (1 + 1 / 3600, 1 - 1 / 3600):
        machine = Machine(rate)
        for _ in range(24 * 60):
            machine.wait(60.0)
            machine.call()
        assert abs(machine.clock.now() - machine.true) < 1.1


def test_time_goes_on_between_answers() -> None:
    """What the monotonic clock says has passed is added."""
    machine = Machine()
    machine.call()
    before = machine.clock.now()
    machine.wait(12.5)
    assert abs(machine.clock.now() - before - 12.5) < 1e-6
