"""A training that is killed at random moments, again and again, leaves the same bytes as one that ran in peace."""

from functools import partial

from kill import RESULTS, kill_and_compare, study


def test_killed_studies_end_with_the_same_bytes(parts, tmp_path):
    settings = {"hidden_dims": (8,), "n_epochs": 12, "batch_size": 16}
    one = partial(study, train=parts[0], valid=parts[1], settings=settings)
    counts = kill_and_compare(one, RESULTS, n_kills=4, seed=0, folder=tmp_path)
    assert counts["kills"] == 4 and counts["compared"] >= 1
