"""Settings chosen on validation in bounded time, and errors over folds."""

import warnings

import numpy as np
import pandas as pd
import pytest

import saerec
from saerec import selection

QUICK = {"n_epochs": 2, "lr": 0.003}
pytestmark = pytest.mark.filterwarnings("ignore:after epoch 1 the error")  # of settings that do not suit


@pytest.fixture(scope="module")
def tried(parts):
    train, valid, _ = parts
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "after epoch 1 the error")  # of settings that do not suit
        return saerec.tune(train, valid, seed=1, **QUICK)


def test_the_best_settings_come_first_and_give_that_error_again(tried, parts):
    train, valid, _ = parts
    best = saerec.Recommender(**QUICK | tried["settings"][0], seed=1, rank_by="rating", refit=False).fit(train, valid)
    scores = best.evaluate(valid)
    assert tried["valid_rmse"].is_monotonic_increasing and tried["valid_rmse"].nunique() > 5
    assert tried.loc[0, ["valid_rmse", "valid_user_rmse"]].tolist() == [scores["rmse"], scores["user_rmse"]]
    default = tried.set_index("order").loc[1]
    assert default["settings"] == {} and default["gain"] == default["gain_error"] == 0
    np.testing.assert_allclose(tried["gain"], default["valid_rmse"] - tried["valid_rmse"])


def test_one_setting_after_the_other_from_the_best_so_far(tried):
    tries = tried.set_index("order").sort_index()
    best, names = {}, list(selection.GRID)
    for order, row in tries.iterrows():
        changed = {name: value for name, value in row["settings"].items() if best.get(name) != value}
        assert len(changed) == (order > 1), "each try is the best so far with one setting changed"
        assert all(value in selection.GRID[name] for name, value in changed.items())
        best = tries.loc[tries.loc[:order, "valid_rmse"].idxmin(), "settings"]
    last = [list(row)[-1] for row in tries["settings"] if row]
    assert [names.index(name) for name in last] == sorted(names.index(name) for name in last)
    whole = [repr(selection._in_effect(settings, selection.GRID)) for settings in tries["settings"]]
    assert len(set(whole)) == len(whole), "nothing is tried twice"


def interrupting(at, monkeypatch):
    """Let the fit of a number, from 1, be interrupted."""
    fit, fits = saerec.Recommender.fit, []

    def interrupted(self, *arguments, **options):
        fits.append(self)
        if len(fits) == at:
            raise KeyboardInterrupt("training stopped in epoch 1; nothing is kept, for there is no checkpoint_dir")
        return fit(self, *arguments, **options)

    monkeypatch.setattr(saerec.Recommender, "fit", interrupted)


def test_who_interrupts_gets_what_is_finished(parts, monkeypatch):
    train, valid, _ = parts
    interrupting(3, monkeypatch)
    with pytest.warns(UserWarning, match=r"interrupted: 2 of 4 possible tries are finished"):
        tried = saerec.tune(train, valid, grid={"dropout": (0.1, 0.2, 0.3)}, **QUICK)
    assert sorted(tried["order"]) == [1, 2] and tried["seconds"].notna().all()


def test_without_the_defaults_there_is_nothing_to_get(parts, monkeypatch):
    train, valid, _ = parts
    interrupting(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        saerec.tune(train, valid, **QUICK)


def test_what_is_fixed_is_not_tried(parts):
    train, valid, _ = parts
    fixed = {"orientation": "user", "weight_decay": 1.0, "hidden_dims": (5,), "shrinkage": 3.0, "dropout": 0.2}
    tried = saerec.tune(train, valid, item_features=some_features(train), **QUICK | fixed)  # which rows of users lack
    assert sorted(map(str, tried["settings"])) == sorted(["{}", "{'input_dropout': 0.2}", "{'input_dropout': 0.5}"])


def test_what_two_encoders_cannot_have_is_not_tried(parts):
    train, valid, _ = parts
    hidden_dims = {"hidden_dims": ((5, 4), (6,))}
    with pytest.warns(UserWarning, match=r"not tried: orientation 'both' takes one hidden layer, not \(5, 4\)"):
        tried = saerec.tune(
            train, valid, grid=hidden_dims, orientation="both", rank_by="popularity", refit=True, **QUICK
        )
    assert sorted(map(str, tried["settings"])) == ["{'hidden_dims': (6,)}", "{}"]
    with pytest.raises(ValueError, match="'both' takes one hidden layer"):
        saerec.tune(train, valid, orientation="both", hidden_dims=(5, 4), **QUICK)


def test_a_grid_of_ones_own_is_tried_in_its_order(parts):
    grid = {"hidden_dims": [np.array([9])], "shrinkage": np.array([1.0, 5.0]), "dropout": [0.2]}  # 5.0 is the default
    tried = saerec.tune(*parts[:2], grid=grid, **QUICK, dropout=0.4).set_index("order").sort_index()
    assert [list(settings)[-1] for settings in tried["settings"][1:]] == ["hidden_dims", "shrinkage"]
    assert repr(tried["settings"][2]) == "{'hidden_dims': (9,)}"


def test_a_blend_is_tried_where_there_is_something_to_blend(parts):
    tried = saerec.tune(*parts[:2], grid={"blend": [0.1, 0.2]}, **QUICK, orientation="item")
    assert tried["settings"].tolist() == [{}]


def test_a_grid_is_checked_before_anything_is_trained(parts, monkeypatch):
    monkeypatch.setattr(saerec.Recommender, "fit", lambda *_, **__: pytest.fail("something was trained"))
    for grid, told in [
        ({"ridge": [1, 2]}, "'ridge' is no setting that a grid can have; there are batch_size, blend"),
        ({"seed": [1, 2]}, "'seed' is no setting that a grid can have; there are batch_size, blend"),
        ({"dropout": [0.1], "orientation": ["mena"]}, "the grid has: orientation must be one of .*, not 'mena'"),
        (
            {"orientation": ["mean"], "lr": [-1.0]},
            "no recommender can have all that the grid has: lr must be above 0, not -1.0",
        ),
        ({"dropout": 0.3}, "of 'dropout' it has 0.3"),
    ]:
        with pytest.raises(ValueError, match=told):
            saerec.tune(*parts[:2], grid=grid)
    with pytest.raises(ValueError, match=r"orientation must be one of .*, not 'mena'"):
        saerec.tune(*parts[:2], orientation="mena")


@pytest.mark.parametrize("n", [None, 0])
def test_without_validation_ratings_nothing_is_trained(parts, monkeypatch, n):
    monkeypatch.setattr(saerec.Recommender, "fit", lambda *_, **__: pytest.fail("something was trained"))
    with pytest.raises(ValueError, match="chosen on validation ratings"):
        saerec.tune(parts[0], None if n is None else parts[1].head(n))


def some_features(train):
    return pd.DataFrame({"long": 1.0}, index=pd.Index(train["item_id"].unique(), name="item_id"))


def test_no_fit_is_begun_that_would_end_too_late_but_shorter_ones_are(parts, monkeypatch):
    train, valid, _ = parts
    now, fit = [0.0], saerec.Recommender.fit
    monkeypatch.setattr(selection.time, "perf_counter", lambda: now[0])

    def slow(recommender, *args, **options):
        now[0] += selection._work(vars(recommender)) / 10  # the default takes 170 s, "item" and "user" 50 s
        return fit(recommender, *args, **options)

    monkeypatch.setattr(saerec.Recommender, "fit", slow)
    tried = saerec.tune(train, valid, minutes=5, **QUICK).set_index("order").sort_index()
    left_out = tried["valid_rmse"].isna()
    assert now[0] <= 300 and not left_out[1]
    assert tried.loc[left_out, "settings"].tolist()[0] == {"orientation": "both"} and left_out.sum() > 3
    assert tried.loc[~left_out, "seconds"].sum() == pytest.approx(now[0])
    assert tried.loc[4, "settings"] == {"orientation": "user"} and not left_out[4]
    now[0] = 0.0
    nothing = saerec.tune(train, valid, minutes=0, **QUICK)
    assert nothing["valid_rmse"].notna().sum() == 1 and nothing["settings"][0] == {}


def test_the_standard_error_of_a_gain_is_that_of_resampling():
    rng = np.random.default_rng(0)
    error = rng.normal(0, 1, 2000)
    squared, of_default = (0.95 * error + rng.normal(0, 0.2, 2000)) ** 2, error**2
    gain, standard_error = selection._gain(squared, of_default)
    assert gain == np.sqrt(of_default.mean()) - np.sqrt(squared.mean())
    draws = rng.integers(0, 2000, (2000, 2000))
    resampled = np.sqrt(of_default[draws].mean(axis=1)) - np.sqrt(squared[draws].mean(axis=1))
    assert standard_error == pytest.approx(resampled.std(), rel=0.1)


def test_every_rating_is_held_out_once(tastes, monkeypatch):
    held_out, evaluate = [], saerec.Recommender.evaluate

    def remember(recommender, ratings):
        held_out.append(ratings)
        known = recommender.ratings.to_frame()
        assert len(known) + len(ratings) == len(tastes) and not ratings.merge(known, on=["user_id", "item_id"]).size
        return evaluate(recommender, ratings)

    monkeypatch.setattr(saerec.Recommender, "evaluate", remember)
    repeated = tastes.set_axis(np.zeros(len(tastes), dtype=int))  # an index says nothing
    scores = saerec.cross_validate(repeated, 3, lambda: saerec.Recommender(n_epochs=1), seed=4)
    assert scores[["fold", "model"]].to_numpy().tolist() == [
        [fold, model] for fold in (1, 2, 3) for model in ("saerec", "regularised biases")
    ]
    pd.testing.assert_frame_equal(pd.concat(held_out).sort_values([*tastes]), repeated.sort_values([*tastes]))
    test = held_out[1]
    rest = tastes.merge(test[["user_id", "item_id"]], how="left", indicator=True).query("_merge == 'left_only'")
    matrix = saerec.RatingMatrix.from_frame(rest)
    biases = saerec.BiasBaseline().fit(matrix)
    predicted = biases.predict(*matrix.positions(test["user_id"], test["item_id"])).clip(*matrix.scale)
    assert scores.loc[3, ["rmse", "user_rmse", "mae"]].tolist() == pytest.approx(
        list(saerec.scores(test["rating"], predicted, test["user_id"]).values()), rel=1e-6
    )


def test_folds_must_be_possible(tastes):
    for n_folds in (1, len(tastes) + 1, 2.5, "3"):
        with pytest.raises(ValueError, match="n_folds must be a whole number from 2 to the number of ratings"):
            saerec.cross_validate(tastes, n_folds)
    with pytest.raises(TypeError, match=r"make is called for each fold, such as lambda: .*; this is Recommender\("):
        saerec.cross_validate(tastes, make=saerec.Recommender())


def test_what_diverges_stands_behind_what_did_not(parts, monkeypatch):
    fit = saerec.Recommender.fit

    def diverging(self, *data, **options):
        if self.dropout == 0.7:
            raise saerec.DivergedError("it diverged")
        return fit(self, *data, **options)

    monkeypatch.setattr(saerec.Recommender, "fit", diverging)
    tried = saerec.tune(*parts[:2], grid={"dropout": (0.7, 0.3)}, hidden_dims=np.array([4]), **QUICK)
    assert tried["settings"].iloc[-1] == {"dropout": 0.7} and tried["valid_rmse"].iloc[-1] == np.inf
    assert np.isfinite(tried["valid_rmse"][:2]).all()
    with pytest.raises(saerec.DivergedError):
        saerec.tune(*parts[:2], hidden_dims=(4,), dropout=0.7, **QUICK)
