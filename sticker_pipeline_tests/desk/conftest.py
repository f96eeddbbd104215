"""A desk over one small character."""

from pathlib import Path

import pytest

from sticker_pipeline.desk.session import Session
from sticker_pipeline_tests.desk.example import add_character, make_dataset, session


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add_character(tmp_path)
    make_dataset(tmp_path)
    return tmp_path


@pytest.fixture
def desk(root: Path) -> Session:
    return session(root)
