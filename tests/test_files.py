"""A file is whole or not there."""

import pytest

from saerec.files import save_atomically


def test_a_failed_write_leaves_what_was_there(tmp_path):
    def fail(path):
        path.write_text("ha")
        raise OSError("disk full")

    save_atomically(tmp_path / "a", lambda path: path.write_text("whole"))
    with pytest.raises(OSError, match="disk full"):
        save_atomically(tmp_path / "a", fail)
    with pytest.raises(OSError, match="disk full"):
        save_atomically(tmp_path / "b", fail)
    assert (tmp_path / "a").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
