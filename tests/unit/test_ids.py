"""The ids of a batch in eight bytes each: a set like any other, and small."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from send_mail.ids import Ids

names = st.lists(st.text(min_size=1, max_size=8), max_size=60)


@given(names, names)
def test_it_is_a_set(first: list[str], second: list[str]) -> None:
    """Whatever is added is in it, in this process and in the one that loads what this one has left, and nothing else is."""
    ids = Ids()
    for name in first:
        ids.add(name)
    left = Ids()
    left.load(ids.take_new())
    for name in second:
        left.add(name)
    assert len(left) == len({*first, *second})
    assert all(name in left for name in [*first, *second])
    assert not any(name in ids for name in {*second} - {*first})


def test_what_was_taken_is_not_taken_again() -> None:
    """Each portion leaves its own ids, so that all of them together are the batch's, once."""
    ids, left = Ids(), Ids()
    for portion in range(4):
        for number in range(500):
            ids.add(f"{portion}-{number}")
        ids.add("0-0")
        taken = ids.take_new()
        assert len(taken) == 8 * 500
        left.load(taken)
    assert ids.take_new() == b""
    assert len(left) == len(ids) == 2000


def test_a_hundred_thousand_take_less_than_three_megabytes() -> None:
    """As strings in a set they would take twelve; and it stays right while it grows."""
    ids = Ids()
    for number in range(100_000):
        assert str(number) not in ids
        ids.add(str(number))
    assert len(ids) == 100_000
    assert all(str(number) in ids for number in range(0, 100_000, 7))
    assert not any(f"x{number}" in ids for number in range(10_000))
    assert ids._slots.itemsize * len(ids._slots) < 3_000_000
