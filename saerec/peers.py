"""Other recommenders beside ours: each learns from the same ratings, in a process of its own, and is measured alike.

A peer is a function of training and validation ratings that returns a `Fitted`. What it has for settings are its
keywords; those not given are as its authors ship them. `seed` is without effect where nothing is drawn. The libraries
surprise, implicit and cornac are optional (``pip install saerec[peers]``) and imported where they are used; so is
lenskit, which has an extra of its own (``pip install saerec[lenskit]``), for it wants pandas below 3.
"""

import hashlib
import itertools
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from threadpoolctl import threadpool_limits

from saerec.baselines import TINY, BiasBaseline
from saerec.lists import make_lists
from saerec.metrics import list_scores, rmse
from saerec.model import SAE
from saerec.original import predict_original, train_original
from saerec.ratings import RatingMatrix
from saerec.recommender import Recommender
from saerec.storage import NONSENSE, read_tensors, write_tensors
from saerec.training import best_epoch
from saerec.validation import EmptyDataError

LIBRARIES = ("surprise", "implicit", "cornac", "lenskit")
MISSING = [name for name in LIBRARIES if find_spec(name) is None]  # not installed


class Fitted(NamedTuple):
    """What a peer has learnt: `predict`, from user_ids and item_ids to stars, or None; `recommend`, from k to lists."""

    predict: Callable[[pd.Series, pd.Series], np.ndarray] | None
    recommend: Callable[[int], pd.DataFrame]


class PeerResult(NamedTuple):
    """What `measure` returns.

    Attributes
    ----------
    predicted : ndarray of shape (N,) or None
        Stars, clipped to the scale; None of a peer that only makes lists.
    lists : DataFrame
        Of everybody: user_id, rank (from 1) and item_id; nothing that they had rated.
    settings : dict
        Those that were chosen.
    choose_seconds, fit_seconds, list_seconds : float
        Of choosing the settings, of learning with them, of making the lists; on one core.
    memory : float, MB
        The peak of the process, Python and the libraries included; NaN where the system does not say.
    """

    predicted: np.ndarray | None
    lists: pd.DataFrame
    settings: dict
    choose_seconds: float
    fit_seconds: float
    list_seconds: float
    memory: float


def measure(
    peer: Callable[..., Fitted],
    train: pd.DataFrame,
    valid: pd.DataFrame,
    pairs: pd.DataFrame,
    *,
    grid: Mapping[str, Sequence] = {},
    seed: int = 0,
    k: int = 10,
    checkpoint_dir: str | os.PathLike | None = None,
) -> PeerResult:
    """Choose a peer's settings on `valid`, fit it to `train` and `valid`, predict and list: in a process of its own.

    Parameters
    ----------
    peer : callable
        A function of this module, or a functools.partial of one.
    train, valid : DataFrame
        user_id, item_id and rating.
    pairs : DataFrame
        What to predict: user_id and item_id, such as those of the test ratings. No other column is looked at.
    grid : mapping of setting to its values
        All combinations are tried, if there are several: the lowest RMSE on `valid` wins, of a peer that only makes
        lists the highest ndcg of their first `k` places; of equals the first.
    checkpoint_dir : path, optional
        A folder that gets the result. If it holds one of the same peer, ratings, pairs and settings, that is returned:
        so who is interrupted between many peers need not measure all of them again. One that was cut off is measured
        anew, for its seconds are part of the result.

    Raises
    ------
    RuntimeError
        The process died. An error inside it is raised here as it is.
    """
    pairs = pairs[["user_id", "item_id"]]
    tried = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
    ids = _matrix(train, valid)
    path = None
    if checkpoint_dir is not None:
        told = "\n".join(map(_told, (peer, train, valid, pairs, tried, seed, k)))
        path = Path(checkpoint_dir, f"state_{hashlib.sha256(told.encode()).hexdigest()[:32]}.safetensors")
        if (kept := _kept(path, ids, tried, len(pairs))) is not None:
            return kept
    # Spawned only where there is no other way: Linux counts the memory of the parent as a spawned process's peak.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent) as process:
        try:
            result = process.submit(_run, peer, train, valid, pairs, tried, seed, k).result()
        except BrokenProcessPool as error:
            raise RuntimeError(f"the process of {peer} died, perhaps for want of memory") from error
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        users, items = ids.positions(result.lists["user_id"], result.lists["item_id"])
        tensors = {"users": users, "items": items, "ranks": result.lists["rank"].to_numpy()}
        tensors |= {} if result.predicted is None else {"predicted": result.predicted}
        numbers = ("settings", "choose_seconds", "fit_seconds", "list_seconds", "memory")
        description = {name: getattr(result, name) for name in numbers} | {"settings": tried.index(result.settings)}
        write_tensors(path, "peer", {name: torch.tensor(each) for name, each in tensors.items()}, description)
    return result


def _end_with_parent() -> None:
    """End when the process that started this one does, however that ends: it may be killed."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _kept(path: Path, ids: RatingMatrix, tried: list[dict], n_pairs: int) -> PeerResult | None:
    """What an earlier call measured, if it is there, whole and makes sense."""
    try:
        tensors, description = read_tensors(path, "peer")
        predicted, users, ranks, items = (
            tensors[name].numpy() if name in tensors else None for name in ("predicted", "users", "ranks", "items")
        )
        if predicted is not None and not (predicted.shape == (n_pairs,) and np.isfinite(predicted).all()):
            return None
        if any(((each < 0) | (each >= n)).any() for each, n in zip((users, items), ids.shape)):
            return None
        lists = pd.DataFrame({"user_id": ids.user_ids[users], "rank": ranks, "item_id": ids.item_ids[items]})
        spent = [float(description[name]) for name in PeerResult._fields[3:]]
        return PeerResult(predicted, lists, tried[description["settings"]], *spent)
    except (FileNotFoundError, IndexError, *NONSENSE):
        return None


def _told(value) -> str:
    """A peer or what it is given, in words that are others for anything else."""
    if isinstance(value, partial):
        return f"{_told(value.func)} with {[*map(_told, value.args)]} {_told(value.keywords)}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(each)}" for name, each in value.items())
    if isinstance(value, pd.DataFrame):
        return f"{list(value.columns)} {_told(pd.util.hash_pandas_object(value).to_numpy())}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    return f"{value.__module__}.{value.__qualname__}" if callable(value) else repr(value)


def _run(peer, train, valid, pairs, tried, seed, k) -> PeerResult:
    torch.set_num_threads(1)
    with threadpool_limits(1):
        times = [time.perf_counter()]
        losses = [_loss(peer(train, None, seed=seed, **one), train, valid, k) for one in tried if len(tried) > 1]
        settings = tried[int(np.argmin(losses or [0]))]
        times.append(time.perf_counter())
        fitted = peer(train, valid, seed=seed, **settings)
        times.append(time.perf_counter())
        lists = fitted.recommend(k)[["user_id", "rank", "item_id"]]
        times.append(time.perf_counter())
        predicted = fitted.predict(pairs["user_id"], pairs["item_id"]) if fitted.predict else None
    return PeerResult(predicted, lists, settings, *np.diff(times).tolist(), _peak_memory())


def _loss(fitted: Fitted, train: pd.DataFrame, valid: pd.DataFrame, k: int) -> float:
    """What the best settings have least of: RMSE, or minus ndcg."""
    if fitted.predict:
        return rmse(valid["rating"], fitted.predict(valid["user_id"], valid["item_id"]))
    try:
        return -list_scores(fitted.recommend(k), valid, _matrix(train))["ndcg"]
    except EmptyDataError:  # nobody liked anything: all settings are equal
        return 0.0


def _peak_memory() -> float:
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def autoencoder(train, valid, *, seed=0, item_features=None, **settings) -> Fitted:
    """`saerec.Recommender`, which chooses its epoch on `valid` itself and then learns from both."""
    recommender = Recommender(seed=seed, **settings).fit(train, valid, item_features=item_features)
    return Fitted(recommender.predict, lambda k: recommender.recommend(k=k, because=False))


def original_study(train, valid, *, seed=0, n_epochs=100) -> Fitted:
    """The original study's network and loop, `saerec.original.train_original`, as far as its best epoch.

    That with the lowest RMSE on `valid`; then it learns from both that long.
    """

    def trained(ratings, n_epochs, on_epoch=None) -> tuple[SAE, pd.DataFrame]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = SAE(ratings.n_items)
        return model, train_original(ratings, model, n_epochs=n_epochs, on_epoch=on_epoch)

    if valid is not None:
        known = _matrix(train, None)

        def measured(model) -> dict[str, float]:
            predicted = _fitted(known, lambda: predict_original(model, known)).predict
            return {"valid_rmse": rmse(valid["rating"], predicted(valid["user_id"], valid["item_id"]))}

        n_epochs = best_epoch(trained(known, n_epochs, measured)[1])
    ratings = _matrix(train, valid)
    model, _ = trained(ratings, n_epochs)
    return _fitted(ratings, lambda: predict_original(model, ratings))


def biases(train, valid, *, seed=0, shrinkage=5.0) -> Fitted:
    """`saerec.BiasBaseline`: one order of the items for everybody."""
    ratings = _matrix(train, valid)
    baseline = BiasBaseline(shrinkage=shrinkage).fit(ratings)
    return _fitted(ratings, lambda: baseline.predict(np.arange(ratings.n_users)[:, None], np.arange(ratings.n_items)))


def most_popular(train, valid, *, seed=0) -> Fitted:
    """The items with the most ratings."""
    ratings = _matrix(train, valid)
    return _fitted(ratings, lambda: np.tile(ratings.item_counts, (ratings.n_users, 1)), stars=False)


def ease(train, valid, *, seed=0, penalty=500.0, reads="liked") -> Fitted:
    """EASE^R: what somebody likes from all else they like, by ridge regression without a diagonal.

    In closed form: Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019, eq. 8. It reads 1 for what
    was "liked", as there, or the "stars" of all that was rated.
    """
    ratings = _matrix(train, valid)
    read = {"liked": _liked, "stars": _stars}[reads](ratings)
    gram = (read.T @ read).toarray().astype(np.float64)  # (I, I)
    inverse = np.linalg.inv(gram + penalty * np.eye(len(gram)))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return _fitted(ratings, lambda: read @ weights, stars=False)


def surprise_svd(train, valid, *, seed=0, **settings) -> Fitted:
    """Scikit-surprise's SVD."""
    from surprise import SVD

    ratings = _matrix(train, valid)
    model, cols = _fit_surprise(SVD(random_state=seed, **settings), ratings)
    base = model.trainset.global_mean + model.bu[:, None] + model.bi[cols]  # (U, I)
    return _fitted(ratings, lambda: base + model.pu @ model.qi[cols].T)


def surprise_svdpp(train, valid, *, seed=0, **settings) -> Fitted:
    """Scikit-surprise's SVD++."""
    from surprise import SVDpp

    ratings = _matrix(train, valid)
    model, cols = _fit_surprise(SVDpp(random_state=seed, cache_ratings=True, **settings), ratings)
    base = model.trainset.global_mean + model.bu[:, None] + model.bi[cols]  # (U, I)
    rows, columns, _ = ratings.coordinates()
    shares = sparse.csr_array((ratings.user_counts[rows] ** -0.5, (rows, columns)), shape=ratings.shape)
    return _fitted(ratings, lambda: base + (model.pu + shares @ model.yj[cols]) @ model.qi[cols].T)


def surprise_knn(train, valid, *, seed=0, k=40, user_based=False) -> Fitted:
    """Scikit-surprise's KNNBaseline, with the similarity that its documentation calls best: pearson_baseline.

    It predicts pair by pair, which takes minutes for everybody's lists; here its sums are taken over matrices.
    """
    from surprise import KNNBaseline

    ratings = _matrix(train, valid)
    options = {"name": "pearson_baseline", "user_based": user_based}
    model, cols = _fit_surprise(KNNBaseline(k=k, sim_options=options, verbose=False), ratings)
    base = model.trainset.global_mean + model.bu[:, None] + model.bi[cols]  # (U, I)
    rows, columns, values = ratings.coordinates()
    rest = sparse.csr_array((values - base[rows, columns], (rows, columns)), shape=ratings.shape)
    if user_based:
        return _fitted(ratings, lambda: base + _neighbours(model.sim, rest.T.tocsr(), k).T)
    return _fitted(ratings, lambda: base + _neighbours(model.sim[np.ix_(cols, cols)], rest, k))


def _neighbours(similar: np.ndarray, rest: sparse.csr_array, k: int) -> np.ndarray:
    """Means of each row of `rest`, (Y, X), weighted by the `k` highest positive of a column's similarities, (X, X)."""
    means = np.zeros(rest.shape)
    for row in range(len(means)):
        stored = slice(*rest.indptr[row : row + 2])
        weights = np.maximum(similar[:, rest.indices[stored]], 0)  # (X, n)
        if weights.shape[1] > k:
            weights[weights < np.partition(weights, -k, axis=1)[:, -k, None]] = 0
        means[row] = weights @ rest.data[stored] / np.maximum(weights.sum(axis=1), TINY)
    return means


def _fit_surprise(model, ratings: RatingMatrix):
    from surprise import Dataset, Reader

    rows, cols, values = ratings.coordinates()
    frame = pd.DataFrame({"row": rows, "col": cols, "rating": values})
    model.fit(Dataset.load_from_df(frame, Reader(rating_scale=ratings.scale)).build_full_trainset())
    return model, [model.trainset.to_inner_iid(col) for col in range(ratings.n_items)]


def implicit_als(train, valid, *, seed=0, **settings) -> Fitted:
    """Implicit's alternating least squares (Hu, Koren and Volinsky, ICDM 2008) of who likes what."""
    from implicit.cpu.als import AlternatingLeastSquares

    return _fit_implicit(AlternatingLeastSquares, _matrix(train, valid), random_state=seed, **settings)


def implicit_bpr(train, valid, *, seed=0, **settings) -> Fitted:
    """Implicit's Bayesian personalised ranking (Rendle et al., UAI 2009) of who likes what."""
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    return _fit_implicit(BayesianPersonalizedRanking, _matrix(train, valid), random_state=seed, **settings)


def _fit_implicit(kind: Callable, ratings: RatingMatrix, **settings) -> Fitted:
    with threadpool_limits(1):  # again: the OpenBLAS that implicit brings was not loaded before
        model = kind(num_threads=1, **settings)
        model.fit(sparse.csr_matrix(_liked(ratings)), show_progress=False)
    return _fitted(ratings, lambda: model.user_factors @ model.item_factors.T, stars=False)


def cornac_mf(train, valid, *, seed=0, **settings) -> Fitted:
    """Cornac's MF, matrix factorisation with biases."""
    from cornac.data import Dataset
    from cornac.models import MF

    ratings = _matrix(train, valid)
    rows, cols = ({position: position for position in range(n)} for n in ratings.shape)
    model = MF(use_bias=True, seed=seed, **settings).fit(Dataset(*ratings.shape, rows, cols, ratings.coordinates()))
    base = model.global_mean + model.u_biases[:, None] + model.i_biases  # (U, I)
    return _fitted(ratings, lambda: base + model.u_factors @ model.i_factors.T)


def lenskit_mf(train, valid, *, seed=0, **settings) -> Fitted:
    """LensKit's BiasedMFScorer: matrix factorisation with biases, by alternating least squares."""
    _one_thread_for_lenskit()
    from lenskit.als import BiasedMFScorer

    return _fit_lenskit(BiasedMFScorer(**settings), _matrix(train, valid), seed)


def lenskit_knn(train, valid, *, seed=0, **settings) -> Fitted:
    """LensKit's ItemKNNScorer; where it finds no neighbour, the biases."""
    _one_thread_for_lenskit()
    from lenskit.knn import ItemKNNScorer

    return _fit_lenskit(ItemKNNScorer(**settings), _matrix(train, valid), seed)


def _fit_lenskit(model, ratings: RatingMatrix, seed: int) -> Fitted:
    from lenskit.data import ItemList, RecQuery, from_interactions_df
    from lenskit.training import TrainingOptions

    rows, cols, values = ratings.coordinates()
    data = from_interactions_df(pd.DataFrame({"user_id": rows, "item_id": cols, "rating": values}))
    model.train(data, TrainingOptions(rng=seed))
    every_row, every_col = np.arange(ratings.n_users), np.arange(ratings.n_items)
    items = ItemList(item_ids=every_col)
    biases = BiasBaseline().fit(ratings).predict(every_row[:, None], every_col)  # (U, I)

    def scores():
        queries = (RecQuery(user_id=row, history_items=data.user_row(row)) for row in every_row)
        found = np.stack([model(query, items).scores() for query in queries])
        return np.where(np.isfinite(found), found, biases)

    return _fitted(ratings, scores)


def _one_thread_for_lenskit() -> None:
    """It takes all cores unless its environment says otherwise, and torch's threads with them."""
    for name in ("LK_NUM_THREADS", "LK_NUM_BACKEND_THREADS"):
        os.environ.setdefault(name, "1")


def _fitted(ratings: RatingMatrix, scores: Callable[[], np.ndarray], *, stars: bool = True) -> Fitted:
    """From `scores`, of everybody and everything, (U, I): lists in their order, and if they are `stars`, predictions.

    Where the user or the item is unknown, the prediction is that of the biases.
    """

    def predict(user_ids, item_ids):
        rows, cols = ratings.positions(user_ids, item_ids)
        biases = BiasBaseline().fit(ratings).predict(rows, cols)
        return np.where((rows >= 0) & (cols >= 0), scores()[rows, cols], biases).clip(*ratings.scale)

    def recommend(k):
        every = scores()
        return make_lists(ratings, lambda rows: every[rows], k)

    return Fitted(predict if stars else None, recommend)


def _matrix(*parts: pd.DataFrame | None) -> RatingMatrix:
    return RatingMatrix.from_frame(pd.concat([part for part in parts if part is not None]))


def _liked(ratings: RatingMatrix) -> sparse.csr_array:
    """1 where liked, as in `saerec.list_scores`: (U, I) float32."""
    rows, cols, values = ratings.coordinates()
    liked = values >= ratings.liked_from
    ones = np.ones(liked.sum(), dtype=np.float32)
    return sparse.csr_array((ones, (rows[liked], cols[liked])), shape=ratings.shape)


def _stars(ratings: RatingMatrix) -> sparse.csr_array:
    """The ratings, the lowest as half a unit, times what makes the mean of their squares 1: (U, I) float32."""
    stars = ratings.csr.copy()
    stars.data += np.float32(ratings.unit / 2 - ratings.scale[0])
    return stars / np.float32(np.sqrt(np.mean(np.square(stars.data))))
