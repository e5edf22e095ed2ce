from __future__ import annotations

from sconv_search.studies.space.site_text import WIDTH, site_lines


def test_sites_are_listed_with_their_options_and_skipped_layers_under_their_reason() -> None:
    skipped = {
        "head": "no option is cheaper than dense",
        "norm": "not supported",
        "tail": "no option is cheaper than dense",
    }
    assert list(site_lines({"0": 3, "1.conv": 12}, skipped)) == [
        "sites, each with its number of options: 0 (3), 1.conv (12)",
        "skipped head, tail: no option is cheaper than dense",
        "skipped norm: not supported",
    ]


def test_many_names_are_folded_and_none_is_cut_or_lost() -> None:
    names = [f"backbone.stage{number}.0.branches.{number % 4}.conv1" for number in range(150)]
    lines = list(site_lines(dict.fromkeys(names, 21), dict.fromkeys(names, "why")))
    assert all(len(line) <= WIDTH for line in lines)
    assert len(lines) < 2 * len(names) / 2
    words = " ".join(line.strip() for line in lines)
    sites, skipped = words.removesuffix(": why").split(" skipped ")
    assert sites.removeprefix("sites, each with its number of options: ").split(", ") == [
        f"{name} (21)" for name in names
    ]
    assert skipped.split(", ") == names
