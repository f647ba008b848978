"""The PDF that the demo attaches."""

from __future__ import annotations

import re

from sandbox.pdf import pdf


def test_the_file_is_whole() -> None:
    """Every object lies where the cross-reference table says, and the table where the trailer says."""
    file = pdf(r"Invoice (4711) \ 1,250.00")
    table = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", file)[1])  # type: ignore[index]
    assert file[table:].startswith(b"xref\n0 6\n")
    places = [int(place) for place in re.findall(rb"^(\d{10}) 00000 n $", file[table:], re.MULTILINE)]
    assert [file[place:].split(b"\n", 1)[0] for place in places] == [b"%d 0 obj" % number for number in range(1, 6)]
    assert rb"(Invoice \(4711\) \\ 1,250.00) Tj" in file
    length = int(re.search(rb"/Length (\d+)", file)[1])  # type: ignore[index]
    assert len(re.search(rb"stream\n(.*)\nendstream", file, re.DOTALL)[1]) == length  # type: ignore[index]
