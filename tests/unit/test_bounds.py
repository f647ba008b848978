"""What a template may say, and that whatever it says ends soon: loops, growth, formats, and what buffers unseen."""

from __future__ import annotations

import time
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from mailroom.errors import BadInput
from send_mail.bounds import LARGEST, Bounded, Meter

ANN: dict[str, Any] = {
    "name": "<Ann>",
    "email": "ann@example.com",
    "price": 1234.5,
    "lines": [{"item": "Cup", "sum": 2}, {"item": "Jar", "sum": 3}],
    "items": "a column",
    "recipient": {"First Name": "Ann"},
}


def drawn(text: str, *, html: bool = False, **variables: Any) -> str:
    meter = Meter()
    return Bounded(meter, autoescape=html).draw("template.text", text)({**ANN, **variables})


def refusal(text: str, **variables: Any) -> BadInput:
    with pytest.raises(BadInput) as caught:
        drawn(text, **variables)
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dear {{ name }}", "Dear <Ann>"),
        ("{% for one in lines %}{{ loop.index }} {{ one.item }}{{ ', ' if not loop.last }}{% endfor %}", "1 Cup, 2 Jar"),
        ("{% if price > 1000 %}much{% else %}little{% endif %}", "much"),
        ("{{ '{:,.2f}'.format(price) }} {{ '%.1f'|format(price) }} {{ '%d%%' % 5 }}", "1,234.50 1234.5 5%"),
        ("{{ lines|sum(attribute='sum') }} {{ lines|map(attribute='item')|join(' and ') }}", "5 Cup and Jar"),
        ("{% set ns = namespace(total=0) %}{% for one in lines %}{% set ns.total = ns.total + one.sum %}{% endfor %}{{ ns.total }}", "5"),
        ("{{ recipient['First Name'] }} {{ items }} {{ nobody|default('you') }} {{ name.upper() }}", "Ann a column you <ANN>"),
        ("{{ email|named('Müller, \"Ann\"') }}", '"Müller, \\"Ann\\"" <ann@example.com>'),
        ("{{ [1, 2, 3]|join }}{{ 'a' ~ 1 ~ none }}{{ 2 ** 10 }}{{ 'ab' * 2 }}{{ 1.255|round(1) }}", "123a11024abab1.3"),
        ("{% raw %}{{ name }}{% endraw %}{# nothing #}\n", "{{ name }}\n"),
        ("{{ 'a-b'|replace('-', '+') }}{{ 'a b'.split(' ')|last }}", "a+bb"),
        ("{{ '12'|int + 1 }}{% for n in range(3) if n %}{{ n }}{% endfor %}", "1312"),
    ],
)
def test_what_a_mail_needs_is_there(text: str, expected: str) -> None:
    """Variables, conditions, loops, sums and formats, as Jinja2 has them."""
    assert drawn(text) == expected


def test_html_alone_is_escaped() -> None:
    """A name with an angle bracket is text in html, and stays as it is elsewhere."""
    text = "<b>{{ name }}</b>{{ name ~ '<i>' }}{{ ['<', name]|join('&') }}{{ '<br>'|safe }}{{ 'a\n<'|replace('\n', '<br>'|safe) }}"
    assert drawn(text, html=True) == "<b>&lt;Ann&gt;</b>&lt;Ann&gt;&lt;i&gt;&lt;&amp;&lt;Ann&gt;<br>a<br>&lt;"
    assert drawn("<b>{{ name }}</b>") == "<b><Ann></b>"
    assert type(drawn("{{ name }}", html=True)) is str
    assert drawn("{{ name|replace('A', '<') }}", html=True, name=Markup("<u>A</u>")) == "<u>&lt;</u>"


ENDLESS = [
    "{% for i in range(10 ** 9) %}x{% endfor %}",
    "{% for i in range(40000) %}{% for j in range(40000) %}x{% endfor %}{% endfor %}",
    "{{ 'x' * 10 ** 9 }}",
    "{{ 10 ** 9 * 'x' }}",
    "{{ [1] * 10 ** 9 }}",
    "{{ 2 ** 10000000 }}",
    "{{ (10 ** 99) * (10 ** 99) }}",
    "{% set ns = namespace(x='aa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='aa') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x='aa') %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{{ ('x' * 1000)|replace('x', 'y' * 100000) }}",
    "{{ 'x'|replace('', 'y' * 900000)|replace('y', 'z' * 900000) }}",
    "{{ (['x' * 900000] * 90000)|join }}",
    "{% for i in range(45000) %}{{ 'x' * 100 }}{% endfor %}",
    "{% for i in range(45000) %}{{ ('x' * 900000)|upper }}{% endfor %}",
    "{% for i in range(40000) %}{{ big }}{% endfor %}",
    "{{ 3 ** 1000000000 }}",
    "{{ range(49000)|map('string')|map('upper')|list }}",
]


@pytest.mark.parametrize("text", ENDLESS)
def test_what_would_never_end_is_stopped(text: str) -> None:
    """Loops within loops, texts that double and numbers without end are stopped by name, within moments."""
    began = time.thread_time()
    tracemalloc.start()
    error = refusal(text, big="x" * 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.code == "template_unbounded"
    assert error.field == "template.text"
    assert time.thread_time() - began < 5
    assert peak < 20_000_000


@pytest.mark.parametrize(
    "text",
    [
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% set x %}a{% endset %}",
        "{% filter upper %}a{% endfilter %}",
        "{% for one in lines recursive %}{{ loop(lines) }}{% endfor %}",
        "{% for one in lines recursive %}{{ one.item }}{% endfor %}",
        "{% include 'x' %}",
        "{% import 'x' as x %}",
        "{% block x %}{% endblock %}",
        "{% call x() %}{% endcall %}",
        "{% autoescape false %}x{% endautoescape %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}",
        "{% set a = {'a': lines} %}",
        "{% set a = 1, lines %}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (100000000, 1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 1000000000) }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ name.ljust(1000000000) }}",
        "{% set range = name.ljust %}{{ range(1000000000) }}",
        "{{ 'a'|_turns }}",
        "{{ 1|round(1000000000, 'ceil') }}",
    ],
)
def test_what_nobody_could_count_is_not_there(text: str) -> None:
    """Macros, captured blocks, nested lists, wide formats and methods that grow a text are refused by name."""
    assert refusal(text).code == "template_forbidden"


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ name.__class__ }}",
        "{{ lines.append(1) }}",
        "{{ (1).__add__ }}",
        "{{ self._TemplateReference__context }}",
    ],
)
def test_our_objects_are_out_of_reach(text: str) -> None:
    """A template sees its variables' values, nothing behind them."""
    assert refusal(text).code in ("template_failed", "template_forbidden", "variable_missing")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ nam }}", "'nam'"),
        ("{{ recipient.age }}", "'age'"),
        ("{{ lines[9].item }}", "9"),
        ("{% for x in nam %}{% endfor %}", "'nam'"),
        ("{{ nam ~ 'x' }}", "'nam'"),
    ],
)
def test_what_is_missing_is_named(text: str, said: str) -> None:
    """Also where it is looped over or joined: nobody gets a mail that says `Dear ,`."""
    error = refusal(text)
    assert (error.code, error.field) == ("variable_missing", "template.text")
    assert said in error.detail


@pytest.mark.parametrize(
    "text",
    [
        "{{ name",
        "{% for %}",
        "{{ name|nothing }}",
        "{% endfor %}",
        "(" * 9 + "{{" + "(" * 5000,
        "{% for a in b %}" * 40 + "{% endfor %}" * 40,
    ],
)
def test_what_is_no_template_says_where(text: str) -> None:
    """A mistake in the template is its own, however deep it nests."""
    assert refusal(text).code in ("template_invalid", "variable_missing")
    with pytest.raises(BadInput) as caught:
        Bounded(Meter(), autoescape=False).draw("template.html", "a\n{{ name")
    assert "line 2" in caught.value.detail


@pytest.mark.parametrize("text", ["{{ 1 / 0 }}", "{{ 5 + '5' }}", "{{ lines }}", "{{ name|sum }}", "{{ range }}", "{{ '%d' % name }}"])
def test_what_fails_for_one_recipient_is_told(text: str) -> None:
    """Types that do not fit, and lists where a text should stand."""
    assert refusal(text).code == "template_failed"


def test_each_mail_has_bounds_of_its_own() -> None:
    """What many mails cost together stops none of them."""
    meter = Meter()
    draw = Bounded(meter, autoescape=False).draw("template.text", "{% for n in range(20000) %}{% endfor %}{{ 'x' * 200000 }}")
    for _ in range(3):
        meter.begin()
        assert len(draw({})) == 200_000
    with pytest.raises(BadInput):
        draw({})


PIECES = [
    "{{ ",
    " }}",
    "{% ",
    " %}",
    "for x in ",
    "endfor",
    "if ",
    "endif",
    "set x = ",
    "x",
    "y",
    "range(9)",
    "'a'",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    " ~ ",
    " * ",
    " + ",
    "9",
    "|",
    "upper",
    "join",
    "map",
    ".",
    ", ",
    "\n",
    "named",
    "format",
    "else",
    "%",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_whatever_the_template_only_our_errors_come(text: str) -> None:
    """Any template at all gives a text or a BadInput with a code."""
    found = ""
    with suppress(BadInput):
        found = drawn(text, x=[1, "a"], y=2)
    assert len(found) <= LARGEST
