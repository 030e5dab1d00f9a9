"""Other recommenders: what they predict and list, the libraries' if they are installed, and how they are measured."""

import multiprocessing
import os
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

import saerec
from saerec import peers
from saerec.storage import read_tensors, write_tensors

PEERS = {
    "autoencoder": partial(peers.autoencoder, hidden_dims=(8,), n_epochs=2),
    "original_study": partial(peers.original_study, n_epochs=1),
    "biases": peers.biases,
    "most_popular": peers.most_popular,
    "ease": peers.ease,
    "surprise_svd": peers.surprise_svd,
    "surprise_svdpp": peers.surprise_svdpp,
    "surprise_knn": peers.surprise_knn,
    "implicit_als": partial(peers.implicit_als, factors=4),
    "implicit_bpr": partial(peers.implicit_bpr, factors=4, iterations=3),
    "cornac_mf": peers.cornac_mf,
    "lenskit_mf": partial(peers.lenskit_mf, embedding_size=4),
    "lenskit_knn": peers.lenskit_knn,
}
LISTS_ONLY = {"most_popular", "ease", "implicit_als", "implicit_bpr"}


def peer_or_skip(name):
    library = name.split("_")[0]
    if library in peers.MISSING:
        pytest.skip(f"{library} is not installed: pip install saerec[{'lenskit' if library == 'lenskit' else 'peers'}]")
    return PEERS[name]


@pytest.mark.filterwarnings("default")  # what the libraries warn of is theirs
@pytest.mark.parametrize("name", PEERS)
def test_every_peer_lists_what_was_not_rated_and_predicts_within_the_scale(name, parts):
    train, valid, test = parts
    fitted = peer_or_skip(name)(train, valid, seed=0)
    lists = fitted.recommend(5)
    known = pd.concat([train, valid])
    assert not lists.merge(known, on=["user_id", "item_id"]).shape[0]
    assert not lists.duplicated(["user_id", "item_id"]).any()
    unrated = known["item_id"].nunique() - known.groupby("user_id").size()
    assert lists.groupby("user_id").size().to_dict() == unrated.clip(upper=5).loc[lambda n: n > 0].to_dict()
    assert (lists["rank"] == lists.groupby("user_id").cumcount() + 1).all()
    if name in LISTS_ONLY:
        assert fitted.predict is None
    else:
        predicted = fitted.predict(test["user_id"], test["item_id"])  # the unknown user and item are among them
        assert predicted.shape == (len(test),) and np.isfinite(predicted).all()
        assert predicted.min() >= known["rating"].min() and predicted.max() <= known["rating"].max()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", [name for name in PEERS if name != "autoencoder"])
def test_the_same_seed_gives_the_same_bits(name, parts):
    train, valid, _ = parts
    lists = [peer_or_skip(name)(train, valid, seed=1).recommend(5) for _ in range(2)]
    pd.testing.assert_frame_equal(*lists)


@pytest.mark.parametrize("reads", ["liked", "stars"])
def test_ease_is_a_ridge_regression_of_each_column_on_the_others(tastes, reads):
    penalty, matrix = 20.0, saerec.RatingMatrix.from_frame(tastes)
    lowest, highest = matrix.scale
    x = matrix.csr.toarray().astype(float)
    assert (lowest, highest) == (0.5, 5)
    if reads == "liked":
        x = (x >= lowest + (highest - lowest) * 7 / 9).astype(float)
    else:
        x /= np.sqrt(np.mean(x[x > 0] ** 2))
    scores = np.zeros(x.shape)
    for col in range(matrix.n_items):
        others = np.delete(x, col, axis=1)
        scores[:, col] = Ridge(alpha=penalty, fit_intercept=False).fit(others, x[:, col]).predict(others)
    scores[matrix.dense(np.arange(matrix.n_users))[1]] = -np.inf
    lists = peers.ease(tastes, None, penalty=penalty, reads=reads).recommend(3)
    listed = scores[matrix.positions(lists["user_id"], lists["item_id"])].reshape(-1, 3)
    np.testing.assert_allclose(listed, -np.sort(-scores, axis=1)[:, :3], atol=1e-6)  # by score: some are equal
    assert len(np.unique(listed)) > 60


def test_biases_and_popularity_are_those_of_the_package(parts):
    train, valid, test = parts
    matrix = saerec.RatingMatrix.from_frame(pd.concat([train, valid]))
    baseline = saerec.BiasBaseline().fit(matrix)
    expected = baseline.predict(*matrix.positions(test["user_id"], test["item_id"])).clip(*matrix.scale)
    fitted = peers.biases(train, valid)
    np.testing.assert_array_equal(fitted.predict(test["user_id"], test["item_id"]), expected)
    popular = peers.most_popular(train, valid).recommend(4)
    expected = saerec.same_list_for_all(matrix, matrix.item_counts, k=4)
    pd.testing.assert_frame_equal(popular, expected, check_dtype=False)


@pytest.mark.parametrize("name", ["SVD", "SVDpp", "KNNBaseline by item", "KNNBaseline by user"])
def test_surprise_predicts_here_what_it_predicts_itself(name, tastes):
    surprise = pytest.importorskip("surprise", reason="surprise is not installed: pip install saerec[peers]")
    name, _, side = name.partition(" by ")
    settings = {"sim_options": {"name": "pearson_baseline", "user_based": side == "user"}, "k": 5, "verbose": False}
    model = getattr(surprise, name)(**settings if side else {"random_state": 3})
    frame = saerec.RatingMatrix.from_frame(tastes).to_frame()
    reader = surprise.Reader(rating_scale=(frame["rating"].min(), frame["rating"].max()))
    model.fit(surprise.Dataset.load_from_df(frame, reader).build_full_trainset())
    ids = [frame["user_id"].unique(), frame["item_id"].unique()]
    pairs = pd.MultiIndex.from_product(ids, names=["user_id", "item_id"]).to_frame()
    expected = [model.predict(user, item).est for user, item in pairs.index]
    ours = {"SVD": peers.surprise_svd, "SVDpp": peers.surprise_svdpp, "KNNBaseline": peers.surprise_knn}[name]
    fitted = ours(tastes, None, seed=3, **{"k": 5, "user_based": side == "user"} if side else {})
    np.testing.assert_allclose(fitted.predict(pairs["user_id"], pairs["item_id"]), expected, rtol=1e-5)


def test_cornac_scores_here_what_it_scores_itself(tastes):
    cornac = pytest.importorskip("cornac", reason="cornac is not installed: pip install saerec[peers]")
    matrix = saerec.RatingMatrix.from_frame(tastes)
    model = cornac.models.MF(seed=2).fit(cornac.data.Dataset.from_uir(zip(*matrix.coordinates())))
    fitted = peers.cornac_mf(tastes, None, seed=2)
    frame = matrix.to_frame()
    rows, cols, _ = matrix.coordinates()
    expected = [model.rate(model.uid_map[row], model.iid_map[col]) for row, col in zip(rows, cols)]
    predicted = fitted.predict(frame["user_id"], frame["item_id"])
    assert np.sqrt(np.mean((predicted - expected) ** 2)) < 0.15  # items in another order: other initial weights


@pytest.mark.parametrize(("name", "settings"), [("mf", {"embedding_size": 4}), ("knn", {"max_nbrs": 5})])
def test_lenskit_predicts_here_what_it_predicts_itself(name, settings, tastes):
    pytest.importorskip("lenskit", reason="lenskit is not installed: pip install saerec[lenskit]")
    fitted = getattr(peers, f"lenskit_{name}")(tastes, None, seed=3, **settings)
    from lenskit import predict
    from lenskit.als import BiasedMFScorer
    from lenskit.data import ItemList, from_interactions_df
    from lenskit.knn import ItemKNNScorer
    from lenskit.pipeline import topn_pipeline
    from lenskit.training import TrainingOptions

    # In the order of rows and columns: the initial weights go by it.
    data = from_interactions_df(saerec.RatingMatrix.from_frame(tastes).to_frame())
    scorer = {"mf": BiasedMFScorer, "knn": ItemKNNScorer}[name](**settings)
    scorer.train(data, TrainingOptions(rng=3))
    pipeline = topn_pipeline(scorer, predicts_ratings="raw")
    pipeline.train(data, TrainingOptions(retrain=False))
    items = np.sort(tastes["item_id"].unique())
    for user in tastes["user_id"].unique()[:10]:
        expected = predict(pipeline, user, ItemList(item_ids=items)).scores()
        found = np.isfinite(expected)
        assert found.sum() > len(items) / 2
        predicted = fitted.predict(pd.Series([user] * len(items)), pd.Series(items))
        lowest, highest = tastes["rating"].min(), tastes["rating"].max()
        np.testing.assert_allclose(predicted[found], expected[found].clip(lowest, highest), rtol=1e-4)


def test_measure_chooses_on_validation_and_never_sees_the_ratings_to_predict(parts):
    train, valid, test = parts
    pairs = test.assign(rating=np.nan)
    choices = {"shrinkage": [0.0, 1e6, 2.0]}
    result = peers.measure(peers.biases, train, valid, pairs, grid=choices, k=5)
    losses = [peers._loss(peers.biases(train, None, shrinkage=one), train, valid, 5) for one in choices["shrinkage"]]
    best = choices["shrinkage"][int(np.argmin(losses))]
    assert result.settings == {"shrinkage": best} and len(set(losses)) == 3
    fitted = peers.biases(train, valid, shrinkage=best)
    np.testing.assert_array_equal(result.predicted, fitted.predict(test["user_id"], test["item_id"]))
    pd.testing.assert_frame_equal(result.lists, fitted.recommend(5))
    assert min(result.choose_seconds, result.fit_seconds, result.list_seconds) > 0
    lists_only = peers.measure(peers.ease, train, valid, test, grid={"penalty": [1.0, 30.0]})
    losses = [peers._loss(peers.ease(train, None, penalty=one), train, valid, 10) for one in (1.0, 30.0)]
    assert lists_only.predicted is None and lists_only.settings == {"penalty": [1.0, 30.0][int(np.argmin(losses))]}


@pytest.mark.parametrize("texts", [False, True])
def test_what_was_measured_is_not_measured_again(parts, tmp_path, monkeypatch, texts):
    train, valid, test = parts
    if texts:
        train, valid, test = (frame.assign(item_id="i" + frame["item_id"].astype(str)) for frame in parts)
    features = pd.DataFrame({"x": np.arange(3.0)}, index=train["item_id"].unique()[:3])
    autoencoder = partial(peers.autoencoder, hidden_dims=(4,), n_epochs=2, item_features=features)
    calls = [
        ((peers.biases, train, valid, test), {"grid": {"shrinkage": [1.0, 5.0]}}),
        ((peers.most_popular, train, valid, test), {"k": 3}),
        ((autoencoder, train, valid, test), {"seed": 1}),
    ]
    results = [peers.measure(*given, **options, checkpoint_dir=tmp_path) for given, options in calls]
    monkeypatch.setattr(peers, "ProcessPoolExecutor", None)
    for (given, options), result in zip(calls, results):
        kept = peers.measure(*given, **options, checkpoint_dir=tmp_path)
        pd.testing.assert_frame_equal(kept.lists, result.lists)
        np.testing.assert_array_equal(kept.predicted, result.predicted)
        assert kept[2:] == result[2:]
    halved = partial(autoencoder, item_features=features / 2)
    for other, options in [
        ((peers.biases, train, valid, test), {"grid": {"shrinkage": [1.0, 6.0]}}),
        ((peers.ease, train, valid, test), {"k": 3}),
        ((peers.most_popular, train, valid, test), {}),
        ((peers.most_popular, train[1:], valid, test), {"k": 3}),
        ((peers.most_popular, train, valid, test[1:]), {"k": 3}),
        ((autoencoder, train, valid, test), {}),
        ((halved, train, valid, test), {"seed": 1}),
        ((partial(autoencoder, n_epochs=3), train, valid, test), {"seed": 1}),
    ]:
        with pytest.raises(TypeError):  # it would be measured
            peers.measure(*other, **options, checkpoint_dir=tmp_path)
    assert peers.measure(*calls[0][0], **calls[0][1], checkpoint_dir=tmp_path).settings in (
        {"shrinkage": 1.0},
        {"shrinkage": 5.0},
    )
    for path in tmp_path.glob("state_*"):
        tensors, description = read_tensors(path, "peer")
        ids = saerec.RatingMatrix.from_frame(pd.concat([train, valid]))
        for named in ({}, {"settings": 9}, {"settings": "x"}, {"memory": None}):
            write_tensors(tmp_path / "other", "peer", tensors, description | named)
            assert (peers._kept(tmp_path / "other", ids, [{}, {}], len(test)) is None) == bool(named)
        for name in tensors:
            for spoilt in (tensors[name][1:], -1 - tensors[name].abs(), tensors[name].float() * np.nan):
                write_tensors(tmp_path / "other", "peer", tensors | {name: spoilt}, description)
                unlike = name == "ranks" and len(spoilt) == len(tensors[name])  # nobody computes with ranks
                kept = peers._kept(tmp_path / "other", ids, [{}, {}], len(test))
                assert kept is None or unlike or (name == "predicted" and (kept.predicted < 0).all())
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TypeError):
        peers.measure(*calls[0][0], **calls[0][1], checkpoint_dir=tmp_path)


def test_peak_memory_is_that_of_the_peer_alone(parts):
    pytest.importorskip("resource", reason="this system does not say how much memory a process took")
    train, valid, test = parts
    ballast = np.ones(120_000_000)  # of this process, nearly a gigabyte
    small = peers.measure(peers.most_popular, train, valid, test)
    large = peers.measure(partial(holds_much, 50_000_000), train, valid, test)
    assert 20 < small.memory < ballast.nbytes / 2**20 < 920
    assert large.memory - small.memory == pytest.approx(50_000_000 * 8 / 2**20, rel=0.2)


def test_the_process_ends_with_the_one_that_waits_for_it(parts, tmp_path):
    """That is killed, and can tell nobody."""
    context = multiprocessing.get_context("spawn")
    waiting = context.Process(target=measure_for_ever, args=(parts, tmp_path / "pid"))
    waiting.start()
    end = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(0.2)
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 0)  # it is there
    waiting.kill()
    waiting.join()
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < end:
            os.kill(pid, 0)
            time.sleep(0.1)


def measure_for_ever(parts, path):
    peers.measure(partial(tells_its_number, path), *parts)


def tells_its_number(path, train, valid, *, seed):
    path.write_text(str(os.getpid()))
    time.sleep(600)


def test_an_error_in_the_process_is_an_error_here(parts):
    train, valid, test = parts
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        peers.measure(fails, train, valid, test)
    with pytest.raises(RuntimeError, match="died, perhaps for want of memory"):
        peers.measure(dies, train, valid, test)


def holds_much(n, train, valid, *, seed):
    np.ones(n)
    return peers.most_popular(train, valid)


def fails(train, valid, *, seed):
    raise ZeroDivisionError("on purpose")


def dies(train, valid, *, seed):
    os._exit(1)


def test_the_original_learns_as_long_as_was_best_on_validation(parts, monkeypatch):
    train, valid, test = parts
    asked = test["user_id"], test["item_id"]
    expected = peers.original_study(pd.concat([train, valid]), None, n_epochs=2).predict(*asked)
    of_valid = []
    for n in (1, 2, 3):
        fitted = peers.original_study(train, None, n_epochs=n)
        of_valid.append(fitted.predict(valid["user_id"], valid["item_id"]))
    errors = iter([0.9, 0.7, 0.8])

    def error(ratings, predicted):
        np.testing.assert_array_equal(ratings, valid["rating"])
        np.testing.assert_array_equal(predicted, of_valid.pop(0))
        return next(errors)

    monkeypatch.setattr(peers, "rmse", error)
    np.testing.assert_array_equal(peers.original_study(train, valid, n_epochs=3).predict(*asked), expected)
    assert not of_valid
