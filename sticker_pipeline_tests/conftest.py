"""Fixtures that every stage's tests share."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Real characters and hostile files kept beside the checkout; tests that need them skip where there are none."""
    folder = REPOSITORY.parent / "shared" / "realdata"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return folder


@pytest.fixture(scope="session")
def embedded_models() -> Path:
    return REPOSITORY / "data" / "models" / "embedded"
