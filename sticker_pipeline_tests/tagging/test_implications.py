import pytest

from sticker_pipeline.tagging.categories import read_rows
from sticker_pipeline.tagging.implications import implied_by

ROWS = read_rows("implications.csv")
PLAIN = [(row["specific"], row["general"]) for row in ROWS if "*" not in row["specific"] + row["general"]]


@pytest.mark.parametrize(
    ("specific", "general"),
    [
        ("white shirt", "shirt"),
        ("torn white shirt", "white shirt"),
        ("dress shirt", "shirt"),
        ("very long hair", "long hair"),
        ("absurdly long hair", "long hair"),
        ("serafuku", "school uniform"),
        ("red serafuku", "uniform"),
        ("white cat ears", "animal ears"),
        ("mole under eye", "mole"),
        ("crying with eyes open", "crying"),
        ("hair flower", "hair ornament"),
        ("holding cup", "holding"),
        ("holding cup", "cup"),
        ("white background", "simple background"),
        ("^_^", "closed eyes"),
    ],
)
def test_implied(specific: str, general: str) -> None:
    assert general in implied_by(specific)


@pytest.mark.parametrize(
    ("specific", "general"),
    [
        # pairs that a substring test gets wrong
        ("sweater", "sweat"),
        ("elbow gloves", "bow"),
        ("multicolored hair", "red hair"),
        ("gloves", "v"),
        ("solo focus", "solo"),
        ("dress shirt", "dress"),
        # where the last word is not what the thing is
        ("no shoes", "shoes"),
        ("hot dog", "dog"),
        ("speech bubble", "bubble"),
        ("finger heart", "heart"),
        ("fake animal ears", "animal ears"),
        ("fake cat ears", "animal ears"),
        ("mole under eye", "eye"),
        ("hair over one eye", "hair"),
        ("holding hands", "holding"),
        ("eyepatch", "patch"),
        ("long hair", "short hair"),
        ("black hair", "blue hair"),
        ("star (symbol)", "star"),
    ],
)
def test_not_implied(specific: str, general: str) -> None:
    assert general not in implied_by(specific)


def test_every_row_holds_or_is_denied() -> None:
    for row in ROWS:
        if "*" not in row["specific"] + row["general"]:
            assert (row["general"] in implied_by(row["specific"])) == (row["holds"] == "yes"), row


def test_no_two_tags_imply_each_other() -> None:
    names = {name for pair in PLAIN for name in pair}
    for name in names:
        assert name not in implied_by(name)
        assert not [other for other in implied_by(name) if name in implied_by(other)]


def test_a_row_stands_once() -> None:
    assert len({(row["specific"], row["general"]) for row in ROWS}) == len(ROWS)
