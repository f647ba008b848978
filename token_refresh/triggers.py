"""The doors of the refreshing room: a timer that renews, warns and tidies, and the health page."""

from __future__ import annotations

import azure.functions as func
import msgspec

from mailroom import __version__, wiring
from mailroom.events import during
from mailroom.storage.refresh_tokens import RefreshTokens
from token_refresh.delegated import Rotate
from token_refresh.health import health
from token_refresh.pace import Pace
from token_refresh.register import Register
from token_refresh.renew import Renew, Warn
from token_refresh.reports import Reports
from token_refresh.tidy import Tidy

DAY = 86400.0

blueprint = func.Blueprint()


@blueprint.timer_trigger("timer", wiring.settings().schedules.refresh)
@blueprint.function_name("refresh_tokens")
async def refresh_tokens(timer: func.TimerRequest, context: func.Context) -> None:
    with during(context):
        await _refresh_tokens()


async def _refresh_tokens() -> None:
    settings, pace = wiring.settings(), Pace(wiring.store())
    await Renew(settings.accounts.values(), wiring.keyring(), Reports(wiring.store()), settings.timing).run()
    tokens = RefreshTokens(wiring.store(), wiring.vault())
    await Rotate(settings.accounts.values(), wiring.credential, wiring.scope, tokens).run()
    await Register(wiring.registrars(), wiring.store()).run()
    await Warn(settings.profiles.values(), settings.accounts.values(), wiring.vault(), pace, settings.timing).run()
    await Tidy(wiring.store(), wiring.ledger(), pace, settings.keep_days * DAY).run()


@blueprint.route("health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
@blueprint.function_name("get_health")
async def get_health(req: func.HttpRequest) -> func.HttpResponse:
    status, body = await health(__version__, wiring.settings().accounts.values(), wiring.store)
    return func.HttpResponse(
        msgspec.json.encode(body), status_code=status, mimetype="application/json", headers={"Cache-Control": "no-store"}
    )
