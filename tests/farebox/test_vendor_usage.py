"""A vendor's export is read in its own words, or refused with the line that is wrong."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from farebox.vendor_usage import Key, VendorUsage, VendorUsageError, read_vendor_usage
from ledger.usage import INPUT_KINDS, KINDS, OUTPUT_KINDS

DAY = date(2026, 11, 20)
HEAD = "day,model,kind,amount"


def read(*rows: str, head: str = HEAD) -> VendorUsage:
    return read_vendor_usage([f"{line}\n" for line in (head, *rows)])


def measures(usage: VendorUsage) -> dict[str, Decimal]:
    return {usage.names[key.kinds]: amount for key, amount in usage.amounts.items()}


def test_csv_and_json_lines_say_the_same() -> None:
    csv = read("2026-11-20,m,input_tokens,5", "2026-11-20,m,output_tokens,7")
    lines = [
        '{"day": "2026-11-20", "model": "m", "kind": "input_tokens", "amount": 5}\n',
        "\n",
        '{"day": "2026-11-20", "model": "m", "kind": "output_tokens", "amount": "7"}\n',
    ]
    assert csv == read_vendor_usage(lines)
    assert csv.amounts == {Key(DAY, "m", INPUT_KINDS): 5, Key(DAY, "m", OUTPUT_KINDS): 7}


def test_rows_of_the_same_figure_are_added_up_whatever_its_name() -> None:
    assert measures(read("2026-11-20,m,prompt_tokens,5", "2026-11-20,m,Input_Tokens,7")) == {"prompt_tokens": 12}


def test_every_kind_of_ours_is_known_by_its_name() -> None:
    usage = read(*(f"2026-11-20,m,{kind},1" for kind in KINDS))
    assert {key.kinds for key in usage.amounts} == {(kind,) for kind in KINDS} and not usage.unknown_kinds


def test_input_tokens_leave_out_the_cached_ones_where_the_vendor_counts_them_beside() -> None:
    usage = read("2026-11-20,m,input_tokens,5", "2026-11-20,m,cache_read_input_tokens,7")
    assert Key(DAY, "m", ("input", "audio_in", "image_in")) in usage.amounts


def test_an_instant_counts_for_its_utc_day() -> None:
    usage = read("2026-11-21T00:30:00+01:00,m,input,1", "2026-11-20T23:59:59Z,m,input,1", "2026-11-20,m,input,1")
    assert measures(usage) == {"input": 3}


def test_columns_in_any_order_and_what_is_not_understood_is_named() -> None:
    usage = read("9,m,x,input,2026-11-20", "3,m,x,smiles,2026-11-20", head="\ufeffAmount, Model,Project,kind,day")
    assert measures(usage) == {"input": 9}
    assert (usage.unknown_columns, usage.unknown_kinds) == ({"project"}, {"smiles"})


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "has no rows"),
        (["2026-11-20,m,input,-1"], "line 2: .* is not an amount"),
        (["2026-11-20,m,input,NaN"], "line 2: .* is not an amount"),
        (["2026-11-20,m,input,1e99"], "line 2: .* is not an amount"),
        (["2026-11-20,m,input,many"], "line 2: .* is not an amount"),
        (["2026-11-20,m,input,1", "20.11.26,m,input,1"], "line 3: .* is not a day"),
        (["2026-11-20,m,input"], "line 2: has no amount"),
        (["2026-11-20,,input,1"], "line 2: has no model"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(rows: list[str], why: str) -> None:
    with pytest.raises(VendorUsageError, match=why):
        read(*rows)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["day,model,amount\n"], "has no column kind"),
        ([], "has no column day"),
        (["{\n"], "line 1: is not a JSON object"),
        (['{"day": "2026-11-20", "model": "m", "kind": "input", "amount": true}'], "not an amount"),
        (['{"day": "2026-11-20", "model": "m", "kind": "input", "amount": [1]}'], "not an amount"),
        (['{"day": "2026-11-20", "model": "m", "kind": "input", "amount": 1e9999999999999999999999}'], "JSON object"),
        (["day,model,kind,amount\n", "x" * 200_000], "field larger than"),
    ],
)
def test_what_is_no_export_is_an_error(lines: list[str], why: str) -> None:
    with pytest.raises(VendorUsageError, match=why):
        read_vendor_usage(lines)
