"""Jinja2 within bounds: what a template may say, and how much work it may make. Imported with the first template, never at start.

The sandbox (jinja.palletsprojects.com, "Sandbox") keeps a template from our objects, not from our memory and time. Here every turn of a
loop, filter, operator and call is counted, no value grows beyond LARGEST, and lists are flat: nothing can double itself for long.
What buffers text where nobody counts it (macros, blocks, `{% set %}…{% endset %}`, recursive loops) is not available.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from string import Formatter
from typing import Any, cast

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, UndefinedError, nodes
from jinja2.filters import FILTERS
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer
from markupsafe import Markup, escape

from mailroom.errors import BadInput
from send_mail.recipients import named

STEPS = 50_000  # of one mail: turns of loops, filters, operators, and one more for each 64 characters or items that one of them makes
SECONDS = 2.0  # of the processor, for one mail
LARGEST = 1_000_000  # characters of a text, or items of a list
LARGEST_NUMBER = 10**100

_NAMES = "Template Output TemplateData Name NSRef Const Tuple List Dict Pair Keyword CondExpr Filter Test Call Getitem Getattr Slice Concat"
_NAMES += " Compare Operand Mul Div FloorDiv Add Sub Mod Pow Not Neg Pos And Or For If Assign"
ALLOWED = tuple(getattr(nodes, name) for name in _NAMES.split())
KEPT = (
    "abs capitalize d default dictsort e escape filesizeformat first float forceescape int items last length count list lower map max min"
)
KEPT += " reject rejectattr reverse safe select selectattr sort title trim truncate unique upper urlencode wordcount"
METHODS = frozenset({"upper", "lower", "title", "capitalize", "strip", "startswith", "endswith", "split"})  # of texts
METHODS |= {"items", "keys", "values", "get", "cycle", "changed"}  # of objects and loops
_PERCENT = re.compile(r"%(?:\((\w+)\))?[-+ #0]*(\d{0,3})(?:\.(\d{1,2}))?[sdifFeEgGxXob%]")
_SPEC = re.compile(r"[^{}]{0,20}")
_LONG_NUMBER = re.compile(r"\d{4}")


class Meter:
    """What one mail may still cost."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        self._left, self._room, self._ends = STEPS, LARGEST, self._clock() + SECONDS

    def spend(self, steps: int = 1) -> None:
        self._left -= steps
        if self._left < 0:
            raise unbounded(f"It takes more than {STEPS} steps for one mail.")
        if self._clock() > self._ends:
            raise unbounded(f"It takes more than {SECONDS:g} seconds for one mail.")

    def made(self, value: Any) -> Any:
        """The value, when it is not too large; it costs what it is long."""
        if isinstance(value, str | list | tuple | dict):
            self.fits(len(value))
        elif isinstance(value, int) and abs(value) > LARGEST_NUMBER:
            raise unbounded("It makes a number of more than a hundred digits.")
        else:
            self.spend()
        return value

    def fits(self, length: int) -> None:
        """Before something of that length is made."""
        if length > LARGEST:
            raise unbounded(f"It makes a text or list longer than {LARGEST}.")
        self.spend(1 + length // 64)

    def written(self, pieces: Iterable[str]) -> Iterator[str]:
        for piece in pieces:
            self._room -= len(piece)
            if self._room < 0:
                raise unbounded(f"It writes more than {LARGEST} characters for one mail.")
            yield str(piece)

    def turns(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self.spend()
            yield value


def unbounded(what: str) -> BadInput:
    return BadInput("template_unbounded", f"The template was stopped. {what}", "Let it do less: see docs/batches.md for the bounds.")


def forbidden(what: str) -> BadInput:
    return BadInput("template_forbidden", f"{what} is not available in a template.", "See docs/batches.md for what is.")


@contextmanager
def _told(field: str) -> Iterator[None]:
    """Whatever a template does wrong, as an error of ours."""
    try:
        yield
    except BadInput as error:
        raise BadInput(error.code, error.detail, error.next_step, field=field) from error
    except UndefinedError as error:
        step = "Give every recipient this variable, or say {{ name|default('…') }} where it may be missing."
        raise BadInput("variable_missing", f"{error.message}.", step, field=field) from error
    except (TemplateSyntaxError, SyntaxError, RecursionError, MemoryError) as error:  # Python's own, for what nests too deeply
        where = f" (line {error.lineno})" if isinstance(error, TemplateSyntaxError) else ""
        what = f"This is not a Jinja2 template: {error.args[0] if error.args else type(error).__name__}{where}."
        raise BadInput("template_invalid", what, "See jinja.palletsprojects.com, Template Designer Documentation.", field=field) from error
    except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"The template fails for this recipient: {error}."
        raise BadInput("template_failed", what, "Mind what type each variable has; in CSV all are texts.", field=field) from error


class Bounded(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self, meter: Meter, *, autoescape: bool) -> None:
        super().__init__(
            undefined=StrictUndefined, autoescape=autoescape, keep_trailing_newline=True, optimized=False, cache_size=0, finalize=_scalar
        )
        self.meter = meter
        self.globals = {"range": self._range, "namespace": Namespace}
        ours = {name: self._metered(FILTERS[name]) for name in KEPT.split()}
        ours |= {
            "join": self._join,
            "replace": self._replace,
            "format": self._format,
            "round": _round,
            "sum": self._sum,
            "string": self._text,
        }
        self.filters = ours | {"named": named, "_turns": meter.turns, "_flat": self._flat, "_joined": self._joined}

    def draw(self, field: str, text: str) -> Callable[[dict[str, Any]], str]:
        """What makes the text for one set of variables. It and this raise BadInput, which names the field."""
        with _told(field):
            tree = _Bounds().visit(self.parse(text))
            tree.set_environment(self)
            template = self.from_string(tree)

        def drawn(variables: dict[str, Any]) -> str:
            with _told(field):  # not `generate`, which makes a traceback of its own for each error: too dear for 50,000 recipients
                return "".join(self.meter.written(template.root_render_func(template.new_context(variables))))

        return drawn

    def is_safe_callable(self, obj: Any) -> bool:
        if obj is Namespace or isinstance(obj, _Format) or obj == self._range:
            return True
        owner = getattr(obj, "__self__", None)
        return isinstance(owner, str | dict | LoopContext) and getattr(obj, "__name__", "") in METHODS

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.is_safe_callable(obj):
            raise forbidden(f"Calling {getattr(obj, '__name__', type(obj).__name__)!r}")
        return self.meter.made(context.call(obj, *args, **kwargs))

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, dict) and attribute in obj:  # a column may be called `items`
            return obj[attribute]
        return _Format(self, obj) if isinstance(obj, str) and attribute == "format" else super().getattr(obj, attribute)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            self._check_product(left, right)
        elif operator == "**":
            self._check_power(left, right)
        elif operator == "%" and isinstance(left, str):
            return self._format(left, right)
        return self.meter.made(super().call_binop(context, operator, left, right))

    def _check_product(self, left: Any, right: Any) -> None:
        for one, times in ((left, right), (right, left)):
            if isinstance(one, str | list | tuple) and isinstance(times, int):
                self.meter.fits(len(one) * max(times, 0))

    def _check_power(self, base: Any, exponent: Any) -> None:
        if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > LARGEST_NUMBER.bit_length() * 2:
            raise unbounded("It makes a number of more than a hundred digits.")

    def _range(self, *args: int) -> range:
        found = range(*args)
        if len(found) > STEPS:
            raise unbounded(f"It counts to more than {STEPS}.")
        return found

    def _metered(self, function: Callable[..., Any]) -> Callable[..., Any]:
        at = 1 if hasattr(function, "jinja_pass_arg") else 0  # such filters get the environment or context first

        @wraps(function)  # which also says so of the wrapper
        def metered(*args: Any, **kwargs: Any) -> Any:
            value = args[at] if len(args) > at else None
            self.meter.spend(1 + (len(value) // 64 if isinstance(value, str | list | tuple | dict) else 0))
            return self.meter.made(function(*args, **kwargs))

        return metered

    def _flat(self, value: Any) -> Any:
        """A list that the template writes holds texts and numbers: lists of lists of lists would double with each pair of brackets."""
        if any(isinstance(one, list | tuple | dict) for one in (value.values() if isinstance(value, dict) else value)):
            raise forbidden("A list within a list")
        return self.meter.made(value)

    def _joined(self, values: list[Any]) -> str:
        """`a ~ b`."""
        self.meter.spend(len(values))
        texts = [one if isinstance(one, Markup) else str(_scalar(one)) for one in values]
        self.meter.fits(sum(map(len, texts)))
        if any(isinstance(one, Markup) for one in texts):
            return Markup().join(texts)
        return "".join(texts)

    def _join(self, value: Iterable[Any], between: str = "", attribute: str | None = None) -> str:
        items = [one[attribute] for one in self.meter.turns(value)] if attribute else list(self.meter.turns(value))
        parts = [part for one in items for part in (between, one)][1:]
        return self._joined(parts)

    def _replace(self, value: Any, old: str, new: str, count: int = -1) -> str:
        text = str(_scalar(value)) if not isinstance(value, Markup) else value
        if self.autoescape and hasattr(new, "__html__"):
            text = Markup.escape(text)
        times = text.count(old) if count < 0 else min(count, text.count(old))
        self.meter.fits(len(text) + times * len(escape(new)))
        return text.replace(old, new, count)

    def _format(self, value: Any, *args: Any, **kwargs: Any) -> str:
        """printf's way: `"%.2f"|format(price)`."""
        text = str(_scalar(value))
        if "%" in _PERCENT.sub("", text):
            raise forbidden(f"The format {text[:40]!r}")
        values = args[0] if len(args) == 1 and isinstance(args[0], tuple | dict) else kwargs or args
        for one in values.values() if isinstance(values, dict) else values:
            _scalar(one)
        self.meter.fits(len(text) + 1000 * text.count("%"))
        return cast("str", self.meter.made(text % values))

    def _sum(self, value: Iterable[Any], attribute: str | None = None, start: float = 0) -> Any:
        total = start
        for one in self.meter.turns(value):
            total += _number(one[attribute] if attribute else one)
        return self.meter.made(total)

    def _text(self, value: Any) -> str:
        return cast("str", self.meter.made(value if isinstance(value, str) else str(_scalar(value))))


class _Format:
    """`"{:,.2f}".format(price)`, of values alone: no attribute of theirs can be named, no width be made of a value."""

    def __init__(self, environment: Bounded, text: str) -> None:
        self._environment, self._text = environment, text

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        for one in (*args, *kwargs.values()):
            _scalar(one)
        for _, name, spec, _ in Formatter().parse(self._text):
            if not re.fullmatch(r"\w*", name or "") or not _SPEC.fullmatch(spec or "") or _LONG_NUMBER.search(spec or ""):
                raise forbidden(f"The format {self._text[:40]!r}")
            self._environment.meter.fits(1000)
        return cast("str", self._environment.meter.made(self._text.format(*args, **kwargs)))


class _Bounds(NodeTransformer):
    """The same template, counted: loops, lists and `~` go through filters of ours. Raises BadInput for what is not allowed."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        if not isinstance(node, ALLOWED):
            raise forbidden(f"{type(node).__name__} (line {node.lineno})")
        return super().generic_visit(node, *args, **kwargs)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            raise forbidden(f"A recursive loop (line {node.lineno})")
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_turns")
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        if node.node is None or node.name.startswith("_"):
            raise forbidden(f"Filter {node.name} (line {node.lineno})")
        return self.generic_visit(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "_joined")

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return _filtered(self.generic_visit(node), "_flat")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return _filtered(self.generic_visit(node), "_flat")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return node if node.ctx == "store" else _filtered(node, "_flat")


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _scalar(value: Any) -> Any:
    """What may stand in a text. An undefined one says its own name when it is written."""
    if isinstance(value, str | int | float | Undefined) or value is None:
        return "" if value is None else value
    raise TypeError(f"a {type(value).__name__} can't stand in a text; write its parts, or use join")


def _number(value: Any) -> float:
    if isinstance(value, int | float):
        return value
    raise TypeError(f"{str(value)[:40]!r} is no number; use the filter int or float")


def _round(value: float, precision: int = 0, method: str = "common") -> Any:
    if not -20 <= precision <= 20:
        raise forbidden(f"round to {precision} places")
    return FILTERS["round"](value, precision, method)
