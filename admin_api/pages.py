"""The API's own description: the OpenAPI document, and a page to read and try it, without any other host."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

import fastapi_offline
import msgspec
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

from admin_api.problems import not_found

router = APIRouter(include_in_schema=False)

_ASSETS = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon.png")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Farebox admin API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon.png">
</head>
<body>
<div id="api"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
# A file of its own: the page's policy lets no script run that stands in the page.
_START = """SwaggerUIBundle({
  url: "v1/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""


@router.get("/docs")
async def docs_page() -> HTMLResponse:
    """A page that shows the document and sends requests."""
    return HTMLResponse(_PAGE, headers={"content-security-policy": _POLICY})


@router.get("/docs/start.js")
async def start_script() -> Response:
    """What starts the page."""
    return Response(_START, media_type="text/javascript; charset=utf-8")


@router.get("/docs/{name}")
async def asset(name: str) -> FileResponse:
    """The page's parts, from an installed package."""
    if name not in _ASSETS:
        raise not_found()
    return FileResponse(_folder() / name, headers={"cache-control": "public, max-age=3600"})


@router.get("/v1/openapi.json")
async def document(request: Request) -> Response:
    """The OpenAPI document. Putting it together takes half a second, once: beside the loop, on which calls run."""
    return Response(await asyncio.to_thread(_document, request.app), media_type="application/json")


@cache
def _document(app: FastAPI) -> bytes:
    return msgspec.json.encode(app.openapi())


@cache
def _folder() -> Path:
    return Path(fastapi_offline.__file__).parent / "static"
