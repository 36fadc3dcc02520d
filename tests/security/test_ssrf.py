"""Nobody makes Farebox ask where it must not: addresses are judged when they are saved and again when it connects."""

from __future__ import annotations

from typing import Any

import pytest

from config.catalog_file import read_catalog
from config.complaints import ComplaintsError
from tests.backend import Backend, Stall
from tests.house import Farebox, until
from tests.zone import Zone, zone_in

OUTSIDE = "93.184.216.34"
INSIDE = [
    "http://127.0.0.1:6379",
    "http://localhost/v1",
    "http://[::1]/v1",
    "http://10.0.0.1/v1",
    "http://[::ffff:192.168.0.1]/v1",
    "http://[64:ff9b::a00:1]/v1",
    "http://100.64.0.1/v1",
]
NEVER = [
    "http://169.254.169.254/latest",
    "http://[fd00:ec2::254]/latest",
    "http://0.0.0.0/v1",
    "http://[::ffff:169.254.169.254]/",
    "http://224.0.0.1/v1",
]


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Zone:
    return zone_in(monkeypatch)


async def offered(farebox: Farebox, name: str, url: str, **more: Any) -> str:
    """A model on an upstream at this address, saved over the admin API; back when calls find it."""
    await farebox.admin.made("/upstreams", {"name": name, "base_url": url, **more})
    await farebox.admin.made("/models", {"id": f"on-{name}", "upstream": name, "prices": {"per_request": "0.01"}})
    reader = await farebox.caller()

    async def known() -> bool:
        return (await farebox.get(f"/v1/models/on-{name}", reader)).status == 200

    await until(known)
    return f"on-{name}"


# When it is saved ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", INSIDE)
def test_a_file_that_names_an_address_inside_is_refused_with_what_to_do(url: str) -> None:
    with pytest.raises(ComplaintsError) as caught:
        read_catalog({"upstreams": [{"name": "u", "base_url": url}]})
    (complaint,) = caught.value.complaints
    assert complaint.where == "upstreams[0].allow_private" and "say allow_private = true" in complaint.what
    read_catalog({"upstreams": [{"name": "u", "base_url": url, "allow_private": True}]})


@pytest.mark.parametrize("url", NEVER)
def test_no_file_opens_an_address_where_nothing_is_ever_asked(url: str) -> None:
    with pytest.raises(ComplaintsError, match="nothing is ever asked there"):
        read_catalog({"upstreams": [{"name": "u", "base_url": url, "allow_private": True}]})


async def test_the_admin_api_saves_no_address_that_would_not_be_asked(farebox: Farebox, zone: Zone) -> None:
    zone["half.example"] = [OUTSIDE, "10.0.0.1"]
    zone["metadata.example"] = ["169.254.169.254"]
    admin = farebox.admin
    for url, place in [*((url, "/allow_private") for url in INSIDE), ("http://half.example", "/base_url")]:
        refused = await admin.post("/upstreams", {"name": "u", "base_url": url})
        assert refused.status == 422, url
        assert refused.json()["errors"][0]["pointer"] == f"#{place}"
    for url in [*NEVER, "http://metadata.example"]:
        refused = await admin.post("/upstreams", {"name": "u", "base_url": url, "allow_private": True})
        assert refused.status == 422 and b"nothing is ever asked there" in refused.body, url
    assert (await admin.get("/upstreams/u")).status == 404


async def test_a_change_is_judged_like_a_creation(farebox: Farebox, zone: Zone) -> None:
    zone["good.example"], zone["bad.example"] = [OUTSIDE], ["10.0.0.1"]
    admin = farebox.admin
    made = await admin.post("/upstreams", {"name": "changing", "base_url": "http://good.example"})
    version = made.headers["etag"]
    for patch in ({"base_url": "http://bad.example"}, {"base_url": "http://10.0.0.1"}):
        assert (await admin.patch("/upstreams/changing", patch, match=version)).status == 422
    allowed = await admin.patch(
        "/upstreams/changing", {"base_url": "http://bad.example", "allow_private": True}, match=version
    )
    assert allowed.status == 200
    closed = await admin.patch("/upstreams/changing", {"allow_private": None}, match=allowed.headers["etag"])
    assert closed.status == 422


async def test_a_name_that_leads_nowhere_yet_may_be_saved(farebox: Farebox, zone: Zone) -> None:
    zone["later.example"] = []
    assert (await farebox.admin.post("/upstreams", {"name": "later", "base_url": "http://later.example"})).status == 201


# When a call connects -----------------------------------------------------------------------------------------------


async def test_a_name_that_leads_elsewhere_than_when_it_was_saved_gains_nothing(
    farebox: Farebox, backend: Backend, zone: Zone
) -> None:
    ada = await farebox.caller()
    zone["moving.example"] = [OUTSIDE]
    model = await offered(farebox, "moving", f"http://moving.example:{backend.port}/v1")
    for address in ("127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "10.0.0.1"):
        zone["moving.example"] = [address]
        answer = await farebox.chat(ada, model=model)
        assert (answer.status, answer.error["code"]) == (502, "upstream_error")
        assert address not in answer.body.decode() and "allow_private" not in answer.body.decode()
    assert backend.requests == [] and not await farebox.charges(ada.user.id)


async def test_a_name_inside_that_turns_to_a_clouds_metadata_gains_nothing(farebox: Farebox, zone: Zone) -> None:
    zone["inside.example"] = ["10.0.0.1"]
    model = await offered(farebox, "inside", "http://inside.example/v1", allow_private=True)
    zone["inside.example"] = ["169.254.169.254"]
    assert (await farebox.chat(await farebox.caller(), model=model)).status == 502


async def test_no_connection_made_inside_is_lent_to_an_upstream_that_may_not_go_there(
    farebox: Farebox, backend: Backend, zone: Zone
) -> None:
    ada, url = await farebox.caller(), f"http://shared.example:{backend.port}/v1"
    zone["shared.example"] = [OUTSIDE]
    closed = await offered(farebox, "closed", url)
    zone["shared.example"] = ["127.0.0.1"]
    opened = await offered(farebox, "opened", url, allow_private=True)
    assert (await farebox.chat(ada, model=opened)).status == 200
    assert (await farebox.chat(ada, model=closed)).status == 502
    assert (await farebox.chat(ada, model=opened)).status == 200
    assert len(backend.requests) == 2


async def test_an_operator_reads_in_the_log_why_a_backend_is_not_asked(
    farebox: Farebox, zone: Zone, caplog: pytest.LogCaptureFixture
) -> None:
    zone["told.example"] = [OUTSIDE]
    model = await offered(farebox, "told", "http://told.example/v1")
    zone["told.example"] = ["10.0.0.1"]
    await farebox.chat(await farebox.caller(), model=model)
    (record,) = (each for each in caplog.records if each.message == "upstream failed")
    assert "10.0.0.1" in vars(record)["detail"] and "allow_private = true" in vars(record)["detail"]


async def test_no_proxy_of_the_environment_stands_in_for_the_address(
    farebox: Farebox, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Backend().running() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await farebox.chat(await farebox.caller())).status == 200
        assert proxy.connections == 0 and len(backend.requests) == 1


async def test_an_address_in_a_request_is_the_backends_business_and_never_asked(farebox: Farebox) -> None:
    ada = await farebox.caller()
    async with Backend([Stall()]).running() as witness:
        url = f"http://127.0.0.1:{witness.port}/picture.png"
        picture = [{"type": "text", "text": url}, {"type": "image_url", "image_url": {"url": url}}]
        assert (await farebox.chat(ada, picture)).status == 200  # type: ignore[arg-type]
        body = {"model": "small", "input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}
        await farebox.post("/v1/responses", body, ada)
        await farebox.settled()
        assert witness.connections == 0
