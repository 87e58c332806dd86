"""Saving: whole or as it was, tried on real faults of the file system."""

import errno
import os

import pytest

from hodsim import storage
from hodsim.storage import write_atomically


def test_writes_bytes_and_text_and_makes_folders(tmp_path):
    assert write_atomically(tmp_path / "a" / "b.txt", "Grüße").read_bytes() == "Grüße".encode()
    assert write_atomically(tmp_path / "a" / "b.txt", b"\x00\x01").read_bytes() == b"\x00\x01"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a device that is always full")
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "model.hod"
    path.write_bytes(b"old")
    real_open = open
    # every write of this module goes to a device that is full; flush fails with ENOSPC just as on a full disk
    monkeypatch.setattr(storage, "open", lambda file, mode: real_open("/dev/full", mode), raising=False)
    with pytest.raises(OSError, match=r"model\.hod could not be saved: No space left on device") as caught:
        write_atomically(path, b"new" * 100_000)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.hod"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"could not be saved"):
        write_atomically(tmp_path / "file" / "below.txt", "x")
