"""What each part of a recommender is worth, and what did not pay: validation errors on MovieLens latest-small.

Every row is the first, the item half of the default by itself, with one thing changed, trained from several initial
weights; the split stays. The test ratings are not looked at. Prints a Markdown table; on two cores it takes about
half an hour::

    python tests/benchmarks/tried.py
    python tests/benchmarks/tried.py --dataset data/ml-1m --until-user 2999 --n-items 100000 --test 0.1
    python tests/benchmarks/tried.py --seeds 1 --only "no genres and years" "two layers, 500 and 200"
"""

import argparse

import numpy as np
import pandas as pd

import saerec

ROWS = {
    "orientation item": {},
    "no genres and years": {"item_features": None},
    "which cells are rated, unseen": {"mask_weight": 0.0},
    "no rating hidden in training": {"input_dropout": 0.0},
    "no dropout of hidden units": {"dropout": 0.0},
    "no weight decay": {"weight_decay": 0.0},
    "half the weight decay": {"weight_decay": 1.5},
    "twice the weight decay": {"weight_decay": 6.0},
    "biases not shrunk": {"shrinkage": 0.0},
    "no biases, deviations from the mean of all ratings": {"shrinkage": 1e9},
    "genres and years at a third of their weight": {"feature_weight": 6.0},
    "200 units": {"hidden_dims": (200,)},
    "1,000 units": {"hidden_dims": (1000,)},
    "two layers, 500 and 200": {"hidden_dims": (500, 200)},
    "three layers, 500, 100 and 500": {"hidden_dims": (500, 100, 500)},
    "80 epochs": {"n_epochs": 80},
    "orientation user": {"orientation": "user", "item_features": None},
    "orientation both": {"orientation": "both"},
    "orientation mean, the default": {"orientation": "mean"},
    "told when each rating was given": {"told_when": True},
    "orientation mean, half of each": {"orientation": "mean", "blend": 0.5},
    "orientation mean, weight decay 2 in both": {"orientation": "mean", "weight_decay": 2.0},
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dataset", default="ml-latest-small", help="another MovieLens release, or a folder of one")
    parser.add_argument("--until-user", type=int, help="those with an id up to this one alone")
    parser.add_argument("--n-items", type=int, default=1000, help="the most rated ones (default: 1000)")
    parser.add_argument("--test", type=float, default=0.2, help="share of the ratings left aside (default: 0.2)")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help="these beside the first")
    options = parser.parse_args()
    data = saerec.load_movielens(options.dataset)
    ratings = data.ratings
    if options.until_user is not None:
        ratings = ratings[ratings["user_id"] <= options.until_user]
    ratings = saerec.top_users_and_items(ratings, n_items=options.n_items)
    train, valid, _ = saerec.split_ratings(ratings, test=options.test)
    chosen = {name: change for name, change in ROWS.items() if name in (options.only or ROWS) or not change}
    tabulate(train, valid, saerec.movie_features(data.movies), chosen, options.seeds)


def tabulate(train: pd.DataFrame, valid: pd.DataFrame, features: pd.DataFrame, rows: dict, n_seeds: int) -> None:
    """Print a row for each change, that without first; rmse in stars, lowest and highest over the seeds."""
    print(f"{len(train):,} training and {len(valid):,} validation ratings, {n_seeds} initial weights each\n")
    print("| | rmse | lowest – highest | against item |\n|---|---|---|---|", flush=True)
    first = None
    for name, change in rows.items():
        errors = [error(train, valid, features, seed, **change) for seed in range(n_seeds)]
        mean = np.mean(errors)
        first = mean if first is None else first
        spread = f"{min(errors):.4f} – {max(errors):.4f}"
        print(f"| {name} | {mean:.4f} | {spread} | {mean - first:+.4f} |", flush=True)


def error(train: pd.DataFrame, valid: pd.DataFrame, features: pd.DataFrame, seed: int, **change) -> float:
    """The validation error of a training, at its best epoch."""
    settings = {"orientation": "item", "item_features": features, "told_when": False} | change
    features, told_when = (settings.pop(name) for name in ("item_features", "told_when"))
    recommender = saerec.Recommender(**settings, rank_by="rating", refit=False, seed=seed)
    recommender.fit(train, valid, item_features=features)
    return recommender.evaluate(valid, told_when=told_when)["rmse"]


if __name__ == "__main__":
    main()
