"""A training that is killed at random moments, again and again, leaves the same bytes as one that ran in peace."""

from kill import kill_and_compare


def test_killed_studies_end_with_the_same_bytes(parts, tmp_path):
    settings = {"hidden_dims": (8,), "n_epochs": 12, "batch_size": 16, "rank_by": "rating"}
    counts = kill_and_compare(*parts[:2], settings, n_kills=4, seed=0, folder=tmp_path)
    assert counts["kills"] == 4 and counts["compared"] >= 1
