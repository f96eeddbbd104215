"""Archives: equal bytes for equal files, readable by the standard library's readers."""

import io
import tarfile
import time
import zipfile

from sticker_pipeline.packing.archives import tar_gz_of, zip_of

FILES = {"b.png": b"\x89PNG" * 100, "a/漢.txt": "Grüße".encode(), "empty": b""}


def test_archives_do_not_depend_on_the_time(monkeypatch):
    first = zip_of(FILES), tar_gz_of(FILES)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    assert (zip_of(FILES), tar_gz_of(FILES)) == first


def test_zip_holds_the_files_in_order():
    with zipfile.ZipFile(io.BytesIO(zip_of(FILES))) as archive:
        assert {one.filename: archive.read(one) for one in archive.infolist()} == FILES
        assert archive.namelist() == list(FILES)
        assert {one.external_attr >> 16 for one in archive.infolist()} == {0o100644}


def test_tar_holds_the_files_in_order():
    with tarfile.open(fileobj=io.BytesIO(tar_gz_of(FILES)), mode="r:gz") as archive:
        assert archive.getnames() == list(FILES)
        assert {name: archive.extractfile(name).read() for name in archive.getnames()} == FILES
