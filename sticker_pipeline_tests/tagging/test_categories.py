import pytest

from sticker_pipeline.embedded.scene import VOCABULARY
from sticker_pipeline.tagging.categories import ORDER, category_of, known_category, read_rows

ROWS = read_rows("categories.csv")


def test_the_table_is_large_and_well_formed() -> None:
    assert len(ROWS) >= 300
    assert {row["kind"] for row in ROWS} == set(ORDER[1:])
    assert all(row["tag"] == row["tag"].strip() and "," not in row["tag"] for row in ROWS)


def test_every_row_decides_its_own_tag() -> None:
    for row in ROWS:
        if "*" not in row["tag"]:
            category = category_of(row["tag"])
            assert (category.kind, category.inherent_candidate) == (row["kind"], row["inherent"] == "yes"), row


def test_every_tag_of_the_drawn_images_is_described() -> None:
    assert [tag for tag in VOCABULARY if known_category(tag) is None] == []


@pytest.mark.parametrize(
    ("tag", "kind", "inherent"),
    [
        # colours and lengths of hair, whichever they are
        ("silver hair", "face", True),
        ("light brown hair", "face", True),
        ("wet hair", "face", False),
        # eyes: colour is the person's, lids are the image's
        ("amber eyes", "face", True),
        ("closed eyes", "face", False),
        ("half-closed eyes", "face", False),
        # species and marks
        ("red panda ears", "face", True),
        ("fake animal ears", "face", False),
        ("white tail", "body", True),
        ("colored skin", "body", True),
        ("mole under left eye", "face", True),
        ("scar on nose", "face", True),
        # clothes are no traits, and have the category of what they are a kind of
        ("torn red dress shirt", "body", False),
        ("cat hair ornament", "face", False),
        ("green background", "style", False),
        ("red theme", "style", False),
        ("holding saxophone", "props", False),
        ("no panties", "body", False),
        ("something nobody described", "props", False),
    ],
)
def test_categories_by_rule(tag: str, kind: str, inherent: bool) -> None:
    category = category_of(tag)
    assert (category.kind, category.inherent_candidate) == (kind, inherent)


def test_unknown_tags_come_last() -> None:
    assert known_category("something nobody described") is None
    assert category_of("something nobody described").rank == len(ROWS)
