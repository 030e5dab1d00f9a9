"""A user's drift is the mean of what stands close in time, shrunken, and is used where it helps and is asked for."""

import numpy as np
import pandas as pd
import pytest

import saerec
from saerec import BiasBaseline, RatingMatrix, UserDrift
from saerec.drift import N_AROUND
from saerec.validation import MissingColumnError, TimestampError, seconds_of


def by_hand(frame: pd.DataFrame, baseline, matrix, user_id, time: int, shrinkage: float) -> float:
    """The formula of the docstring, over all ratings of the user."""
    own = frame[frame["user_id"] == user_id]
    errors = own["rating"] - baseline.predict(*matrix.positions(own["user_id"], own["item_id"]))
    weights = 1 / (1 + (own["timestamp"] - time).abs() / 60)
    return (weights * (errors - errors.mean())).sum() / (weights.sum() + shrinkage)


@pytest.fixture(scope="module")
def sittings() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ratings that depend on the sitting, a day each, in which they were given: train, valid."""
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(60 * 40), 40)
    sitting = rng.integers(0, 5, len(users))
    mood = rng.normal(0, 1.0, (60, 5))[users, sitting]
    rating = (3 + rng.normal(0, 0.5, 40)[items] + mood + rng.normal(0, 0.3, len(users))).clip(1, 5)
    seconds = 1_000_000_000 + 86_400 * sitting + rng.integers(0, 600, len(users))
    frame = pd.DataFrame({"user_id": users + 1, "item_id": items + 1, "rating": rating, "timestamp": seconds})
    return frame[:1800], frame[1800:]


def fitted(frame: pd.DataFrame) -> tuple[UserDrift, RatingMatrix, BiasBaseline]:
    matrix = RatingMatrix.from_frame(frame)
    baseline = BiasBaseline().fit(matrix)
    ordered = frame.sort_values(["user_id", "item_id"])
    return UserDrift(shrinkage=3.0).fit(matrix, ordered["timestamp"].to_numpy(), baseline), matrix, baseline


def test_is_the_weighted_mean_of_the_formula(sittings):
    few = sittings[0].groupby("user_id").head(2 * N_AROUND - 10)  # so that nobody has more than are looked at
    few = few[few.groupby("user_id").cumcount() < N_AROUND]
    drift, matrix, baseline = fitted(few)
    times = np.array([1_000_000_000, 1_000_086_700, 1_000_259_300, 0, 2_000_000_000])
    rows = np.array([0, 7, 59, 3, 3])
    expected = [by_hand(few, baseline, matrix, row + 1, time, 3.0) for row, time in zip(rows, times)]
    np.testing.assert_allclose(drift.predict(rows, times), expected, rtol=1e-5, atol=1e-7)


def test_looks_at_so_many_ratings_before_and_after_and_at_nobody_elses(sittings):
    one = pd.DataFrame({"user_id": 1, "item_id": np.arange(100), "rating": 3.0, "timestamp": 60 * np.arange(100)})
    one.loc[one["item_id"] < 50 - N_AROUND, "rating"] = 1.0  # too long ago
    one.loc[one["item_id"] >= 50 + N_AROUND, "rating"] = 1.0
    other = one.assign(user_id=2, rating=np.where(one["item_id"] % 2, 5.0, 2.0))
    drift, matrix, baseline = fitted(pd.concat([one, other]))
    near = one[(one["item_id"] >= 50 - N_AROUND) & (one["item_id"] < 50 + N_AROUND)]
    errors = one["rating"] - baseline.predict(*matrix.positions(one["user_id"], one["item_id"]))
    weights = 1 / (1 + (near["timestamp"] - 3000).abs() / 60)
    expected = (weights * (errors - errors.mean())[near.index]).sum() / (weights.sum() + 3.0)
    assert drift.predict(np.array([0]), np.array([3000])) == pytest.approx([expected], rel=1e-5)


def test_of_somebody_unknown_or_without_ratings_nothing_is_added(sittings):
    frame = sittings[0]
    matrix = RatingMatrix.from_frame(frame, user_ids=pd.Index(range(0, 70)), item_ids=pd.Index(range(1, 41)))
    ordered = frame.sort_values(["user_id", "item_id"])["timestamp"].to_numpy()
    drift = UserDrift().fit(matrix, ordered, BiasBaseline().fit(matrix))
    assert drift.predict(np.array([-1, 0, 65, 69]), np.full(4, 1_000_000_000)).tolist() == [0, 0, 0, 0]


def test_moods_are_found_where_they_are_and_only_told_when_asked(sittings):
    train, valid = sittings
    rec = saerec.Recommender(hidden_dims=(8,), n_epochs=3, rank_by="rating").fit(train, valid)
    usual, told = rec.evaluate(valid), rec.evaluate(valid, told_when=True)
    assert told["rmse"] < 0.75 * usual["rmse"]
    pairs = valid["user_id"], valid["item_id"]
    dates = pd.to_datetime(valid["timestamp"], unit="s")
    np.testing.assert_array_equal(rec.predict(*pairs, valid["timestamp"]), rec.predict(*pairs, dates))
    np.testing.assert_array_equal(
        rec.predict(*pairs, valid["timestamp"]), rec.predict(*pairs, list(valid["timestamp"]))
    )
    nothing = saerec.Recommender(hidden_dims=(8,), n_epochs=3, rank_by="rating").fit(
        train.drop(columns="timestamp"), valid
    )
    assert nothing.drift is None
    np.testing.assert_array_equal(rec.predict(*pairs), nothing.predict(*pairs))
    user_id, item_id, when = valid.iloc[0][["user_id", "item_id", "timestamp"]].astype(int)
    assert rec.predict(user_id, item_id, when) == rec.predict(*pairs, valid["timestamp"])[:1]
    with pytest.warns(UserWarning, match="no drift: told_when=True changes nothing"):
        assert nothing.evaluate(valid, told_when=True) == nothing.evaluate(valid)
    with pytest.raises(TimestampError):
        nothing.predict(user_id, item_id, "yesterday")


def test_validation_may_find_that_it_only_harms(sittings):
    drift, matrix, baseline = fitted(sittings[0])
    valid = sittings[1]
    rows, cols = matrix.positions(valid["user_id"], valid["item_id"])
    predicted, times = baseline.predict(rows, cols), valid["timestamp"].to_numpy()
    opposite = predicted - drift.predict(rows, times)
    assert drift.best_shrinkage(rows, times, predicted, opposite, matrix.scale) is None


def test_the_shrinkage_is_the_best_on_validation(sittings):
    drift, matrix, baseline = fitted(sittings[0])
    valid = sittings[1]
    rows, cols = matrix.positions(valid["user_id"], valid["item_id"])
    predicted, times = baseline.predict(rows, cols), valid["timestamp"].to_numpy()
    best = drift.best_shrinkage(rows, times, predicted, valid["rating"], matrix.scale)
    errors = {}
    for shrinkage in saerec.drift.SHRINKAGES:
        drift.shrinkage = shrinkage
        told = (predicted + drift.predict(rows, times)).clip(*matrix.scale)
        errors[shrinkage] = saerec.rmse(valid["rating"], told)
    assert best == min(errors, key=errors.get)


def test_a_saved_recommender_knows_its_moments(sittings, tmp_path):
    train, valid = sittings
    rec = saerec.Recommender(hidden_dims=(8,), n_epochs=3, rank_by="rating").fit(train, valid)
    rec.save(tmp_path)
    assert saerec.load(tmp_path).evaluate(valid, told_when=True) == rec.evaluate(valid, told_when=True)


@pytest.mark.parametrize(
    "timestamps",
    [
        ["now", "then"],
        [1.0, np.nan],
        [pd.Timestamp(0), pd.NaT],
        [np.inf, 1.0],
        [None, 3],
        [1.7e12, 1.7e12],
        [True, False],
    ],
)
def test_what_is_no_time_is_refused(timestamps):
    with pytest.raises(TimestampError, match="leave the column out"):
        seconds_of(pd.Series(timestamps))


def test_dates_and_numbers_are_seconds():
    dates = pd.Series(pd.to_datetime(["1970-01-01 00:01:40.7", "2001-09-09 01:46:40.0"]))
    for same in (dates, dates.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"), pd.Series([100.7, 1e9])):
        assert seconds_of(same).tolist() == [100, 1_000_000_000]


def test_of_equal_times_as_many_count_before_as_after():
    """A hundred ratings on one day, the items in the order of their ids: the middle ones are looked at."""
    frame = pd.DataFrame({"user_id": 1, "item_id": np.arange(100), "rating": 3.0, "timestamp": 86_400})
    frame.loc[(frame["item_id"] >= 50 - N_AROUND) & (frame["item_id"] < 50 + N_AROUND), "rating"] = 5.0
    others = frame.assign(user_id=2, rating=np.where(frame["item_id"] % 2, 5.0, 2.0))
    drift, _, _ = fitted(pd.concat([frame, others]))
    weighted, weights = drift.sums(np.array([0]), np.array([86_400]))
    assert weights == 2 * N_AROUND
    assert weighted == pytest.approx(drift.errors[50 - N_AROUND : 50 + N_AROUND].sum(), rel=1e-5)


@pytest.mark.parametrize("part", [0, 1])
def test_times_that_are_none_are_found_before_anything_is_trained(sittings, part, monkeypatch):
    parts = list(sittings)
    parts[part] = parts[part].assign(timestamp="yesterday")
    monkeypatch.setattr("saerec.layouts.Layout.train", None)
    with pytest.raises(TimestampError, match="neither dates nor numbers of seconds"):
        saerec.Recommender().fit(*parts)


def test_parts_may_have_their_times_in_different_forms(sittings):
    train, valid = sittings
    dates = valid.assign(timestamp=pd.to_datetime(valid["timestamp"], unit="s", utc=True))
    same = [
        saerec.Recommender(hidden_dims=(8,), n_epochs=3, rank_by="rating")
        .fit(train, part)
        .evaluate(part, told_when=True)
        for part in (valid, dates)
    ]
    assert same[0] == same[1]


def test_without_validation_ratings_and_their_times_there_is_none(sittings):
    train, valid = sittings
    for parts in ([train], [train, valid.drop(columns="timestamp")]):
        rec = saerec.Recommender(hidden_dims=(8,), n_epochs=1, rank_by="rating").fit(*parts)
        assert rec.drift is None


def test_told_when_needs_the_times(sittings):
    train, valid = sittings
    rec = saerec.Recommender(hidden_dims=(2,), n_epochs=1, rank_by="rating", refit=False).fit(train, valid)
    assert rec.drift
    with pytest.raises(MissingColumnError, match="told_when=True: no column timestamp"):
        rec.evaluate(valid.drop(columns="timestamp"), told_when=True)
    with pytest.raises(ValueError, match="as many timestamps as user_ids, not 1 and 2"):
        rec.predict([1, 2], [1, 2], [0])
