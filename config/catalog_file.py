"""How an operator writes the catalogue: TOML tables in, values of ``catalog.py`` out. Touches no file itself.

Money is decimal text in USD; prices are USD per 1M tokens or characters, and per ONE image, second or web search.
Inside, all are whole numbers. Everything wrong is reported at once, each with its path (``models[2].prices.input``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from config.catalog import Declared, complaints
from config.catalog_forms import ModelForm, TimeoutsForm, UpstreamForm
from config.complaints import Complaint, ComplaintsError, did_you_mean, path_text, plain
from config.form import Form
from config.price_form import KindsForm, LongContextForm, PricesForm
from config.task_form import CapForm, TaskForm
from config.tier_form import AllowanceForm, TierForm, WindowForm

# Fields by which one entry refers to another.
_LINKS = ("name", "id", "upstream", "fallback", "upgrade_to", "model")

_PLACES: dict[str, type[Form]] = {
    "timeouts": TimeoutsForm,
    "prices": PricesForm,
    "long_context": LongContextForm,
    "variants": KindsForm,
    "windows": WindowForm,
    "allowance": AllowanceForm,
    "cap": CapForm,
}


def read_catalog(document: Mapping[str, Any], *, default_tier: str | None = None) -> Declared:
    """The catalogue in the file's tables. ``default_tier`` must be among the tiers, where any are declared.

    Raises ComplaintsError with everything that is wrong.
    """
    wrong: list[Complaint] = []
    upstreams = _read("upstreams", UpstreamForm, document, wrong)
    models = _read("models", ModelForm, document, wrong)
    tiers = _read("tiers", TierForm, document, wrong)
    tasks = _read("tasks", TaskForm, document, wrong)
    declared = Declared(
        upstreams=tuple(form.value() for form in upstreams),
        models=tuple(form.value() for form in models),
        tiers=tuple(form.value() for form in tiers),
        rates={form.id: rates for form in models if (rates := form.rates()) is not None},
        tasks=tuple(form.value() for form in tasks),
    )
    told = {complaint.where for complaint in wrong}
    wrong += (complaint for complaint in complaints(declared) if complaint.where not in told)
    if default_tier and tiers and default_tier not in {tier.name for tier in tiers}:
        wrong.append(Complaint("tiers", f"the default tier {default_tier} is not among them"))
    if wrong:
        raise ComplaintsError(wrong)
    return declared


F = TypeVar("F", UpstreamForm, ModelForm, TierForm, TaskForm)


def _read(table: str, form: type[F], document: Mapping[str, Any], wrong: list[Complaint]) -> list[F]:
    entries = document.get(table, [])
    if not isinstance(entries, list):
        wrong.append(Complaint(table, f"must be written as [[{table}]]"))
        return []
    read = []
    for index, entry in enumerate(entries):
        try:
            read.append(form.model_validate(entry))
        except ValidationError as error:
            wrong += _told(error, (table, index), form)
            read.append(_stand_in(form, entry))
    return read


def _stand_in(form: type[F], entry: Any) -> F:
    """A broken entry's place: what others refer to stays known, so that one mistake is not told as two."""
    given = entry if isinstance(entry, dict) else {}
    links = {name: given[name] for name in _LINKS if isinstance(given.get(name), str) and given[name]}
    blank = dict.fromkeys(("name", "id", "upstream", "base_url"), "?")
    return form.model_construct(
        None, **{name: text for name, text in (blank | links).items() if name in form.model_fields}
    )


def _told(error: ValidationError, place: tuple[str, int], form: type[Form]) -> Iterator[Complaint]:
    for entry in error.errors(include_url=False, include_input=False):
        what, location = plain(entry), entry["loc"]
        if what is not None:
            if entry["type"] == "extra_forbidden":
                what += did_you_mean(str(location[-1]), _known_at(location, form))
            yield Complaint(path_text((*place, *location)), what)


def _known_at(location: tuple[str | int, ...], form: type[Form]) -> Iterable[str]:
    places = [_PLACES[step] for step in location[:-1] if isinstance(step, str) and step in _PLACES]
    return (places or [form])[-1].model_fields
