"""The settings: where they come from, and that everything wrong is told at once, by the operator's own names."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from config.settings import (
    SettingsError,
    config_path,
    database_url,
    load_settings,
    settings_table,
    split_bind,
)
from tests.config.told import complaints, write

pytestmark = pytest.mark.usefixtures("bare")


def test_everything_has_a_default_but_secrets() -> None:
    settings = load_settings()
    assert settings.bind == "127.0.0.1:8080"
    assert settings.public_url == "http://127.0.0.1:8080"
    assert settings.upgrade_url == "http://127.0.0.1:8080/pricing"
    assert (settings.admin_key, settings.key_pepper, settings.database_url) == (None, None, None)


def test_the_environment_stands_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write('bind = "127.0.0.1:1"\n[limits]\nstreams_max = 7\nretries_max = 1\n[timeouts]\nconnect_s = 1.5\n')
    monkeypatch.setenv("FAREBOX_LIMITS__STREAMS_MAX", "9")
    settings = load_settings()
    assert (settings.bind, settings.limits.streams_max, settings.limits.retries_max) == ("127.0.0.1:1", 9, 1)
    assert settings.timeouts.connect_s == 1.5


def test_origins_of_web_pages_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().cors_origins == ()
    monkeypatch.setenv("FAREBOX_CORS_ORIGINS", "https://chat.example.org, http://[::1]:3000,*")
    assert load_settings().cors_origins == ("https://chat.example.org", "http://[::1]:3000", "*")
    for wrong in ("https://chat.example.org/", "chat.example.org", "https://Chat.example.org", "https://a b", "**"):
        monkeypatch.setenv("FAREBOX_CORS_ORIGINS", wrong)
        assert "must be * or like https://chat.example.org" in complaints()["FAREBOX_CORS_ORIGINS"]


def test_an_empty_variable_is_not_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREBOX_METRICS_BIND", "")
    assert load_settings().metrics_bind is None


@pytest.mark.parametrize("key", ["short", "with a space in it", "schlüssel-für-alles", "sk-fb-aaaaaaaaaaaaaaaaaaaa"])
def test_an_admin_key_is_long_and_travels_as_a_bearer(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("FAREBOX_ADMIN_KEY", key)
    told = complaints()
    assert list(told) == ["FAREBOX_ADMIN_KEY"] and key not in told["FAREBOX_ADMIN_KEY"]


def test_proxies_are_listed_in_the_environment_and_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().trusted_proxies == ()
    write('trusted_proxies = ["10.0.0.0/8"]\n')
    assert [str(each) for each in load_settings().trusted_proxies] == ["10.0.0.0/8"]
    monkeypatch.setenv("FAREBOX_TRUSTED_PROXIES", "192.0.2.1, 2001:db8::/32")
    assert [str(each) for each in load_settings().trusted_proxies] == ["192.0.2.1/32", "2001:db8::/32"]
    monkeypatch.setenv("FAREBOX_TRUSTED_PROXIES", "proxy.example")
    assert list(complaints()) == ["FAREBOX_TRUSTED_PROXIES[0]"]


def test_the_admin_api_may_have_an_address_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREBOX_ADMIN_BIND", "127.0.0.1:9000")
    assert load_settings().admin_bind == "127.0.0.1:9000"
    monkeypatch.setenv("FAREBOX_ADMIN_BIND", "9000")
    assert list(complaints()) == ["FAREBOX_ADMIN_BIND"]


def test_the_catalogue_in_the_file_is_no_setting() -> None:
    write('[[upstreams]]\nname = "a"\n[[models]]\nid = "m"\n[[tiers]]\nname = "t"\n')
    assert load_settings().default_tier == "free"


def test_everything_wrong_is_told_at_once_by_the_name_the_operator_used(monkeypatch: pytest.MonkeyPatch) -> None:
    write('bnid = "x"\n[limits]\nstreams_max = 0\nbody_byte_max = 1\n[redis]\non_failure = "shrug"\n')
    monkeypatch.setenv("FAREBOX_DATABASE_URL", "mysql://u:hunter2@h/d")
    monkeypatch.setenv("FAREBOX_KEY_PEPPER", "short-secret")
    monkeypatch.setenv("FAREBOX_BANK__BEAT_S", "9")
    told = complaints()
    assert told["bnid"] == "is not a setting; did you mean bind?"
    assert told["limits.streams_max"] == "must be greater than or equal to 1"
    assert told["limits.body_byte_max"] == "is not a setting; did you mean body_bytes_max?"
    assert told["redis.on_failure"] == "must be 'local' or 'refuse'"
    assert told["FAREBOX_DATABASE_URL"].startswith("must begin with postgresql://")
    assert told["FAREBOX_KEY_PEPPER"] == "must have at least 32 characters or members"
    assert "three times beat_s" in told["bank"]


def test_a_rejected_secret_is_not_in_the_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREBOX_DATABASE_URL", "mysql://u:hunter2@h/d")
    monkeypatch.setenv("FAREBOX_KEY_PEPPER", "short-secret")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value) and "short-secret" not in str(caught.value)


def test_secrets_do_not_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREBOX_DATABASE_URL", "postgres://u:hunter2@h/d")
    monkeypatch.setenv("FAREBOX_ADMIN_KEY", "an-admin-key-of-some-length")
    assert "hunter2" not in repr(load_settings()) and "an-admin-key" not in repr(load_settings())


def test_a_misspelt_variable_is_told_and_a_foreign_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREBOX_DATABASE_ULR", "x")
    monkeypatch.setenv("FAREBOX_PORT_8080_TCP_ADDR", "10.0.0.1")
    assert complaints() == {"FAREBOX_DATABASE_ULR": "is not a setting; did you mean FAREBOX_DATABASE_URL?"}


def test_a_consequence_of_a_told_mistake_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREBOX_BIND", "nonsense")
    assert complaints() == {"FAREBOX_BIND": "must be host:port, like 127.0.0.1:8080"}


def test_a_named_file_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREBOX_CONFIG", "elsewhere.toml")
    assert complaints() == {"elsewhere.toml": "cannot be read: No such file or directory"}


def test_the_default_file_may_be_absent() -> None:
    assert config_path() is None
    write("")
    assert config_path() == Path("farebox.toml")


def test_json_that_cannot_be_read_names_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREBOX_LIMITS", "{nonsense")
    assert complaints() == {"environment": "FAREBOX_LIMITS must be JSON"}


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_every_usual_spelling_of_a_postgres_address_is_taken(scheme: str) -> None:
    assert database_url(f"{scheme}://u@h/d?sslmode=require") == "postgresql+asyncpg://u@h/d?ssl=require"


@pytest.mark.parametrize("text", ["sqlite:///x", "postgresql+psycopg://h/d", "h/d", ""])
def test_other_databases_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must begin with"):
        database_url(text)


def test_an_address_splits_into_host_and_port() -> None:
    assert split_bind("[::1]:80") == ("::1", 80)
    for text in ("::", "host:", ":80", "h:99999", "h:٣"):
        with pytest.raises(ValueError, match="host:port"):
            split_bind(text)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().bind = "x:1"


def test_every_setting_says_what_it_is() -> None:
    rows = [row.split("|") for row in settings_table().splitlines()[2:]]
    assert all(len(row) == 5 and row[3].strip() for row in rows)
    assert "`FAREBOX_LIMITS__BODY_BYTES_MAX`" in settings_table() and "[[issuers]] jwks_url" in settings_table()
