"""Small made ratings with a known structure, the shipped MovieLens set, and a check that nobody changes either."""

import os
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch

import saerec

torch.set_num_threads(1)  # the matrices are tiny: threads would mostly wait for each other
os.environ["OMP_NUM_THREADS"] = "1"  # nor do the notebooks gain, while two processes of pytest share the cores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that execute notebooks come first: they take longest, and two processes share the files."""
    items.sort(key=lambda item: item.get_closest_marker("series") is None)


@pytest.fixture(scope="session")
def tastes() -> Iterator[pd.DataFrame]:
    """About half of 40 users × 24 items, ids with gaps, half stars: two tastes, biases and noise; no row order."""
    rng = np.random.default_rng(0)
    rows, cols = np.nonzero(rng.random((40, 24)) < 0.5)
    taste = np.where(rows % 2 == cols % 2, 1.2, -1.2)
    bias = rng.normal(0, 0.5, 40)[rows] + rng.normal(0, 0.5, 24)[cols]
    rating = np.clip(np.round(2 * (3 + taste + bias + rng.normal(0, 0.3, len(rows)))) / 2, 0.5, 5)
    frame = pd.DataFrame(
        {
            "user_id": 1000 + 7 * rows,
            "item_id": 10 + 3 * cols**2,
            "rating": rating.astype(np.float32),
            "timestamp": rng.integers(0, 1000, len(rows)),
        }
    ).sample(frac=1, random_state=0)
    yield from _unchanged(frame)


@pytest.fixture(scope="session")
def parts(tastes) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]:
    """Train, valid, test; user 1000 and item 10 are not in train, user 1007 and item 13 are in test alone."""
    train, valid, test = saerec.split_ratings(tastes, valid=0.2, test=0.2, seed=0)
    unknown = [(frame["user_id"] == 1007) | (frame["item_id"] == 13) for frame in (train, valid)]
    train, valid, test = (
        train[~unknown[0]],
        valid[~unknown[1]],
        pd.concat([test, train[unknown[0]], valid[unknown[1]]]),
    )
    cold = (train["user_id"] == 1000) | (train["item_id"] == 10)
    train, valid = train[~cold], pd.concat([valid, train[cold]])
    copies = [frame.copy() for frame in (train, valid, test)]
    yield train, valid, test
    for frame, copy in zip((train, valid, test), copies):
        pd.testing.assert_frame_equal(frame, copy)


@pytest.fixture(scope="session")
def movielens() -> Iterator[saerec.Dataset]:
    """The data that ship with the repository."""
    data = saerec.load_movielens()
    ratings, movies = data.ratings.copy(), data.movies.copy()
    yield data
    pd.testing.assert_frame_equal(data.ratings, ratings)
    pd.testing.assert_frame_equal(data.movies, movies)


def _unchanged(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    copy = frame.copy()
    yield frame
    pd.testing.assert_frame_equal(frame, copy)
