"""What the demo prints."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from sandbox.demo import demo
from sandbox.transcript import StepFailed, Transcript


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_a_step() -> None:
    """A step is one line with its number, and what more it has to say is below, in the same column."""
    out = io.StringIO()
    transcript = Transcript(out)
    with transcript.step("one") as step:
        step.say("first")
        step.say("second")
    with transcript.step("two"):
        pass
    first, second, third = out.getvalue().splitlines()
    assert first.split() == ["1", "one", "first"]
    assert second.index("second") == first.index("first")
    assert third == " 2 two"


async def test_a_bar_on_a_terminal_only() -> None:
    """A terminal sees how far the wait is; a file sees the result alone."""
    for out, bars in ((Terminal(), True), (io.StringIO(), False)):
        seen = iter([(1.0, 4.0), (4.0, 4.0)])

        async def look(seen: object = seen) -> tuple[float, float]:
            return next(seen)  # type: ignore[call-overload]

        with Transcript(out).step("wait") as step:
            await step.wait(look, 5)
            step.say("done")
        assert (" 25%" in out.getvalue()) is bars
        assert out.getvalue().endswith("done\n")


async def test_a_wait_is_bounded() -> None:
    """A wait that is not fulfilled in time fails its step, and says what there was."""

    async def look() -> tuple[float, float]:
        return 3, 100

    with (
        pytest.raises(StepFailed, match=r"FAILED at step 1, a batch: after 0 s there was 3 of 100"),
        Transcript(io.StringIO()).step("a batch") as step,
    ):
        await step.wait(look, 0)


async def test_a_failed_step_is_named() -> None:
    """The demo names the step that failed, shows what the functions said last, and exits 1."""
    out = io.StringIO()

    async def play(transcript: Transcript, folder: Path) -> None:
        (folder / "functions.log").write_text("the last words\n")
        with transcript.step("a mail, sent over HTTP"):
            raise ConnectionError("nobody listens")

    assert await demo(Transcript(out), play) == 1
    assert "FAILED at step 1, a mail, sent over HTTP: nobody listens" in out.getvalue()
    assert "the last words" in out.getvalue()


async def test_all_well() -> None:
    """Where no step fails the demo says so and exits 0."""
    out = io.StringIO()

    async def play(transcript: Transcript, folder: Path) -> None:
        return None

    assert await demo(Transcript(out), play) == 0
    assert "All of it worked" in out.getvalue()
