"""The front door: one app, three rooms."""

import azure.functions as func

from receive_mail.triggers import blueprint as receive_mail
from send_mail.triggers import blueprint as send_mail
from token_refresh.triggers import blueprint as token_refresh

app = func.FunctionApp()
for room in (send_mail, receive_mail, token_refresh):
    app.register_functions(room)
