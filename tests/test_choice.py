import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

import saerec
from saerec import ChoiceModel, RatingMatrix, Recommender, load
from saerec.checkpoints import Checkpoints

QUICK = {"orientation": "item", "hidden_dims": (12,), "dropout": 0.1, "n_epochs": 4}
QUICK |= {"batch_size": 8, "lr": 0.15, "weight_decay": 0.1}


@pytest.fixture(scope="module")
def circles() -> pd.DataFrame:
    """Users of two circles rate 12 of the 16 items of their own; what they give says nothing."""
    rng = np.random.default_rng(0)
    rows = [(user, item) for user in range(60) for item in 16 * (user % 2) + rng.choice(16, 12, replace=False)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id"])
    return frame.assign(rating=rng.integers(1, 11, len(frame)) / 2)


@pytest.fixture(scope="module")
def fitted(circles) -> ChoiceModel:
    return ChoiceModel().fit(RatingMatrix.from_frame(circles))


def test_observed_cells_alone_give_the_same(circles, fitted, monkeypatch):
    monkeypatch.setattr("saerec.batches.SPARSE_BELOW", 1.0)
    sparse = ChoiceModel().fit(fitted.ratings)
    rows, cols = np.arange(60), fitted.ratings.csr[[7]].indices
    np.testing.assert_allclose(sparse.log_chances(rows), fitted.log_chances(rows), atol=1e-3)
    np.testing.assert_allclose(sparse.new_user_log_chances(cols), fitted.new_user_log_chances(cols), atol=1e-3)
    assert all(parameter.is_contiguous() for parameter in sparse.model.parameters())


def test_a_step_takes_a_hundredth_of_the_users_but_no_more_than_fit_and_64_at_least(circles, monkeypatch):
    many = pd.concat([circles.assign(user_id=circles["user_id"] + 100 * n) for n in range(120)])  # 7,200 users
    matrix, sizes = RatingMatrix.from_frame(many), []
    monkeypatch.setattr(ChoiceModel, "_cells", lambda _, rows: sizes.append(len(rows)) or 1 / 0)
    for largest, expected in ((2**27, 72), (70 * matrix.n_items, 70), (3 * matrix.n_items, 64)):
        monkeypatch.setattr("saerec.choice.LARGEST_STEP", largest)
        with pytest.raises(ZeroDivisionError):
            ChoiceModel().fit(matrix)
        assert sizes.pop() == expected


def test_people_choose_what_their_circle_chooses(fitted):
    log_chances = fitted.log_chances(np.arange(60))
    own = np.arange(32) // 16 == np.arange(60)[:, None] % 2
    rated = fitted.ratings.dense(np.arange(60))[1]
    of_own = np.where(own, np.exp(log_chances), 0).sum(axis=1)  # 4 unrated items against 16
    assert of_own.min() > 0.8
    assert (log_chances[rated] == -np.inf).all()
    np.testing.assert_allclose(np.exp(log_chances).sum(axis=1), 1, rtol=1e-5)


def test_somebody_new_is_treated_like_a_known_user_of_the_same_items(fitted):
    for row in (0, 7):
        cols = fitted.ratings.csr[[row]].indices
        np.testing.assert_allclose(fitted.new_user_log_chances(cols), fitted.log_chances(np.array([row]))[0], rtol=1e-5)


def test_who_has_rated_nothing_is_given_what_many_rate(circles):
    few = circles[(circles["item_id"] != 3) | (circles["user_id"] == 0)]
    model = ChoiceModel().fit(RatingMatrix.from_frame(few))
    assert model.new_user_log_chances(np.array([], dtype=int)).argmin() == 3


def test_training_starts_at_popularity(circles):
    matrix = RatingMatrix.from_frame(circles[(circles["item_id"] > 3) | (circles["user_id"] < 10)])
    untrained = ChoiceModel(n_epochs=1, lr=1e-9).fit(matrix)
    log_chances = untrained.new_user_log_chances(np.array([], dtype=int))
    np.testing.assert_allclose(
        log_chances - log_chances[0], np.log1p(matrix.item_counts) - np.log1p(matrix.item_counts[0]), atol=0.01
    )


def test_the_values_of_ratings_do_not_matter_but_the_seed_does(circles):
    one, same = (ChoiceModel(n_epochs=2).fit(RatingMatrix.from_frame(f)) for f in (circles, circles.assign(rating=0.0)))
    other = ChoiceModel(n_epochs=2, seed=1).fit(RatingMatrix.from_frame(circles))
    rows = np.arange(60)
    np.testing.assert_array_equal(one.log_chances(rows), same.log_chances(rows))
    assert not np.array_equal(one.log_chances(rows), other.log_chances(rows))


def test_a_likelihood_that_is_no_number_stops_it(circles):
    with pytest.raises(
        saerec.DivergedError, match=r"epoch 3: the choice model diverged in batch \d+: try a lower lr than"
    ):
        saerec.ChoiceModel(lr=1e30, n_epochs=3).fit(RatingMatrix.from_frame(circles))


@pytest.mark.parametrize("sparse", [False, True])
def test_an_interrupted_one_goes_on_to_the_bit(circles, tmp_path, monkeypatch, capsys, sparse):
    monkeypatch.setattr(saerec.batches, "SPARSE_BELOW", 1.0 if sparse else 0.0)
    ratings, epochs, save = RatingMatrix.from_frame(circles), [], Checkpoints.save
    whole = ChoiceModel(n_epochs=5).fit(ratings)

    def interrupted(self, epoch, *rest):
        save(self, epoch, *rest)
        epochs.append(epoch)
        if epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    with pytest.raises(KeyboardInterrupt, match=f"stopped in epoch 3; the epochs before are in {tmp_path}; to go on"):
        ChoiceModel(n_epochs=5).fit(ratings, checkpoint_dir=tmp_path)
    torch.manual_seed(1)
    on = ChoiceModel(n_epochs=5).fit(ratings, checkpoint_dir=tmp_path, resume=True, progress=True)
    assert epochs == [1, 2, 3, 4, 5] and "choice model" in capsys.readouterr().err
    for name, weights in whole.model.state_dict().items():
        assert torch.equal(weights, on.model.state_dict()[name])
    with pytest.raises(ValueError, match=r"cannot resume from .*: its lr is 0.002, here 0.1"):
        ChoiceModel(n_epochs=5, lr=0.1).fit(ratings, checkpoint_dir=tmp_path, resume=True)
    with pytest.raises(ValueError, match="resume=True needs the checkpoint_dir"):
        ChoiceModel(n_epochs=5).fit(ratings, resume=True)
    monkeypatch.setattr(saerec.batches, "SPARSE_BELOW", 0.0 if sparse else 1.0)
    with pytest.raises(ValueError, match="its sparse is"):
        ChoiceModel(n_epochs=5).fit(ratings, checkpoint_dir=tmp_path, resume=True)
    monkeypatch.setattr(saerec.batches, "SPARSE_BELOW", 1.0 if sparse else 0.0)
    with pytest.raises(ValueError, match="its train is"):
        ChoiceModel(n_epochs=5).fit(RatingMatrix.from_frame(circles[1:]), checkpoint_dir=tmp_path, resume=True)


def test_a_recommender_goes_on_with_its_own_and_never_with_an_earlier_one(parts, tmp_path, monkeypatch):
    """Killed before it came to the choice model, where that of a training with another seed still lay."""
    settings = QUICK | {"rank_by": "both"}
    whole = Recommender(**settings).fit(*parts[:2])
    Recommender(**settings, seed=1).fit(*parts[:2], checkpoint_dir=tmp_path)
    stale = sorted(tmp_path.glob("refit/choice/state_*"))
    assert len(stale) == 2
    save, saved = Checkpoints.save, []

    def interrupted(self, *state):
        save(self, *state)
        saved.append(self.directory)
        if len(saved) == n_saved:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    for n_saved, resume in ((2, False), (QUICK["n_epochs"] + whole.best_epoch + 7, True)):
        with pytest.raises(KeyboardInterrupt):
            Recommender(**settings).fit(*parts[:2], checkpoint_dir=tmp_path, resume=resume)
        assert not (saved[-1].name == "choice" and n_saved == 2) and not any(path.exists() for path in stale)
    assert saved[-1] == tmp_path / "refit" / "choice"
    n_saved = 0
    on = Recommender(**settings).fit(*parts[:2], checkpoint_dir=tmp_path, resume=True)
    assert len(saved) == QUICK["n_epochs"] + whole.best_epoch + 40  # no epoch was trained twice
    assert_frame_equal(on.recommend(k=5), whole.recommend(k=5), check_exact=True)


def test_the_room_for_its_checkpoints_is_checked_too(parts, tmp_path, monkeypatch):
    needs = []
    monkeypatch.setattr("saerec.recommender.check_space", lambda folder, n_bytes, advice: needs.append(n_bytes))
    for rank_by in ("rating", "both"):
        Recommender(**QUICK | {"rank_by": rank_by}, refit=False).fit(parts[0], checkpoint_dir=tmp_path / rank_by)
    n_items = parts[0]["item_id"].nunique()
    assert needs[1] - needs[0] == 12 * 4 * (2 * 300 * n_items + 300 + n_items)


def test_the_global_generator_is_left_alone(circles):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    ChoiceModel(n_epochs=1).fit(RatingMatrix.from_frame(circles))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(scope="module", params=["item", "user"])
def rec(request, parts) -> Recommender:
    return Recommender(**QUICK | {"orientation": request.param}).fit(*parts[:2])


class TestRankings:
    """`Recommender.recommend(rank_by=…)`."""

    def keys(self, rec, lists: pd.DataFrame, rank_by: str) -> pd.Series:
        rows = rec.user_ids.get_indexer(lists["user_id"])
        cols = rec.item_ids.get_indexer(lists["item_id"])
        predicted = rec._predictor.scores(np.arange(len(rec.user_ids)))[rows, cols]
        log_chances = rec.choice.log_chances(np.arange(len(rec.user_ids)))[rows, cols]
        count = rec.ratings.item_counts[cols]
        unit = (rec.scale[1] - rec.scale[0]) / 4.5
        other = {"rating": 0, "popularity": 0.5 * np.log(1 + count), "both": log_chances}[rank_by]
        return pd.Series(predicted / unit + other)

    @pytest.mark.parametrize("rank_by", ["rating", "popularity", "both"])
    def test_lists_are_in_the_order_of_their_keys(self, rec, rank_by):
        every = rec.recommend(k=5, rank_by=rank_by, because=False)
        complete = rec.recommend(k=None, rank_by=rank_by, because=False)
        for frame in (every, complete):
            fall = self.keys(rec, frame, rank_by).groupby(frame["user_id"]).diff().dropna()
            assert (fall <= 1e-6).all()
        assert_frame_equal(complete[complete["rank"] <= 5].reset_index(drop=True), every)

    def test_the_default_is_that_of_the_recommender(self, rec, parts):
        assert_frame_equal(rec.recommend(k=3), rec.recommend(k=3, rank_by="both"))
        assert not rec.recommend(k=3).equals(rec.recommend(k=3, rank_by="rating"))
        rated = {int(rec.item_ids[0]): 1.0, int(rec.item_ids[3]): 5.0}
        assert_frame_equal(rec.recommend_new(rated, k=3), rec.recommend_new(rated, k=3, rank_by="both"))
        assert not rec.recommend_new(rated).equals(rec.recommend_new(rated, rank_by="rating"))

    def test_both_answers_are_shown_whatever_the_order(self, rec):
        by_rating = rec.recommend(k=None, rank_by="rating").set_index(["user_id", "item_id"])
        by_both = rec.recommend(k=None).set_index(["user_id", "item_id"])
        for column in ("score", "chance"):
            pd.testing.assert_series_equal(by_rating[column].sort_index(), by_both[column].sort_index())
        np.testing.assert_allclose(by_both.groupby("user_id")["chance"].sum(), 1, rtol=1e-5)

    def test_is_saved(self, rec, tmp_path):
        rec.save(tmp_path)
        assert_frame_equal(load(tmp_path).recommend(k=3), rec.recommend(k=3), check_exact=True)

    def test_without_a_fit_of_both_there_is_no_chance_and_no_both(self, parts):
        rec = Recommender(**QUICK, rank_by="popularity").fit(*parts[:2])
        assert rec.choice is None
        assert "chance" not in rec.recommend(k=3)
        assert_frame_equal(rec.recommend(k=3), rec.recommend(k=3, rank_by="popularity"))
        with pytest.raises(ValueError, match="fitted with rank_by='popularity': rank_by='both' needs a fit"):
            rec.recommend(rank_by="both")

    def test_an_unknown_one_is_refused(self, rec, parts):
        message = "rank_by must be one of 'rating', 'popularity', 'both', not 'stars'"
        with pytest.raises(ValueError, match=message):
            rec.recommend(rank_by="stars")
        with pytest.raises(ValueError, match=message):
            Recommender(rank_by="stars").fit(parts[0])

    def test_what_the_model_chose_on_is_what_it_was_fitted_to(self, parts):
        refitted = Recommender(**QUICK).fit(*parts[:2])
        kept = Recommender(**QUICK, refit=False).fit(*parts[:2])
        assert refitted.choice.ratings.n_ratings == len(parts[0]) + len(parts[1])
        assert kept.choice.ratings.n_ratings == len(parts[0])


def test_lists_of_both_find_more_of_what_is_liked(movielens):
    """On the shipped data, small: both answers together beat either alone and popularity."""
    ratings = saerec.top_users_and_items(movielens.ratings, n_items=200)
    train, _, test = saerec.split_ratings(ratings, valid=0)
    rec = Recommender(hidden_dims=(50,), n_epochs=15).fit(train)
    found = {
        by: saerec.list_scores(rec.recommend(rank_by=by, because=False), test, rec.ratings)
        for by in ("rating", "popularity", "both")
    }
    popular = saerec.same_list_for_all(rec.ratings, rec.ratings.item_counts)
    found["popular"] = saerec.list_scores(popular, test, rec.ratings)
    ndcg = {name: values["ndcg"] for name, values in found.items()}
    assert ndcg["both"] > 1.2 * max(ndcg["rating"], ndcg["popularity"], ndcg["popular"])
