"""What the library is for, on the shipped data: errors on the test ratings after full training."""

import numpy as np
import pytest

import saerec


@pytest.fixture(scope="module")
def study(movielens):
    """Train, valid and test of the original study's cut."""
    return saerec.split_ratings(saerec.top_users_and_items(movielens.ratings))


def test_a_row_for_each_user_predicts_held_out_ratings(study):
    """The default, a row for each item, is measured in test_notebooks.py."""
    train, valid, test = study
    assert saerec.Recommender(orientation="user").fit(train, valid).evaluate(test)["rmse"] <= 0.84


def test_the_biases_alone_are_worse(study):
    train, _, test = study
    matrix = saerec.RatingMatrix.from_frame(train)
    rows, cols = matrix.user_ids.get_indexer(test["user_id"]), matrix.item_ids.get_indexer(test["item_id"])
    predicted = np.clip(saerec.BiasBaseline().fit(matrix).predict(rows, cols), *matrix.scale)
    assert 0.862 <= saerec.rmse(test["rating"], predicted) <= 0.865
