"""The owners of the assets are those of the deployment."""

import pytest

from sticker_pipeline.dagster_kit.owners import OwnerError, owned, owners
from sticker_pipeline.definitions import defs


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("", []),
        (" , ", []),
        ("ada@example.org", ["ada@example.org"]),
        ("team:stickers, ada@example.org,", ["team:stickers", "ada@example.org"]),
    ],
)
def test_owners_are_people_and_teams(value: str, found: list[str]) -> None:
    assert owners({"STICKER_OWNER": value}) == found
    assert owners({}) == []


@pytest.mark.parametrize("value", ["ada", "team:", "ada@example.org, ada", "ada@"])
def test_another_owner_is_one_sentence(value: str) -> None:
    with pytest.raises(OwnerError, match=r"^STICKER_OWNER: '(ada|team:|ada@)' is no owner\. Write an"):
        owners({"STICKER_OWNER": value})


def test_every_asset_has_the_owners_and_is_otherwise_the_same() -> None:
    plain = {spec.key: spec for spec in defs().resolve_all_asset_specs()}
    assert not any(spec.owners for spec in plain.values())
    named = {spec.key: spec for spec in owned(defs(), ["team:stickers"]).resolve_all_asset_specs()}
    assert named == {key: spec.replace_attributes(owners=["team:stickers"]) for key, spec in plain.items()}


def test_the_definitions_read_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STICKER_OWNER", "team:stickers")
    assert {owner for spec in defs().resolve_all_asset_specs() for owner in spec.owners} == {"team:stickers"}
