"""What the library is for, on the shipped data: errors on the test ratings after full training."""

import numpy as np
import pytest

import saerec


@pytest.fixture(scope="module")
def study(movielens):
    """Train, valid and test of the original study's cut."""
    return saerec.split_ratings(saerec.top_users_and_items(movielens.ratings))


@pytest.mark.parametrize(("orientation", "highest"), [("item", 0.808), ("user", 0.84)])
def test_held_out_ratings_are_predicted_from_ratings_alone(study, orientation, highest):
    """The default of the series, which reads genres and years too, is measured in test_notebooks.py."""
    train, valid, test = study
    recommender = saerec.Recommender(orientation=orientation, rank_by="rating").fit(train, valid)
    assert recommender.evaluate(test)["rmse"] <= highest


def test_the_biases_alone_are_worse(study):
    train, _, test = study
    matrix = saerec.RatingMatrix.from_frame(train)
    rows, cols = matrix.user_ids.get_indexer(test["user_id"]), matrix.item_ids.get_indexer(test["item_id"])
    predicted = np.clip(saerec.BiasBaseline().fit(matrix).predict(rows, cols), *matrix.scale)
    assert 0.862 <= saerec.rmse(test["rating"], predicted) <= 0.865
