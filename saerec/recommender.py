"""What a user keeps: ids, baseline and autoencoder in one object that fits, predicts, recommends, saves and loads."""

import functools
import inspect
import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from saerec import distributed, metrics, training
from saerec.baselines import TINY, BiasBaseline
from saerec.checkpoints import Checkpoints, check_keep, room_for, size_of
from saerec.choice import ChoiceModel
from saerec.drift import UserDrift
from saerec.files import check_space, one_writer
from saerec.intervals import COVERAGE, LEAST_IN_A_GROUP, PredictionIntervals, describe
from saerec.layouts import LAYOUTS, Layout, check_layers
from saerec.lists import USERS_AT_A_TIME, best_items, warn_of_short_lists, with_titles
from saerec.model import SAE
from saerec.prediction import ItemPredictor, MeanPredictor, Predictor, UserPredictor
from saerec.ratings import RatingMatrix
from saerec.settings import check_one_of, check_settings, checked_grid, plain
from saerec.storage import Trained, write_trained
from saerec.validation import (
    RATING_COLUMNS,
    DuplicateRatingError,
    UnknownIdError,
    check_columns,
    check_fitted,
    check_item_features,
    check_learnable,
    check_list_length,
    check_ratings,
    seconds_of,
)

FILE = "recommender.safetensors"  # what `save` writes
RANKINGS = ("rating", "popularity", "both")
BLEND_SPREAD = 0.2  # standard deviation of the best blend around a half, from one data set to another
MOST_TO_CALIBRATE = 100_000  # validation ratings, about: more would take time and change nothing


def _alone(fit: Callable) -> Callable:
    """Whoever trains several networks in a `checkpoint_dir` holds it for all of them."""

    @functools.wraps(fit)
    def held(*arguments, checkpoint_dir: str | os.PathLike | None = None, **options):
        holding = nullcontext()
        if checkpoint_dir is not None and distributed.rank() == 0:
            holding = one_writer(Path(checkpoint_dir), lock_name=".fit.lock")  # ".lock" is of each
        with holding:
            return fit(*arguments, checkpoint_dir=checkpoint_dir, **options)

    return held


class Recommender:
    """Predicts ratings and recommends items with an autoencoder of the deviations from regularised biases.

    Parameters
    ----------
    orientation : {"mean", "item", "both", "user"}
        What a row of the autoencoder is. "item": an item with the ratings that users gave it (the layout of I-AutoRec:
        Sedhain et al., "AutoRec", WWW 2015, section 2). "user": a user with their ratings, as in the original study.
        "both": a user's, with output weights made of the items' rows (`TwoEncoderSAE`). "mean": the mean of the
        predictions of "item" and "both" (see `blend`), each trained by itself, which takes two to three times as long
        as "item" and predicts validation ratings best (``tests/benchmarks/tried.py``). Somebody new is predicted by
        "item" alone, which is better at that (``tests/benchmarks/new_people.py``).
    hidden_dims : sequence of int, optional
        Units of the hidden layers, sigmoid; one layer for "both" and "mean". Left out: (500,), for "both" (300,).
    dropout, input_dropout : float in [0, 1)
        Shares hidden in training: of the last hidden layer, of the observed cells of a row.
    mask_weight : float, units
        How strongly the network sees *which* cells are observed: `saerec.batches.RatingRows`.
    feature_weight : float
        What the item features given to `fit` are multiplied by before the network reads them.
    shrinkage : float, ratings
        Of the biases: `saerec.BiasBaseline`.
    n_epochs, batch_size, lr, weight_decay, patience
        Of the training: `saerec.training.fit`. Left out: 40, 64 (a hundredth of the rows where that is more), 0.001 and
        3, for "both" 60, a sixth of the users, 0.005 and 2; no patience. What is given holds for all that is trained.
    blend : float between 0 and 1, optional
        With ``orientation="mean"`` the weight of "item", the rest being that of "both". Left out: that with the lowest
        squared error on the validation ratings, nearer to a half the fewer they are; without any, a half.
    ridge : float
        Penalty on the taste of somebody who was not in the training data, of "item" and "mean" only: see
        `recommend_new`.
    rank_by : {"both", "rating", "popularity"}
        What lists are ordered by. "both": how much they would like an item and whether they would choose it, the
        predicted rating in units of the scale (`RatingMatrix.unit`) + log of the chance that `ChoiceModel` gives it.
        "rating": the predicted rating alone. "popularity": the predicted rating in units + log(1 + number of ratings)
        / 2. With "rating" or "popularity" no `ChoiceModel` is fitted. The default is the one with the highest ndcg of
        ten places on validation ratings of MovieLens latest-small.
    refit : bool
        Whether `fit`, having chosen the epoch on the validation ratings, trains once more on training and validation
        ratings together for that many epochs.
    seed : int
        Same data, settings and seed give the same bits on the same machine, if torch has as many threads.
    device : str
        Where torch computes: "cpu", "cuda", "mps", or "auto", the first that is there of CUDA, MPS and CPU. What is
        saved from one loads on any other.

    Attributes
    ----------
    history : DataFrame or None
        One row per epoch of the training that chose the epoch: epoch, train_rmse, valid_rmse (stars), seconds. With
        ``orientation="mean"`` of both trainings, and a column layout says which. None if `refit_on` alone trained.
    refit_history : DataFrame or None
        Of a refit, whose last epoch alone is measured, the row of that: the same columns.
    tried : DataFrame or None
        If `fit` was given a grid, what it chose from: a row for each combination, in the order tried, and its error on
        the validation ratings, valid_rmse (stars; infinite if it diverged).
    best_epochs : dict of int
        The epochs, from 1, of the weights in use, by layout: "item", "user" or "both".
    best_epoch : int or dict
        If it is one layout, its epoch.
    item_features : DataFrame or None
        As given to `fit`.
    ratings : RatingMatrix of shape (U, I)
        What the weights in use were trained on, and predictions are made from.
    seen : RatingMatrix of shape (U, I)
        All ratings given to `fit`, which are never recommended: `ratings`, and without a refit the validation ratings
        too.
    baseline : BiasBaseline
        Fitted to `ratings`.
    predictors : list of ItemPredictor and UserPredictor
        What the predictions are made by, one of each layout: see `saerec.prediction`.
    shares : tuple of float
        The weights of the `predictors` in the mean of what they say, which sum to 1: (`blend`, 1 - `blend`), or (1.0,).
    models : dict of SAE
        By layout; that of "both" as an ordinary user autoencoder, see `TwoEncoderSAE.as_sae`.
    model : SAE or dict
        If it is one layout, its model.
    choice : ChoiceModel or None
        Fitted to `ratings`, with ``rank_by="both"``.
    intervals : PredictionIntervals or None
        How far predictions may be off, calibrated on the validation ratings with the weights that had not seen them
        (the blend, one number, had). None if there are fewer than 20.
    drift : UserDrift or None
        How users' ratings move with time, if `fit` was given timestamps and validation ratings were predicted better
        with it than without. `predict` and `evaluate` ask for it.
    scale : tuple of two floats
        The lowest and the highest rating of `ratings`, to which predictions are clipped.
    """

    def __init__(
        self,
        *,
        orientation: str = "mean",
        hidden_dims: tuple[int, ...] | None = None,
        dropout: float = 0.5,
        input_dropout: float = 0.3,
        mask_weight: float = 2.0,
        feature_weight: float = 20.0,
        shrinkage: float = 5.0,
        n_epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        weight_decay: float | None = None,
        patience: int | None = None,
        blend: float | None = None,
        ridge: float = 100.0,
        rank_by: str = "both",
        refit: bool = True,
        seed: int = 0,
        device: str = "cpu",
    ):
        self.orientation = orientation
        self.hidden_dims = hidden_dims
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.mask_weight = mask_weight
        self.feature_weight = feature_weight
        self.shrinkage = shrinkage
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.patience = patience
        self.blend = blend
        self.ridge = ridge
        self.rank_by = rank_by
        self.refit = refit
        self.seed = seed
        self.device = device

    @_alone
    def fit(
        self,
        train: pd.DataFrame,
        valid: pd.DataFrame | None = None,
        *,
        item_features: pd.DataFrame | None = None,
        grid: Mapping[str, Sequence] = {},
        checkpoint_dir: str | os.PathLike | None = None,
        keep: str | int = "all",
        resume: bool = False,
        progress: bool = False,
    ) -> "Recommender":
        """Train on `train`, choose the epoch on `valid`, then train on both that long (unless ``refit=False``).

        With a grid the settings are chosen first, on `valid` too, and stay those of the recommender.

        Parameters
        ----------
        train, valid : DataFrame
            With the columns user_id, item_id and rating; no (user, item) pair twice, in one or across both. Without
            `valid` nothing is chosen: the weights are those of the last epoch. If both have a column timestamp, dates
            or seconds since 1970, the `drift` is learnt too.
        item_features : DataFrame, optional
            What is known of the items besides their ratings, which helps most where these are few: numbers of about 0
            to 1 (`saerec.movie_features` makes them of genres and years), indexed by item_id. Items that it lacks are
            read as all zeros. Not with ``orientation="user"``.
        grid : mapping of a setting to its values
            All combinations are trained, without refit, such as the six of ``{"shrinkage": [2, 5], "weight_decay": [2,
            3, 4]}``. The lowest error on `valid` wins, of equals the first. Of any settings but orientation, blend,
            ridge, rank_by, refit and device. `saerec.tune` tries one setting after the other, in bounded time.
        checkpoint_dir, keep, resume, progress
            See `saerec.training.fit`. The second training keeps its checkpoints in the folder ``refit`` of
            `checkpoint_dir`, a `ChoiceModel` in the folder ``choice``; with ``orientation="mean"`` there is a folder
            for each layout, and of a grid one for each combination that is trained.

        Raises
        ------
        DataError
            What `check_ratings` and `check_learnable` find wrong, a (user, item) pair that stands twice, timestamps
            that are no times, or features that are no numbers, that stand twice for an item, or that none of the items
            has.
        TypeError
            A setting of a type that it cannot have, or ratings that are no frame.
        ValueError
            A setting out of range, a device that is not there, item features with ``orientation="user"``, a grid
            without `valid` or of what is no setting, or training that diverged.
        """
        self._check()
        if valid is not None and len(valid) == 0:
            valid = None
        check_ratings(train)
        check_learnable(train)
        if valid is not None:
            check_ratings(valid)
        self._check_features(item_features, train)
        if grid and valid is None:
            raise ValueError("what suits best is chosen on validation ratings: fit(train, valid, grid=…)")
        grid = self._checked(grid)
        timed = valid is not None and "timestamp" in train and "timestamp" in valid
        if timed:
            train, valid = (part.assign(timestamp=seconds_of(part["timestamp"])) for part in (train, valid))
        self.tried = None
        columns = [*RATING_COLUMNS, *(["timestamp"] if timed else [])]

        def every() -> pd.DataFrame:  # made twice, for it takes more memory than all matrices
            return train if valid is None else pd.concat([train[columns], valid[columns]])

        try:
            seen = RatingMatrix.from_frame(every())
        except DuplicateRatingError as error:
            for part in (train, valid):
                RatingMatrix.from_frame(part)  # the error of one of them, if it is in one
            raise DuplicateRatingError(
                "train and valid have ratings in common, and what is known cannot tell which epoch is best: "
                "saerec.split_ratings divides ratings into both"
            ) from error
        ids = {"user_ids": seen.user_ids, "item_ids": seen.item_ids}
        ratings = RatingMatrix.from_frame(train, **ids)
        valid_matrix = None if valid is None else RatingMatrix.from_frame(valid, **ids)
        if checkpoint_dir is not None and not resume and distributed.rank() == 0:
            n_refits = int(self.refit and valid is not None)
            if grid:  # whose trainings keep as little
                n_refits += math.prod(map(len, grid.values()))
            self._check_space(Path(checkpoint_dir), ratings, item_features, check_keep(keep), n_refits)
            # Before anything is trained: should this be interrupted, there is nothing of another training.
            for folder in (Path(checkpoint_dir), *Path(checkpoint_dir).glob("grid_*")):
                self._clear(folder)
                self._clear(folder / "refit")
        if grid:
            self._choose(train, valid, grid, item_features, checkpoint_dir, resume, progress)
        baseline = BiasBaseline(shrinkage=self.shrinkage).fit(ratings)
        models, histories = {}, {}
        options = {"resume": resume, "progress": progress}
        for name, layout in self._layouts().items():
            kept = {"keep": keep, "checkpoint_dir": self._folder(checkpoint_dir, name)}
            trained = layout.train(ratings, valid_matrix, baseline, item_features, **kept, **options)
            models[name], histories[name] = trained
        epochs = {layout: training.best_epoch(history) for layout, history in histories.items()}
        choice = None
        if valid is None or not self.refit:
            choice = self._fit_choice(ratings, checkpoint_dir, **options)
        self._histories, self._refits, self.item_features = histories, {}, item_features
        self._keep(ratings, seen, baseline, models, epochs, choice, 0.5 if self.blend is None else self.blend)
        if self.blend is None and valid is not None:
            self._choose_blend(valid_matrix)
        self.intervals = None if valid is None else self._calibrated(valid_matrix)
        self.drift = self._chosen_drift(train, valid) if timed else None
        if self.refit and valid is not None:
            folder = None if checkpoint_dir is None else Path(checkpoint_dir, "refit")
            self.refit_on(every(), checkpoint_dir=folder, **options)
        return self

    def _check(self) -> None:
        """Raise unless it can be trained with its settings: before anything is, and before anything is removed."""
        check_settings(self._parameters(), DECLARED)
        check_one_of("rank_by", self.rank_by, RANKINGS)
        check_layers(self.orientation, self.hidden_dims)
        distributed.choose_device(self.device)

    def _checked(self, grid: Mapping[str, Sequence]) -> dict[str, list]:
        """A grid that `fit` can choose from, of plain values."""
        without = ("orientation", "blend", "ridge", "rank_by", "refit", "device")
        grid = checked_grid(grid, DECLARED, without)
        for hidden_dims in grid.get("hidden_dims", ()):
            check_layers(self.orientation, hidden_dims)
        return grid

    def _choose(
        self,
        train: pd.DataFrame,
        valid: pd.DataFrame,
        grid: Mapping[str, list],
        item_features: pd.DataFrame | None,
        checkpoint_dir: str | os.PathLike | None,
        resume: bool,
        progress: bool,
    ) -> None:
        """Take over the settings of a checked grid with the lowest error on `valid`."""
        tried = []
        for i, values in enumerate(itertools.product(*grid.values())):
            settings, error = dict(zip(grid, values)), math.inf
            recommender = Recommender(**self._parameters() | settings | {"rank_by": "rating", "refit": False})
            folder = None if checkpoint_dir is None else Path(checkpoint_dir, f"grid_{i}")
            options = {"item_features": item_features, "checkpoint_dir": folder, "resume": resume}
            with suppress(training.DivergedError):
                recommender.fit(train, valid, keep="best", progress=progress, **options)
                error = recommender.evaluate(valid)["rmse"]
            tried.append((error, settings))
        error, best = min(tried, key=lambda each: each[0])
        if error == math.inf:
            raise training.DivergedError("all settings of the grid diverged: try a lower lr, or more weight_decay")
        for name, value in best.items():
            setattr(self, name, value)
        self.tried = pd.DataFrame([settings | {"valid_rmse": error} for error, settings in tried])

    def _check_space(
        self, folder: Path, ratings: RatingMatrix, item_features: pd.DataFrame | None, keep: str | int, n_refits: int
    ) -> None:
        """Raise unless the disk has room for the checkpoints of all trainings, in place of those that are there."""
        needs = 0
        for layout in self._layouts().values():
            with torch.device("meta"):  # sizes without memory
                n_bytes = size_of(layout.network(ratings, item_features))
            n_epochs = layout.settings["n_epochs"]
            needs += room_for(n_bytes, n_epochs, keep) + n_refits * room_for(n_bytes, n_epochs, "best")
        if self.rank_by == "both":
            with torch.device("meta"):
                needs += room_for(size_of(ChoiceModel().new_model(ratings.n_items)), 0, "best")
        folder.mkdir(parents=True, exist_ok=True)
        ours = (path for kind in ("state", "epoch") for path in folder.rglob(f"{kind}_*.safetensors"))
        there = sum(path.stat().st_size for path in ours)
        check_space(folder, needs - there, "choose another folder, a smaller model or keep='best'")

    def _clear(self, folder: Path) -> None:
        """Remove what an earlier training left in the folders that this one will come to."""
        for path in [*(self._folder(folder, name) for name in self._layouts()), folder / "choice"]:
            if path.is_dir():
                with one_writer(path, alone=True):
                    Checkpoints(path, {}).clear()

    def _folder(self, checkpoint_dir: str | os.PathLike | None, layout: str) -> Path | None:
        """Where the training of a layout keeps its checkpoints."""
        if checkpoint_dir is None or len(LAYOUTS[self.orientation]) == 1:
            return checkpoint_dir
        return Path(checkpoint_dir, layout)

    @_alone
    def refit_on(
        self,
        ratings: pd.DataFrame,
        *,
        n_epochs: int | Mapping[str, int] | None = None,
        item_features: pd.DataFrame | None = None,
        checkpoint_dir: str | os.PathLike | None = None,
        resume: bool = False,
        progress: bool = False,
    ) -> "Recommender":
        """Train new weights on `ratings` with the schedule of `fit`, for `n_epochs` epochs, or those of each layout.

        Left out, it is `best_epochs`. `history`, `shares` and `intervals` stay those of the training in which the epoch
        was chosen; without one there are none, and the shares are as `blend` says. `item_features` are those of `fit`,
        if left out. `checkpoint_dir` gets what it takes to `resume`: see `saerec.training.fit`.

        Raises
        ------
        DataError, TypeError, ValueError
            `n_epochs` below 1, or of other layouts than there are; and as of `fit`.
        """
        self._check()
        layouts = self._layouts()
        epochs = self._fitted().best_epochs if n_epochs is None else n_epochs
        if isinstance(epochs, Mapping) and set(epochs) != set(layouts):
            raise ValueError(f"need the n_epochs of {', '.join(layouts)}, not of {', '.join(map(str, epochs))}")
        epochs = {name: epochs[name] if isinstance(epochs, Mapping) else epochs for name in layouts}
        for epoch in epochs.values():
            if not isinstance(epoch, Integral) or isinstance(epoch, bool) or epoch < 1:
                raise ValueError(f"n_epochs must be a whole number of at least 1, not {epoch!r}")
        fitted, blend, drift, times = hasattr(self, "ratings"), self.blend, None, None
        if fitted:
            item_features = self.item_features if item_features is None else item_features
            drift = self.drift
        if blend is None:
            blend = self.shares[0] if fitted and set(self.models) == set(layouts) else 0.5
        if drift is not None and "timestamp" in ratings:
            times = seconds_of(ratings["timestamp"])
        matrix = RatingMatrix.from_frame(ratings)
        self._check_features(item_features, ratings)
        baseline = BiasBaseline(shrinkage=self.shrinkage).fit(matrix)
        options = {"last_alone": True, "keep": "best", "resume": resume, "progress": progress}
        if checkpoint_dir is not None and not resume and distributed.rank() == 0:
            self._clear(Path(checkpoint_dir))
        models, refits = {}, {}
        for name, epoch in epochs.items():
            options |= {"stop_after": epoch, "checkpoint_dir": self._folder(checkpoint_dir, name)}
            models[name], refits[name] = layouts[name].train(matrix, None, baseline, item_features, **options)
        choice = self._fit_choice(matrix, checkpoint_dir, resume=resume, progress=progress)
        if not fitted:
            self._histories, self.intervals, self.tried = {}, None, None
        self.item_features = item_features
        self._keep(matrix, matrix, baseline, models, epochs, choice, blend)
        self.drift = None if times is None else self._drift(ratings, times, shrinkage=drift.shrinkage)
        self._refits = refits
        return self

    def _calibrated(self, valid: RatingMatrix) -> PredictionIntervals | None:
        rows, cols, rating = valid.coordinates()
        if len(rows) < LEAST_IN_A_GROUP:  # of so few, intervals would be far too narrow
            return None
        _, user = np.unique(rows, return_inverse=True)
        kept = user % -(-len(rows) // MOST_TO_CALIBRATE) == 0  # of every n-th user, if there are many
        rows, cols = rows[kept], cols[kept]
        predicted = self.predict(self.user_ids[rows], self.item_ids[cols])
        return PredictionIntervals().fit(self._described(rows, cols), predicted, rating[kept])

    def _drift(self, ratings: pd.DataFrame, times: np.ndarray, **options) -> UserDrift:
        """Of the ratings that `self.ratings` was made of, given at these times."""
        order = np.lexsort(self.ratings.positions(ratings["user_id"], ratings["item_id"])[::-1])
        return UserDrift(**options).fit(self.ratings, times[order], self.baseline)

    def _chosen_drift(self, train: pd.DataFrame, valid: pd.DataFrame) -> UserDrift | None:
        """With the shrinkage that suits `valid`, or None if none does; timestamps in seconds."""
        drift = self._drift(train, train["timestamp"].to_numpy())
        rows, _ = self.ratings.positions(valid["user_id"], valid["item_id"])
        asked = rows, valid["timestamp"].to_numpy(), self.predict(valid["user_id"], valid["item_id"]), valid["rating"]
        drift.shrinkage = drift.best_shrinkage(*asked, self.scale)
        return None if drift.shrinkage is None else drift

    def _described(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """The features of `intervals` of pairs, -1 being unknown."""
        users, items = self.ratings.user_counts, self.ratings.item_counts
        known = [(users, self.baseline.user_spread, rows), (items, self.baseline.item_spread, cols)]
        described = [(np.append(n, 0)[at], np.append(spread, self.baseline.spread)[at]) for n, spread, at in known]
        return describe(*described[0], *described[1])

    def _fit_choice(
        self, ratings: RatingMatrix, checkpoint_dir: str | os.PathLike | None, **options
    ) -> ChoiceModel | None:
        if self.rank_by != "both":
            return None
        folder = None if checkpoint_dir is None else Path(checkpoint_dir, "choice")
        return ChoiceModel(seed=self.seed, device=self.device).fit(ratings, checkpoint_dir=folder, **options)

    def _layouts(self) -> dict[str, Layout]:
        """What is trained, by name."""
        return {name: Layout(name, self._parameters()) for name in LAYOUTS[self.orientation]}

    def _parameters(self) -> dict[str, object]:
        return {name: plain(getattr(self, name)) for name in DECLARED}

    def _keep(
        self,
        ratings: RatingMatrix,
        seen: RatingMatrix,
        baseline: BiasBaseline,
        models: dict[str, SAE],
        best_epochs: dict[str, int],
        choice: ChoiceModel | None,
        blend: float,
    ) -> None:
        """Take over what was trained, all at once: a training that fails leaves the recommender as it was."""
        layouts = self._layouts()
        predictors = [
            layouts[name].predictor(model, ratings, baseline, self.item_features) for name, model in models.items()
        ]
        self._predictor = _mixed(predictors, blend)
        self.ratings, self.seen, self.baseline, self.choice = ratings, seen, baseline, choice
        self.models, self.best_epochs = models, best_epochs

    def _choose_blend(self, valid: RatingMatrix) -> None:
        """Of two predictors' mean the shares that suit the validation ratings best: a ridge regression.

        Of few ratings the penalty, on what the shares are off a half, leaves little but noise out.
        """
        if len(self.predictors) == 1:
            return
        rows, cols, rating = valid.coordinates()
        first, second = (self._predicted(predictor, rows, cols).astype(float) for predictor in self.predictors)
        apart, rest = first - second, rating - (first + second) / 2
        penalty = max(np.mean(rest**2) / BLEND_SPREAD**2, TINY)
        self._predictor = _mixed(self.predictors, np.clip(0.5 + apart @ rest / (apart @ apart + penalty), 0, 1))

    def _check_features(self, item_features: pd.DataFrame | None, ratings: pd.DataFrame) -> None:
        if item_features is None:
            return
        if self.orientation == "user":
            raise ValueError("item_features describe rows that are items: leave them out with orientation='user'")
        check_item_features(item_features, ratings["item_id"])

    @property
    def history(self) -> pd.DataFrame | None:
        """Of the training that chose the epoch: see the class."""
        return _of_layouts(self._fitted()._histories)

    @property
    def refit_history(self) -> pd.DataFrame | None:
        """The last epoch of the refit, whose errors alone are measured, in the form of `history`; None without one."""
        return _of_layouts(self._fitted()._refits)

    @property
    def best_epoch(self) -> int | dict[str, int]:
        """The epoch of the weights in use, or those by layout."""
        return _of_one(self._fitted().best_epochs)

    @property
    def model(self) -> SAE | dict[str, SAE]:
        """The trained network, or those by layout."""
        return _of_one(self._fitted().models)

    @property
    def predictors(self) -> list[ItemPredictor | UserPredictor]:
        """What predicts, one of each layout."""
        predictor = self._fitted()._predictor
        return list(predictor.predictors) if isinstance(predictor, MeanPredictor) else [predictor]

    @property
    def shares(self) -> tuple[float, ...]:
        """The weight of each of the `predictors` in that mean: see `blend`."""
        predictor = self._fitted()._predictor
        return predictor.weights if isinstance(predictor, MeanPredictor) else (1.0,)

    @property
    def user_ids(self) -> pd.Index:
        """The ids of the users, by row."""
        return self._fitted().ratings.user_ids

    @property
    def item_ids(self) -> pd.Index:
        """The ids of the items, by column."""
        return self._fitted().ratings.item_ids

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest rating, stars."""
        return self._fitted().ratings.scale

    def predict(self, user_ids: Iterable, item_ids: Iterable, timestamps: Iterable | None = None) -> np.ndarray:
        """The predicted ratings of pairs.

        Parameters
        ----------
        user_ids, item_ids : sequences of length N, or an id each
            The pairs, in the caller's ids. Of a user or an item without training ratings nothing is known but the mean
            and the other's bias, and that is the prediction.
        timestamps : sequence of length N, optional
            When the ratings are given, dates or seconds since 1970: what the user rated around then is taken into
            account, if there is a `drift`. For ratings that were not learnt from: of others it knows the answer.

        Returns
        -------
        ndarray of shape (N,), float32, stars
            Clipped to `scale`.
        """
        self._fitted()
        rows, cols = self.ratings.positions(user_ids, item_ids)
        if len(rows) != len(cols):
            raise ValueError(f"need as many user_ids as item_ids, not {len(rows)} and {len(cols)}")
        predicted = self._predicted(self._predictor, rows, cols).clip(*self.scale)
        if timestamps is None:
            return predicted
        times = seconds_of([timestamps] if np.isscalar(timestamps) else timestamps)
        if len(times) != len(rows):
            raise ValueError(f"need as many timestamps as user_ids, not {len(times)} and {len(rows)}")
        if self.drift is None:
            return predicted
        return (predicted + self.drift.predict(rows, times)).clip(*self.scale)

    def _predicted(self, predictor: Predictor, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """What one of the `predictors`, or their mean, says of pairs, -1 being unknown: (N,) float32, not clipped."""
        predicted = self.baseline.predict(rows, cols)
        known = np.flatnonzero((rows >= 0) & (cols >= 0))
        known = known[np.argsort(rows[known], kind="stable")]  # user after user
        users, first = np.unique(rows[known], return_index=True)
        ends = np.append(first, len(known))
        for start in range(0, len(users), USERS_AT_A_TIME):
            chunk = users[start : start + USERS_AT_A_TIME]
            pairs = known[ends[start] : ends[start + len(chunk)]]
            predicted[pairs] = predictor.at(chunk, np.searchsorted(chunk, rows[pairs]), cols[pairs])
        return predicted

    def predict_interval(
        self, user_ids: Iterable, item_ids: Iterable, coverage: float = COVERAGE
    ) -> tuple[np.ndarray, np.ndarray]:
        """The intervals around the predictions of pairs in which ratings fall with a stated chance.

        How wide depends on the numbers of ratings of user and item, on how far these scatter around the biases, and on
        the prediction. The share holds over many pairs like those of the validation ratings, not for each user or film.
        Of ratings in steps an interval covers a step wholly or not at all, so the share in a group may be off a little.

        Parameters
        ----------
        user_ids, item_ids
            As of `predict`; or one id each, for one pair.
        coverage : float between 0 and 1
            The share of ratings that the intervals are to hold.

        Returns
        -------
        low, high : ndarrays of shape (N,), float32, stars
            `predict` less and plus as much, clipped to `scale`.

        Raises
        ------
        ValueError
            `fit` was given fewer than 20 validation ratings, so too little is known of errors, or a coverage that is no
            such share.
        """
        if self._fitted().intervals is None:
            raise ValueError(
                f"fit(train, valid) measures errors, and this one had no {LEAST_IN_A_GROUP} validation ratings or more"
            )
        predicted = self.predict(user_ids, item_ids)
        features = self._described(*self.ratings.positions(user_ids, item_ids))
        error = self.intervals.half_width(features, predicted, coverage)
        return (predicted - error).clip(*self.scale), (predicted + error).clip(*self.scale)

    def evaluate(self, ratings: pd.DataFrame, *, told_when: bool = False) -> dict[str, float]:
        """The errors on held-out ratings, in stars: rmse (over all ratings), user_rmse (mean of the users' RMSEs), mae.

        Every rating counts; those by or of somebody or something unknown are scored as `predict` says.

        Parameters
        ----------
        ratings : DataFrame
            With the columns user_id, item_id and rating.
        told_when : bool
            Whether the predictions are told when the ratings were given, column timestamp. Published errors are mostly
            of predictions that are not.

        Raises
        ------
        DataError, TypeError
            What `check_ratings` finds wrong.

        Warns
        -----
        UserWarning
            With `told_when`: there is no `drift`, so it changes nothing.
        """
        check_ratings(ratings)
        if told_when:
            check_columns(["timestamp"], ratings.columns, "told_when=True")
            if self._fitted().drift is None:
                warnings.warn("this recommender has no drift: told_when=True changes nothing", stacklevel=2)
        predicted = self.predict(ratings["user_id"], ratings["item_id"], ratings["timestamp"] if told_when else None)
        return metrics.scores(ratings["rating"].to_numpy(), predicted, ratings["user_id"])

    def recommend(
        self,
        user_ids: Iterable | None = None,
        k: int | None = 10,
        *,
        rank_by: str | None = None,
        seen: pd.DataFrame | Iterable[pd.DataFrame] | sparse.csr_array = (),
        movies: pd.DataFrame | None = None,
        because: bool = True,
    ) -> pd.DataFrame:
        """The `k` best of the items that each user has not rated.

        Parameters
        ----------
        user_ids : sequence of ids, optional
            Left out: all users.
        k : int, optional
            None: all unseen items. A user with fewer unseen items gets these, and a warning says so.
        rank_by : {"both", "rating", "popularity"}, optional
            What the best are: see the class. Left out: as the recommender was made.
        seen : DataFrame or several, or what `seen_items` made of them
            More (user_id, item_id) pairs never to recommend, such as the test ratings. All ratings given to `fit` are
            seen.
        movies : DataFrame, optional
            With the column item_id; its other columns (title, year, genres …) are joined to the result, by id.
        because : bool
            Whether to name, for each recommendation, the liked item (rated at or above the person's mean) whose rating
            did most for it; missing where none did. A rating below the mean may have done more: `explain` tells of all.
            See `saerec.prediction`: exact for somebody new and with a row per user, an approximation for known users
            with a row per item, and so with the mean.

        Returns
        -------
        DataFrame
            user_id, rank (from 1), item_id, score (predicted rating, stars, float32), if `fit` was given validation
            ratings error (four in five ratings are within it of the score, stars, float32: see `predict_interval`),
            with a `ChoiceModel` chance (that this is what they rate next, of all items without a rating of theirs in
            `ratings`, float32), n_ratings (of the item), because_item_id, then the columns of `movies` and
            because_title. Ordered by prediction before clipping to `scale`, so that equal scores at the end of the
            scale are still in order; of equals the item with more ratings comes first, then the one earlier in
            `item_ids`.

        Raises
        ------
        UnknownIdError
            A user who was not in the data; see `recommend_new`.
        IdTypeError
            User ids of another type than the data's.
        ListLengthError
            A `k` below 1.
        """
        self._fitted()
        check_list_length(k)
        rank_by = self._ranking(rank_by)
        user_ids = self.user_ids if user_ids is None else pd.Index([user_ids] if np.isscalar(user_ids) else user_ids)
        rows, _ = self.ratings.positions(user_ids, [])
        if (rows < 0).any():
            raise UnknownIdError(
                f"user {user_ids[rows < 0].tolist()[0]!r} was not in the data this recommender was fitted to "
                f"({len(self.user_ids):,} users, for example {self.user_ids[:1].tolist()[0]!r}); for somebody "
                "new there is recommend_new"
            )
        seen_items = seen if isinstance(seen, sparse.csr_array) else self.seen_items(seen)
        reasons = self._predictor if because else None
        lists, lengths = [], []
        for start in range(0, max(len(rows), 1), USERS_AT_A_TIME):  # of nobody: the columns alone
            chunk = rows[start : start + USERS_AT_A_TIME]
            scores = self._predictor.scores(chunk)
            log_chances = None if self.choice is None else self.choice.log_chances(chunk)
            spread, rated = self.baseline.user_spread[chunk], self.ratings.csr[chunk]
            of_chunk, length = self._lists(scores, log_chances, spread, seen_items[chunk], rated, k, rank_by, reasons)
            of_chunk.insert(0, "user_id", self.user_ids[np.repeat(chunk, length)])
            lists.append(of_chunk)
            lengths.append(length)
        warn_of_short_lists(np.concatenate(lengths), lambda place: f"user {user_ids[place]}", k)
        return with_titles(pd.concat(lists, ignore_index=True), movies)

    def recommend_new(
        self,
        ratings: Mapping,
        k: int | None = 10,
        *,
        rank_by: str | None = None,
        movies: pd.DataFrame | None = None,
        because: bool = True,
    ) -> pd.DataFrame:
        """The list of somebody who was not in the data, without retraining.

        With ``orientation="user"`` and ``"both"`` a forward pass of their ratings. With ``"item"`` and ``"mean"``, of
        which "item" alone is asked, their output weights are solved for: ridge regression of what the biases leave of
        their ratings on the items' codes, shrunk towards the mean user's weights.

        Parameters
        ----------
        ratings : mapping of item id to rating, stars, or Series
            An empty one gives what the biases say.
        k, rank_by, movies, because
            See `recommend`.

        Returns
        -------
        DataFrame
            As of `recommend`, without user_id. Errors are those measured of users who are known.

        Raises
        ------
        UnknownIdError
            An item that was not in the data.
        ListLengthError
            A `k` below 1.
        ValueError, TypeError
            A rating outside `scale`, or that is no number; ratings that are no mapping.
        """
        self._fitted()
        check_list_length(k)
        rank_by = self._ranking(rank_by)
        ratings = ratings.to_dict() if isinstance(ratings, pd.Series) else ratings
        if not isinstance(ratings, Mapping):
            raise TypeError(
                f"ratings are a mapping of item id to rating, such as {{{self.item_ids.tolist()[0]!r}: 5.0}}, not of "
                f"{type(ratings).__name__}"
            )
        cols = self.item_ids.get_indexer(pd.Index(list(ratings)))
        if (cols < 0).any():
            item_id = list(ratings)[int(np.argmax(cols < 0))]
            title = isinstance(item_id, str) and pd.api.types.is_numeric_dtype(self.item_ids.dtype)
            raise UnknownIdError(
                f"item {item_id!r} was not in the data this recommender was fitted to ({len(self.item_ids):,} items)"
                f"{'; ids are whole numbers there; if it is a title, saerec.find_titles knows its id' if title else ''}"
            )
        low, high = self.scale
        for item_id, value in ratings.items():
            if not isinstance(value, Real) or isinstance(value, bool):
                raise TypeError(f"the rating {value!r} of item {item_id!r} is no number")
            if not low <= value <= high:
                raise ValueError(
                    f"the rating {value} of item {item_id!r} is not on the scale of the data, {low:g} to {high:g}"
                )
        of_new = self.predictors[0]  # of "mean" that of "item"
        values = np.array(list(ratings.values()), dtype=np.float32)
        scores = of_new.new_user_scores(cols, values)
        log_chances = None if self.choice is None else self.choice.new_user_log_chances(cols)
        rated = sparse.csr_array((values, cols, [0, len(cols)]), shape=(1, self.ratings.n_items))
        chances = None if log_chances is None else log_chances[None]
        spread = np.array([self.baseline.new_user_spread(cols, values)])
        reasons = of_new if because else None
        found, length = self._lists(scores[None], chances, spread, rated, rated, k, rank_by, reasons)
        warn_of_short_lists(length, lambda _: "somebody new", k)
        return with_titles(found, movies)

    def explain(self, user_id, item_id, movies: pd.DataFrame | None = None) -> pd.DataFrame:
        """By how much the prediction of an item changes with each rating of a user, the most helpful first.

        Parameters
        ----------
        user_id, item_id : ids
            Of the data. The item need not be unseen.
        movies : DataFrame, optional
            As of `recommend`.

        Returns
        -------
        DataFrame
            item_id, rating (stars) and influence (stars, float64), one row for each rating of the user in `ratings`,
            by influence, descending; of equals the item that is earlier in `item_ids` comes first.

            The influence is the change of the prediction, before clipping, against leaving the rating out; the user's
            bias changes too. A row per user ("user", "both"): exact. A row per item ("item"): exact for somebody new
            with these ratings, whose taste `recommend_new` solves for; an approximation for the user, whose weights
            were trained with all of them. "mean": one of each, in their shares. The rows do not add up to the
            prediction: where two ratings say the same, each alone can be spared.

        Raises
        ------
        UnknownIdError
            A user or an item that was not in the data.
        TypeError
            Several of them.
        """
        if not (np.isscalar(user_id) and np.isscalar(item_id)):
            raise TypeError("explain takes one user_id and one item_id, not several")
        (row,), (col,) = self._fitted().ratings.positions([user_id], [item_id])
        for name, position, unknown in (("user", row, user_id), ("item", col, item_id)):
            if position < 0:
                raise UnknownIdError(f"{name} {unknown!r} was not in the data this recommender was fitted to")
        rated = self.ratings.csr[[row]]
        influence = np.zeros(0)  # of somebody without ratings
        if rated.nnz:
            influence = self._predictor.influence(rated.indices, rated.data, np.array([col]))[:, 0].astype(np.float64)
        order = np.argsort(-influence, kind="stable")
        cols, values = rated.indices[order], rated.data[order]
        told = pd.DataFrame({"item_id": self.item_ids[cols], "rating": values, "influence": influence[order]})
        return with_titles(told, movies)

    def _ranking(self, rank_by: str | None) -> str:
        rank_by = self.rank_by if rank_by is None else rank_by
        check_one_of("rank_by", rank_by, RANKINGS)
        if rank_by == "both" and self.choice is None:
            raise ValueError(f"this recommender was fitted with rank_by={self.rank_by!r}: rank_by='both' needs a fit")
        return rank_by

    def _keys(self, scores: np.ndarray, log_chances: np.ndarray | None, rank_by: str) -> np.ndarray:
        """What lists are ordered by: (B, I)."""
        if rank_by == "rating":
            return scores
        other = log_chances if rank_by == "both" else np.log1p(self.ratings.item_counts) / 2
        return scores / self.ratings.unit + other

    def seen_items(self, seen: pd.DataFrame | Iterable[pd.DataFrame] = ()) -> sparse.csr_array:
        """What nobody is recommended, stored where seen, (U, I): made once for many calls of `recommend`."""
        pairs = [self._fitted().seen.coordinates()[:2]]
        for frame in [seen] if isinstance(seen, pd.DataFrame) else seen:
            if not isinstance(frame, pd.DataFrame):
                raise TypeError(
                    f"seen must be a frame with user_id and item_id, or several, not of {type(frame).__name__}"
                )
            check_columns(["user_id", "item_id"], frame.columns, "seen")
            rows, cols = self.ratings.positions(frame["user_id"], frame["item_id"])
            known = (rows >= 0) & (cols >= 0)
            pairs.append((rows[known], cols[known]))
        if len(pairs) == 1:
            return self.seen.csr
        rows, cols = map(np.concatenate, zip(*pairs))
        return sparse.coo_array((np.ones(len(rows), dtype=bool), (rows, cols)), shape=self.seen.shape).tocsr()

    def _lists(
        self,
        scores: np.ndarray,
        log_chances: np.ndarray | None,
        spread: np.ndarray,
        seen: sparse.csr_array,
        rated: sparse.csr_array,
        k: int | None,
        rank_by: str,
        because: Predictor | None,
    ) -> tuple[pd.DataFrame, np.ndarray]:
        """The lists of B people, one after the other, and how long each is; all that is given has shape (B, I).

        But `spread`, their `user_spread`, which has shape (B,). `because` is what gives reasons, if they are wanted.
        """
        keys = self._keys(scores, log_chances, rank_by)
        row, rank, col = best_items(keys, seen, self.ratings.item_counts, k)
        found = {"rank": rank, "item_id": self.item_ids[col]}
        found["score"] = scores[row, col].clip(*self.scale).astype(np.float32)
        if self.intervals is not None:
            items = self.ratings.item_counts[col], self.baseline.item_spread[col]
            features = describe(np.diff(rated.indptr)[row], spread[row], *items)
            found["error"] = self.intervals.half_width(features, found["score"])
        if log_chances is not None:
            found["chance"] = np.exp(log_chances[row, col])
        found["n_ratings"] = self.ratings.item_counts[col]
        lengths = np.bincount(row, minlength=len(scores))
        if because is not None:
            nullable = "Int64" if pd.api.types.is_integer_dtype(self.item_ids.dtype) else object
            reasons = []
            for person, end in enumerate(np.cumsum(lengths)):
                own = rated[[person]]
                reasons += self._reasons(because, col[end - lengths[person] : end], own.indices, own.data)
            found["because_item_id"] = pd.Series(reasons, dtype=nullable)
        return pd.DataFrame(found), lengths

    def _reasons(self, predictor: Predictor, best: np.ndarray, cols: np.ndarray, values: np.ndarray) -> list:
        """For each column in `best`, the id of the item whose rating, not below their mean, raised it most."""
        liked = values >= values.mean() if len(values) else np.zeros(0, dtype=bool)
        if not liked.any():
            return [None] * len(best)
        influence = np.where(liked[:, None], predictor.influence(cols, values, best), -np.inf)  # (n_rated, k)
        strongest = influence.argmax(axis=0)
        return [self.item_ids[cols[i]] if influence[i, j] > 0 else None for j, i in enumerate(strongest)]

    def save(self, directory: str | os.PathLike) -> None:
        """Write ``recommender.safetensors`` to `directory`, which is made if need be.

        Everything is inside, ids, baseline and ratings included, and nothing that differs from run to run: of the
        history, the seconds are left out. No pickle, so loading runs no code; and a checksum, so what is damaged is
        not taken for a model.
        """
        self._fitted()
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        weights = {layout: model.state_dict() for layout, model in self.models.items()}
        if self.choice is not None:
            weights["choice"] = self.choice.model.state_dict()
        trained = (self._parameters(), self.shares[0], self.best_epochs, self._histories, self._refits)
        rest = (self.ratings, self.seen, self.baseline, weights, self.item_features, self.intervals, self.drift)
        write_trained(directory / FILE, Trained(*trained, *rest))

    def _fitted(self) -> "Recommender":
        check_fitted(self, "ratings")
        return self

    def __repr__(self) -> str:
        hidden = "" if self.hidden_dims is None else f", hidden_dims={plain(self.hidden_dims)}"
        fitted = f", fitted to {self.ratings}, epoch {self.best_epoch}" if hasattr(self, "ratings") else ""
        return f"Recommender(orientation={self.orientation!r}{hidden}{fitted})"


DECLARED = inspect.signature(Recommender).parameters  # its settings, with their defaults


def _mixed(predictors: list[ItemPredictor | UserPredictor], blend: float) -> Predictor:
    """The only predictor, or the mean of two, in shares that leave float32 predictions what they are."""
    blend = float(blend)  # a numpy float64 would make float64 of them
    return MeanPredictor(predictors, (blend, 1 - blend)) if len(predictors) > 1 else predictors[0]


def _of_one(layouts: Mapping):
    """What the only layout has, or that of all."""
    return next(iter(layouts.values())) if len(layouts) == 1 else layouts


def _of_layouts(histories: Mapping[str, pd.DataFrame]) -> pd.DataFrame | None:
    """That of the only layout, or all, with a column that says which; None of none."""
    if len(histories) <= 1:
        return next(iter(histories.values()), None)
    return pd.concat(histories, names=["layout"]).reset_index("layout").reset_index(drop=True)
