"""Files on disk: what counts as a whole archive, second names, and systems without folder flushes."""

import os
import zipfile

import pytest
import torch

from apelr_model import archive
from apelr_model.archive import flush_folder, link_or_copy, read_pickle, verify_archive


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "saved.pt"
    torch.save({"tensor": torch.arange(10.0)}, path)
    return path


def rewrite(path, change):
    """Write the archive again, each record passed through `change(name, data) -> (data, compression)`."""
    with zipfile.ZipFile(path) as old:
        records = [(name, old.read(name)) for name in old.namelist()]
    with zipfile.ZipFile(path, "w") as new:
        for name, data in records:
            changed, compression = change(name, data)
            new.writestr(name, changed, compress_type=compression)


def test_what_torch_writes_is_whole(saved):
    verify_archive(saved)


def test_a_wrong_checksum_names_the_record(saved):
    data = bytearray(saved.read_bytes())
    data[data.index(torch.arange(10.0).numpy().tobytes())] ^= 1
    saved.write_bytes(data)
    with pytest.raises(zipfile.BadZipFile, match=r"^checksum of record saved/data/0 is wrong$"):
        verify_archive(saved)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_record_is_refused(saved, compression):
    """Nothing that expands on reading, so no small file that fills the memory."""
    rewrite(saved, lambda name, data: (data, compression if name.endswith("data/0") else zipfile.ZIP_STORED))
    with pytest.raises(zipfile.BadZipFile, match=r"^header of record saved/data/0 is wrong$"):
        verify_archive(saved)


def test_a_record_that_calls_itself_a_folder_is_refused(saved):
    """torch.load would leave such a tensor's memory unread and uninitialised."""
    data = bytearray(saved.read_bytes())
    entry = data.rindex(b"saved/data/0") - 46
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + 38] ^= 0x10
    saved.write_bytes(data)
    with pytest.raises(zipfile.BadZipFile, match=r"^header of record saved/data/0 is wrong$"):
        verify_archive(saved)


def test_a_second_name_is_a_hard_link(saved, tmp_path):
    link_or_copy(saved, tmp_path / "other.pt")
    assert saved.samefile(tmp_path / "other.pt")


@pytest.mark.parametrize("error", [OSError(95, "not supported"), NotImplementedError()])
def test_without_hard_links_it_is_a_flushed_copy(saved, tmp_path, monkeypatch, error):
    def refuse(*_):
        raise error

    flushed = []
    monkeypatch.setattr(archive.os, "link", refuse)
    monkeypatch.setattr(archive.os, "fsync", flushed.append)
    link_or_copy(saved, tmp_path / "other.pt")
    assert (tmp_path / "other.pt").read_bytes() == saved.read_bytes()
    assert not saved.samefile(tmp_path / "other.pt")
    assert len(flushed) == 1


def test_without_os_link_it_is_a_copy(saved, tmp_path, monkeypatch):
    monkeypatch.delattr(archive.os, "link")
    link_or_copy(saved, tmp_path / "other.pt")
    assert (tmp_path / "other.pt").read_bytes() == saved.read_bytes()


def test_folders_are_flushed_where_the_system_can(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(archive.os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    flush_folder(tmp_path)
    assert flushed == ([tmp_path.stat().st_ino] if hasattr(os, "O_DIRECTORY") else [])


def test_folders_are_not_opened_where_the_system_cannot(tmp_path, monkeypatch):
    """As on Windows, where opening a folder is an error."""

    def refuse(*_):
        raise PermissionError(13, "a folder cannot be opened")

    monkeypatch.delattr(archive.os, "O_DIRECTORY", raising=False)
    monkeypatch.setattr(archive.os, "open", refuse)
    flush_folder(tmp_path)


def test_the_descriptor_is_closed_when_the_flush_fails(tmp_path, monkeypatch):
    closed = []
    close = os.close

    def fail(descriptor):
        raise OSError(5, "input/output error")

    monkeypatch.setattr(archive.os, "fsync", fail)
    monkeypatch.setattr(archive.os, "close", lambda descriptor: closed.append(close(descriptor)))
    with pytest.raises(OSError, match="input/output error"):
        flush_folder(tmp_path)
    assert len(closed) == 1


def test_records_that_share_their_bytes_are_refused(saved, tmp_path):
    """A small file whose many records are all the same large one."""
    torch.save(torch.arange(1000.0), saved)
    whole = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        start = archive.start_dir
    entry = whole.rindex(b"saved/data/0") - 46
    size = 46 + sum(int.from_bytes(whole[entry + at : entry + at + 2], "little") for at in (28, 30, 32))
    copies = b"".join(whole[entry : entry + size].replace(b"data/0", b"dat%03d" % i) for i in range(1000))
    path = tmp_path / "overlapping.pt"
    directory = whole[start : entry + size] + copies
    end = bytearray(whole[whole.rindex(b"PK\x05\x06") :])
    count = int.from_bytes(end[10:12], "little") + 1000
    end[8:10] = end[10:12] = count.to_bytes(2, "little")
    end[12:16] = len(directory).to_bytes(4, "little")
    path.write_bytes(whole[:start] + directory + bytes(end))
    with pytest.raises(zipfile.BadZipFile, match=r"^its records are larger than the file$"):
        verify_archive(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name_are_refused(saved):
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("saved/data.pkl", b"other")
    with pytest.raises(zipfile.BadZipFile, match=r"^its directory is wrong$"):
        verify_archive(saved)


def test_a_comment_in_the_directory_is_refused(saved):
    with zipfile.ZipFile(saved, "a") as archive:
        archive.comment = b"where another reader might find another directory"
    with pytest.raises(zipfile.BadZipFile, match=r"^its directory is wrong$"):
        verify_archive(saved)


def test_the_pickle_is_the_one_there_is(saved):
    assert read_pickle(saved).startswith(b"\x80\x02")
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("other/data.pkl", b"")
    with pytest.raises(zipfile.BadZipFile, match=r"^it holds 2 records data\.pkl$"):
        read_pickle(saved)
