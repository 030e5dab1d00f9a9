"""The original's arithmetic, held against a transcription of it on real ratings and against sums done by hand."""

import inspect
import shutil
import time

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from torch import nn

import saerec
from saerec import SAE, RatingMatrix, original
from saerec.files import BusyFolderError, one_writer
from saerec.storage import read_tensors


def same_ids(ratings, *parts):
    """Matrices of some parts of `ratings`, with ids in the original's order."""
    return [RatingMatrix.from_frame(part, **original.original_ids(ratings)) for part in parts]


def ratings_of(rows):
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rating"]).astype({"rating": np.float32})


ONE = RatingMatrix.from_frame(ratings_of([(1, 10, 4)]))
ONE_OF_TWO = RatingMatrix.from_frame(ratings_of([(1, 10, 4)]), item_ids=[10, 20])


class Biases(nn.Module):
    """Predicts the same for everybody, whatever they rated: a bias for each item, all `start` at first."""

    def __init__(self, n_items, start=0.0):
        super().__init__()
        self.bias = nn.Parameter(torch.full((n_items,), start))

    def forward(self, x):
        return self.bias.expand_as(x)


class Echo(nn.Module):
    """Predicts these scores for everybody."""

    def __init__(self, scores):
        super().__init__()
        self.scores = torch.tensor(scores)

    def forward(self, x):
        return self.scores.expand_as(x)


# The original, transcribed from its description, on its own: no part of saerec but the cut and the split


class OriginalNetwork(nn.Module):
    def __init__(self, n_movies):
        super().__init__()
        self.fc1 = nn.Linear(n_movies, 200)
        self.fc2 = nn.Linear(200, 100)
        self.fc3 = nn.Linear(100, 200)
        self.fc4 = nn.Linear(200, n_movies)
        for layer in (self.fc1, self.fc2, self.fc3, self.fc4):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        x = torch.sigmoid(self.fc1(x))
        x = torch.sigmoid(self.fc2(x))
        x = torch.sigmoid(self.fc3(x))
        return self.fc4(x)


def transcribed_matrix(part, users, movies):
    matrix = np.zeros((len(users), len(movies)), dtype=np.float32)
    user_positions = {user: position for position, user in enumerate(users)}
    movie_positions = {movie: position for position, movie in enumerate(movies)}
    for user, movie, rating in zip(part["user_id"], part["item_id"], part["rating"]):
        matrix[user_positions[user], movie_positions[movie]] = rating
    return torch.from_numpy(matrix)


def transcribed_training(network, train, n_epochs):
    criterion = nn.MSELoss()
    optimizer = torch.optim.RMSprop(network.parameters(), lr=0.001, weight_decay=0.4)
    n_movies = train.shape[1]
    figures = []
    for _ in range(n_epochs):
        total, n_users = 0.0, 0
        for user in range(len(train)):
            row = train[user].unsqueeze(0)
            target = row.clone()
            n_rated = int((target > 0).sum())
            if n_rated == 0:
                continue
            output = network(row)
            output[target == 0] = 0
            loss = criterion(output, target)
            loss.backward()
            total += float(np.sqrt(loss.item() * n_movies / n_rated))
            n_users += 1
            optimizer.step()
        figures.append(total / n_users)
    return figures


def transcribed_test(network, train, test):
    criterion = nn.MSELoss()
    total, n_users = 0.0, 0
    for user in range(len(test)):
        target = test[user].unsqueeze(0)
        n_rated = int((target > 0).sum())
        if n_rated == 0:
            continue
        output = network(train[user].unsqueeze(0)).detach()
        output[target == 0] = 0
        total += float(np.sqrt(criterion(output, target).item() * test.shape[1] / n_rated))
        n_users += 1
    return total / n_users


def copy_weights(network, model):
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    for layer, source in zip(layers, (network.fc1, network.fc2, network.fc3, network.fc4), strict=True):
        layer.load_state_dict(source.state_dict())


def test_five_epochs_on_real_ratings_agree_with_the_transcription(movielens):
    cut = saerec.top_users_and_items(movielens.ratings)
    train_part, _, test_part = saerec.split_ratings(cut, test=0.2, valid=0, seed=0)
    users, movies = pd.factorize(cut["user_id"])[1], pd.factorize(cut["item_id"])[1]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, model = OriginalNetwork(len(movies)), SAE(len(movies))
    copy_weights(network, model)

    train, test = same_ids(cut, train_part, test_part)
    history = original.train_original(train, model, n_epochs=5)

    train_dense, test_dense = (transcribed_matrix(part, users, movies) for part in (train_part, test_part))
    figures = transcribed_training(network, train_dense, n_epochs=5)
    np.testing.assert_allclose(history["train_user_rmse"], figures, atol=1e-4, rtol=0)
    assert figures[0] > figures[4] + 0.1  # something was learnt: they do not agree for want of movement
    tested = original.test_original(model, train, test)
    assert tested == pytest.approx(transcribed_test(network, train_dense, test_dense), abs=1e-4)


def test_the_saes_first_weights_are_drawn_as_the_originals():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = OriginalNetwork(30)
        torch.manual_seed(3)
        model = SAE(30)
    for ours, theirs in zip(model.parameters(), network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# By hand


def test_ids_are_numbered_in_order_of_appearance():
    ratings = ratings_of([(7, 30, 4), (3, 10, 3), (7, 20, 5)])
    ids = original.original_ids(ratings)
    assert ids["user_ids"].tolist() == [7, 3] and ids["item_ids"].tolist() == [30, 10, 20]
    (matrix,) = same_ids(ratings, ratings)
    np.testing.assert_array_equal(matrix.dense(np.arange(2))[0], [[4, 0, 5], [0, 3, 0]])


def rmsprop_by_hand(gradients, lr):
    """The sum of RMSprop's steps for these gradients: square averages of 0.99 the old and 0.01 the new, eps 1e-8."""
    square, moved = 0.0, 0.0
    for gradient in gradients:
        square = 0.99 * square + 0.01 * gradient**2
        moved -= lr * gradient / (np.sqrt(square) + 1e-8)
    return moved


def test_two_steps_of_one_user_by_hand():
    """A user rated the first of two items 4. The loss is (b - 4)² / 2, over both; its gradient b - 4, the other's 0."""
    model = Biases(2)
    history = original.train_original(ONE_OF_TWO, model, n_epochs=2, lr=0.1, weight_decay=0)
    first = rmsprop_by_hand([-4], lr=0.1)
    assert first == pytest.approx(1.0)  # 0.1 × 4 / sqrt(0.01 × 16)
    # The second gradient is added to the first: -4 + (1 - 4).
    second = rmsprop_by_hand([-4, -7], lr=0.1)
    assert model.bias.tolist() == pytest.approx([second, 0.0])
    # The figure is the error before the step, over the one rated item.
    assert history["train_user_rmse"].tolist() == pytest.approx([4.0, 3.0])
    assert history["epoch"].tolist() == [1, 2] and (history["seconds"] > 0).all()


def test_zeroed_gradients_by_hand():
    model = Biases(2)
    original.train_original(ONE_OF_TWO, model, n_epochs=2, lr=0.1, weight_decay=0, zero_grad=True)
    assert model.bias.tolist() == pytest.approx([rmsprop_by_hand([-4, -3], lr=0.1), 0.0])


def test_weight_decay_is_added_to_the_gradient_by_hand():
    """It pulls on the unrated item too, whose gradient has nothing else: a full step whatever the decay."""
    model = Biases(2, start=2.0)
    original.train_original(ONE_OF_TWO, model, n_epochs=1, lr=0.1, weight_decay=0.5)
    # rated: (2 - 4) + 0.5 × 2 = -1; unrated: 0.5 × 2 = 1; the first step of RMSprop is 10 lr whatever the size
    assert model.bias.tolist() == pytest.approx([2 + 1.0, 2 - 1.0])


def test_a_batch_takes_one_step_for_its_users_by_hand():
    ratings = ratings_of([(1, 10, 4), (1, 20, 1), (2, 20, 2), (3, 10, 3)])
    (train,) = same_ids(ratings, ratings)
    model = Biases(2)
    history = original.train_original(train, model, n_epochs=1, lr=0.1, weight_decay=0, batch_size=2)
    # users 1 and 2, mean over 4 cells: item 10: 2 × -4 / 4, item 20: 2 × (-1 - 2) / 4. Each bias moves by 1 to [1, 1].
    # user 3 alone, mean over 2 cells: item 10: 2 × (1 - 3) / 2, added to what was there.
    assert model.bias.tolist() == pytest.approx(
        [rmsprop_by_hand([-2, -4], lr=0.1), rmsprop_by_hand([-1.5, -1.5], lr=0.1)]
    )
    figures = [np.sqrt((16 + 1) / 2), 2, 2]  # the third user's after the first step
    assert history["train_user_rmse"].item() == pytest.approx(np.mean(figures))


def test_users_are_taken_in_order_and_those_without_ratings_are_skipped():
    ratings = ratings_of([(5, 10, 4), (9, 10, 2), (2, 10, 3)])
    train = RatingMatrix.from_frame(ratings, user_ids=[9, 7, 5, 2], item_ids=[10])
    model = Biases(1)
    history = original.train_original(train, model, n_epochs=1, lr=0.1, weight_decay=0)
    biases, gradients = [0.0], []
    for rating in (2, 4, 3):
        gradients.append(2 * (biases[-1] - rating) + (gradients[-1] if gradients else 0))
        biases.append(rmsprop_by_hand(gradients, lr=0.1))
    assert model.bias.item() == pytest.approx(biases[-1], rel=1e-5)
    figure = np.mean([abs(bias - rating) for bias, rating in zip(biases, (2, 4, 3))])
    assert history["train_user_rmse"].item() == pytest.approx(figure, rel=1e-5)


def test_a_deviation_of_zero_is_observed():
    """In a matrix of deviations a rating may be 0; it still is a rating, and its error counts."""
    ratings = ratings_of([(1, 10, 0), (1, 20, 2)])
    (train,) = same_ids(ratings, ratings)
    history = original.train_original(train, Biases(2, start=1.0), n_epochs=1)
    assert history["train_user_rmse"].item() == pytest.approx(1.0)  # errors of 1 and -1


def test_gradients_of_an_earlier_training_are_forgotten():
    used, fresh = Biases(1), Biases(1)
    used.bias.grad = torch.tensor([1000.0])
    for model in (used, fresh):
        original.train_original(ONE, model, n_epochs=2)
    assert used.bias.item() == fresh.bias.item() > 0


def test_the_model_is_handed_out_after_every_epoch():
    biases, model = [], Biases(1)
    history = original.train_original(ONE, model, n_epochs=3, on_epoch=lambda given: biases.append(given.bias.item()))
    assert 0 < biases[0] < biases[1] < biases[2] == model.bias.item()
    assert 4 - biases[0] == pytest.approx(history["train_user_rmse"][1])


def test_what_is_measured_after_an_epoch_joins_its_row():
    history = original.train_original(ONE, Biases(1), n_epochs=2, on_epoch=lambda model: {"bias": model.bias.item()})
    assert history.columns.tolist() == ["epoch", "train_user_rmse", "seconds", "bias"]
    assert 0 < history["bias"][0] < history["bias"][1]


def test_seconds_are_those_of_the_training_alone():
    model = Biases(1)
    model.register_forward_hook(lambda *_: time.sleep(0.02))
    history = original.train_original(ONE, model, n_epochs=2, on_epoch=lambda _: time.sleep(1))
    assert history["seconds"].between(0.02, 0.9).all()


def test_the_settings_left_out_are_the_originals():
    parameters = inspect.signature(original.train_original).parameters
    settings = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    modern = {"zero_grad": False, "batch_size": 1, "on_epoch": None, "checkpoint": None}
    modern |= {"resume": False, "measured": None}
    assert settings == {"n_epochs": 100, "lr": 0.001, "weight_decay": 0.4} | modern


def test_every_epoch_trains_in_training_mode_though_predictions_are_made_between():
    modes, model = [], Biases(1)
    model.register_forward_hook(lambda module, *_: modes.append(module.training))
    original.train_original(
        ONE, model, n_epochs=2, on_epoch=lambda _: {"x": original.predict_original(model, ONE)[0, 0]}
    )
    assert modes == [True, False, True, False]


def test_no_ratings_are_refused():
    nothing = RatingMatrix.from_frame(ratings_of([]), user_ids=[1], item_ids=[10])
    for refused in (original.train_original, original.decay_ratios):
        with pytest.raises(ValueError, match="there are no ratings"):
            refused(nothing, Biases(1))


def test_the_decay_beside_the_gradient_by_hand():
    """Biases of 3 and 4; the losses are (3 - 5)² / 2 of one user and (4 - 1)² / 2 of another, a third rated nothing."""
    ratings = ratings_of([(1, 10, 5), (3, 20, 1)])
    train = RatingMatrix.from_frame(ratings, user_ids=[1, 2, 3], item_ids=[10, 20])
    model = Biases(2)
    model.bias.data = torch.tensor([3.0, 4.0])
    ratios = original.decay_ratios(train, model, weight_decay=0.5)  # 0.5 × 5, beside (-2, 0), (0, 3) and (-2, 3)
    assert ratios["alone"].tolist() == pytest.approx([2.5 / 2, 2.5 / 3])
    assert ratios["summed"].tolist() == pytest.approx([2.5 / 2, 2.5 / np.sqrt(13)])
    assert model.bias.tolist() == [3, 4] and model.bias.grad is None


@pytest.mark.parametrize("name", ["n_epochs", "batch_size"])
def test_a_setting_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        original.train_original(ONE, Biases(1), **{name: 0})


# Figures and lists


def test_the_test_figure_is_the_mean_of_the_users_errors(parts):
    """User by user, from the row of training ratings; user 1000 has none of those, and many have no test rating."""
    whole = pd.concat(parts)
    train, _, test = same_ids(whole, *parts)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SAE(train.n_items, (6,))
    predicted = original.predict_original(model, train)
    assert predicted.shape == train.shape and predicted.dtype == np.float32
    errors = []
    for row in range(train.n_users):
        known, _ = train.dense(np.array([row]))
        ratings, observed = test.dense(np.array([row]))
        output = model(torch.from_numpy(known)).detach().numpy()
        np.testing.assert_allclose(predicted[[row]], output, atol=1e-6)
        if observed.any():
            errors.append(np.sqrt(np.mean((output - ratings)[observed] ** 2)))
    assert original.test_original(model, train, test) == pytest.approx(np.mean(errors), abs=1e-6)
    assert train.user_counts.min() == 0 < test.user_counts[train.user_counts == 0].sum()  # predicted from an empty row


def test_the_test_figure_is_not_clipped():
    assert original.test_original(Echo([7.0]), ONE, ONE) == pytest.approx(3.0)


def test_predictions_in_more_than_one_batch_keep_their_rows():
    ratings = ratings_of([(user, 10, user % 5) for user in range(600)])
    (train,) = same_ids(ratings, ratings)
    np.testing.assert_array_equal(original.predict_original(nn.Identity(), train)[:, 0], np.arange(600) % 5)


MOVIES = pd.DataFrame({"item_id": [10, 20, 30, 40], "title": ["Ten", "Twenty", "Thirty", "Forty"]})


def test_the_lists_have_both_defects():
    """Movies appear in the order 30, 10, 40: the title at position 0 is that of 10, and so on."""
    ratings = ratings_of([(1, 30, 5), (1, 10, 4), (2, 40, 3), (2, 10, 1)])
    train, test = same_ids(ratings, ratings.iloc[[0, 2, 3]], ratings.iloc[[1]])
    top = original.top_k_original(Echo([4.0, 3.0, 5.5]), train, test, MOVIES, k=2)
    expected = pd.DataFrame(
        {
            "user_id": [1, 1, 2, 2],
            "rank": [1, 2, 1, 2],
            # User 1 rated 30 in training: it is listed all the same. Only 10, which is in the test part, is not.
            "item_id": [40, 30, 40, 30],
            "score": np.array([5.5, 4.0, 5.5, 4.0], dtype=np.float32),
            "title": ["Thirty", "Ten", "Thirty", "Ten"],  # of positions 2 and 0, not of ids 40 and 30
        }
    )
    assert_frame_equal(top, expected, check_dtype=False)


def test_lists_of_some_rows_break_ties_by_column_and_end_with_the_movies():
    ratings = ratings_of([(1, 30, 5), (1, 10, 4), (2, 40, 3), (2, 10, 1)])
    train, test = same_ids(ratings, ratings.iloc[[0, 2, 3]], ratings.iloc[[1]])
    model = Echo([1.0, 1.0, 1.0])
    top = original.top_k_original(model, train, test, MOVIES, rows=[1, 0], k=10)
    assert top["user_id"].tolist() == [2, 2, 2, 1, 1]
    assert top["item_id"].tolist() == [30, 10, 40, 30, 40]
    assert top["rank"].tolist() == [1, 2, 3, 1, 2]
    # User 2's own highest, not that of the first row.
    own = original.top_k_original(nn.Identity(), train, test, MOVIES, rows=[1], k=1)
    assert own[["item_id", "score"]].to_numpy().tolist() == [[40, 3.0]]
    many = ratings_of([(1, item, 3) for item in range(300)])  # so many that an unstable sort mixes them up
    (train_many,) = same_ids(many, many)
    nothing = RatingMatrix.from_frame(many.head(0), **original.original_ids(many))
    titles = pd.DataFrame({"title": [str(item) for item in range(300)]})
    top = original.top_k_original(Echo([1.0, 2.0] * 150), train_many, nothing, titles, k=300)
    assert top["item_id"].tolist() == [*range(1, 300, 2), *range(0, 300, 2)]
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        original.top_k_original(model, train, test, MOVIES, k=0)
    with pytest.raises(ValueError, match="3 columns need as many titles at least, but movies has 2"):
        original.top_k_original(model, train, test, MOVIES.head(2))


def test_matrices_with_other_ids_are_refused():
    ratings = ratings_of([(1, 30, 5), (2, 10, 4)])
    train, other = RatingMatrix.from_frame(ratings), RatingMatrix.from_frame(ratings, item_ids=[30, 10])
    message = "both matrices must have the same user_ids and item_ids"
    with pytest.raises(ValueError, match=message):
        original.test_original(Echo([1.0, 1.0]), train, other)
    with pytest.raises(ValueError, match=message):
        original.top_k_original(Echo([1.0, 1.0]), train, other, MOVIES)
    with pytest.raises(ValueError, match=message):
        original.train_seeds(train, {"test": other}, n_seeds=1)


# Over several seeds


@pytest.fixture(scope="module")
def matrices(parts):
    return same_ids(pd.concat(parts), *parts)


def nonsense_for_states(history: list[dict]) -> list[dict]:
    rows = [3, [], [3], [{"epoch": 1}], history[1:], [*history, history[0]], [history[0] | {"seconds": "1"}]]
    return [{"settings": 3}, *({"history": each} for each in rows)]


class TestSeeds:
    def test_each_seed_is_a_training_of_its_own(self, matrices):
        train, valid, test = matrices
        state = torch.random.get_rng_state()
        history, models = original.train_seeds(
            train, {"valid": valid, "test": test}, n_seeds=2, n_epochs=3, zero_grad=True, weight_decay=0, batch_size=8
        )
        assert torch.equal(torch.random.get_rng_state(), state)
        assert history["seed"].tolist() == [0, 0, 0, 1, 1, 1] and history["epoch"].tolist() == [1, 2, 3] * 2
        for seed, model in enumerate(models):
            torch.manual_seed(seed)
            alone = SAE(train.n_items)
            again = original.train_original(train, alone, n_epochs=3, zero_grad=True, weight_decay=0, batch_size=8)
            own = history[history["seed"] == seed]
            assert own["train_user_rmse"].tolist() == again["train_user_rmse"].tolist()
            for name, part in (("valid", valid), ("test", test)):
                assert own[f"{name}_user_rmse"].iloc[-1] == original.test_original(model, train, part)
                rows, cols, ratings = part.coordinates()
                predicted = original.predict_original(alone, train)[rows, cols]
                assert own[f"{name}_rmse"].iloc[-1] == saerec.rmse(ratings, predicted)
                clipped = predicted.clip(*train.scale)
                assert own[f"{name}_rmse_clipped"].iloc[-1] == saerec.rmse(ratings, clipped)
                assert own[f"{name}_user_rmse_clipped"].iloc[-1] == saerec.user_rmse(ratings, clipped, rows)
            output = original.predict_original(alone, train)
            assert own["mean_output"].iloc[-1] == output.mean()
            assert own["user_std"].iloc[-1] == pytest.approx(np.mean([col.std() for col in output.T]), rel=1e-6)
            assert own["item_std"].iloc[-1] == output.std(axis=1).mean() != own["user_std"].iloc[-1]
        assert history["train_user_rmse"].iloc[0] != history["train_user_rmse"].iloc[3]
        assert (history["test_rmse"] != history["test_rmse_clipped"]).any()

    def test_a_baseline_is_taken_away_before_and_added_after(self, matrices):
        train, _, test = matrices
        baseline = saerec.BiasBaseline().fit(train)
        baseline.user_bias[:8] += 3  # so that some predictions are beyond the scale
        rows, cols, ratings = train.coordinates()
        before = train.csr.data.copy()
        history, models = original.train_seeds(train, {"test": test}, n_seeds=1, baseline=baseline, n_epochs=1)
        np.testing.assert_array_equal(train.csr.data, before)
        frame = train.to_frame().assign(rating=ratings - baseline.predict(rows, cols))
        centred = RatingMatrix.from_frame(frame, user_ids=train.user_ids, item_ids=train.item_ids)
        rows, cols, ratings = test.coordinates()
        predicted = baseline.predict(rows, cols) + original.predict_original(models[0], centred)[rows, cols]
        assert history["test_rmse"].item() == pytest.approx(saerec.rmse(ratings, predicted), rel=1e-6)
        clipped = predicted.clip(*train.scale)  # of the ratings, not of the deviations
        assert (clipped != predicted).any()
        assert history["test_rmse_clipped"].item() == pytest.approx(saerec.rmse(ratings, clipped), rel=1e-6)
        expected = saerec.user_rmse(ratings, clipped, rows)
        assert history["test_user_rmse_clipped"].item() == pytest.approx(expected, rel=1e-6)
        assert history["mean_output"].item() == original.predict_original(models[0], centred).mean()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            again = original.train_original(centred, SAE(train.n_items), n_epochs=1)
        assert history["train_user_rmse"].item() == again["train_user_rmse"].item()

    def test_seconds_are_the_mean_of_the_epochs_so_far(self, matrices, monkeypatch):
        alone = pd.DataFrame({"epoch": [1, 2, 3], "seconds": [1.0, 3.0, 8.0]})

        def trained(train, model, *, on_epoch):
            return alone.join(pd.DataFrame([on_epoch(model) for _ in range(3)]))

        monkeypatch.setattr(original, "train_original", trained)
        history, _ = original.train_seeds(matrices[0], {"test": matrices[2]}, n_seeds=2)
        assert history["seconds"].tolist() == [1.0, 2.0, 4.0] * 2

    @pytest.mark.parametrize("settings", [{}, {"zero_grad": True, "weight_decay": 0, "batch_size": 8}])
    def test_interrupted_ones_go_on_to_the_bit(self, matrices, tmp_path, monkeypatch, settings):
        """Gradients that are never zeroed are part of what there is to go on from."""
        train, valid, test = matrices
        held_out = {"valid": valid, "test": test}
        options = settings | {"n_seeds": 2, "n_epochs": 4}
        expected, models = original.train_seeds(train, held_out, **options)
        monkeypatch.setattr(original, "SECONDS_BETWEEN", 0.0)
        write, written = original.write_tensors, []

        def interrupted(path, *rest):
            write(path, *rest)
            written.append(path.name)
            if len(written) == 6:  # the second epoch of the second seed
                raise KeyboardInterrupt

        monkeypatch.setattr(original, "write_tensors", interrupted)
        options |= {"checkpoint_dir": tmp_path / "states"}
        with pytest.raises(KeyboardInterrupt):
            original.train_seeds(train, held_out, **options)
        history, same = original.train_seeds(train, held_out, **options, resume=True)
        assert written == ["state_0.safetensors"] * 4 + ["state_1.safetensors"] * 4  # none was trained twice
        assert_frame_equal(*(frame.drop(columns="seconds") for frame in (history, expected)), check_exact=True)
        for one, other in zip(models, same):
            assert all(torch.equal(weights, other.state_dict()[name]) for name, weights in one.state_dict().items())
        again, _ = original.train_seeds(train, held_out, **options, resume=True)
        assert_frame_equal(again.drop(columns="seconds"), expected.drop(columns="seconds"), check_exact=True)
        assert len(written) == 8
        with pytest.raises(ValueError, match="its measured is"):  # other test ratings, other errors
            original.train_seeds(train, {"valid": valid, "test": valid}, **options, resume=True)
        other = options | {"n_epochs": 5}
        with pytest.raises(ValueError, match=r"cannot resume from .*state_0.*: its n_epochs is 4, here 5; "):
            original.train_seeds(train, held_out, **other, resume=True)
        first = tmp_path / "states" / "state_0.safetensors"
        shutil.copy(tmp_path / "states" / "state_1.safetensors", first)
        with pytest.raises(ValueError, match="its initial weights is"):
            original.train_seeds(train, held_out, **options, resume=True)
        first.write_bytes(first.read_bytes()[:-9])
        with pytest.warns(UserWarning, match=r"state_0\.safetensors is damaged.*; training begins anew"):
            history, _ = original.train_seeds(train, held_out, **options, resume=True)
        assert_frame_equal(history.drop(columns="seconds"), expected.drop(columns="seconds"), check_exact=True)
        assert len(written) == 12
        tensors, description = read_tensors(first, "original")
        for nonsense in nonsense_for_states(description["history"]):
            write(first, "original", tensors, description | nonsense)
            with pytest.warns(UserWarning, match="training begins anew"):
                original.train_seeds(train, held_out, **options, resume=True)
        write(first, "original", tensors, description | {"settings": {}})
        with pytest.raises(ValueError, match="its n_epochs is None, here 4"):
            original.train_seeds(train, held_out, **options, resume=True)
        monkeypatch.setattr(original, "train_original", None)
        with pytest.raises(TypeError):
            original.train_seeds(train, held_out, **options)  # begins anew: nothing of before is left
        assert not [*(tmp_path / "states").glob("state_*")]

    def test_a_state_is_written_now_and_then_and_at_the_end(self, matrices, tmp_path, monkeypatch):
        written = []
        monkeypatch.setattr(original, "write_tensors", lambda path, *_: written.append(path.name))
        original.train_seeds(matrices[0], {}, n_seeds=1, n_epochs=3, checkpoint_dir=tmp_path)
        assert written == ["state_0.safetensors"]

    def test_to_go_on_takes_a_folder(self, matrices):
        with pytest.raises(ValueError, match="resume=True needs the checkpoint_dir"):
            original.train_seeds(matrices[0], {}, n_seeds=1, resume=True)
        with pytest.raises(ValueError, match="resume=True needs the checkpoint"):
            original.train_original(matrices[0], SAE(matrices[0].n_items), resume=True)

    def test_one_training_a_folder(self, matrices, tmp_path):
        with one_writer(tmp_path), pytest.raises(BusyFolderError, match="is writing to"):
            original.train_seeds(matrices[0], {}, n_seeds=1, n_epochs=1, checkpoint_dir=tmp_path)

    def test_held_out_ratings_are_not_called_train(self, matrices, monkeypatch):
        monkeypatch.setattr(original, "train_original", None)  # said before anything is trained
        with pytest.raises(ValueError, match='"train" is the name of the training figure'):
            original.train_seeds(matrices[0], {"train": matrices[0]}, n_seeds=1)

    def test_no_seed_is_refused(self, matrices):
        with pytest.raises(ValueError, match="n_seeds must be at least 1, not 0"):
            original.train_seeds(matrices[0], {}, n_seeds=0)

    def test_the_summary_holds_means_and_spreads(self):
        results = {
            "before": pd.DataFrame({"rmse": [0.9, 1.0, 0.95], "user_rmse": [0.8, 0.8, 0.8], "seconds": [1, 2, 6]}),
            "after": pd.DataFrame({"rmse": [0.7], "user_rmse": [0.6], "seconds": [0.5], "seed": [0]}),
        }
        expected = pd.DataFrame(
            {
                "rmse": [0.95, 0.7],
                "rmse_spread": [0.1, 0.0],
                "user_rmse": [0.8, 0.6],
                "user_rmse_spread": [0.0, 0.0],
                "seconds": [3.0, 0.5],
            },
            index=pd.Index(["before", "after"], name="variant"),
        )
        assert_frame_equal(original.summarise(results), expected)

    @pytest.mark.parametrize(
        ("after", "words"),
        [
            ([0.80, 0.84], "helps (-0.0800)"),
            ([0.97, 1.01], "harms (+0.0900)"),
            ([0.90, 0.86], "makes no difference (-0.0200)"),  # smaller than both spreads
            ([0.81, 0.89], "makes no difference (-0.0500)"),  # smaller than the second's
            ([0.86, 0.86], "makes no difference (-0.0400)"),  # as large as the first's, near enough
        ],
    )
    def test_an_effect_is_larger_than_the_spreads(self, after, words):
        before = pd.DataFrame({"rmse": [0.88, 0.92 + 1e-9]})
        assert original.effect(before, pd.DataFrame({"rmse": after})) == words
