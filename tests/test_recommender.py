from collections import namedtuple

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from safetensors.torch import load_file
from sklearn.exceptions import NotFittedError

import saerec
from saerec import Recommender, load
from saerec.checkpoints import Checkpoints
from saerec.files import BusyFolderError, NoSpaceError
from saerec.intervals import describe
from saerec.recommender import FILE
from saerec.validation import IdTypeError, MissingColumnError

QUICK = {
    "orientation": "item",
    "hidden_dims": (12,),
    "dropout": 0.1,
    "n_epochs": 10,
    "batch_size": 8,
    "lr": 0.15,
    "weight_decay": 0.1,
    "ridge": 1.0,
    "rank_by": "rating",
}
IDS = ["user_id", "item_id"]
ORIENTATIONS = ["item", "user", "mean"]  # the last trains "item" and "both"


def quick(**options) -> Recommender:
    return Recommender(**QUICK | options)


def pairs(*frames: pd.DataFrame) -> set:
    return {pair for frame in frames for pair in zip(frame["user_id"], frame["item_id"])}


def lettered(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with ids that are strings, in the same order."""
    return frame.assign(user_id="ü" + frame["user_id"].astype(str), item_id="i" + frame["item_id"].map("{:05}".format))


@pytest.fixture(scope="module", params=ORIENTATIONS)
def rec(request, parts) -> Recommender:
    """Fitted to train and valid."""
    return quick(orientation=request.param).fit(*parts[:2])


@pytest.fixture(scope="module", params=ORIENTATIONS)
def unrefitted(request, parts) -> Recommender:
    """Fitted to train, where a user and an item are cold, with the epoch chosen on valid."""
    return quick(orientation=request.param, refit=False).fit(*parts[:2])


class TestFit:
    def test_refits_on_train_and_valid_for_the_best_epoch(self, rec, parts):
        train, valid, _ = parts
        assert rec.ratings.n_ratings == len(train) + len(valid)
        by_hand = quick(orientation=rec.orientation, refit=False).fit(train, valid)
        assert by_hand.ratings.n_ratings == len(train)
        assert by_hand.seen.n_ratings == len(train) + len(valid)
        histories = by_hand.history.groupby("layout") if rec.orientation == "mean" else [("only", by_hand.history)]
        chosen = {layout: saerec.best_epoch(history) for layout, history in histories}
        assert by_hand.best_epochs == rec.best_epochs
        assert list(by_hand.best_epochs.values()) == [chosen.get(layout) or chosen["only"] for layout in rec.models]
        by_hand.refit_on(pd.concat([valid, train]))
        assert_frame_equal(by_hand.recommend(k=3), rec.recommend(k=3), check_exact=True)
        assert_frame_equal(by_hand.history.drop(columns="seconds"), rec.history.drop(columns="seconds"))

    def test_what_the_refit_came_to_is_known_and_saved(self, rec, unrefitted, parts, tmp_path):
        assert unrefitted.refit_history is None
        found = rec.refit_history
        assert list(found["epoch"]) == list(rec.best_epochs.values()) and list(found.columns) == list(
            rec.history.columns
        )
        assert found["valid_rmse"].isna().all()
        if rec.orientation != "mean":
            whole = pd.concat(parts[:2])
            assert found["train_rmse"].item() == pytest.approx(rec.evaluate(whole)["rmse"], rel=1e-5)
        rec.save(tmp_path)
        assert_frame_equal(load(tmp_path).refit_history, found.drop(columns="seconds"), check_exact=True)

    @pytest.mark.parametrize("n_epochs", [2, 10])
    def test_refits_for_as_long_as_asked_with_the_schedule_of_fit(self, parts, tmp_path, n_epochs):
        rec = quick().fit(parts[0], checkpoint_dir=tmp_path)  # without validation: the last epoch
        assert rec.best_epoch == 10
        rec.refit_on(parts[0], n_epochs=n_epochs)
        assert rec.best_epoch == n_epochs
        expected = load_file(tmp_path / f"epoch_{n_epochs:04d}.safetensors")
        assert all(torch.equal(tensor, expected[name]) for name, tensor in rec.model.state_dict().items())

    @pytest.mark.parametrize("orientation", ["item", "user", "both"])
    def test_the_error_on_valid_is_that_of_the_history(self, parts, orientation):
        """Cold users and items included: valid holds some."""
        unrefitted = quick(orientation=orientation, refit=False).fit(*parts[:2])
        history = unrefitted.history.set_index("epoch")["valid_rmse"]
        rmse = unrefitted.evaluate(parts[1])["rmse"]
        assert rmse == pytest.approx(history[unrefitted.best_epoch], abs=1e-6)
        assert rmse == pytest.approx(history.min(), abs=1e-6)
        assert 1 < unrefitted.best_epoch <= QUICK["n_epochs"]

    def test_the_order_of_rows_does_not_matter(self, rec, parts):
        shuffled = [frame.sample(frac=1, random_state=1) for frame in parts[:2]]
        other = quick(orientation=rec.orientation).fit(*shuffled)
        assert_frame_equal(other.recommend(k=5), rec.recommend(k=5), check_exact=True)

    def test_without_validation_an_empty_frame_is_as_good_as_none(self, parts):
        train, valid, _ = parts
        one, other = quick().fit(train, valid.iloc[:0]), quick().fit(train)
        assert_frame_equal(one.recommend(k=3), other.recommend(k=3), check_exact=True)
        assert one.best_epoch == QUICK["n_epochs"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"orientation": "row"}, "orientation must be one of 'item', 'user'"),
            ({"lr": -1}, "lr must"),
            ({"shrinkage": -1}, "shrinkage"),
        ],
    )
    def test_bad_settings_are_refused(self, parts, options, message):
        with pytest.raises(ValueError, match=message):
            quick(**options).fit(parts[0])

    def test_resumes_from_checkpoints(self, rec, parts, tmp_path):
        options = {"checkpoint_dir": tmp_path}
        quick(orientation=rec.orientation).fit(*parts[:2], **options)
        other = quick(orientation=rec.orientation).fit(*parts[:2], **options, resume=True)
        assert_frame_equal(other.recommend(k=3), rec.recommend(k=3), check_exact=True)
        assert len([*tmp_path.glob("**/epoch_0010.safetensors")]) == 2 * len(rec.models)  # and the refit's

    def test_room_for_all_trainings_is_checked_before_the_first(self, parts, tmp_path, monkeypatch):
        rec = quick(orientation="mean").fit(*parts[:2], checkpoint_dir=tmp_path / "first")
        states = (tmp_path / "first").glob("*/state_0010.safetensors")
        n_bytes = sum(
            tensor.nbytes for path in states for name, tensor in load_file(path).items() if name.startswith("model.")
        )
        needed = n_bytes * (12 + 10) + n_bytes * (12 + 2)  # checkpoints of 10 epochs, all kept; those of a refit
        free, started = namedtuple("usage", "free"), []
        monkeypatch.setattr(Checkpoints, "save", lambda *_: started.append(1))
        monkeypatch.setattr(saerec.files.shutil, "disk_usage", lambda _: free(needed - 1))
        with pytest.raises(NoSpaceError, match="choose another folder, a smaller model or keep='best'"):
            quick(orientation="mean").fit(*parts[:2], checkpoint_dir=tmp_path / "second")
        assert not started
        there = sum(path.stat().st_size for path in (tmp_path / "first").rglob("*.safetensors"))
        for folder, missing in (("second", 0), ("first", there)):  # what is there goes
            monkeypatch.setattr(saerec.files.shutil, "disk_usage", lambda _, n=needed - missing: free(n))
            monkeypatch.setattr(saerec.training, "fit", lambda *_, **__: started.append(2) or 1 / 0)
            with pytest.raises(ZeroDivisionError):
                quick(orientation="mean").fit(*parts[:2], checkpoint_dir=tmp_path / folder)
        assert started == [2, 2] and rec.models

    @pytest.mark.parametrize("epoch", [4, 11])  # while the epoch is chosen; in the refit, of its second layout
    def test_an_interrupted_fit_goes_on_to_the_bit(self, rec, parts, tmp_path, monkeypatch, epoch):
        save, saved = Checkpoints.save, []

        def interrupted(self, *state):
            save(self, *state)
            saved.append(self.directory)
            if len(saved) == epoch * len(rec.models):
                raise KeyboardInterrupt

        monkeypatch.setattr(Checkpoints, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            quick(orientation=rec.orientation).fit(*parts[:2], checkpoint_dir=tmp_path)
        monkeypatch.undo()
        assert ("refit" in str(saved[-1])) == (epoch == 11)
        monkeypatch.setattr(Checkpoints, "save", lambda self, *state: saved.append(state) or save(self, *state))
        other = quick(orientation=rec.orientation).fit(*parts[:2], checkpoint_dir=tmp_path, resume=True)
        assert len(saved) == (10 + max(rec.best_epochs.values())) * len(rec.models)  # no epoch was trained twice
        assert_frame_equal(other.recommend(k=3), rec.recommend(k=3), check_exact=True)
        for model, same in zip(rec.models.values(), other.models.values()):
            for name, weights in model.state_dict().items():
                assert torch.equal(weights, same.state_dict()[name])

    def test_a_folder_is_of_one_fit_at_a_time(self, parts, tmp_path, monkeypatch):
        """Between its trainings too, of which each holds a folder of its own."""
        entered = []

        def another(self, *_, **__):
            monkeypatch.undo()
            with pytest.raises(BusyFolderError, match=f"is writing to {tmp_path}: wait for it"):
                quick().fit(*parts[:2], checkpoint_dir=tmp_path)
            entered.append(1)

        monkeypatch.setattr(Recommender, "_calibrated", another)
        quick(n_epochs=1, refit=False).fit(*parts[:2], checkpoint_dir=tmp_path)
        assert entered

    def test_global_random_state_is_left_alone(self, parts):
        torch.manual_seed(3)
        before = torch.get_rng_state()
        quick().fit(parts[0])
        assert torch.equal(torch.get_rng_state(), before)


class TestGrid:
    def test_what_is_best_on_valid_is_taken_over_and_refitted(self, parts):
        grid = {"weight_decay": [0.1, 3.0], "shrinkage": [0.5, 3.0, 50.0]}
        rec = quick().fit(*parts[:2], grid=grid)
        every = [{"weight_decay": decay, "shrinkage": n} for decay in (0.1, 3.0) for n in (0.5, 3.0, 50.0)]
        errors = [quick(**one, refit=False).fit(*parts[:2]).evaluate(parts[1])["rmse"] for one in every]
        assert rec.tried[list(grid)].to_dict("records") == every and rec.tried["valid_rmse"].tolist() == errors
        best = every[int(np.argmin(errors))]
        assert (rec.weight_decay, rec.shrinkage) == tuple(best.values()) != (0.1, 5.0) and len(set(errors)) == 6
        by_hand = quick(**best).fit(*parts[:2])
        assert_frame_equal(rec.recommend(k=3), by_hand.recommend(k=3), check_exact=True)
        assert rec.fit(*parts[:2]).tried is None and rec.shrinkage == best["shrinkage"]

    @pytest.mark.filterwarnings("ignore:after epoch")
    def test_what_diverges_is_not_chosen(self, parts):
        rec = quick(n_epochs=2).fit(*parts[:2], grid={"lr": [1e30, 0.1]})
        assert rec.lr == 0.1 and rec.tried["valid_rmse"][0] == np.inf > rec.tried["valid_rmse"][1]
        with pytest.raises(saerec.DivergedError, match="all settings of the grid diverged"):
            quick(n_epochs=2).fit(*parts[:2], grid={"lr": [1e30]})

    def test_numbers_of_numpy_leave_predictions_as_they_are(self, parts, tmp_path):
        rec = quick(orientation="mean", refit=False, n_epochs=2, blend=np.float64(0.3))
        rec.fit(*parts[:2], grid={"shrinkage": np.array([3.0])})
        assert type(rec.shrinkage) is float and rec.shares == (0.3, 0.7)
        assert rec.predictors[0].scores(np.arange(2)).dtype == rec._predictor.scores(np.arange(2)).dtype == np.float32
        rec.save(tmp_path)
        loaded = load(tmp_path)
        assert_frame_equal(loaded.recommend(k=5), rec.recommend(k=5), check_exact=True)
        assert loaded.tried is None

    def test_an_interrupted_one_goes_on(self, parts, tmp_path, monkeypatch):
        """And finds nothing of an earlier training with other settings."""
        quick(seed=1).fit(*parts[:2], grid={"shrinkage": [1.0, 9.0]}, checkpoint_dir=tmp_path)
        grid = {"shrinkage": [2.0, 5.0]}
        whole = quick().fit(*parts[:2], grid=grid)
        save, saved = Checkpoints.save, []

        def interrupted(self, *state):
            save(self, *state)
            saved.append(self.directory.name)
            if len(saved) == 13:
                raise KeyboardInterrupt

        monkeypatch.setattr(Checkpoints, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            quick().fit(*parts[:2], grid=grid, checkpoint_dir=tmp_path)
        on = quick().fit(*parts[:2], grid=grid, checkpoint_dir=tmp_path, resume=True)
        assert saved[:20] == ["grid_0"] * 10 + ["grid_1"] * 10 and len(saved) == 30 + whole.best_epoch
        assert_frame_equal(on.recommend(k=3), whole.recommend(k=3), check_exact=True)

    @pytest.mark.parametrize(
        ("grid", "message"),
        [
            ({"shrinking": [1]}, "'shrinking' is no setting that a grid can have; there are batch_size, dropout"),
            ({"orientation": ["user"]}, "'orientation' is no setting"),
            ({"lr": []}, "some values of each setting, and of 'lr' it has"),
            ({"dropout": 0.5}, "of 'dropout' it has 0.5"),
            ({"dropout": [2]}, "no recommender can have all that the grid has: dropout must be .* below 1, not 2"),
            ({"blend": [0.5]}, "'blend' is no setting"),
            ({"shrinkage": [5, -1]}, "shrinkage must be at least 0, not -1"),
            ({"shrinkage": [5, "x"]}, "shrinkage must be a number, not 'x'"),
            ([("shrinkage", [2])], "a grid is a mapping, such as .*, not of list"),
        ],
    )
    def test_nonsense_is_refused_before_anything_is_trained(self, parts, monkeypatch, grid, message):
        monkeypatch.setattr(saerec.training, "fit", None)
        with pytest.raises((TypeError, ValueError), match=message):
            quick(n_epochs=1, orientation="mean").fit(*parts[:2], grid=grid)

    def test_needs_validation_ratings(self, parts):
        with pytest.raises(ValueError, match="chosen on validation ratings"):
            quick().fit(parts[0], grid={"shrinkage": [1]})


@pytest.fixture
def features() -> pd.DataFrame:
    """Two numbers for each of the 24 items of `tastes`."""
    numbers = np.random.default_rng(0).random((24, 2))
    return pd.DataFrame(numbers, index=10 + 3 * np.arange(24) ** 2, columns=["x", "y"])


class TestMean:
    def test_is_of_what_the_two_layouts_say(self, parts):
        both = [quick(orientation=orientation).fit(*parts[:2]) for orientation in ("item", "both")]
        mean = quick(orientation="mean", blend=0.5).fit(*parts[:2])
        rows = np.arange(len(mean.user_ids))
        expected = np.mean([rec._predictor.scores(rows) for rec in both], axis=0)
        np.testing.assert_allclose(mean._predictor.scores(rows), expected, rtol=1e-6)
        assert mean.best_epoch == {"item": both[0].best_epoch, "both": both[1].best_epoch}
        assert list(mean.history["layout"].unique()) == ["item", "both"]

    def test_the_blend_is_that_of_the_lowest_error_on_valid(self, parts, monkeypatch):
        train, valid, _ = parts
        shrunk = quick(orientation="mean", refit=False, seed=1).fit(train, valid).shares[0]
        monkeypatch.setattr(saerec.recommender, "BLEND_SPREAD", 1e6)  # whatever the ratings say
        rec = quick(orientation="mean", refit=False, seed=1).fit(train, valid)
        rows, cols = rec.ratings.positions(valid["user_id"], valid["item_id"])
        known = (rows >= 0) & (cols >= 0)
        item, both = (each.scores(np.arange(len(rec.user_ids)))[rows, cols][known] for each in rec.predictors)
        blends = np.linspace(0, 1, 1001)
        errors = [saerec.rmse(valid["rating"][known], blend * item + (1 - blend) * both) for blend in blends]
        assert rec.blend is None and rec.shares[0] == pytest.approx(blends[np.argmin(errors)], abs=1e-3)
        assert 0.1 < (shrunk - 0.5) / (rec.shares[0] - 0.5) < 0.9  # there are few ratings
        refitted = quick(orientation="mean", seed=1).fit(train, valid)
        assert refitted.shares == rec.shares and 0 < rec.shares[0] < 1 and sum(rec.shares) == 1
        assert quick(orientation="mean", n_epochs=1).fit(train).shares == (0.5, 0.5)
        set_by_hand = quick(orientation="mean", refit=False, seed=1, blend=0.2).fit(train, valid)
        assert set_by_hand.shares == (0.2, 0.8)

    def test_somebody_new_gets_what_the_item_layout_says(self, parts):
        item, mean = (quick(orientation=orientation).fit(*parts[:2]) for orientation in ("item", "mean"))
        new = {item.item_ids[0]: 1.0, item.item_ids[5]: 5.0}
        lists = [rec.recommend_new(new, k=None).drop(columns="error") for rec in (item, mean)]
        assert_frame_equal(*lists)
        assert lists[0]["because_item_id"].notna().any()

    def test_what_is_not_given_is_what_suits_the_layout(self, parts):
        history = Recommender(rank_by="rating", refit=False).fit(*parts[:2]).history
        assert history.groupby("layout")["epoch"].max().to_dict() == {"item": 40, "both": 60}

    @pytest.mark.parametrize("hidden_dims", [(5, 4), np.array([5, 4])])
    @pytest.mark.parametrize("orientation", ["both", "mean"])
    def test_two_encoders_have_one_hidden_layer(self, parts, monkeypatch, orientation, hidden_dims):
        monkeypatch.setattr(saerec.training, "fit", lambda *_, **__: pytest.fail("something was trained"))
        with pytest.raises(ValueError, match=r"takes one hidden layer, not .*; 'item' and 'user' take"):
            quick(orientation=orientation, hidden_dims=hidden_dims).fit(parts[0])
        with pytest.raises(ValueError, match="takes one hidden layer, not \\(5, 4\\)"):
            quick(orientation=orientation).fit(*parts[:2], grid={"hidden_dims": [(5,), (5, 4)]})

    def test_a_refit_has_the_epochs_of_each_layout(self, parts, tmp_path):
        train, valid, _ = parts
        both = pd.concat([train, valid])
        rec = quick(orientation="mean", blend=0.3).refit_on(both, n_epochs={"both": 1, "item": 2})
        assert rec.best_epochs == {"item": 2, "both": 1} and list(rec.models) == ["item", "both"]
        assert rec.shares == (0.3, 0.7) and list(rec.refit_history["epoch"]) == [2, 1]
        assert rec.history is rec.intervals is rec.drift is rec.tried is None  # of which there are none
        rec.save(tmp_path)
        for each in (rec, load(tmp_path)):
            assert_frame_equal(each.recommend(k=3), rec.recommend(k=3), check_exact=True)
            assert "error" not in each.recommend(k=3) and each.history is None
        rec.blend = 0.2
        assert rec.refit_on(both).shares == (0.2, 0.8)
        with pytest.raises(ValueError, match="need the n_epochs of item, both, not of item"):
            rec.refit_on(both, n_epochs={"item": 2})
        for none in (0, 2.5, {"item": 1, "both": 0}):
            with pytest.raises(ValueError, match=r"n_epochs must be a whole number of at least 1, not (0|2.5)"):
                rec.refit_on(both, n_epochs=none)
        alone = quick(n_epochs=1).fit(train, valid)
        alone.orientation = "mean"
        assert alone.refit_on(both, n_epochs=1).shares == (0.5, 0.5)

    def test_a_half_that_only_harms_has_no_share(self, parts, monkeypatch):
        train, valid, _ = parts
        monkeypatch.setattr(saerec.recommender, "BLEND_SPREAD", 1e6)
        rec = quick(orientation="mean", refit=False).fit(train, valid)
        matrix = saerec.RatingMatrix.from_frame(valid, user_ids=rec.user_ids, item_ids=rec.item_ids)
        for sign, share in ((1, 1.0), (-1, 0.0)):
            rows, cols, _ = matrix.coordinates()
            first, second = (rec._predicted(each, rows, cols) for each in rec.predictors)
            matrix.csr.data[:] = (first + second) / 2 + 3 * sign * (first - second)
            rec._choose_blend(matrix)
            assert rec.shares[0] == share


class TestItemFeatures:
    def test_are_read_by_id(self, parts, features):
        rec = quick().fit(*parts[:2], item_features=features)
        shuffled = quick().fit(*parts[:2], item_features=features.sample(frac=1, random_state=0))
        assert_frame_equal(rec.recommend(k=3), shuffled.recommend(k=3), check_exact=True)
        without = quick().fit(*parts[:2])
        swapped = quick().fit(*parts[:2], item_features=features.set_axis(features.index[::-1]))
        for other in (without, swapped):
            assert not rec.recommend(k=3)["score"].equals(other.recommend(k=3)["score"])

    def test_how_a_frame_lies_in_memory_changes_nothing(self, parts, features):
        numbers = features.to_numpy(dtype=np.float32)
        bits = []
        for order in "CF":
            frame = pd.DataFrame(np.array(numbers, order=order), index=features.index, copy=False)
            bits.append(quick(orientation="both").fit(*parts[:2], item_features=frame).recommend(k=3, because=False))
        assert_frame_equal(*bits, check_exact=True)

    def test_what_is_not_described_is_zero(self, parts, features):
        few = features.iloc[3:8]
        padded = few.reindex(features.index, fill_value=0.0)
        scores = [quick().fit(*parts[:2], item_features=frame).recommend(k=3, because=False) for frame in (few, padded)]
        assert_frame_equal(*scores, check_exact=True)

    def test_are_weighted(self, parts, features):
        once = quick(feature_weight=2.0).fit(*parts[:2], item_features=features)
        twice = quick(feature_weight=1.0).fit(*parts[:2], item_features=2 * features)
        assert_frame_equal(once.recommend(k=3), twice.recommend(k=3), check_exact=True)

    @pytest.mark.parametrize("orientation", ["item", "both"])
    def test_are_saved_and_used_when_refitted(self, parts, features, tmp_path, orientation):
        rec = quick(orientation=orientation, refit=False).fit(*parts[:2], item_features=features)
        rec.save(tmp_path)
        loaded = load(tmp_path)
        assert_frame_equal(loaded.recommend(k=3), rec.recommend(k=3), check_exact=True)
        whole = pd.concat(parts[:2])
        assert_frame_equal(loaded.refit_on(whole).recommend(k=3), rec.refit_on(whole).recommend(k=3), check_exact=True)
        without = quick(orientation=orientation).fit(*parts[:2])
        assert not rec.recommend(k=3)["score"].equals(without.recommend(k=3)["score"])

    def test_a_row_that_is_a_user_has_none(self, parts, features):
        with pytest.raises(ValueError, match="item_features describe rows that are items"):
            quick(orientation="user").fit(*parts[:2], item_features=features)


class TestPredict:
    def test_the_unknown_are_predicted_by_the_biases(self, rec, parts):
        known_user, known_item = parts[0]["user_id"].iloc[0], parts[0]["item_id"].iloc[0]
        mean = rec.baseline.mean
        user_bias = rec.baseline.user_bias[rec.user_ids.get_loc(known_user)]
        item_bias = rec.baseline.item_bias[rec.item_ids.get_loc(known_item)]
        predicted = rec.predict([1007, 1007, known_user], [known_item, 13, 13])
        np.testing.assert_allclose(predicted, [mean + item_bias, mean, mean + user_bias], rtol=1e-6)
        assert predicted.dtype == np.float32

    def test_the_cold_are_predicted_by_the_biases(self, unrefitted, parts):
        """User 1000 and item 10 are in valid alone."""
        user, item = parts[0]["user_id"].iloc[0], parts[0]["item_id"].iloc[0]
        predicted = unrefitted.predict([1000, user], [item, 10])
        user_bias = unrefitted.baseline.user_bias[unrefitted.user_ids.get_loc(user)]
        item_bias = unrefitted.baseline.item_bias[unrefitted.item_ids.get_loc(item)]
        np.testing.assert_allclose(predicted, unrefitted.baseline.mean + np.array([item_bias, user_bias]), rtol=1e-5)

    def test_predictions_are_on_the_scale(self, tastes, parts):
        rec = quick(orientation="user", n_epochs=60).fit(parts[0])
        users, items = np.unique(tastes["user_id"]), np.unique(tastes["item_id"])
        predicted = rec.predict(np.repeat(users, len(items)), np.tile(items, len(users)))
        assert (predicted.min(), predicted.max()) == rec.scale == (0.5, 5.0)

    @pytest.mark.parametrize("users_at_a_time", [1, 7, 1000])
    def test_all_pairs_in_any_order_and_chunks(self, rec, parts, monkeypatch, users_at_a_time):
        every = pd.concat(parts)  # in which some are unknown
        expected = [rec.predict([user], [item])[0] for user, item in zip(every["user_id"], every["item_id"])]
        monkeypatch.setattr(saerec.recommender, "USERS_AT_A_TIME", users_at_a_time)
        np.testing.assert_allclose(rec.predict(every["user_id"], every["item_id"]), expected, atol=1e-5)

    def test_known_pairs_get_their_score(self, rec):
        recommended = rec.recommend(k=2)
        predicted = rec.predict(recommended["user_id"], recommended["item_id"])
        np.testing.assert_allclose(recommended["score"], predicted, atol=1e-5)

    def test_as_many_users_as_items(self, rec):
        with pytest.raises(ValueError, match="not 2 and 1"):
            rec.predict([1014, 1021], [22])

    def test_evaluate_counts_every_rating(self, rec, parts):
        test = parts[2]
        assert {1007} < set(test["user_id"]) and {13} < set(test["item_id"])
        error = rec.predict(test["user_id"], test["item_id"]).astype(float) - test["rating"].to_numpy()
        of_users = [np.sqrt(np.mean(error[test["user_id"] == user] ** 2)) for user in test["user_id"].unique()]
        expected = {"rmse": np.sqrt(np.mean(error**2)), "user_rmse": np.mean(of_users), "mae": np.mean(np.abs(error))}
        assert rec.evaluate(test) == pytest.approx(expected)


class TestIntervals:
    def test_are_calibrated_on_valid_with_weights_that_had_not_seen_it(self, rec, unrefitted, parts):
        """Before the refit, and the refit leaves them alone."""
        train, valid, _ = parts
        by_hand = quick(orientation=rec.orientation, refit=False).fit(train, valid)
        for name, array in vars(rec.intervals).items():
            np.testing.assert_array_equal(array, vars(by_hand.intervals)[name])
        for coverage in (0.5, 0.8):
            low, high = unrefitted.predict_interval(valid["user_id"], valid["item_id"], coverage)
            inside = (low <= valid["rating"] + 1e-5) & (valid["rating"] <= high + 1e-5)
            assert inside.mean() == pytest.approx(coverage, abs=0.04)  # interpolation between predictions

    def test_are_around_the_predictions_and_within_the_scale(self, rec, parts):
        pair = parts[2]["user_id"], parts[2]["item_id"]  # some unknown
        predicted, widest = rec.predict(*pair), 0
        for coverage in (0.5, 0.8, 0.9):
            low, high = rec.predict_interval(*pair, coverage)
            assert ((rec.scale[0] <= low) & (low <= predicted) & (predicted <= high) & (high <= rec.scale[1])).all()
            assert (high - low).mean() > widest
            widest = (high - low).mean()
        middle = (rec.scale[0] < low) & (high < rec.scale[1])
        np.testing.assert_allclose((predicted - low)[middle], (high - predicted)[middle], rtol=1e-5)

    def test_lists_tell_the_half_of_the_interval_of_four_in_five(self, rec):
        top = rec.recommend(k=3)
        low, high = rec.predict_interval(top["user_id"], top["item_id"])
        np.testing.assert_allclose((top["score"] - top["error"]).clip(*rec.scale), low, atol=1e-5)
        np.testing.assert_allclose((top["score"] + top["error"]).clip(*rec.scale), high, atol=1e-5)
        one = rec.predict_interval(top["user_id"][0], top["item_id"][0])  # ids themselves, as `explain` takes them
        assert one == (low[:1], high[:1])

    def test_somebody_new_is_as_sure_as_a_user_of_the_same_ratings(self, parts):
        rec = quick().fit(*parts[:2])
        row = 3
        own = rec.ratings.csr[[row]]
        ratings = dict(zip(rec.item_ids[own.indices], own.data))
        assert rec.baseline.new_user_spread(own.indices, own.data) == pytest.approx(
            rec.baseline.user_spread[row], rel=0.02
        )
        new = rec.recommend_new(ratings, k=None).set_index("item_id").sort_index()
        counts, items = np.full(len(new), own.nnz), rec.item_ids.get_indexer(new.index)
        spread = np.full(len(new), rec.baseline.new_user_spread(own.indices, own.data))
        features = describe(counts, spread, rec.ratings.item_counts[items], rec.baseline.item_spread[items])
        np.testing.assert_allclose(new["error"], rec.intervals.half_width(features, new["score"]), rtol=1e-5)

    def test_without_validation_nothing_is_claimed(self, parts, tmp_path):
        rec = quick(n_epochs=1).fit(parts[0])
        rec.save(tmp_path)
        for one in (rec, load(tmp_path)):
            assert one.intervals is None and "error" not in one.recommend(k=1)
            with pytest.raises(ValueError, match="had no 20 validation ratings"):
                one.predict_interval([1014], [22])
        assert quick(n_epochs=1).fit(*parts[:2]).fit(parts[0]).intervals is None

    def test_a_few_validation_ratings_say_too_little(self, parts):
        train, valid, _ = parts
        assert quick(n_epochs=1).fit(train, valid.head(19)).intervals is None
        assert quick(n_epochs=1).fit(train, valid.head(20)).intervals is not None

    def test_of_many_validation_ratings_those_of_some_users_are_enough(self, parts, monkeypatch):
        whole = quick(n_epochs=1, refit=False).fit(*parts[:2])
        monkeypatch.setattr(saerec.recommender, "MOST_TO_CALIBRATE", len(parts[1]) // 3)
        some = quick(n_epochs=1, refit=False).fit(*parts[:2])
        assert np.isfinite(some.intervals.quantiles).all()
        assert not np.array_equal(some.intervals.coefficients, whole.intervals.coefficients)


class TestRecommend:
    def test_what_was_seen_is_never_recommended(self, rec, unrefitted, parts):
        train, valid, _ = parts
        for recommender in (rec, unrefitted):
            recommended = recommender.recommend(k=None, because=False)
            n_users, n_items = recommender.ratings.shape
            assert not pairs(recommended) & pairs(train, valid)
            assert len(recommended) == n_users * n_items - len(train) - len(valid)  # and all else is

    @pytest.mark.parametrize("several", [False, True])
    def test_nor_what_the_caller_says_was_seen(self, rec, parts, several):
        train, valid, test = parts
        assert pairs(rec.recommend(k=None, because=False)) & pairs(test)
        recommended = rec.recommend(k=None, seen=[test.head(5), test.iloc[5:]] if several else test, because=False)
        assert not pairs(recommended) & pairs(train, valid, test)

    def test_each_user_has_k_ranks_with_falling_scores(self, rec):
        recommended = rec.recommend(k=4)
        assert list(recommended.columns) == [
            "user_id",
            "rank",
            "item_id",
            "score",
            "error",
            "n_ratings",
            "because_item_id",
        ]
        assert recommended["user_id"].tolist() == np.repeat(rec.user_ids, 4).tolist()
        assert recommended["rank"].tolist() == [1, 2, 3, 4] * len(rec.user_ids)
        assert (recommended["score"].to_numpy().reshape(-1, 4) >= rec.scale[0]).all()
        assert (np.diff(recommended["score"].to_numpy().reshape(-1, 4)) <= 0).all()
        assert recommended["score"].dtype == np.float32
        counts = dict(zip(rec.item_ids, rec.ratings.item_counts))
        assert recommended["n_ratings"].tolist() == [counts[item] for item in recommended["item_id"]]

    def test_the_best_of_all_unseen_come_first(self, rec):
        every = rec.recommend(k=None, because=False)
        assert_frame_equal(
            rec.recommend(k=3, because=False), every[every["rank"] <= 3].reset_index(drop=True), check_exact=True
        )

    def test_asked_for_users_come_in_the_order_asked(self, rec, monkeypatch):
        users = rec.user_ids[[9, 2, 30, 2]]
        every = rec.recommend(k=2).set_index("user_id")
        monkeypatch.setattr(saerec.recommender, "USERS_AT_A_TIME", 3)
        recommended = rec.recommend(users, k=2)
        assert recommended["user_id"].tolist() == np.repeat(users, 2).tolist()
        assert recommended["item_id"].tolist() == [item for user in users for item in every.loc[user, "item_id"]]
        assert_frame_equal(rec.recommend(users[0], k=2), recommended.head(2))  # one id, not in a list

    def test_nobody_is_recommended_nothing(self, rec):
        assert_frame_equal(rec.recommend([], k=2), rec.recommend(k=2).head(0))

    def test_fewer_unseen_than_k_are_all_given_with_a_warning(self, rec, parts):
        user = rec.user_ids[4]
        n_unseen = rec.ratings.n_items - rec.ratings.user_counts[4]
        with pytest.warns(UserWarning, match=f"user {user} has only {n_unseen} unseen items, .* k=24") as warned:
            recommended = rec.recommend([user], k=24)
        assert len(recommended) == n_unseen
        assert warned[0].filename == __file__

    def test_a_user_who_has_seen_everything_gets_nothing(self, rec):
        user, other = rec.user_ids[[4, 5]]
        seen = pd.DataFrame({"user_id": user, "item_id": rec.item_ids})
        with pytest.warns(UserWarning, match="only 0 unseen items"):
            recommended = rec.recommend([user, other], k=2, seen=seen)
        assert_frame_equal(recommended, rec.recommend([other], k=2))

    def test_ties_go_to_more_ratings_then_to_the_earlier_item(self, rec, monkeypatch):
        monkeypatch.setattr(rec._predictor, "scores", lambda rows: np.full((len(rows), rec.ratings.n_items), 3.0))
        counts, seen = rec.ratings.item_counts, pairs(rec.seen.to_frame())
        assert len(set(counts)) < len(counts)
        for user, items in rec.recommend(k=None, because=False).groupby("user_id")["item_id"]:
            unseen = [col for col, item in enumerate(rec.item_ids) if (user, item) not in seen]
            best = sorted(unseen, key=lambda col: (-counts[col], col))
            assert items.tolist() == rec.item_ids[best].tolist()

    def test_a_score_counts_before_it_is_clipped(self, rec, monkeypatch):
        scores = 5 + np.arange(rec.ratings.n_items, dtype=np.float32)
        monkeypatch.setattr(rec._predictor, "scores", lambda rows: np.tile(scores, (len(rows), 1)))
        recommended = rec.recommend(rec.user_ids[[0]], k=5, because=False)
        assert (np.diff(rec.item_ids.get_indexer(recommended["item_id"])) < 0).all()
        assert (recommended["score"] == 5).all()

    def test_the_reason_is_the_liked_rating_of_most_influence(self, rec):
        recommended = rec.recommend(k=3)
        given = recommended["because_item_id"].notna()
        assert given.mean() > 0.5
        for user, of_user in recommended.groupby("user_id"):
            rated = rec.ratings.csr[[rec.user_ids.get_loc(user)]]
            targets = rec.item_ids.get_indexer(of_user["item_id"])
            influence = rec._predictor.influence(rated.indices, rated.data, targets)
            for j, because in enumerate(of_user["because_item_id"]):
                liked = {
                    rec.item_ids[col]: influence[i, j]
                    for i, col in enumerate(rated.indices)
                    if rated.data[i] >= rated.data.mean()
                }
                best = max(liked, key=liked.get)
                assert because == best if liked[best] > 0 else because is pd.NA

    def test_explain_gives_the_influence_of_every_rating_and_begins_with_the_reason(self, rec):
        for user, item, reason in rec.recommend(k=2)[["user_id", "item_id", "because_item_id"]].itertuples(index=False):
            explained = rec.explain(user, item)
            assert list(explained.columns) == ["item_id", "rating", "influence"]
            titled = rec.explain(user, item, pd.DataFrame({"item_id": rec.item_ids, "title": rec.item_ids.astype(str)}))
            assert titled["title"].tolist() == explained["item_id"].astype(str).tolist()
            assert explained["influence"].is_monotonic_decreasing
            given = rec.ratings.to_frame().query("user_id == @user").set_index("item_id")["rating"]
            assert explained.set_index("item_id")["rating"].sort_index().equals(given.sort_index())
            liked = explained[(explained["rating"] >= given.mean()) & (explained["influence"] > 0)]
            assert liked["item_id"].head(1).tolist() == ([] if reason is pd.NA else [reason])

    def test_what_is_no_frame_or_several_ids_are_refused(self, rec, parts):
        with pytest.raises(TypeError, match="seen must be a frame with user_id and item_id, or several, not of str"):
            rec.recommend(rec.user_ids[:1], seen="test.csv")
        with pytest.raises(MissingColumnError, match="seen"):
            rec.recommend(rec.user_ids[:1], seen=parts[2].drop(columns="item_id"))
        with pytest.raises(TypeError, match="one user_id and one item_id"):
            rec.explain(rec.user_ids[:2], rec.item_ids[:2])

    def test_explain_knows_who_has_no_ratings_and_what_is_unknown(self, unrefitted):
        assert unrefitted.explain(1000, unrefitted.item_ids[3]).empty
        with pytest.raises(KeyError, match="user 1 was not in the data"):
            unrefitted.explain(1, unrefitted.item_ids[3])
        with pytest.raises(KeyError, match="item 11 was not in the data"):
            unrefitted.explain(1000, 11)

    def test_explain_tells_somebody_new_with_these_ratings_what_taking_one_back_changes(self, rec):
        col = 1
        explained = rec.explain(rec.user_ids[0], rec.item_ids[col]).set_index("item_id")

        def predicted(given):
            scores = [
                each.new_user_scores(rec.item_ids.get_indexer(given.index), given.to_numpy()) for each in rec.predictors
            ]
            return np.average(scores, axis=0, weights=rec.shares)[col]

        changes = [
            predicted(explained["rating"]) - predicted(explained["rating"].drop(item)) for item in explained.index
        ]
        np.testing.assert_allclose(explained["influence"], changes, atol=2e-5)
        assert explained["influence"].abs().mean() > 0.01

    def test_what_has_no_training_ratings_is_moved_by_the_persons_bias_alone(self, unrefitted):
        given = unrefitted.ratings.to_frame().query("user_id == 1014").set_index("item_id")["rating"]
        bias = [
            unrefitted.baseline.new_user_bias(unrefitted.item_ids.get_indexer(part.index), part)
            for part in (given, *map(given.drop, given.index))
        ]
        expected = pd.Series(bias[0] - np.array(bias[1:]), index=given.index)
        influence = [unrefitted.explain(1014, item).set_index("item_id")["influence"] for item in (10, 22)]
        np.testing.assert_allclose(influence[0][given.index], expected, atol=1e-6)
        assert np.abs(influence[1][given.index] - expected).max() > 0.01

    def test_who_has_no_training_ratings_is_given_no_reason(self, unrefitted):
        assert unrefitted.recommend([1000], k=3)["because_item_id"].isna().all()

    def test_an_unknown_user_is_an_error(self, rec):
        with pytest.raises(KeyError, match="user 1007 was not in the data"):
            rec.recommend([1014, 1007])

    @pytest.mark.parametrize("k", [0, -3])
    def test_k_is_at_least_one(self, rec, k):
        with pytest.raises(ValueError, match=f"k must be a whole number of at least 1, not {k}"):
            rec.recommend(k=k)
        with pytest.raises(ValueError, match=f"k must be a whole number of at least 1, not {k}"):
            rec.recommend_new({}, k=k)


class TestMovies:
    @pytest.fixture
    def movies(self, tastes) -> pd.DataFrame:
        """In another order than the items, with one more, without item 3 * 25 + 10."""
        items = np.unique(tastes["item_id"])[::-1]
        movies = pd.DataFrame({"item_id": items, "title": [f"Film {item}" for item in items], "year": 1990})
        return pd.concat([pd.DataFrame({"item_id": [7], "title": ["Unrated"], "year": [1]}), movies[items != 85]])

    @pytest.mark.parametrize("new", [False, True])
    def test_are_joined_by_id(self, rec, movies, new):
        if new:
            recommended = rec.recommend_new({22: 5.0, 37: 1.0}, k=None, movies=movies)
            columns = ["rank"]
        else:
            recommended = rec.recommend(k=None, movies=movies)
            assert recommended["item_id"].tolist() == rec.recommend(k=None)["item_id"].tolist()
            columns = ["user_id", "rank"]
        columns += ["item_id", "score", "error", "n_ratings", "because_item_id", "title", "year", "because_title"]
        assert list(recommended.columns) == columns
        titles = {item: f"Film {item}" for item in movies["item_id"]}
        for of, title in [("item_id", "title"), ("because_item_id", "because_title")]:
            ids = recommended[of]
            assert recommended[title].fillna("none").tolist() == [
                "none" if pd.isna(item) else titles.get(item, "none") for item in ids
            ]
        assert recommended.loc[recommended["item_id"] == 85, "title"].isna().all()
        assert (recommended["item_id"] == 85).any()

    def test_items_whose_ids_are_of_another_type_or_missing_are_refused(self, rec, movies):
        with pytest.raises(MissingColumnError, match="movies: no column item_id; there are: title"):
            rec.recommend(k=1, movies=movies[["title"]])
        with pytest.raises(IdTypeError, match="item_ids of movies are of type string, those of the data integer"):
            rec.recommend(k=1, movies=movies.astype({"item_id": str}))

    def test_without_reasons_there_is_no_title_of_them(self, rec, movies):
        recommended = rec.recommend(k=1, movies=movies, because=False)
        assert list(recommended.columns) == [
            "user_id",
            "rank",
            "item_id",
            "score",
            "error",
            "n_ratings",
            "title",
            "year",
        ]


class TestRecommendNew:
    def test_the_rated_are_left_out_and_the_scores_are_the_predictors(self, rec):
        ratings = {22: 5.0, 10: 1.0, 37: 4.5}
        recommended = rec.recommend_new(ratings, k=None)
        assert set(recommended["item_id"]) == set(rec.item_ids) - set(ratings)
        scores = rec.predictors[0].new_user_scores(rec.item_ids.get_indexer(list(ratings)), np.array([5, 1, 4.5]))
        expected = np.clip(scores, *rec.scale)[rec.item_ids.get_indexer(recommended["item_id"])]
        np.testing.assert_allclose(recommended["score"], expected, rtol=1e-6)
        assert (np.diff(recommended["score"]) <= 0).all()
        assert set(recommended["because_item_id"].dropna()) <= {22, 37}
        assert recommended.columns.tolist() == rec.recommend(k=1).columns.tolist()[1:]

    @pytest.mark.parametrize("shrinkage", [5.0, 0.0])
    def test_no_ratings_give_what_the_biases_say(self, parts, shrinkage):
        rec = quick(n_epochs=2, shrinkage=shrinkage).fit(parts[0])
        recommended = rec.recommend_new({}, k=None)
        bias = dict(zip(rec.item_ids, rec.baseline.mean + rec.baseline.item_bias))
        assert recommended["item_id"].tolist() == sorted(bias, key=lambda item: -bias[item])
        assert recommended["score"].tolist() == pytest.approx(sorted(np.clip(list(bias.values()), 0.5, 5))[::-1])
        assert recommended["because_item_id"].isna().all()

    def test_fewer_unseen_than_k_are_warned_of(self, rec):
        with pytest.warns(UserWarning, match="somebody new has only 22 unseen items"):
            assert len(rec.recommend_new({22: 5.0}, k=23)) == 22

    @pytest.mark.parametrize(
        ("ratings", "error", "message"),
        [
            ({22: 5.0, 13: 4.0}, KeyError, "item 13 was not in the data [^;]*$"),
            ({22: 5.0, "Up": 4.0}, KeyError, "item 'Up' was not in the data .*; if it is a title, saerec.find_titles"),
            ({22: 5.5}, ValueError, "the rating 5.5 of item 22 is not on the scale of the data, 0.5 to 5"),
            ({22: 0.0}, ValueError, "not on the scale"),
            ({22: np.nan}, ValueError, "not on the scale"),
            ({22: "5"}, TypeError, "the rating '5' of item 22 is no number"),
            ({22: True}, TypeError, "the rating True of item 22 is no number"),
            ({22: None}, TypeError, "the rating None of item 22 is no number"),
            ([22], TypeError, "ratings are a mapping of item id to rating, such as .*: 5.0}, not of list"),
            (None, TypeError, "not of NoneType"),
        ],
    )
    def test_what_cannot_be_is_refused(self, rec, ratings, error, message):
        with pytest.raises(error, match=message):
            rec.recommend_new(ratings)

    def test_ratings_may_be_a_series(self, rec):
        ratings = {22: 5.0, 10 + 3 * 9: 4.0}
        assert_frame_equal(rec.recommend_new(pd.Series(ratings)), rec.recommend_new(ratings))


def test_movies_are_a_frame_with_ids_like_the_datas(parts, tmp_path):
    rec = quick(n_epochs=1).fit(parts[0])
    movies = pd.DataFrame({"item_id": rec.item_ids, "title": "a"})
    data = saerec.Dataset(parts[0], movies)
    for use in (
        lambda movies: rec.recommend(k=1, movies=movies),
        lambda movies: saerec.write_page(tmp_path / "page.html", rec, movies),
    ):
        with pytest.raises(TypeError, match=r"movies are a DataFrame .*, as a data set's \.movies, not of Dataset"):
            use(data)
        with pytest.raises(saerec.DataError, match="the item_ids of movies are of type string"):
            use(movies.assign(item_id=movies["item_id"].astype(str)))
    with pytest.raises(TypeError, match="write_page takes a path, then a recommender, not of str"):
        saerec.write_page(rec, "page.html")
    with pytest.raises(TypeError, match=r"movies are a DataFrame, as a data set's \.movies, not of Dataset"):
        saerec.movie_features(data)
    with pytest.raises(saerec.DataError, match="movies: no column genres, year"):
        saerec.movie_features(movies)
    with pytest.raises(TypeError, match="item features are a DataFrame indexed by item_id, not of Series"):
        quick().fit(parts[0], item_features=movies["title"])


def test_flags_are_features(parts):
    flags = pd.DataFrame({"even": (parts[0]["item_id"].unique() % 2 == 0)}, index=parts[0]["item_id"].unique())
    fits = [quick(n_epochs=1).fit(parts[0], item_features=f.iloc[1:]) for f in (flags, flags.astype(float))]
    assert_frame_equal(*(rec.recommend(k=3) for rec in fits), check_exact=True)


def test_train_and_valid_have_nothing_in_common(parts):
    train, valid, _ = parts
    with pytest.raises(saerec.DataError, match=r"train and valid have ratings in common, .*saerec\.split_ratings"):
        quick().fit(train, pd.concat([valid, train.head(1)]))
    with pytest.raises(saerec.DataError, match="rated before: 1, the first by user"):
        quick().fit(train, pd.concat([valid, valid.head(1)]))


def test_a_missing_id_is_not_somebody_new(rec):
    user_id = rec.user_ids.tolist()[0]
    with pytest.raises(saerec.DataError, match="a user_id is missing"):
        rec.predict([user_id, None], rec.item_ids[:2])


@pytest.fixture(scope="module", params=ORIENTATIONS)
def checkerboard(request) -> Recommender:
    """Even users love even items and hate odd ones, odd users the reverse; each has two of either kind unrated."""
    rows, cols = np.indices((40, 16)).reshape(2, -1)
    frame = pd.DataFrame({"user_id": 100 - rows, "item_id": 5 * cols, "rating": np.where((rows - cols) % 2, 1.0, 5.0)})
    unrated = (cols // 2 - rows // 2) % 8 < 2
    options = {"hidden_dims": (16,), "n_epochs": 40, "batch_size": 8, "lr": 0.02, "weight_decay": 0.01, "ridge": 1}
    return Recommender(orientation=request.param, **options).fit(frame[~unrated])


class TestCheckerboard:
    def test_every_user_is_recommended_the_loved_before_the_hated(self, checkerboard):
        recommended = checkerboard.recommend(k=None)
        assert recommended["rank"].tolist() == [1, 2, 3, 4] * 40
        loved = (100 - recommended["user_id"]) % 2 == recommended["item_id"] // 5 % 2
        assert loved.tolist() == [True, True, False, False] * 40
        assert (recommended["score"] > 3).tolist() == loved.tolist()
        rated_too = recommended["because_item_id"][loved]
        assert (rated_too // 5 % 2 == recommended["item_id"][loved] // 5 % 2).all()

    @pytest.mark.parametrize("parity", [0, 1])
    def test_so_is_somebody_new(self, checkerboard, parity):
        ratings = {5 * col: 5.0 if col % 2 == parity else 1.0 for col in range(6)}
        recommended = checkerboard.recommend_new(ratings, k=None)
        assert (recommended["item_id"] // 5 % 2 == parity).tolist() == [True] * 5 + [False] * 5


class TestIds:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_strings_give_the_same_as_numbers(self, parts, orientation):
        train, valid, test = parts
        numbers = quick(orientation=orientation).fit(train, valid)
        strings = quick(orientation=orientation).fit(lettered(train), lettered(valid))
        expected = numbers.recommend(k=2)
        recommended = strings.recommend(k=2)
        assert_frame_equal(recommended[IDS], lettered(expected)[IDS])
        assert_frame_equal(recommended[["rank", "score"]], expected[["rank", "score"]], check_exact=True)
        assert recommended["because_item_id"].dropna().isin(lettered(pd.concat([train, valid]))["item_id"]).all()
        assert strings.evaluate(lettered(test)) == numbers.evaluate(test)
        known = strings.item_ids[3]
        assert known not in set(strings.recommend_new({known: 5.0}, k=5)["item_id"])

    @pytest.mark.parametrize("dtype", ["int64", "int32", "str"])
    def test_keep_their_type(self, parts, tmp_path, dtype):
        train = parts[0].astype({"user_id": dtype, "item_id": dtype})
        quick(n_epochs=1).fit(train).save(tmp_path)
        for rec in (quick(n_epochs=1).fit(train), load(tmp_path)):
            recommended = rec.recommend(k=1)
            assert recommended["user_id"].dtype == train["user_id"].dtype
            assert recommended["item_id"].dtype == train["item_id"].dtype


@pytest.fixture(scope="module")
def saved(parts, tmp_path_factory):
    """A recommender and where it was saved."""
    rec, folder = quick().fit(*parts[:2]), tmp_path_factory.mktemp("saved")
    rec.save(folder)
    return rec, folder


class TestSave:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    @pytest.mark.parametrize(
        ("change_ids", "options"),
        [
            (lambda frame: frame, {"refit": False}),
            (lettered, {}),
            (lettered, {"hidden_dims": [5, 4], "shrinkage": 1, "mask_weight": 0}),
        ],
        ids=["numbers", "strings", "other settings"],
    )
    def test_loaded_is_the_same(self, parts, tmp_path, orientation, change_ids, options):
        if "hidden_dims" in options and orientation in ("both", "mean"):
            options = options | {"hidden_dims": [5]}  # they take one layer
        train, valid, test = map(change_ids, parts)
        rec = quick(orientation=orientation, **options).fit(train, valid)
        rec.save(tmp_path / "new" / "folder")
        loaded = load(tmp_path / "new" / "folder")
        assert_frame_equal(loaded.recommend(k=5), rec.recommend(k=5), check_exact=True)
        np.testing.assert_array_equal(
            loaded.predict(test["user_id"], test["item_id"]), rec.predict(test["user_id"], test["item_id"])
        )
        new = dict(zip(rec.item_ids[[3, 5]], [5.0, 2.0]))
        assert_frame_equal(loaded.recommend_new(new), rec.recommend_new(new), check_exact=True)
        for mine, theirs in zip(
            *(one.predict_interval(test["user_id"], test["item_id"], 0.9) for one in (rec, loaded))
        ):
            np.testing.assert_array_equal(mine, theirs)
        assert_frame_equal(loaded.history, rec.history.drop(columns="seconds"), check_exact=True)
        assert (loaded.best_epoch, loaded.scale, repr(loaded)) == (rec.best_epoch, rec.scale, repr(rec))

    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_where_few_cells_are_observed_too(self, parts, tmp_path, monkeypatch, orientation):
        options = {"orientation": orientation, "refit": False}  # somebody and something is without ratings
        written_out = quick(**options).fit(*parts[:2])
        monkeypatch.setattr("saerec.batches.SPARSE_BELOW", 1.0)
        rec = quick(**options).fit(*parts[:2])
        rec.save(tmp_path)
        new = dict(zip(rec.item_ids[[3, 5]], [5.0, 2.0]))
        loaded = load(tmp_path, device="auto")
        assert_frame_equal(loaded.recommend(k=5), rec.recommend(k=5), check_exact=True)
        assert_frame_equal(loaded.recommend_new(new), rec.recommend_new(new), check_exact=True)
        pairs = parts[2]["user_id"], parts[2]["item_id"]
        np.testing.assert_allclose(loaded.predict(*pairs), written_out.predict(*pairs), atol=1e-4)
        scores = [
            each.recommend_new(new, k=None, because=False).set_index("item_id")["score"] for each in (rec, written_out)
        ]
        np.testing.assert_allclose(scores[0], scores[1].reindex(scores[0].index), atol=1e-4)

    def test_without_validation_too(self, parts, tmp_path):
        rec = quick().fit(parts[0])
        rec.save(tmp_path)
        assert_frame_equal(load(tmp_path).history, rec.history.drop(columns="seconds"), check_exact=True)

    def test_a_loaded_one_saves_the_same_bytes(self, saved, tmp_path):
        load(saved[1]).save(tmp_path)
        assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [
            path.read_bytes() for path in sorted(saved[1].iterdir())
        ]

    def test_a_loaded_one_can_be_refitted(self, saved, parts):
        rec = load(saved[1]).refit_on(pd.concat(parts[:2]))
        assert_frame_equal(rec.recommend(k=2), saved[0].recommend(k=2), check_exact=True)

    def test_same_seed_same_bytes(self, saved, parts, tmp_path):
        for seed in (0, 1):
            quick(seed=seed).fit(*parts[:2]).save(tmp_path)
            same = (tmp_path / FILE).read_bytes() == (saved[1] / FILE).read_bytes()
            assert same == (seed == 0)
            assert [path.name for path in tmp_path.iterdir()] == [FILE]

    def test_a_file_is_not_its_folder(self, saved):
        with pytest.raises(FileNotFoundError, match=f"{FILE} is a file: load takes the folder that it is in"):
            load(saved[1] / FILE)

    def test_a_missing_device_is_not_the_files_fault(self, saved):
        with pytest.raises(ValueError, match=r"device must be .*, not 'gpu'") as raised:
            load(saved[1], device="gpu")
        assert type(raised.value) is ValueError

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=f"no saved recommender in .*{tmp_path.name}: {FILE} is missing"):
            load(tmp_path)


def test_says_what_it_is(rec):
    assert repr(Recommender(hidden_dims=np.array([3]))) == "Recommender(orientation='mean', hidden_dims=(3,))"
    assert repr(Recommender(hidden_dims=3)) == "Recommender(orientation='mean', hidden_dims=3)"
    matrix = "RatingMatrix(39 users × 23 items, "
    assert f"orientation={rec.orientation!r}, hidden_dims=(12,), fitted to {matrix}" in repr(rec)


@pytest.mark.parametrize(
    "use",
    [
        lambda rec, path: rec.predict([1], [1]),
        lambda rec, path: rec.recommend([1]),
        lambda rec, path: rec.recommend_new({1: 5.0}),
        lambda rec, path: rec.refit_on(None),
        lambda rec, path: rec.save(path),
        lambda rec, path: rec.history,
        lambda rec, path: rec.refit_history,
        lambda rec, path: rec.best_epoch,
        lambda rec, path: rec.model,
        lambda rec, path: rec.item_ids,
        lambda rec, path: rec.scale,
        lambda rec, path: saerec.write_page(path / "page.html", rec),
    ],
)
def test_what_needs_a_fit_says_so(use, tmp_path):
    with pytest.raises(NotFittedError, match="call fit first"):
        use(Recommender(), tmp_path)
    assert not any(tmp_path.iterdir())


def test_columns_of_movies_do_not_displace_those_of_the_list(parts):
    rec = quick(n_epochs=1).fit(parts[0])
    movies = pd.DataFrame({"item_id": rec.item_ids, "score": 99, "n_ratings": -1})
    plain, joined = rec.recommend(k=2), rec.recommend(k=2, movies=movies)
    assert_frame_equal(joined[plain.columns], plain)
    assert (joined["score_of_movie"] == 99).all()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"lr": -1.0}, "lr must be above 0, not -1.0"),
        ({"weight_decay": -1}, "weight_decay must be at least 0, not -1"),
        ({"n_epochs": 0}, "n_epochs must be at least 1, not 0"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"seed": 2**70}, r"seed must be at most 9.22e\+18, not 1180591620717411303424"),
        ({"input_dropout": 1.0}, "input_dropout must be at least 0 and below 1, not 1.0"),
        ({"mask_weight": np.nan}, "mask_weight must be a finite number, not nan"),
        ({"ridge": 0}, "ridge must be above 0, not 0"),
        ({"ridge": np.nan}, "ridge must be above 0, not nan"),
        ({"ridge": np.inf}, r"ridge must be at most 3.4e\+38, not inf"),
        ({"blend": 7.0}, "blend must be between 0 and 1, not 7.0"),
        ({"orientation": "mena"}, "orientation must be one of .*, not 'mena'"),
        ({"rank_by": "stars"}, "rank_by must be one of .*, not 'stars'"),
        ({"orientation": "both", "hidden_dims": [5, 4]}, "'both' takes one hidden layer, not"),
        ({"device": "gpu"}, "device must be 'cpu', 'cuda', 'mps' or 'auto', not 'gpu'"),
    ],
)
def test_a_setting_out_of_range_is_refused_before_anything_is_removed(parts, tmp_path, settings, told):
    quick(n_epochs=1, rank_by="rating", refit=False).fit(parts[0], checkpoint_dir=tmp_path)
    there = sorted(tmp_path.rglob("*"))
    recommender = quick(**settings)
    with pytest.raises(ValueError, match=told):
        recommender.fit(*parts[:2], checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match=told):
        recommender.refit_on(parts[0], n_epochs=1, checkpoint_dir=tmp_path)
    assert sorted(tmp_path.rglob("*")) == there and any(path.suffix == ".safetensors" for path in there)


def test_a_refit_that_fails_leaves_nothing(parts):
    recommender = quick()
    with pytest.raises(saerec.DataError):
        recommender.refit_on(parts[0].drop(columns="rating"), n_epochs=1)
    assert vars(recommender) == vars(quick())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"blend": "half"}, "blend must be a number, not 'half'"),
        ({"blend": True}, "blend must be a number, not True"),
        ({"dropout": "0.5"}, "dropout must be a number, not '0.5'"),
        ({"shrinkage": None}, "shrinkage must be a number, not None"),
        ({"batch_size": 2.5}, "batch_size must be a whole number, not 2.5"),
        ({"seed": "a"}, "seed must be a whole number, not 'a'"),
        ({"hidden_dims": "200"}, "hidden_dims must be a tuple or list of whole numbers of at least 1, .*not '200'"),
        ({"hidden_dims": 200}, "hidden_dims must be a tuple or list of whole numbers of at least 1, .*not 200"),
        (
            {"hidden_dims": (2.5,)},
            r"hidden_dims must be a tuple or list of whole numbers of at least 1, .*not \(2.5,\)",
        ),
        ({"hidden_dims": (0,)}, r"hidden_dims must be a tuple or list of whole numbers of at least 1, .*not \(0,\)"),
        *(
            ({"hidden_dims": value}, "hidden_dims must be a tuple or list of")
            for value in ("", (), {5}, range(4, 5), b"a")
        ),
        ({"refit": "no"}, "refit must be True or False, not 'no'"),
        ({"device": None}, "device must be a text, not None"),
    ],
)
def test_a_setting_of_another_type_is_refused_by_name(parts, monkeypatch, settings, told):
    monkeypatch.setattr(saerec.training, "fit", lambda *_, **__: pytest.fail("something was trained"))
    for train in (lambda rec: rec.fit(*parts[:2]), lambda rec: rec.refit_on(parts[0], n_epochs=1)):
        with pytest.raises(TypeError, match=told):
            train(saerec.Recommender(**settings))


def test_settings_may_be_numbers_of_numpy(parts):
    plain = quick(n_epochs=1).fit(*parts[:2])
    of_numpy = {
        "n_epochs": np.int64(1),
        "dropout": np.float32(0.5),
        "hidden_dims": np.array([8]),
        "refit": np.bool_(True),
    }
    assert np.isfinite(quick(**of_numpy).fit(*parts[:2]).recommend(k=1)["score"]).all() and plain.best_epoch == 1
