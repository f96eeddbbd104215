"""Settings for short tests: two steps of training need no compiling, which takes minutes."""

from collections.abc import Iterator

import pytest

from sticker_pipeline.embedded import loop


@pytest.fixture(scope="session", autouse=True)
def uncompiled() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "compiled", lambda module: module)
        yield
