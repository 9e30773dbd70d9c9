"""Files are there whole or not at all."""

from pathlib import Path

import pytest

from commin.atomic import replacing, write_text


def test_a_file_is_replaced_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "ρ = 1/48\n")
    with replacing(path) as temporary:
        temporary.write_text("later\n")
        assert path.read_text(encoding="utf-8") == "ρ = 1/48\n"
        assert temporary.parent == path.parent
    assert path.read_text() == "later\n"
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("ha")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match=r"a\.txt"):
        write_text(path / "b.txt", "")
