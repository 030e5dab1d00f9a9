"""From the files of a large MovieLens release to a RatingMatrix: seconds and memory, from text and from the copy.

Makes the ratings, so nothing needs to be downloaded. The default has the numbers of users, movies and ratings of
MovieLens 25M and takes a few minutes, most of them for making the files::

    python tests/benchmarks/reading.py
    python tests/benchmarks/reading.py --layout 10m --ratings 1000000 --users 7000 --items 10000

Each row is measured in a process of its own; "peak" is the most memory that it held, Python and libraries included. As
a yardstick, "numbers alone" is what a plain ``pandas.read_csv`` with dtypes takes for the same text.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import saerec
from saerec.synthetic import LAYOUTS, iter_ratings, write_movielens

ROWS = ("imports alone", "numbers alone", "from text", "from the copy")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", choices=LAYOUTS, default="csv")
    parser.add_argument("--users", type=int, default=162_541)
    parser.add_argument("--items", type=int, default=59_047)
    parser.add_argument("--ratings", type=int, default=25_000_095)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], Path(options.measure[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        step = 1.0 if options.layout in ("100k", "1m") else 0.5
        start = time.perf_counter()
        blocks = iter_ratings(options.users, options.items, options.ratings, seed=0, step=step)
        write_movielens(blocks, options.layout, folder)
        size = (Path(folder) / LAYOUTS[options.layout].ratings).stat().st_size
        made = time.perf_counter() - start
        print(f"{options.ratings:,} ratings, {size / 1e6:,.0f} MB of text, made in {made:.0f} s")
        for row in ROWS:
            command = [sys.executable, __file__, "--layout", options.layout, "--measure", row, folder]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")


def measure(row: str, folder: Path) -> None:
    """Print one row of the table."""
    start, result = time.perf_counter(), ""
    if row == "numbers alone":
        file = next(folder / form.ratings for form in LAYOUTS.values() if (folder / form.ratings).exists())
        if file.suffix == ".csv":
            types = {"userId": np.int64, "movieId": np.int64, "rating": np.float32, "timestamp": np.int64}
            result = f"{len(pd.read_csv(file, dtype=types)):,} rows"
    elif row != "imports alone":
        ratings = saerec.load_movielens(folder).ratings
        read = time.perf_counter() - start
        matrix = saerec.RatingMatrix.from_frame(ratings)
        result = f"{matrix}, {read:.1f} s of them reading"
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    print(f"{row:15} {seconds:6.1f} s   peak {peak:5.2f} GB   {result}")


if __name__ == "__main__":
    main()
