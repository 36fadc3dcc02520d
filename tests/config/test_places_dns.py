"""Names of backends, resolved: one address inside is enough to be refused."""

from __future__ import annotations

import pytest

from config.places_dns import addresses_of, led_astray
from tests.zone import Zone, zone_in


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Zone:
    return zone_in(monkeypatch)


async def test_every_address_is_told_once(zone: Zone) -> None:
    zone["both.example"] = ["1.1.1.1", "1.1.1.1", "2606:4700::1111"]
    assert await addresses_of("https://both.example/v1") == ["1.1.1.1", "2606:4700::1111"]
    assert await led_astray("https://both.example/v1", private=False) is None


async def test_one_address_inside_is_enough(zone: Zone) -> None:
    zone["half.example"] = ["1.1.1.1", "10.0.0.7"]
    assert "10.0.0.7" in str(await led_astray("https://half.example/v1", private=False))
    assert await led_astray("https://half.example/v1", private=True) is None


async def test_a_name_of_a_clouds_metadata_is_refused_whatever_is_allowed(zone: Zone) -> None:
    zone["metadata.example"] = ["169.254.169.254"]
    assert "169.254.169.254" in str(await led_astray("http://metadata.example", private=True))


@pytest.mark.parametrize("host", ["nowhere.example", "a..b", "x" * 70 + ".example"])
async def test_a_name_that_leads_nowhere_is_told(host: str) -> None:
    with pytest.raises(OSError):
        await led_astray(f"http://{host}/v1", private=False)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "017700000001"])
async def test_an_address_in_an_odd_spelling_is_what_it_means(host: str) -> None:
    assert "127.0.0.1" in str(await led_astray(f"http://{host}/v1", private=False))
