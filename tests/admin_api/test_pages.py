"""The description's own page."""

from __future__ import annotations

import re

import pytest

from tests.house import Farebox

FOREIGN = re.compile(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""")


async def page(farebox: Farebox, path: str) -> tuple[int, dict[str, str], str]:
    """A GET without a bearer."""
    async with farebox.http.get(f"{farebox.run.admin_url}{path}") as reply:
        return (
            reply.status,
            {name.lower(): value for name, value in reply.headers.items()},
            (await reply.read()).decode("utf-8", "replace"),
        )


async def test_the_page_loads_nothing_from_elsewhere(module_farebox: Farebox) -> None:
    status, headers, text = await page(module_farebox, "/docs")
    assert status == 200 and not FOREIGN.search(text)
    parts = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert len(parts) == 4
    for part in parts:
        assert (await page(module_farebox, f"/{part}"))[0] == 200, part
    policy = headers["content-security-policy"]
    assert (
        "http" not in policy
        and "unsafe" not in policy
        and "frame-ancestors 'none'" in policy
        and "script-src 'self';" in policy
    )


async def test_the_page_holds_no_script_of_its_own(module_farebox: Farebox) -> None:
    _, _, text = await page(module_farebox, "/docs")
    assert re.findall(r"<script[^>]*>([^<]*)</script>", text) == ["", ""] and " on" not in re.sub(
        r"<title>.*?</title>", "", text
    )


async def test_the_page_starts_with_the_document_beside_it(module_farebox: Farebox) -> None:
    _, headers, script = await page(module_farebox, "/docs/start.js")
    assert 'url: "v1/openapi.json"' in script and headers["content-type"].startswith("text/javascript")
    status, _, document = await page(module_farebox, "/v1/openapi.json")
    assert status == 200 and '"openapi":"3.1' in document


@pytest.mark.parametrize("name", ["redoc.standalone.js", "..%2Fcore.py", "%2e%2e%2fcore.py", "nothing", "", "%00"])
async def test_nothing_else_is_served(module_farebox: Farebox, name: str) -> None:
    assert (await page(module_farebox, f"/docs/{name}"))[0] == 404


async def test_parts_may_be_kept_and_the_page_not(module_farebox: Farebox) -> None:
    assert "max-age" in (await page(module_farebox, "/docs/swagger-ui.css"))[1]["cache-control"]
    assert (await page(module_farebox, "/docs"))[1]["cache-control"] == "no-store"
    assert (await page(module_farebox, "/docs"))[1]["x-content-type-options"] == "nosniff"
