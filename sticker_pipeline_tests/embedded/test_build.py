"""Finished parts, dependencies, replacement of a folder, and the shipped size."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from sticker_pipeline.embedded import build
from sticker_pipeline.embedded.__main__ import main
from sticker_pipeline.embedded.report import LIMIT_BYTES, folder_bytes

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "models" / "embedded"


def _shop(tmp_path: Path, **settings: object) -> build.Workshop:
    chosen = replace(build.Settings(), **settings)  # type: ignore[arg-type]
    return build.Workshop(
        work=tmp_path / "work",
        out=tmp_path / "out",
        characters=tmp_path / "characters",
        settings=chosen,
        say=lambda line: None,
    )


def test_a_part_depends_on_its_own_settings_and_on_what_it_builds_on(tmp_path: Path) -> None:
    plain = _shop(tmp_path)
    longer_vae = _shop(tmp_path, vae=replace(plain.settings.vae, steps=1))
    assert longer_vae.key("vae") != plain.key("vae")
    assert longer_vae.key("base") != plain.key("base")
    assert longer_vae.key("clip") == plain.key("clip")
    more = _shop(tmp_path, drawings=480)
    assert all(more.key(part) != plain.key(part) for part in ("draw", "vae", "base", "tagger", "clip"))


def test_finished_parts_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(
        build, "BUILDERS", {part: lambda shop, part=part: calls.append(part) or 1.0 for part in build.PARTS}
    )
    build.build(_shop(tmp_path), ("draw", "clip"))
    build.build(_shop(tmp_path), ("draw", "tagger", "clip"))
    assert calls == ["draw", "clip", "tagger"]
    build.build(_shop(tmp_path, clip=replace(build.Settings().clip, steps=5)), ("clip",))
    assert calls[3:] == ["clip"]


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--only tokenizer"):
        _shop(tmp_path).tokenizer()


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    build.write_folder(folder, lambda beside: (beside / "a").write_text("1"))

    def fail(beside: Path) -> None:
        (beside / "b").write_text("2")
        raise RuntimeError("out of paper")

    with pytest.raises(RuntimeError, match="out of paper"):
        build.write_folder(folder, fail)
    assert [path.name for path in folder.iterdir()] == ["a"]
    build.write_folder(folder, lambda beside: (beside / "c").write_text("3"))
    assert [path.name for path in folder.iterdir()] == ["c"]


def test_an_unknown_part_is_refused() -> None:
    result = CliRunner().invoke(main, ["--only", "draw,taggr"])
    assert result.exit_code == 2
    assert "unknown part 'taggr'" in result.output


def test_what_ships_is_small_and_safe() -> None:
    assert folder_bytes(SHIPPED) <= LIMIT_BYTES
    kinds = {path.suffix for path in SHIPPED.rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".onnx", ".json", ".txt", ".csv", ".md", ".webp"}
