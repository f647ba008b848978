"""Where a password comes from: a file, an environment variable, or a person who types it. Never an argument, which others can see."""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from mailroom.errors import BadInput


@dataclass(frozen=True, slots=True)
class Password:
    """`what` is its name for a person, `option` the beginning of its options: `--password` of `--password-file` and `--password-env`."""

    what: str
    option: str
    file: Path | None = None
    variable: str | None = None

    @property
    def told(self) -> bool:
        return self.file is not None or self.variable is not None

    @property
    def can_ask(self) -> bool:
        return sys.stdin.isatty()

    def get(self) -> str:
        """Raises BadInput."""
        return self._told() if self.told else self._typed(f"{self.what}: ")

    def new(self) -> str:
        """For what is about to be locked with it: typed twice."""
        if self.told:
            password = self._told()
        elif (password := self._typed(f"New {self.what}: ")) != self._typed("Once more: "):
            raise BadInput("password_mistyped", "The two are not the same.", "Run the command again.")
        if not password:
            raise BadInput("password_empty", f"The {self.what} is empty.", "Choose one, or let --generate-password do it.")
        return password

    def _told(self) -> str:
        if self.file is None:
            found = os.environ.get(self.variable or "")
            if found is None:
                step = f"Set it, or use {self.option}-file."
                raise BadInput("password_missing", f"There is no environment variable {self.variable}.", step)
            return found
        try:
            text = self.file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            detail = f"{self.file} cannot be read for the {self.what} ({type(error).__name__})."
            raise BadInput("password_missing", detail, f"{self.option}-file names a text file with the password alone.") from error
        return text.removesuffix("\n").removesuffix("\r")

    def _typed(self, prompt: str) -> str:
        if not self.can_ask:
            step = f"Use {self.option}-file or {self.option}-env."
            raise BadInput("password_missing", f"The {self.what} is needed, and there is no terminal to ask at.", step)
        try:
            return getpass.getpass(prompt)
        except EOFError as error:
            raise BadInput("password_missing", f"The {self.what} was not typed.", "Run the command again.") from error
