import errno
import inspect
import shutil
import warnings
from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from safetensors import SafetensorError
from safetensors.torch import load_file

import saerec.batches
import saerec.training
from saerec import SAE, BiasBaseline, RatingMatrix, TwoEncoderSAE, best_epoch, fit
from saerec.batches import RatingRows, TwoSidedRatings, reads_observed_cells
from saerec.checkpoints import Checkpoints
from saerec.files import BusyFolderError, NoSpaceError, one_writer
from saerec.storage import NewerFileError, read_tensors, write_tensors
from saerec.training import DivergedError, one_cycle

DATA = Path(__file__).parent / "data"
QUICK = {"n_epochs": 6, "batch_size": 8, "lr": 0.01, "weight_decay": 0.1}


def new_model(n_items: int, hidden_dims=(8,), **options) -> SAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SAE(n_items, hidden_dims, **options)


class Case:
    """Training and validation matrices with cold rows and columns, a baseline, and `fit` with quick settings."""

    def __init__(self, parts):
        train, valid, test = parts
        every = RatingMatrix.from_frame(pd.concat([train, valid, test]))  # the cold and the unknown have positions too
        ids = {"user_ids": every.user_ids, "item_ids": every.item_ids}
        self.train, self.valid, self.test = (RatingMatrix.from_frame(frame, **ids) for frame in (train, valid, test))
        # Whoever learns `train` gets this one wrong: validation is best after the first epoch.
        self.contrary = RatingMatrix.from_frame(train.assign(rating=5.5 - train["rating"]), **ids)
        self.baseline = BiasBaseline().fit(self.train)

    def fit(self, model=None, train=None, **options) -> tuple[SAE, pd.DataFrame]:
        model = model or new_model(self.train.n_items)
        options = {"valid": self.valid, "baseline": self.baseline} | QUICK | options
        return model, fit(model, train or self.train, **options)


@pytest.fixture(scope="module")
def case(parts) -> Case:
    return Case(parts)


def assert_same_weights(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def assert_same_history(one: pd.DataFrame, other: pd.DataFrame) -> None:
    assert_frame_equal(one.drop(columns="seconds"), other.drop(columns="seconds"), check_exact=True)


class TestFit:
    def test_history_has_a_row_per_epoch(self, case):
        _, history = case.fit()
        assert list(history.columns) == ["epoch", "train_rmse", "valid_rmse", "seconds"]
        assert history["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
        assert (history["seconds"] > 0).all()

    def test_training_lowers_the_error_far_below_the_baseline(self, case):
        rows, cols, ratings = case.train.coordinates()
        of_baseline = saerec.rmse(ratings, case.baseline.predict(rows, cols))
        _, history = case.fit(n_epochs=30)
        assert history["train_rmse"].iloc[-1] < 0.6 * of_baseline
        assert history["valid_rmse"].min() < 0.85 * history["valid_rmse"].iloc[0]

    @pytest.mark.parametrize("with_baseline", [True, False])
    @pytest.mark.parametrize("batch_size", [8, 39, 500])  # 38 rows have ratings, 40 are evaluated: a batch of one
    def test_errors_are_those_of_the_weights(self, case, batch_size, with_baseline):
        baseline = case.baseline if with_baseline else None
        model, history = case.fit(n_epochs=2, valid=None, baseline=baseline, batch_size=batch_size)
        _, with_valid = case.fit(n_epochs=2, baseline=baseline, batch_size=batch_size)
        rows = np.arange(case.train.n_users)
        ratings, observed = case.train.dense(rows)
        offset = case.baseline.predict(rows[:, None], np.arange(case.train.n_items)) if with_baseline else 0
        x = np.where(observed, ratings - offset + 2, 0).astype(np.float32)
        output = model.eval()(torch.from_numpy(x)).detach().numpy()
        if with_baseline:  # alone where the row or the column is cold
            output = np.where(observed.any(axis=1, keepdims=True) & observed.any(axis=0), output, 0)
        predicted = np.clip(offset + output, *case.train.scale)
        assert history["train_rmse"].iloc[-1] == pytest.approx(
            saerec.rmse(ratings[observed], predicted[observed]), abs=1e-5
        )
        held_out, hidden = case.valid.dense(rows)
        assert with_valid["valid_rmse"].iloc[-1] == pytest.approx(
            saerec.rmse(held_out[hidden], predicted[hidden]), abs=1e-5
        )

    @pytest.mark.parametrize("batch_size", [37, 1])  # of 38 rows with ratings
    def test_a_last_batch_of_one_row_is_trained_on_too(self, case, batch_size):
        _, history = case.fit(n_epochs=2, batch_size=batch_size)
        assert np.isfinite(history[["train_rmse", "valid_rmse"]]).all(axis=None)

    def test_rows_without_ratings_change_nothing(self, case):
        train = case.train
        more_ids = [*train.user_ids, *range(5)]
        more = RatingMatrix.from_frame(train.to_frame(), user_ids=more_ids, item_ids=train.item_ids)
        model, history = case.fit(valid=None)
        other_model, other = case.fit(train=more, valid=None, baseline=BiasBaseline().fit(more))
        assert_same_history(other, history)
        assert_same_weights(other_model.state_dict(), model.state_dict())

    @pytest.mark.parametrize("n_steps", range(1, 9))
    def test_any_number_of_steps_can_be_trained(self, case, n_steps):
        model, history = case.fit(n_epochs=n_steps, batch_size=500, valid=None)
        assert len(history) == n_steps
        moved = model.output.bias - new_model(case.train.n_items).output.bias
        assert moved.abs().max() > 0.001

    @pytest.mark.parametrize("total_steps", [1, 2, 3, 5, 40, 1001])
    def test_the_learning_rate_is_that_of_torchs_one_cycle(self, total_steps):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        with warnings.catch_warnings(action="ignore"):  # torch warns of a scheduler that steps before its optimizer
            scheduler = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, max_lr=1.0, total_steps=total_steps, pct_start=0.25, cycle_momentum=False
            )
            for step in range(total_steps if total_steps > 4 else 0):
                assert one_cycle(step, total_steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
                if step < total_steps - 1:
                    scheduler.step()
        rates = [one_cycle(step, total_steps) for step in range(total_steps)]
        assert max(rates) == pytest.approx(1, abs=0.1) and min(rates) > 0

    @pytest.mark.parametrize("sparse", [False, True])
    def test_input_dropout_hides_that_share_of_the_observed_cells(self, case, monkeypatch, sparse):
        seen = []
        model = new_model(case.train.n_items)
        code = model.code
        monkeypatch.setattr(model, "code", lambda x, *rest: (model.training and seen.append(x)) or code(x, *rest))
        case.fit(model, valid=None, n_epochs=20, batch_size=500, input_dropout=0.4, sparse=sparse)
        assert len(seen) == 20
        observed = sum(case.train.n_ratings for _ in seen)
        kept = sum(int((x.to_dense() != 0).sum()) for x in seen)
        assert kept / observed == pytest.approx(0.6, abs=0.02)

    def test_same_seed_same_bits(self, case):
        (one, history), (other, again) = case.fit(), case.fit()
        assert_same_history(one=history, other=again)
        assert_same_weights(one.state_dict(), other.state_dict())
        _, otherwise = case.fit(seed=1)
        assert (otherwise["train_rmse"] != history["train_rmse"]).all()

    @pytest.mark.parametrize(
        "option", [{"input_dropout": 0.0}, {"mask_weight": 0.0}, {"weight_decay": 5.0}, {"lr": 0.02}, {"batch_size": 9}]
    )
    def test_settings_matter(self, case, option):
        _, history = case.fit(n_epochs=2)
        _, otherwise = case.fit(n_epochs=2, **option)
        assert history["train_rmse"].iloc[-1] != otherwise["train_rmse"].iloc[-1]

    def test_the_models_dropout_works_in_training(self, case):
        _, history = case.fit(n_epochs=2)
        _, otherwise = case.fit(new_model(case.train.n_items, dropout=0.9), n_epochs=2)
        assert history["train_rmse"].iloc[-1] != otherwise["train_rmse"].iloc[-1]

    def test_global_random_state_is_left_alone(self, case):
        torch.manual_seed(3)
        before, numpy_before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
        case.fit(n_epochs=2)
        assert torch.equal(torch.get_rng_state(), before)
        np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002

    def test_weight_decay_spares_biases(self):
        constant = RatingMatrix.from_frame(
            pd.DataFrame({"user_id": [1, 1, 2], "item_id": [1, 2, 1], "rating": [3.0, 3.0, 3.0]})
        )
        model = new_model(2, output_gain=0.0)
        torch.nn.init.ones_(model.hidden[0].bias)
        before = model.hidden[0].weight.detach().clone()
        with pytest.warns(UserWarning, match="says the same of every row"):  # no gradient
            fit(model, constant, baseline=BiasBaseline().fit(constant), n_epochs=5, lr=0.01, weight_decay=4)
        assert torch.equal(model.hidden[0].bias, torch.ones(8))
        assert (model.hidden[0].weight.abs() < 0.99 * before.abs()).all()

    def test_cannot_see_the_test_ratings(self):
        parameters = inspect.signature(fit).parameters
        matrices = [name for name, parameter in parameters.items() if "RatingMatrix" in str(parameter.annotation)]
        assert matrices == ["train", "valid"]
        assert not any("test" in name for name in parameters)

    def test_divergence_is_an_error(self, case):
        with pytest.raises(ValueError, match="stopped in epoch 1: it diverged in batch"):
            case.fit(lr=1e30)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"n_epochs": 0}, "n_epochs must be a whole number of at least 1"),
            ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
            ({"patience": 0}, "patience must be a whole number of at least 1"),
            ({"stop_after": 0}, "stop_after must be a whole number of at least 1"),
            ({"stop_after": 7}, "stop_after=7 lies after the last epoch, 6"),
            ({"lr": 0.0}, "lr must be above 0"),
            ({"lr": np.nan}, "lr must be above 0"),
            ({"weight_decay": -1.0}, "weight_decay not below"),
            ({"input_dropout": 1.0}, "input_dropout is a share"),
            ({"input_dropout": -0.1}, "input_dropout is a share"),
            ({"patience": 2, "valid": None}, "patience needs validation"),
        ],
    )
    def test_bad_settings_are_refused(self, case, options, message):
        with pytest.raises(ValueError, match=message):
            case.fit(**options)

    def test_matrices_with_other_ids_are_refused(self, case, parts):
        with pytest.raises(ValueError, match="the same user_ids and item_ids"):
            case.fit(valid=RatingMatrix.from_frame(parts[1]))

    @pytest.mark.parametrize("batch_size", [8, 500])
    def test_the_weights_are_the_same_on_any_scale(self, case, batch_size):
        def biases(train):
            model, history = case.fit(train=train, valid=None, baseline=BiasBaseline().fit(train), n_epochs=2)
            return model.output.bias.detach(), history["train_rmse"]

        wide = RatingMatrix(10 * case.train.csr, case.train.user_ids, case.train.item_ids)
        (bias, errors), (same_bias, wide_errors) = biases(case.train), biases(wide)
        torch.testing.assert_close(bias, same_bias, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(10 * errors, wide_errors, rtol=1e-4)


class TestRatingRows:
    def test_the_cold_are_predicted_by_the_baseline_alone(self, case):
        model, _ = case.fit(n_epochs=2)
        data, rows = RatingRows(case.train, case.baseline), np.arange(case.train.n_users)
        offset = case.baseline.predict(rows[:, None], np.arange(case.train.n_items))
        deviation = data.predict(model, data.batch(rows)) - offset
        cold = (case.train.user_counts == 0)[:, None] | (case.train.item_counts == 0)
        assert cold.sum() == 40 * 24 - 38 * 22
        assert not deviation[cold].any()
        assert (np.abs(deviation[~cold]) > 1e-4).mean() > 0.9

    def test_the_network_sees_deviations_and_which_cells_are_rated(self, monkeypatch):
        frame = pd.DataFrame({"user_id": [1, 1, 2], "item_id": [1, 3, 2], "rating": [0.5, 3.5, 5.0]})
        matrix = RatingMatrix.from_frame(frame)
        mean = BiasBaseline(users=False, items=False).fit(matrix)
        seen = []
        for baseline, expected in [(mean, [[-1.5, 0, 1.5], [0, 3.0, 0]]), (None, [[1.5, 0, 4.5], [0, 6.0, 0]])]:
            for sparse in (False, True):
                model = new_model(3)
                monkeypatch.setattr(model, "code", lambda x, *rest: seen.append(x.to_dense()) or torch.zeros(2, 8))
                data = RatingRows(matrix, baseline, mask_weight=1.0, sparse=sparse)
                data.ends(model, data.batch(np.arange(2)))
                np.testing.assert_allclose(seen[-1], expected)


class TestSparse:
    """Observed cells alone, or rows written out: the same training but for rounding."""

    @pytest.mark.parametrize("batch_size", [8, 500])
    @pytest.mark.parametrize("hidden_dims", [(8,), (6, 5)])
    @pytest.mark.parametrize("with_features", [False, True])
    @pytest.mark.parametrize("transposed", [False, True])
    def test_gives_the_same_errors_and_weights(self, case, transposed, with_features, hidden_dims, batch_size):
        train, valid, baseline = case.train, case.valid, case.baseline
        if transposed:
            train, valid, baseline = train.T, valid.T, baseline.T
        features = np.random.default_rng(0).random((train.n_users, 2), dtype=np.float32) if with_features else None
        options = {"train": train, "valid": valid, "baseline": baseline, "features": features, "batch_size": batch_size}
        fitted = {}
        for sparse in (False, True):
            n_features = 2 if with_features else 0
            model = new_model(train.n_items, hidden_dims, dropout=0.3, n_features=n_features)
            fitted[sparse] = case.fit(model, **options, sparse=sparse)
        (dense, history), (sparse, other) = fitted.values()
        np.testing.assert_allclose(other.drop(columns="seconds"), history.drop(columns="seconds"), atol=1e-5)
        for name, weights in dense.state_dict().items():
            torch.testing.assert_close(sparse.state_dict()[name], weights, rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize(
        "options",
        [
            {"mask_weight": 0.0},
            {"input_dropout": 0.0},
            {"baseline": None},
            {"patience": 1},
            {"valid": None, "stop_after": 4, "last_alone": True},
        ],
        ids=lambda options: " ".join(options),
    )
    def test_with_any_other_option_too(self, case, options):
        histories = [case.fit(sparse=sparse, **options)[1].drop(columns="seconds") for sparse in (False, True)]
        np.testing.assert_allclose(*histories, atol=1e-5)

    def test_two_encoders_too(self, case):
        features = np.random.default_rng(0).random((case.train.n_items, 2), dtype=np.float32)
        histories = []
        for sparse in (False, True):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = TwoEncoderSAE(*case.train.shape, 8, dropout=0.3, n_features=2)
            histories.append(case.fit(model, features=features, sparse=sparse)[1].drop(columns="seconds"))
        np.testing.assert_allclose(*histories, atol=1e-5)

    def test_resumes_and_saves_like_the_other(self, case, tmp_path):
        expected, history = case.fit(sparse=True)
        case.fit(sparse=True, checkpoint_dir=tmp_path, stop_after=3)
        model, resumed = case.fit(new_model(case.train.n_items), sparse=True, checkpoint_dir=tmp_path, resume=True)
        assert_same_history(resumed, history)
        assert_same_weights(model.state_dict(), expected.state_dict())
        assert all(parameter.is_contiguous() for parameter in model.parameters())

    def test_is_taken_where_few_cells_are_observed(self, case, monkeypatch):
        assert not RatingRows(case.train, None).sparse
        monkeypatch.setattr(saerec.batches, "SPARSE_BELOW", case.train.density + 0.01)
        assert RatingRows(case.train, None).sparse

    @pytest.mark.parametrize("sparse", [False, True])
    def test_the_progress_bar_says_which_it_is(self, case, capsys, sparse):
        case.fit(sparse=sparse, n_epochs=1, progress=True)
        said = capsys.readouterr().err
        assert ("sparse batches" in said, "dense batches" in said) == (sparse, not sparse)

    def test_the_progress_bar_has_a_name(self, case, capsys):
        case.fit(n_epochs=1, progress="layout item")
        assert "layout item, dense batches:" in capsys.readouterr().err

    @pytest.mark.parametrize("sparse", [False, True])
    def test_a_step_follows_the_masked_squared_error(self, case, sparse):
        model, rows = new_model(case.train.n_items), np.arange(case.train.n_users)
        data = RatingRows(case.train, case.baseline, sparse=sparse)
        batch = data.batch(rows)
        (written,) = data.outputs(model, batch, batch.cells)
        (written - batch.deviations).square().sum().backward()
        found = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        ratings, observed = map(torch.from_numpy, case.train.dense(rows))
        offset = torch.from_numpy(case.baseline.predict(rows[:, None], np.arange(case.train.n_items)))
        prediction = offset + model(torch.where(observed, ratings - offset + 2, 0.0))
        saerec.masked_squared_error(prediction, ratings, observed)[0].backward()
        torch.testing.assert_close(found, [parameter.grad for parameter in model.parameters()])


class TestInFiles:
    def test_ratings_in_files_train_to_the_same_bits(self, case, tmp_path, monkeypatch):
        case.train.save(tmp_path)
        opened = RatingMatrix.open(tmp_path)
        expected, history = case.fit(sparse=True)
        model, other = case.fit(train=opened, baseline=BiasBaseline().fit(opened), sparse=True)
        assert_same_history(other, history)
        assert_same_weights(model.state_dict(), expected.state_dict())

    def test_nothing_asks_for_all_of_them_at_once(self, case, monkeypatch):
        monkeypatch.setattr(saerec.ratings, "BLOCK", 20)
        monkeypatch.setattr(saerec.training, "ROWS_AT_ONCE", 4)
        coordinates, most = RatingMatrix.coordinates, []

        def watched(matrix, *block):
            found = coordinates(matrix, *block)
            most.append(len(found[0]))
            return found

        monkeypatch.setattr(RatingMatrix, "coordinates", watched)
        case.fit(sparse=True, baseline=BiasBaseline().fit(case.train), batch_size=4)
        assert 0 < max(most) < case.train.n_ratings / 3

    def test_errors_measured_on_more_rows_at_once_are_the_same(self, case, monkeypatch):
        found, sizes = [], []
        monkeypatch.setattr(
            RatingMatrix,
            "coordinates",
            lambda matrix, *block, of=RatingMatrix.coordinates: sizes.append(block) or of(matrix, *block),
        )
        for n in (4, 16):
            monkeypatch.setattr(saerec.training, "ROWS_AT_ONCE", n)
            found.append(case.fit(batch_size=4)[1].drop(columns="seconds"))
            assert (0, n) in sizes
        np.testing.assert_allclose(*found, rtol=1e-6)

    def test_biases_of_some_rows_at_a_time_are_those_of_all(self, case, monkeypatch):
        monkeypatch.setattr(saerec.ratings, "BLOCK", 20)
        assert len(case.train.blocks()) > 5
        some = BiasBaseline().fit(case.train)
        for name in ("mean", "user_bias", "item_bias", "spread", "user_spread", "item_spread"):
            np.testing.assert_allclose(getattr(some, name), getattr(case.baseline, name), atol=1e-6)


class TestDevices:
    @pytest.mark.parametrize(
        ("density", "sparse", "device", "expected"),
        [
            (0.01, None, "cpu", True),
            (0.01, None, "cuda", True),
            (0.01, None, "mps", False),
            (0.01, False, "cuda", False),
            (0.5, None, "cpu", False),
            (0.5, True, "cpu", True),
        ],
    )
    def test_observed_cells_alone_are_not_for_mps(self, density, sparse, device, expected):
        assert reads_observed_cells(density, sparse, device) == expected

    def test_asking_for_them_there_is_an_error(self):
        with pytest.raises(ValueError, match="sparse=True is not for device='mps'"):
            reads_observed_cells(0.01, True, "mps")

    def test_auto_is_a_device_that_is_there(self, case, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
        (_, history), (_, other) = case.fit(), case.fit(device="auto")
        assert_same_history(other, history)

    def test_what_two_encoders_read_is_written_out_unless_it_is_large(self, case, monkeypatch):
        values = torch.arange(1.0, case.train.n_ratings + 1)
        dense, sparse = (
            TwoSidedRatings(case.train, case.baseline, sparse=kind)._items(values) for kind in (False, True)
        )
        assert dense.layout == torch.strided and sparse.layout == torch.sparse_csr
        assert torch.equal(dense, sparse.to_dense())
        monkeypatch.setattr(saerec.batches, "CELLS_AT_ONCE", case.train.n_users * case.train.n_items - 1)
        data = TwoSidedRatings(case.train, case.baseline, sparse=False)
        assert torch.equal(data._items(values).to_dense(), dense) and data._items(values).layout == torch.sparse_csr


class TestBestEpoch:
    @pytest.mark.parametrize(
        ("valid_rmse", "epoch"), [([0.9, 0.8, 0.8], 2), ([0.7, 0.8, 0.9], 1), ([np.nan, np.nan, np.nan], 3)]
    )
    def test_the_lowest_the_earliest_of_ties_or_the_last(self, valid_rmse, epoch):
        assert best_epoch(pd.DataFrame({"epoch": [1, 2, 3], "valid_rmse": valid_rmse})) == epoch

    @pytest.mark.parametrize(("valid", "epoch"), [("contrary", 1), (None, 6)])
    def test_the_model_is_left_with_its_weights(self, case, tmp_path, valid, epoch):
        model, history = case.fit(valid=valid and getattr(case, valid), checkpoint_dir=tmp_path)
        assert best_epoch(history) == epoch
        assert_same_weights(model.state_dict(), load_file(tmp_path / f"epoch_{epoch:04d}.safetensors"))
        other = load_file(tmp_path / f"epoch_{7 - epoch:04d}.safetensors")
        assert not torch.equal(model.output.weight, other["output.weight"])
        assert history["valid_rmse"].isna().all() == (valid is None)

    @pytest.mark.parametrize("patience", [1, 3])
    def test_patience_stops_when_validation_does_not_improve(self, case, patience):
        _, history = case.fit(valid=case.contrary, patience=patience)
        assert len(history) == 1 + patience
        _, unhurried = case.fit(valid=case.contrary)
        assert_same_history(history, unhurried.head(1 + patience))

    def test_stopping_after_an_epoch_does_not_change_the_way_there(self, case, tmp_path):
        _, full = case.fit(valid=None, checkpoint_dir=tmp_path)
        model, history = case.fit(valid=None, stop_after=3)
        assert_same_history(history, full.head(3))
        assert_same_weights(model.state_dict(), load_file(tmp_path / "epoch_0003.safetensors"))

    def test_measuring_the_last_epoch_alone_changes_no_weight(self, case):
        model, history = case.fit(valid=None, stop_after=4)
        other, last = case.fit(valid=None, stop_after=4, last_alone=True)
        assert_same_weights(other.state_dict(), model.state_dict())
        assert_same_history(last, history.tail(1).reset_index(drop=True))
        with pytest.raises(ValueError, match="last_alone=True measures no other epoch"):
            case.fit(last_alone=True)


class TestCheckpoints:
    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("valid", ["valid", "contrary"])  # the best epoch is late, or lies before the interruption
    @pytest.mark.parametrize("seed_of_weights", [0, 1])
    def test_resumed_equals_uninterrupted_to_the_bit(self, case, tmp_path, monkeypatch, valid, when, seed_of_weights):
        options = {"valid": getattr(case, valid)}
        expected_model, expected = case.fit(new_model(case.train.n_items, dropout=0.3), **options)
        save = Checkpoints.save

        def interrupted(self, epoch, *rest):
            if when == "after" or epoch < 3:
                save(self, epoch, *rest)
            if epoch == 3:
                raise KeyboardInterrupt

        options["checkpoint_dir"] = tmp_path
        monkeypatch.setattr(Checkpoints, "save", interrupted)
        with pytest.raises(KeyboardInterrupt, match=f"stopped in epoch 3; the epochs before are in {tmp_path}"):
            case.fit(new_model(case.train.n_items, dropout=0.3), **options)
        monkeypatch.undo()
        torch.manual_seed(seed_of_weights)  # neither torch's state nor the weights handed in matter when resuming
        model, history = case.fit(SAE(case.train.n_items, (8,), dropout=0.3), **options, resume=True)
        assert_same_history(history, expected)
        assert_same_weights(model.state_dict(), expected_model.state_dict())

    @pytest.mark.parametrize("kept", sorted(DATA.glob("format_*/state_*")), ids=lambda path: path.parent.name)
    def test_one_that_was_written_before_is_gone_on_with(self, case, tmp_path, kept):
        """It was written after two epochs by the first saerec with its format, like ``case.fit(baseline=None)``.

        In format 3 its errors are of weights whose output biases that saerec had corrected.
        """
        shutil.copy(kept, tmp_path)
        _, history = case.fit(baseline=None, checkpoint_dir=tmp_path, resume=True)
        assert history["seconds"].head(2).tolist() == [0.75, 0.5]
        assert history.head(2).to_dict("records") == read_tensors(kept, "training")[1]["history"]
        case.fit(baseline=None, checkpoint_dir=tmp_path / "fresh")
        names = ("epoch_0006.safetensors", "fresh/epoch_0006.safetensors")
        weights, expected = (read_tensors(tmp_path / name, "weights")[0] for name in names)
        for name, tensor in expected.items():
            torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-4)
        assert len(history) == 6 and (tmp_path / "epoch_0003.safetensors").exists()
        assert not (tmp_path / "epoch_0002.safetensors").exists()

    def test_resuming_a_finished_run_gives_it_again(self, case, tmp_path):
        expected_model, expected = case.fit(valid=case.contrary, checkpoint_dir=tmp_path)
        model, history = case.fit(valid=case.contrary, checkpoint_dir=tmp_path, resume=True)
        assert_frame_equal(history, expected)
        assert_same_weights(model.state_dict(), expected_model.state_dict())

    def test_resuming_from_nothing_starts(self, case, tmp_path):
        _, history = case.fit(checkpoint_dir=tmp_path / "new" / "folder", resume=True)
        assert_same_history(history, case.fit()[1])

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("n_epochs", {"n_epochs": 7}),
            ("batch_size", {"batch_size": 9}),
            ("lr", {"lr": 0.02}),
            ("weight_decay", {"weight_decay": 0.2}),
            ("input_dropout", {"input_dropout": 0.1}),
            ("mask_weight", {"mask_weight": 1.0}),
            ("seed", {"seed": 1}),
            ("model", {"hidden_dims": (9,)}),
            ("train", {"train": "test"}),
            ("valid", {"valid": "contrary"}),
            ("valid", {"valid": None}),
            ("baseline", {"baseline": BiasBaseline(shrinkage=9)}),
            ("baseline", {"baseline": None}),
            ("features", {"features": np.zeros((40, 0), dtype=np.float32)}),
            ("sparse", {"sparse": True}),
        ],
    )
    def test_resuming_with_another_setting_is_refused_by_its_name(self, case, tmp_path, name, options):
        case.fit(stop_after=1, checkpoint_dir=tmp_path)
        for key in {"train", "valid"} & options.keys():
            options = options | {key: options[key] and getattr(case, options[key])}
        if options.get("baseline"):
            options["baseline"].fit(case.train)
        model = new_model(case.train.n_items, options.get("hidden_dims", (8,)))
        options = {key: value for key, value in options.items() if key != "hidden_dims"}
        with pytest.raises(ValueError, match=f"cannot resume from .*: its {name} is"):
            case.fit(model, **options, checkpoint_dir=tmp_path, resume=True)

    def test_a_refit_is_not_gone_on_with_as_something_else(self, case, tmp_path):
        case.fit(valid=None, last_alone=True, stop_after=3, checkpoint_dir=tmp_path)
        with pytest.raises(ValueError, match="its last_alone is True, here False"):
            case.fit(valid=None, checkpoint_dir=tmp_path, resume=True)
        with pytest.raises(ValueError, match="it is at epoch 3, past 2"):
            case.fit(valid=None, last_alone=True, stop_after=2, checkpoint_dir=tmp_path, resume=True)

    def test_numbers_of_numpy_can_be_resumed(self, case, tmp_path):
        options = {"lr": np.float64(0.01), "weight_decay": np.float32(0.1), "n_epochs": np.int64(2)}
        _, whole = case.fit(checkpoint_dir=tmp_path, **options)
        _, again = case.fit(checkpoint_dir=tmp_path, resume=True, **options)
        assert_same_history(again, whole)

    def test_resuming_with_a_baseline_what_had_none_is_refused(self, case, tmp_path):
        case.fit(stop_after=1, checkpoint_dir=tmp_path, baseline=None)
        with pytest.raises(ValueError, match="its baseline is"):
            case.fit(checkpoint_dir=tmp_path, resume=True)

    def test_stale_checkpoints_are_removed(self, case, tmp_path):
        case.fit(checkpoint_dir=tmp_path)
        assert len(list(tmp_path.glob("epoch_*"))) == 6
        (tmp_path / "notes.txt").write_text("mine")
        case.fit(checkpoint_dir=tmp_path, n_epochs=2)
        files = sorted(path.name for path in tmp_path.iterdir())
        kept = [f"{kind}_000{epoch}.safetensors" for kind in ("epoch", "state") for epoch in (1, 2)]
        assert files == [".lock", *kept[:2], "notes.txt", *kept[2:]]


def spoil(path):
    """Change a bit in the middle."""
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(bytes(blob))


class TestWhatGoesWrong:
    @pytest.mark.parametrize("damage", [spoil, lambda path: path.write_bytes(path.read_bytes()[:-9])])
    @pytest.mark.parametrize("options", [{}, {"last_alone": True, "valid": None}])
    def test_a_damaged_checkpoint_is_named_and_passed_over(self, case, tmp_path, damage, options):
        expected, history = case.fit(**options)
        case.fit(**options, checkpoint_dir=tmp_path, stop_after=4)
        damage(tmp_path / "state_0004.safetensors")
        with pytest.warns(UserWarning, match=r"state_0004.* damaged.*; going on from what was saved before it"):
            model, resumed = case.fit(**options, checkpoint_dir=tmp_path, resume=True)
        assert_same_history(resumed, history)
        assert_same_weights(model.state_dict(), expected.state_dict())

    def test_if_all_are_damaged_it_starts_anew(self, case, tmp_path):
        expected, history = case.fit()
        case.fit(checkpoint_dir=tmp_path, stop_after=4)
        for path in tmp_path.glob("state_*"):
            spoil(path)
        with pytest.warns(UserWarning) as said:
            model, resumed = case.fit(checkpoint_dir=tmp_path, resume=True)
        ends = [str(warning.message).partition("; ")[2] for warning in said]
        assert ends == ["going on from what was saved before it", "training begins anew"]
        assert_same_history(resumed, history)
        assert_same_weights(model.state_dict(), expected.state_dict())

    def test_what_is_whole_is_never_removed_for_not_being_understood(self, case, tmp_path, monkeypatch):
        case.fit(checkpoint_dir=tmp_path, stop_after=2)
        before = sorted(tmp_path.iterdir())
        monkeypatch.setattr(saerec.storage, "FORMAT", 1)
        with pytest.raises(NewerFileError, match="written by a newer saerec"):
            case.fit(checkpoint_dir=tmp_path, resume=True)
        monkeypatch.undo()

        def no_memory(*_, **__):
            raise RuntimeError("can't allocate memory")

        monkeypatch.setattr(saerec.checkpoints, "read_tensors", no_memory)
        with pytest.raises(RuntimeError, match="allocate"):
            case.fit(checkpoint_dir=tmp_path, resume=True)
        monkeypatch.undo()
        monkeypatch.setattr(saerec.files.shutil, "disk_usage", lambda _: namedtuple("usage", "free")(0))
        with pytest.raises(NoSpaceError):
            case.fit(new_model(case.train.n_items, (900,)), checkpoint_dir=tmp_path)
        assert sorted(tmp_path.iterdir()) == before

    def test_epochs_beyond_four_digits_are_the_later_ones(self, tmp_path):
        for epoch in (9998, 9999, 10000, 10001):
            (tmp_path / f"state_{epoch:04d}.safetensors").touch()
        names = [path.stem for path in Checkpoints(tmp_path, {})._files("state")]
        assert names == ["state_9998", "state_9999", "state_10000", "state_10001"]

    def test_a_checkpoint_of_another_network_with_its_settings_is_damaged(self, case, tmp_path):
        case.fit(checkpoint_dir=tmp_path, stop_after=1)
        path = tmp_path / "state_0001.safetensors"
        tensors, description = read_tensors(path, "training")
        tensors["exp_avg.output.bias"] = tensors["exp_avg.output.bias"][:-1]
        write_tensors(path, "training", tensors, description)
        with pytest.warns(UserWarning, match="does not hold what a training of SAE needs"):
            case.fit(checkpoint_dir=tmp_path, stop_after=1, resume=True)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("history", 5),
            ("history", [{"epoch": 1}]),
            ("history", [{"epoch": 1, "train_rmse": "low", "valid_rmse": 1.0, "seconds": 1.0}]),
            ("history", [{"epoch": 7, "train_rmse": 1.0, "valid_rmse": 1.0, "seconds": 1.0}] * 2),
            ("history", []),
            ("epoch", "2"),
            ("epoch", 3),
            ("best_epoch", 7),
            ("best_epoch", True),
            ("schedule", {}),
            ("schedule", []),
            ("schedule", lambda of: of | {"last_epoch": "x"}),
            ("schedule", lambda of: of | {"last_epoch": -3}),
            ("settings", [1]),
            ("model.output.bias", lambda tensor: tensor.int()),
            ("exp_avg.output.bias", lambda tensor: tensor.double()),
            ("exp_avg_sq.output.bias", lambda tensor: tensor - 1),
            ("step.output.bias", lambda tensor: tensor - 1e6),
            ("model.output.bias", lambda tensor: tensor * np.nan),
            ("best.output.bias", lambda tensor: tensor.long()),
        ],
    )
    def test_nonsense_with_a_checksum_is_damaged_and_touches_nothing(self, case, tmp_path, name, value):
        expected, history = case.fit()
        case.fit(checkpoint_dir=tmp_path, stop_after=2)
        path = tmp_path / "state_0002.safetensors"
        tensors, description = read_tensors(path, "training")
        of_it = tensors if name in tensors else description
        of_it[name] = value(of_it[name]) if callable(value) else value
        description.pop("kind"), description.pop("format")
        write_tensors(path, "training", tensors, description)
        with pytest.warns(UserWarning, match="state_0002.* going on from what was saved before it"):
            model, resumed = case.fit(checkpoint_dir=tmp_path, resume=True)
        assert_same_history(resumed, history)
        assert_same_weights(model.state_dict(), expected.state_dict())

    @pytest.mark.parametrize(
        ("keep", "expected"),
        [("all", [1, 2, 3, 4, 5, 6]), ("best", [1]), (2, [1, 5, 6]), ("2", [1, 5, 6]), (9, [1, 2, 3, 4, 5, 6])],
    )
    def test_keep_bounds_what_stays(self, case, tmp_path, keep, expected):
        _, history = case.fit(valid=case.contrary, checkpoint_dir=tmp_path, keep=keep)
        assert best_epoch(history) == 1
        assert sorted(int(path.stem[-4:]) for path in tmp_path.glob("epoch_*")) == expected
        assert sorted(int(path.stem[-4:]) for path in tmp_path.glob("state_*")) == [5, 6]

    @pytest.mark.parametrize("keep", ["none", 0, -1, 2.0, True])
    def test_an_unknown_keep_is_refused(self, case, tmp_path, keep):
        with pytest.raises(ValueError, match="keep must be 'all', 'best' or how many of the last epochs"):
            case.fit(checkpoint_dir=tmp_path, keep=keep)

    def test_a_full_disk_ends_it_with_the_last_checkpoint_whole(self, case, tmp_path, monkeypatch):
        expected, history = case.fit()
        writer = saerec.storage.save_file

        def full(tensors, path, metadata):
            writer(tensors, path, metadata)
            if "state_0003" in str(path):
                path.write_bytes(path.read_bytes()[:100])
                raise SafetensorError("No space left on device")

        monkeypatch.setattr(saerec.storage, "save_file", full)
        with pytest.raises(OSError, match=r"stopped in epoch 3: cannot write .*state_0003.*No space left.*resume=True"):
            case.fit(checkpoint_dir=tmp_path)
        monkeypatch.undo()
        assert sorted(path.name for path in tmp_path.glob("state_*")) == [f"state_000{i}.safetensors" for i in (1, 2)]
        model, resumed = case.fit(checkpoint_dir=tmp_path, resume=True)
        assert_same_history(resumed, history)
        assert_same_weights(model.state_dict(), expected.state_dict())

    def test_too_little_room_is_said_before_training(self, case, tmp_path, monkeypatch):
        n_bytes = 4 * sum(parameter.numel() for parameter in new_model(case.train.n_items).parameters())
        usage = namedtuple("usage", "free")
        monkeypatch.setattr(saerec.files.shutil, "disk_usage", lambda _: usage((12 + 6) * n_bytes - 1))
        with pytest.raises(NoSpaceError, match=r"choose another folder, a smaller model or keep='best'$"):
            case.fit(checkpoint_dir=tmp_path)
        case.fit(checkpoint_dir=tmp_path, keep="best")
        used = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
        assert used > 8 * n_bytes  # two states of four copies each

    def test_one_training_a_folder(self, case, tmp_path):
        with one_writer(tmp_path), pytest.raises(BusyFolderError, match="is writing to"):
            case.fit(checkpoint_dir=tmp_path)

    def test_errors_that_grow_stop_it_with_epoch_and_batch_and_what_to_try(self, case, tmp_path):
        message = r"stopped in epoch 1: it diverged in batch [2-9], .*try a lower lr than 1e\+08 "
        with pytest.raises(DivergedError, match=message):
            case.fit(lr=1e8, checkpoint_dir=tmp_path)

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e5])
    def test_errors_that_are_no_numbers_or_beyond_reason_stop_it_at_once(self, case, value):
        model = new_model(case.train.n_items)
        model.output.bias.data[:] = value
        with pytest.raises(DivergedError, match=r"in epoch 1: it diverged in batch 1, .*; nothing is kept"):
            case.fit(model)

    @pytest.mark.parametrize("sparse", [False, True])
    def test_a_network_of_another_width_is_refused(self, case, sparse):
        features = np.zeros((case.train.n_users, 2), dtype=np.float32)
        n_items = case.train.n_items
        for model, given in ((new_model(7), None), (new_model(n_items), features), (new_model(n_items - 1), features)):
            with pytest.raises(ValueError, match=r"the model reads \[\d+\] numbers, not \[\d+\]"):
                case.fit(model, features=given, sparse=sparse)
        with pytest.raises(ValueError, match=rf"not \[{n_items}, {case.train.n_users}\]"):
            case.fit(TwoEncoderSAE(case.train.n_users + 1, n_items, 4), sparse=sparse)

    def test_the_last_good_epoch_is_kept(self, case, tmp_path, monkeypatch):
        expected, _ = case.fit(valid=None, stop_after=3)
        step = saerec.training._train_epoch
        epochs = iter(range(1, 7))

        def spoiled(loss, *rest):
            step(loss, *rest)
            if next(epochs) == 4:
                loss.model.output.bias.data[:] = torch.nan

        monkeypatch.setattr(saerec.training, "_train_epoch", spoiled)
        with pytest.raises(DivergedError, match="stopped in epoch 4: it diverged in the last batch"):
            case.fit(valid=None, checkpoint_dir=tmp_path)
        kept = load_file(tmp_path / "epoch_0003.safetensors")
        assert_same_weights(kept, expected.state_dict())

    @pytest.mark.parametrize("error", [None, KeyboardInterrupt])
    @pytest.mark.parametrize("sparse", [False, True])
    def test_without_a_folder_the_model_has_the_best_epoch_so_far(self, case, monkeypatch, error, sparse):
        expected, _ = case.fit(valid=None, stop_after=3, sparse=sparse)
        step, epochs = saerec.training._train_epoch, iter(range(1, 7))

        def spoiled(loss, *rest):
            step(loss, *rest)
            if next(epochs) == 4:
                if error:
                    raise error
                loss.model.output.bias.data[:] = torch.nan

        model = new_model(case.train.n_items)
        monkeypatch.setattr(saerec.training, "_train_epoch", spoiled)
        with pytest.raises(
            error or DivergedError, match=r"stopped in epoch 4.*; the model has the weights of epoch 3$"
        ):
            case.fit(model, valid=None, sparse=sparse)
        assert_same_weights(model.state_dict(), expected.state_dict())
        assert all(parameter.is_contiguous() for parameter in model.parameters())

    def test_an_epoch_whose_errors_nobody_measures_is_not_kept_if_it_diverged(self, case, tmp_path, monkeypatch):
        step = saerec.training._train_epoch

        def spoiled(loss, *rest):
            step(loss, *rest)
            if len(list(tmp_path.glob("state_*"))) == 2:
                loss.model.output.bias.data[0] = torch.nan

        monkeypatch.setattr(saerec.training, "_train_epoch", spoiled)
        with pytest.raises(DivergedError, match="stopped in epoch 3: it diverged in the last batch"):
            case.fit(valid=None, last_alone=True, checkpoint_dir=tmp_path)
        assert [path.stem for path in sorted(tmp_path.glob("state_*"))] == ["state_0001", "state_0002"]

    def test_what_stops_it_in_the_first_epoch_promises_nothing(self, case, tmp_path):
        with pytest.raises(DivergedError, match=r"stopped in epoch 1: .*; no epoch is finished$"):
            case.fit(lr=1e30, checkpoint_dir=tmp_path)

    def test_an_error_of_the_system_keeps_its_number_and_file(self, case, tmp_path, monkeypatch):
        def save(*_):
            raise PermissionError(errno.EACCES, "Permission denied", "there")

        monkeypatch.setattr(Checkpoints, "save", save)
        with pytest.raises(PermissionError, match="stopped in epoch 1: Permission denied; no epoch") as error:
            case.fit(checkpoint_dir=tmp_path)
        assert (error.value.errno, error.value.filename) == (errno.EACCES, "there")

    def test_a_network_that_says_the_same_of_everybody_is_warned_of(self, case):
        with pytest.warns(UserWarning, match="after epoch 1 the network says the same of every row") as said:
            case.fit(lr=30.0, stop_after=3)  # every unit is as far up or down as it goes
        assert len(said) == 1

    @pytest.mark.parametrize("sparse", [False, True])
    def test_one_that_says_the_same_of_every_column_is_warned_of(self, case, sparse):
        model = new_model(case.train.n_items)
        with torch.no_grad():  # each row has a code of its own, and all columns the same weights
            model.output.weight.copy_(model.output.weight[:1].expand_as(model.output.weight))
        with pytest.warns(UserWarning, match="after epoch 1 the network says the same of every column"):
            case.fit(model, lr=1e-30, n_epochs=1, sparse=sparse)

    def test_one_that_does_harm_is_warned_of(self, case):
        with pytest.warns(
            UserWarning, match=r"after epoch 1 the error on the training ratings is .* without the"
        ) as said:
            _, history = case.fit(lr=1.0, weight_decay=0.0, n_epochs=3)
        assert history["train_rmse"].iloc[0] > 1.2 * case.baseline.spread and len(said) == 1

    def test_a_healthy_one_is_not(self, case):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            case.fit()


class TestThreads:
    @pytest.fixture(autouse=True)
    def _two_threads(self):
        torch.set_num_threads(2)
        yield
        torch.set_num_threads(1)

    def test_small_steps_take_one_and_give_the_others_back(self, case, monkeypatch):
        within = []
        evaluate = saerec.training._evaluate
        monkeypatch.setattr(
            saerec.training, "_evaluate", lambda *args: within.append(torch.get_num_threads()) or evaluate(*args)
        )
        case.fit(n_epochs=1)
        monkeypatch.setattr(saerec.training, "WORK_TO_SHARE", 2 * 8 * 8 * case.train.n_items)
        case.fit(n_epochs=1)
        assert within == [1, 2]
        assert torch.get_num_threads() == 2

    def test_an_error_gives_them_back_too(self, case):
        with pytest.raises(ValueError, match="diverged"):
            case.fit(lr=1e30)
        assert torch.get_num_threads() == 2
