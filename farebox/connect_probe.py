"""How users of an Open WebUI arrive at the running gateway.

Whether it forwards them, and with which secret it signs, Open WebUI tells nobody. So it is asked to try a connection:
it then calls the address it is given with all the headers of a call, and tells what came back. The address is that of
the account, which the gateway shows to nobody it does not know; what it answers is the verdict of the very code that
judges calls. (Open WebUI appends ``/models`` to the address: behind a ``#`` that part is not sent.)
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from farebox.findings import Found, Verdict
from openwebui.client import OpenWebUI, OpenWebUIError
from openwebui.connection import HEADERS

_AREA = "open webui"
_SUBJECT = "users"


class Arrival(Struct, frozen=True):
    """What was found, and whether users arrive (None: it is not known) as they should."""

    found: Found
    arrive: bool | None = None


async def arrival(openwebui: OpenWebUI, service_url: str, key: str, *, signed: bool) -> Arrival:
    """Have it tried. ``signed``: the settings here hold a secret."""
    try:
        status, body = await openwebui.verified(f"{service_url}/account#", key, HEADERS)
    except OpenWebUIError as error:
        return Arrival(_found("error", str(error)))
    if isinstance(body, dict) and body.get("object") == "account":
        return _arrived(body, signed)
    if (refusal := _refusal(body)) is not None:
        return _refused(*refusal)
    if status >= 500:
        return Arrival(
            _found("error", f"Open WebUI cannot reach {service_url}: is this where Farebox is, seen from it?")
        )
    return Arrival(_found("error", f"what answers Open WebUI at {service_url} is no Farebox ({status})"))


def _arrived(account: dict[str, Any], signed: bool) -> Arrival:
    who = account.get("email") or account.get("id")
    if signed:
        return Arrival(_found("ok", f"arrive signed, and the signature is right: tried as {who}"), arrive=True)
    unsigned = "arrive unsigned: whoever has the service key can be anybody. Sign them with a secret on both sides"
    return Arrival(_found("warning", f"{unsigned} (tried as {who})"), arrive=False)


def _refused(code: str, message: str) -> Arrival:
    if code in ("account_suspended", "price_missing"):
        # Who it is was known by then.
        return Arrival(
            _found("note", f"arrive as they should; the administrator's own account does not: {message}"), True
        )
    if code == "ledger_unavailable":
        return Arrival(_found("warning", f"could not be tried: {message}"))
    if "signature" in message:
        message = f"the secret there is not the one here. {message}"
    return Arrival(_found("error", f"do not arrive: {message}"), arrive=False)


def _refusal(body: Any) -> tuple[str, str] | None:
    """Code and sentence, where it is the gateway that refuses."""
    error = body.get("error") if isinstance(body, dict) else None
    if not (isinstance(error, dict) and "farebox" in error):
        return None
    return str(error.get("code", "")), str(error.get("message", ""))


def _found(verdict: Verdict, says: str) -> Found:
    return Found(_AREA, _SUBJECT, verdict, says)
