"""All of MovieLens 25M, trained and listed: seconds and memory, and how much the sparse batches and the vectors save.

Makes the ratings, so nothing needs to be downloaded. The default has the numbers of users, movies and ratings of
MovieLens 25M and takes a while, most of it for the whole, items as rows::

    python tests/benchmarks/training.py --out runs/speed
    python tests/benchmarks/training.py --out runs/speed --users 7000 --items 10000 --ratings 1000000

Each row is measured in a process of its own; "peak" is the most memory that it held, Python and libraries included. An
epoch is training and the errors that the history shows; "steps alone" leaves those out, as the original's loop does;
"same network" is the original's, which has no dropout.
Rows marked * were measured on a share of the users and scaled up to all of them. "of peak": the share of what plain
matrix products of the same process reach, counting those of the layers alone: for a weight and a row six operations,
in the first layer, which passes no gradient on, four.
The table, which goes to training.csv and training.png in the folder --out too, ends with the ratios.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import saerec
from saerec import plots
from saerec.original import train_original
from saerec.synthetic import make_ratings

ORIGINAL = (10_000, 1_000, 4_027_019)  # users, items, ratings of the original study
SHARE = 0.01  # of the users, for what would take too long


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--users", type=int, default=162_541)
    parser.add_argument("--items", type=int, default=59_047)
    parser.add_argument("--ratings", type=int, default=25_000_095)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, file = options.measure
        print(json.dumps(measure(name, pd.read_parquet(file))))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    shapes = {"the original's shape": ORIGINAL, "the whole": (options.users, options.items, options.ratings)}
    if options.ratings < ORIGINAL[2]:
        del shapes["the original's shape"]
    with tempfile.TemporaryDirectory() as folder:
        for shape, (n_users, n_items, n_ratings) in shapes.items():
            file = Path(folder) / "ratings.parquet"
            make_ratings(n_users, n_items, n_ratings, seed=0)[["user_id", "item_id", "rating"]].to_parquet(file)
            print(f"{shape}: {n_users:,} users × {n_items:,} items, {n_ratings:,} ratings")
            for name, (of_shape, _) in ROWS.items():
                if of_shape == shape:
                    command = [sys.executable, __file__, "--out", folder, "--measure", name, str(file)]
                    measured = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                    rows.append({"shape": shape, **json.loads(measured)})
                    print(told(rows[-1]), flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(options.out / "training.csv", index=False)
    draw(table).savefig(options.out / "training.png", dpi=150)
    print("\n".join(ratios(table)))


def measure(name: str, ratings: pd.DataFrame) -> dict:
    """One row of the table; the share of peak is missing where it is not measured."""
    seconds = ROWS[name][1](ratings)
    seconds, share = seconds if isinstance(seconds, tuple) else (seconds, np.nan)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    return {"what": name, "seconds": seconds, "peak_gb": peak, "share_of_peak": share}


def told(row: dict) -> str:
    """A row of the table in a line."""
    share = "" if np.isnan(row["share_of_peak"]) else f"   {row['share_of_peak']:.0%} of peak"
    return f"  {row['what']:52} {row['seconds']:8.2f} s   peak {row['peak_gb']:5.2f} GB{share}"


def ratios(table: pd.DataFrame) -> list[str]:
    """What takes how many times as long as what, of the rows that were measured."""
    seconds = table.set_index("what")["seconds"]
    return [
        f"{seconds[slow] / seconds[fast]:8.1f} times: {slow} / {fast}"
        for slow, fast in RATIOS
        if {slow, fast} <= {*seconds.index}
    ]


def draw(table: pd.DataFrame) -> plt.Figure:
    """A bar for each row, seconds on a logarithmic scale."""
    plots.use_style()
    figure, ax = plt.subplots(figsize=(9, 0.4 * len(table) + 1.2), layout="constrained")
    ax.barh(table["what"], table["seconds"])
    ax.bar_label(ax.containers[0], labels=table["seconds"].map("{:.1f}".format), padding=3)
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel="seconds; * measured on a share of the users and scaled up")
    ax.margins(x=0.15)
    return figure


def convert_like_the_original(ratings: pd.DataFrame) -> float:
    """The original's way to a matrix: a dense row for each user, one after the other, all frames searched for it."""
    rows, cols = (pd.factorize(ratings[name])[0] for name in ("user_id", "item_id"))
    frame = pd.DataFrame({"user": rows, "item": cols, "rating": ratings["rating"]})
    n_users, n_items = rows.max() + 1, cols.max() + 1
    some = range(0, n_users, round(1 / SHARE))
    start = time.perf_counter()
    for user in some:
        of_user = frame[frame["user"] == user]
        row = np.zeros(n_items)
        row[of_user["item"].to_numpy()] = of_user["rating"]
    return (time.perf_counter() - start) * n_users / len(some)


def convert(ratings: pd.DataFrame) -> float:
    """The package's way; a few ratings first, for what is imported or read but once."""
    saerec.RatingMatrix.from_frame(ratings.copy().head(1000))
    start = time.perf_counter()
    saerec.RatingMatrix.from_frame(ratings)
    return time.perf_counter() - start


def epoch_of_the_original(ratings: pd.DataFrame) -> float:
    """One user a step, rows written out; the loop alone, in one thread, which is faster for it."""
    torch.set_num_threads(1)
    matrix = some_users(saerec.RatingMatrix.from_frame(ratings), SHARE)
    model = saerec.SAE(matrix.n_items, (200, 100, 200))
    return train_original(matrix, model, n_epochs=1)["seconds"].iloc[0] / SHARE


def epoch(ratings: pd.DataFrame, *, hidden_dims=(200,), transposed=False, share=1.0, **options) -> float:
    """An epoch of the package's training, of the user layout or transposed, the item layout."""
    matrix = some_users(saerec.RatingMatrix.from_frame(ratings), share)
    matrix = matrix.T if transposed else matrix
    baseline = saerec.BiasBaseline(n_sweeps=1).fit(matrix)
    model = saerec.SAE(matrix.n_items, hidden_dims, output_gain=0.1)
    history = saerec.fit(model, matrix, baseline=baseline, n_epochs=1, **options)
    return history["seconds"].iloc[0] / share


def steps_alone(ratings: pd.DataFrame, batch_size: int, n_epochs: int = 3) -> tuple[float, float]:
    """An epoch of the original's network without measuring errors, in one thread; its share of what products reach."""
    torch.set_num_threads(1)
    matrix = saerec.RatingMatrix.from_frame(ratings)
    baseline = saerec.BiasBaseline(n_sweeps=1).fit(matrix)
    model = saerec.SAE(matrix.n_items, (200, 100, 200))
    options = {
        "baseline": baseline,
        "batch_size": batch_size,
        "sparse": False,
        "last_alone": True,
        "input_dropout": 0.0,
    }
    taken = []
    for n in (1, 1, 1 + n_epochs):  # the first to warm up, the second for what comes but once in a training
        start = time.perf_counter()
        saerec.fit(model, matrix, n_epochs=n, **options)
        taken.append(time.perf_counter() - start)
    seconds = (taken[2] - taken[1]) / n_epochs
    first, *later = (parameter.numel() for parameter in model.parameters() if parameter.ndim > 1)
    operations = (4 * first + 6 * sum(later)) * matrix.n_users
    return seconds, operations / seconds / matrix_products_a_second()


def epoch_of_choices(ratings: pd.DataFrame) -> float:
    """An epoch of the choice model, which writes a chance for every item; without what comes but once in a training."""
    matrix = some_users(saerec.RatingMatrix.from_frame(ratings), SHARE)
    taken = []
    for n_epochs in (1, 3):
        start = time.perf_counter()
        saerec.ChoiceModel(n_epochs=n_epochs, batch_size=matrix.n_users).fit(matrix)
        taken.append(time.perf_counter() - start)
    return (taken[1] - taken[0]) / 2 / SHARE


def matrix_products_a_second(size: int = 1024, times: int = 20) -> float:
    """Operations a second of plain products of square matrices."""
    one, other = torch.randn(2, size, size)
    one @ other
    start = time.perf_counter()
    for _ in range(times):
        one @ other
    return 2 * size**3 * times / (time.perf_counter() - start)


def lists_for_all(ratings: pd.DataFrame) -> float:
    """The ten best of all items for every user, from a model of the user layout after one epoch."""
    rec = saerec.Recommender(orientation="user", hidden_dims=(200,), n_epochs=1, rank_by="rating").fit(ratings)
    start = time.perf_counter()
    for user_ids in np.array_split(rec.user_ids, max(1, len(rec.user_ids) // 10_000)):
        rec.recommend(user_ids, k=10, because=False)
    return time.perf_counter() - start


def bare_lists(ratings: pd.DataFrame) -> float:
    """What the lists cannot do without: the products of codes and output weights, and the ten highest of each row."""
    n_users, n_items = ratings["user_id"].nunique(), ratings["item_id"].nunique()
    codes, weights = torch.randn(round(SHARE * n_users), 200), torch.randn(200, n_items)
    start = time.perf_counter()
    for block in codes.split(256):
        torch.topk(block @ weights, 10)
    return (time.perf_counter() - start) * n_users / len(codes)


def some_users(matrix: saerec.RatingMatrix, share: float) -> saerec.RatingMatrix:
    """Every so many-th row of a matrix."""
    rows = np.arange(0, matrix.n_users, round(1 / share))
    return saerec.RatingMatrix(matrix.csr[rows], matrix.user_ids[rows], matrix.item_ids)


ROWS = {
    "conversion like the original's *": ("the original's shape", convert_like_the_original),
    "conversion": ("the original's shape", convert),
    "epoch of the original *": ("the original's shape", epoch_of_the_original),
    "epoch, same network, 256 users a step": (
        "the original's shape",
        lambda ratings: epoch(ratings, hidden_dims=(200, 100, 200), batch_size=256, input_dropout=0.0),
    ),
    "steps alone, same network, 256 users a step": ("the original's shape", lambda ratings: steps_alone(ratings, 256)),
    "steps alone, same network, 1,024 users a step": (
        "the original's shape",
        lambda ratings: steps_alone(ratings, 1024),
    ),
    "epoch, users as rows, 200 units, written out *": (
        "the whole",
        lambda ratings: epoch(ratings, share=SHARE, batch_size=256, sparse=False),
    ),
    "epoch, users as rows, 200 units, observed cells": ("the whole", lambda ratings: epoch(ratings, batch_size=2048)),
    "epoch, items as rows, 500 units, observed cells": (
        "the whole",
        lambda ratings: epoch(ratings, hidden_dims=(500,), transposed=True, batch_size=2048),
    ),
    "epoch of the choice model, 1,625 users a step *": ("the whole", epoch_of_choices),
    "top 10 of all users": ("the whole", lists_for_all),
    "products and topk alone, for as many *": ("the whole", bare_lists),
}
RATIOS = (
    ("conversion like the original's *", "conversion"),
    ("epoch of the original *", "epoch, same network, 256 users a step"),
    ("epoch of the original *", "steps alone, same network, 256 users a step"),
    ("epoch, users as rows, 200 units, written out *", "epoch, users as rows, 200 units, observed cells"),
    ("epoch, items as rows, 500 units, observed cells", "epoch, users as rows, 200 units, observed cells"),
    ("top 10 of all users", "products and topk alone, for as many *"),
)


if __name__ == "__main__":
    main()
