"""The pages of Entra on which a person signs in, and the one that hands an authorization response over by form post."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from starlette.responses import HTMLResponse, Response


def sign_in(action: str, hidden: Mapping[str, str], *, asks: str, user: str = "", code: str | None = None, problem: str = "") -> Response:
    """`asks` says what for; `code` is there where a device's code is to be typed. Posts username, password and answer (yes or no)."""
    told = f'<p role="alert">{escape(problem)}</p>' if problem else ""
    typed = f'<p><label>Code <input name="user_code" value="{escape(code)}"></label></p>' if code is not None else ""
    return _page(
        "Sign in",
        f'{told}<p>{escape(asks)}</p><form method="post" action="{escape(action)}">{_hidden(hidden)}{typed}'
        f'<p><label>User <input name="username" value="{escape(user)}" autocomplete="username"></label></p>'
        '<p><label>Password <input name="password" type="password" autocomplete="current-password"></label></p>'
        '<button name="answer" value="yes">Sign in and accept</button> <button name="answer" value="no">Cancel</button></form>',
        status=400 if problem else 200,
    )


def form_post(action: str, fields: Mapping[str, str]) -> Response:
    """OAuth 2.0 Form Post Response Mode: the browser sends the fields on by itself."""
    form = f'<form method="post" action="{escape(action)}">{_hidden(fields)}<button>Continue</button></form>'
    return _page("Working", f"{form}<script>document.forms[0].submit()</script>")


def told(title: str, text: str, status: int = 200) -> Response:
    return _page(title, f"<p>{escape(text)}</p>", status=status)


def _hidden(fields: Mapping[str, str]) -> str:
    return "".join(f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in fields.items())


def _page(title: str, body: str, status: int = 200) -> Response:
    head = f'<meta charset="utf-8"><title>{escape(title)}</title>'
    html = f'<!doctype html><html lang="en"><head>{head}</head><body><h1>{escape(title)}</h1>{body}</body></html>'
    return HTMLResponse(html, status, {"Cache-Control": "no-store"})
