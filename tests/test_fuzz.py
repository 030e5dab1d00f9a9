"""Files that were spoiled at random end in our errors; `python tests/fuzz.py` tries many more of them."""

from fuzz import fuzz


def test_no_loader_fails_with_an_error_that_is_not_ours(tastes, tmp_path):
    counts = fuzz(tastes, tmp_path, seconds=60, n_files=150, seed=0)
    assert counts.total() > 0 and all(any(word in what for what in counts) for word in ("taken", "refused"))
