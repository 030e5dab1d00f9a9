"""Intervals hold the stated share of ratings not used to calibrate them, everywhere, and know what they rest on."""

import numpy as np
import pytest

from saerec import PredictionIntervals
from saerec.intervals import describe


def made(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, predictions and ratings: the noise is the user's spread, and less for items with many ratings."""
    rng = np.random.default_rng(seed)
    user_counts, item_counts = rng.integers(1, 300, n), rng.integers(1, 300, n)
    user_spread, item_spread = rng.uniform(0.3, 1.5, n), rng.uniform(0.8, 1.2, n)
    predicted = rng.uniform(1, 5, n)
    noise = user_spread * (1 + item_counts) ** -0.2
    return describe(user_counts, user_spread, item_counts, item_spread), predicted, rng.normal(predicted, noise)


@pytest.fixture(scope="module")
def intervals():
    return PredictionIntervals().fit(*made(4000))


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_hold_the_stated_share_of_new_ratings_in_every_group(intervals, coverage):
    features, predicted, rating = made(20_000, seed=1)
    width = intervals.half_width(features, predicted, coverage)
    inside = np.abs(rating - predicted) <= width
    assert inside.mean() == pytest.approx(coverage, abs=0.015) and width.dtype == np.float32
    for values in (predicted, *features.T):
        for group in np.array_split(np.argsort(values), 4):
            assert inside[group].mean() == pytest.approx(coverage, abs=0.05)


def test_find_what_errors_depend_on(intervals):
    intercept, user_spread, item_spread, user_count, item_count = intervals.coefficients
    assert [user_spread, item_spread] == pytest.approx([1, 0], abs=0.1)
    assert [user_count, item_count] == pytest.approx([0, -0.2], abs=0.03)
    assert np.exp(intercept) == pytest.approx(np.sqrt(2 / np.pi), rel=0.2)  # of a normal error


def test_the_end_of_the_scale_is_another_shape_and_taken_into_account():
    """High predictions fail rarely and then by far: from the mean error alone intervals would be far too wide."""
    features, predicted, rating = made(4000)
    rare = np.where(np.random.default_rng(2).random(4000) < 0.1, predicted - 3, predicted - 0.1)
    rating = np.where(predicted > 4.2, rare, rating)
    intervals = PredictionIntervals().fit(features, predicted, rating)
    inside = np.abs(rating - predicted) <= intervals.half_width(features, predicted)
    assert inside[predicted > 4.5].mean() < 0.95
    assert intervals.factors(0.8)[-1] < 0.5 * intervals.factors(0.8)[0]


def test_between_the_medians_of_the_groups_is_interpolated():
    intervals = PredictionIntervals()
    intervals.coefficients, intervals.centres = np.array([0.0, 1.0]), np.array([2.0, 4.0])
    intervals.quantiles = np.linspace([0, 0], [10, 20], 101).T
    features = np.log([[1.0], [1.0], [2.0], [1.0]])
    width = intervals.half_width(features, np.array([1.0, 3.0, 3.0, 5.0]), 0.5)
    assert width.tolist() == pytest.approx([5, 7.5, 15, 10])


@pytest.mark.parametrize("n", [1, 3, 30])
def test_few_ratings_give_one_group_and_finite_intervals(n):
    features, predicted, rating = made(n)
    intervals = PredictionIntervals().fit(features, predicted, rating)
    assert len(intervals.centres) == 1
    assert np.isfinite(intervals.half_width(*made(50)[:2])).all()


def test_errors_of_nothing_and_spreads_of_nothing_are_narrow_intervals():
    features = describe(np.arange(50), np.zeros(50), np.arange(50), np.zeros(50))
    intervals = PredictionIntervals().fit(features, np.ones(50), np.ones(50))
    assert (intervals.half_width(features, np.ones(50)) < 1e-4).all()


@pytest.mark.parametrize("coverage", [0, 1, 80, float("nan")])
def test_a_coverage_that_is_no_share_is_refused(intervals, coverage):
    with pytest.raises(ValueError, match=f"coverage is a share .* not {coverage}"):
        intervals.half_width(*made(3)[:2], coverage)


def test_ratings_that_scatter_more_make_nobody_surer():
    features, predicted, _ = made(4000)
    rating = predicted + np.random.default_rng(2).normal(0, np.exp(-features[:, 0]))  # as chance may have it
    intervals = PredictionIntervals().fit(features, predicted, rating)
    assert intervals.coefficients[1] == 0 and (intervals.coefficients[1:3] >= 0).all()
    inside = np.abs(rating - predicted) <= intervals.half_width(features, predicted)
    assert inside.mean() == pytest.approx(0.8, abs=0.01)
