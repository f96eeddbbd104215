"""Archives of packs, with equal bytes for equal files."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping

FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can state
MODE = 0o644


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of `files`, in order, not compressed: images are already."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, FIRST_DAY)
            entry.create_system, entry.external_attr = 3, (0o100000 | MODE) << 16  # as on Unix
            archive.writestr(entry, data)
    return buffer.getvalue()


def tar_gz_of(files: Mapping[str, bytes]) -> bytes:
    """Return a gzipped tar of `files`, in order, without owner and time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), MODE
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)
