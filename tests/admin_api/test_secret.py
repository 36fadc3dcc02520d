"""Secrets from the pepper."""

from __future__ import annotations

from admin_api.secret import derived


def test_each_purpose_has_a_secret_of_its_own() -> None:
    secrets = {derived(pepper, purpose) for pepper in (b"p" * 32, b"q" * 32) for purpose in ("access", "refresh")}
    assert len(secrets) == 4 and all(len(secret) == 32 for secret in secrets)


def test_a_secret_is_the_same_on_every_replica() -> None:
    assert derived(b"p" * 32, "access").hex() == "2fc3fd019ee124c023b85ba34fbd075c46786a2e72871db032282b6bc30193ee"
