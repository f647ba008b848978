"""Headers as strangers write them: what RFC 5322, 2047 and 2231 ask for, and what is sent instead.

Values come from the email package with bytes above 127 as lone surrogates. Nothing here raises, whatever the text.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import groupby
from urllib.parse import unquote_to_bytes

from mailroom.model.message import Address

_WORD = r"=\?([^?\s]*)\?([bBqQ])\?([^?]*)\?="
_ENCODED_WORD = re.compile(_WORD)
_BETWEEN_WORDS = re.compile(rf"({_WORD})[ \t\r\n]+(?={_WORD})")
_FOLDING = re.compile(r"[\r\n]+[ \t]*")
_SPACE = re.compile(r"\s+")
_TOKEN = re.compile(
    rf"""
    (?P<word>   {_WORD.replace("(", "(?:")} )
  | (?P<quoted> " (?: \\. | [^"\\] )* "? )
  | (?P<angle>  < [^<>]* >? )
  | (?P<mark>   [,;:()\\] )
  | (?P<plain>  [^"<,;:()\\=]+ | . )
    """,
    re.DOTALL | re.VERBOSE,
)
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:\\.|[^"\\])*"?|[^;]*)', re.DOTALL)
_SECTION = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?")
_COMMENT = re.compile(r"\([^()]*\)")
_ID = re.compile(r"<([^<>]*)>")

_ALIASES = {  # what browsers take these labels for (encoding.spec.whatwg.org), and readers of mail with them
    "ascii": "utf-8",
    "us-ascii": "utf-8",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "iso8859-1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "x-sjis": "cp932",
    "iso-8859-9": "cp1254",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-11": "cp874",
    "windows-874": "cp874",
    "big5": "big5hkscs",
    "x-mac-roman": "mac_roman",
    "macintosh": "mac_roman",
    "cp-850": "cp850",
    "unicode-1-1-utf-7": "utf-7",
}

_NO_CHARSETS = frozenset({"unicode-escape", "raw-unicode-escape", "idna", "punycode"})  # Python's, and no mail's


def decoded(raw: bytes, charset: str | None = None) -> str:
    """In the charset that it names if that fits, else in UTF-8 if that fits, else with the misfits replaced."""
    label = (charset or "ascii").strip("\"' ").lower().partition("*")[0]
    name = _ALIASES.get(label, label)
    misfit = "cp1252" if label.endswith("ascii") else name
    for charset_, errors in ((name, "strict"), ("utf-8", "strict"), (misfit, "replace")):
        try:
            if codecs.lookup(charset_).name not in _NO_CHARSETS:
                return _sound(raw.decode(charset_, errors))
        except (UnicodeError, LookupError, ValueError):
            continue
    return raw.decode("cp1252", "replace")


def plain(value: str) -> str:
    """The header on one line, its raw bytes read as UTF-8 or Windows-1252."""
    line = _FOLDING.sub(lambda fold: fold[0].lstrip("\r\n") or " ", value)
    return decoded(line.encode("utf-8", "surrogateescape")) if not line.isascii() else line


def text(value: str) -> str:
    """An unstructured header with its encoded words decoded; white space between two of them is none (RFC 2047, 6.2)."""
    joined = _BETWEEN_WORDS.sub(r"\1", plain(value))
    parts = []
    at = 0
    words = list(_ENCODED_WORD.finditer(joined))
    for charset, run in groupby(_runs(words), key=lambda pair: pair[0]):
        members = [word for _, word in run]
        parts += [joined[at : members[0].start()], decoded(b"".join(map(_word_bytes, members)), charset[1])]
        at = members[-1].end()
    return "".join([*parts, joined[at:]])


def addresses(value: str) -> tuple[Address, ...]:
    """Every mailbox named, groups flattened. A comment is the name where there is no other: `ann@example.com (Ann)`."""
    return tuple(found for tokens in _mailboxes(plain(value)) if (found := _mailbox(tokens)) is not None)


def date(value: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(_COMMENT.sub(" ", plain(value)))
        return (found.replace(tzinfo=UTC) if found.tzinfo is None else found).astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def ids(value: str) -> tuple[str, ...]:
    """Message-IDs without their angle brackets; what has none is split at white space."""
    line = plain(value)
    found = _ID.findall(line) or line.split()
    return tuple(one for one in (_SPACE.sub("", one) for one in found) if one)


def parameters(value: str) -> dict[str, str]:
    """What stands behind the first `;`: RFC 2231 with its sections, and the encoded words that some write there instead."""
    sections: dict[str, dict[int, tuple[str, bool]]] = {}
    for name, written in _PARAMETER.findall(plain(value)):
        match = _SECTION.fullmatch(name.lower())
        if match:
            content = _unquoted(written) if written.startswith('"') else written.strip()
            sections.setdefault(match[1], {}).setdefault(int(match[2] or 0), (content, match[3] is not None))
    return {name: _joined(parts) for name, parts in sections.items()}


def _runs(words: list[re.Match[str]]) -> Iterator[tuple[tuple[int, str], re.Match[str]]]:
    """Neighbours of one charset belong together, for writers split words in the midst of a character."""
    run, end, charset = 0, -1, ""
    for word in words:
        if word.start() != end or word[1].lower() != charset:
            run += 1
        end, charset = word.end(), word[1].lower()
        yield (run, charset), word


def _word_bytes(word: re.Match[str]) -> bytes:
    content = word[3].encode("utf-8", "surrogateescape")
    if word[2] in "qQ":
        return binascii.a2b_qp(content, header=True)
    return from_base64(content)


def from_base64(content: bytes) -> bytes:
    """Padded or not, and with whatever else stands in it (RFC 2045, 6.8)."""
    letters = re.sub(rb"[^A-Za-z0-9+/]", b"", content)
    return base64.b64decode(letters[: len(letters) - (len(letters) % 4 == 1)] + b"==")


def _mailboxes(line: str) -> Iterator[list[tuple[str, str]]]:
    """Tokens of one mailbox each, as (kind, content); comments keep their nested ones."""
    tokens: list[tuple[str, str]] = []
    comment: list[str] = []
    depth = 0
    for match in _TOKEN.finditer(line):
        kind, content = match.lastgroup or "plain", match[0]
        if content == "(":
            depth += 1
        elif content == ")" and depth:
            depth -= 1
            if not depth:
                tokens.append(("comment", "".join(comment)))
                comment = []
        elif depth:
            comment.append(content)
        elif content in (",", ";"):
            yield tokens
            tokens = []
        elif content == ":" and not any("@" in part for _, part in tokens):  # the name of a group
            tokens = []
        else:
            tokens.append((kind, content))
    yield [*tokens, ("comment", "".join(comment))] if comment else tokens


def _mailbox(tokens: list[tuple[str, str]]) -> Address | None:
    angles = [content.strip("<> \t") for kind, content in tokens if kind == "angle"]
    comments = " ".join(text(content).strip() for kind, content in tokens if kind == "comment")
    words = [(kind, content) for kind, content in tokens if kind not in ("angle", "comment")]
    if angles:
        return Address(_SPACE.sub("", angles[-1].rpartition(":")[2]), _phrase(words) or comments)
    written = "".join(content for _, content in words).strip()
    if "@" not in written:
        return Address("", _phrase(words) or comments) if written or comments else None
    bare = next(part for part in written.split() if "@" in part) if '"' not in written else written
    rest = written.replace(bare, "", 1).strip()
    return Address(bare, comments or text(rest))


def _phrase(words: list[tuple[str, str]]) -> str:
    written = "".join(_unquoted(content) if kind == "quoted" else content for kind, content in words)
    return _SPACE.sub(" ", text(written)).strip()


def _unquoted(content: str) -> str:
    inside = content[1:-1] if content.endswith('"') and len(content) > 1 else content[1:]
    return re.sub(r"\\(.)", r"\1", inside, flags=re.DOTALL)


def _joined(parts: dict[int, tuple[str, bool]]) -> str:
    ordered = [parts[number] for number in sorted(parts)]
    if not any(coded for _, coded in ordered):
        return text("".join(content for content, _ in ordered))
    charset, _, _ = ordered[0][0].partition("'") if ordered[0][1] else ("", "", "")
    first = ordered[0][0].split("'", 2)[-1] if ordered[0][1] else ordered[0][0]
    contents = [(first, ordered[0][1]), *ordered[1:]]
    raw = b"".join(unquote_to_bytes(content) if coded else content.encode("utf-8", "replace") for content, coded in contents)
    return decoded(raw, charset or "utf-8")


def _sound(found: str) -> str:
    """UTF-7 can spell lone surrogates, which can't be stored."""
    return found.encode("utf-8", "replace").decode()
