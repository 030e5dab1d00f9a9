"""How well somebody is predicted who was not in the data, by layout: test errors on MovieLens latest-small.

A fifth of the users is kept out at a time, and a model trained on the others. Then each of them gives their training
ratings, as somebody new does, and their test ratings are predicted: by the model that does not know them, beside one
that was trained with them. By "mean" somebody new is predicted as by "item". Nothing is chosen by it. Prints a Markdown
table; on two cores it takes about ten minutes::

    python tests/benchmarks/new_people.py
    python tests/benchmarks/new_people.py --folds 10 --orientations item user
"""

import argparse

import numpy as np
import pandas as pd

import saerec

ORIENTATIONS = ("item", "user", "both", "mean")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--orientations", nargs="+", choices=ORIENTATIONS, default=ORIENTATIONS)
    options = parser.parse_args()
    data = saerec.load_movielens()
    parts = saerec.split_ratings(saerec.top_users_and_items(data.ratings))
    errors = compare(*parts, saerec.movie_features(data.movies), options.folds, options.orientations)
    print("| rmse, stars | new | below the biases, by fold | trained with |\n|---|---|---|---|")
    for name, row in errors.iterrows():
        lead = "" if name == "biases" else f"{row['least lead']:.3f} – {row['most lead']:.3f}"
        print(f"| {name} | {row['new']:.4f} | {lead} | {row['trained with']:.4f} |")


def compare(
    train: pd.DataFrame,
    valid: pd.DataFrame,
    test: pd.DataFrame,
    features: pd.DataFrame,
    n_folds: int = 5,
    orientations: tuple[str, ...] = ORIENTATIONS,
    **settings,
) -> pd.DataFrame:
    """The test errors of biases and of each layout, all users in turn being new, and where all are trained with.

    "least lead" and "most lead": by how much a layout's error of new people is below that of the biases, in the folds
    in which it is least and most.
    """
    users = np.random.default_rng(0).permutation(train["user_id"].unique())
    whole = fit(train, valid, features, orientations, settings)
    biases = next(iter(whole.values()))
    rows = []
    for number, fold in enumerate(np.array_split(users, n_folds)):
        theirs = [part["user_id"].isin(fold) for part in (train, valid)]
        without = fit(train[~theirs[0]], valid[~theirs[1]], features, orientations, settings)
        for user in fold:
            given, asked = (part[part["user_id"] == user] for part in (train, test))
            rows += [predict_new(without, given, asked).assign(fold=number)]
    print(f"{len(users):,} people, {n_folds} folds, {sum(map(len, rows)):,} test ratings\n", flush=True)
    predicted = pd.concat(rows)
    of_biases = biases.baseline.predict(*biases.ratings.positions(predicted["user_id"], predicted["item_id"]))
    with_them = {"biases": of_biases.clip(*biases.scale)}
    for name, recommender in whole.items():
        with_them[name] = recommender.predict(predicted["user_id"], predicted["item_id"])
    squared = predicted[[*with_them]].sub(predicted["rating"], axis=0) ** 2
    by_fold = squared.groupby(predicted["fold"]).mean() ** 0.5
    leads = -by_fold.sub(by_fold["biases"], axis=0)
    return pd.DataFrame(
        {
            "new": {name: saerec.rmse(predicted["rating"], predicted[name]) for name in with_them},
            "least lead": leads.min(),
            "most lead": leads.max(),
            "trained with": {name: saerec.rmse(predicted["rating"], scores) for name, scores in with_them.items()},
        }
    )


def fit(train, valid, features, orientations, settings) -> dict[str, saerec.Recommender]:
    """A recommender of each layout."""
    fitted = {}
    for orientation in orientations:
        recommender = saerec.Recommender(orientation=orientation, rank_by="rating", refit=False, **settings)
        fitted[orientation] = recommender.fit(train, valid, item_features=None if orientation == "user" else features)
    return fitted


def predict_new(recommenders: dict, given: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """The test ratings of somebody new of items that were in the data, with the predictions of each layout."""
    found = {}
    for name, recommender in recommenders.items():
        matrix, scale = recommender.ratings, recommender.scale
        cols, wanted = (matrix.item_ids.get_indexer(part["item_id"]) for part in (given, asked))
        values = given["rating"].to_numpy(dtype=np.float32)[cols >= 0]
        cols, wanted, asked_known = cols[cols >= 0], wanted[wanted >= 0], asked[wanted >= 0]
        predictor = recommender.predictors[0]  # of "mean" that of "item", as in `recommend_new`
        found[name] = predictor.new_user_scores(cols, values)[wanted].clip(*scale)
        bias = recommender.baseline.new_user_bias(cols, values)
        found["biases"] = (recommender.baseline.predict(-1, wanted) + bias).clip(*scale)
    return asked_known[["user_id", "item_id", "rating"]].assign(**found)


if __name__ == "__main__":
    main()
