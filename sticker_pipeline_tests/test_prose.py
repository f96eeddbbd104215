"""Rules of first lines, on valid and invalid lines."""

from pathlib import Path

import pytest

from sticker_pipeline_tests.prose import fault_of, faults_below


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("Return the norm of a change, float32[].", None),
        ("The gradient of a batch: `forward` and `backward` through the `unet`, in its precision.", None),
        ("Whether a model copies.", "begin with a noun or a verb"),
        ("One two three four five six seven eight nine ten eleven twelve more.", "13 words"),
        ("Read the table and", "end the first sentence"),
        ("Raise what is wrong (a `ValueError`).", None),
    ],
)
def test_first_lines(line: str, fault: str | None) -> None:
    assert (fault_of(line) or "").startswith(fault or "") and (fault is None) == (fault_of(line) is None)


def test_faults_name_their_place(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text('"""A module."""\n\n\ndef f():\n    """How it works."""\n')
    assert list(faults_below(tmp_path)) == [f"{tmp_path}/one.py:4: begin with a noun or a verb: How it works."]
