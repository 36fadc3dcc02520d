"""Puts into words what a person is told: in that person's language, with the tier's own texts, and with links that are
that person's. Once, where it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from config.catalog import Catalog
from gateway.errors import Refusal
from gateway.language import FALLBACK, Language, Link, Sentence, language_of, shipped
from gateway.links import Links
from policies.principal import Principal

_NO_TEXTS: Mapping[str, str] = {}


class Voice:
    """One for each process. Without ``links`` every address stays as it is."""

    def __init__(
        self, catalog: Callable[[], Catalog] = Catalog, language: str = FALLBACK, links: Links | None = None
    ) -> None:
        self._catalog = catalog
        self._language = language
        self._links = links

    def language(self, *codes: str) -> Language:
        """The first of these languages that there is, else the house's own."""
        return language_of(*codes, self._language)

    def put(self, refusal: Refusal, principal: Principal | None = None) -> Refusal:
        """The refusal, in words for this person (None: whoever it is)."""
        said, url = refusal.said, refusal.details.get("upgrade_url")
        if principal is not None and url:
            refusal.details["upgrade_url"] = personal = self._personal(url, principal)
            # One link for both: made a second later, it would be another.
            if isinstance(said, Sentence) and said.values.get("url") == Link(url):
                said = Sentence(said.key, {**said.values, "url": Link(personal)})
        if isinstance(said, Sentence):
            refusal.put(self.say(said, principal, refusal.language))
        return refusal

    def say(self, said: Sentence, principal: Principal | None = None, language: str = "") -> str:
        """The sentence in words; ``language`` is that of somebody who is not the caller of anything yet."""
        if principal is None:
            return self.language(language).say(said)
        link = said.values.get("url")
        if isinstance(link, Link):
            said = Sentence(said.key, {**said.values, "url": Link(self._personal(link.url, principal))})
        own, code = self._own(principal)
        return self.language(code).say(said, own)

    def _own(self, principal: Principal) -> tuple[Mapping[str, str], str]:
        """The tier's own texts in the person's language, and that language's code."""
        tier = self._catalog().tier(principal.tier)
        texts = tier.sentences if tier is not None else {}
        for wanted in (principal.language, self._language):
            for code in (wanted, wanted.partition("-")[0]):
                if code in texts or code in shipped():
                    return texts.get(code, _NO_TEXTS), code
        return _NO_TEXTS, self._language

    def _personal(self, url: str, principal: Principal) -> str:
        # Behind a key by which an admin acts as somebody, no door is opened that outlives the key.
        if self._links is None or principal.acted_by:
            return url
        return self._links.personal(url, principal.user_id)
