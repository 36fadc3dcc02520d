"""The settings in parts: values that only make sense together."""

from __future__ import annotations

import pytest

from config.settings import load_settings
from ledger.money import parse_usd
from tests.config.told import complaints, write

pytestmark = pytest.mark.usefixtures("bare")


def test_the_largest_upload_must_fit_into_the_room_for_uploads() -> None:
    write("[limits]\nupload_bytes_max = 2048\nupload_room_bytes = 2047\n")
    assert "at least upload_bytes_max" in complaints()["limits"]
    write("[limits]\nupload_bytes_max = 2048\nupload_room_bytes = 2048\n")
    assert load_settings().limits.upload_bytes_max == 2048


def test_notices_are_off_and_a_low_balance_is_an_exact_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().openwebui.notices == "off"
    monkeypatch.setenv("FAREBOX_OPENWEBUI__LOW_BALANCE_USD", "0.000000001")
    assert parse_usd(load_settings().openwebui.low_balance_usd) == 1
    for wrong in ("-1", "0.0000000001", "NaN", "much"):
        monkeypatch.setenv("FAREBOX_OPENWEBUI__LOW_BALANCE_USD", wrong)
        assert complaints()


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        ("sync_every_s = 600", "openwebui"),
        ('url = "http://chat"\nadmin_key = "sk-0123456789"\nsync_every_s = 5', "openwebui"),
        ('url = "chat.example"', "openwebui.url"),
        ('url = "http://user@chat"', "openwebui.url"),
        ('url = "http://chat/?a=b"', "openwebui.url"),
    ],
)
def test_a_sync_needs_to_know_whom_to_ask_and_how_often(lines: str, where: str) -> None:
    write(f"[openwebui]\n{lines}\n")
    assert list(complaints()) == [where]


def test_an_open_webui_is_named_by_its_root() -> None:
    write('[openwebui]\nurl = "http://chat:8080/"\n')
    part = load_settings().openwebui
    assert (part.url, part.syncs) == ("http://chat:8080", False)
    write('[openwebui]\nurl = "http://chat/base"\nadmin_key = "sk-0123456789"\nsync_every_s = 60\n')
    assert load_settings().openwebui.syncs
