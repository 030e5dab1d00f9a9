"""The data set that a name or a path means: a MovieLens release, or a file of your own."""

import inspect
import os
import re
import warnings
from pathlib import Path

from saerec.movielens import DATA_DIR, find_dataset, load_movielens, ratings_file
from saerec.readers import Dataset, read_ratings, read_titles
from saerec.validation import check_learnable

OWN_DEFAULTS = ("user_id", "item_id", "rating", "", "", "", "utf-8")
TABLE = re.compile(r"\.(csv|tsv|txt|pq|parquet)(\.gz)?$", re.IGNORECASE)


def load_dataset(
    dataset: str,
    *,
    user: str = "user_id",
    item: str = "item_id",
    rating: str = "rating",
    timestamp: str = "",
    titles: str = "",
    duplicates: str = "error",
    separator: str = "",
    encoding: str = "utf-8",
) -> Dataset:
    """The data set that the parameters of the notebooks mean: a MovieLens release, or a file of your own.

    Parameters
    ----------
    dataset : str
        What `saerec.load_movielens` takes, or a CSV or Parquet file.
    user, item, rating, timestamp
        Of a file of your own: `read_ratings`.
    titles : str
        A second such file with the columns `item` and title: `read_titles`. What it lacks is printed.
    duplicates
        Of either: `saerec.validation.resolve_duplicates`.
    separator, encoding
        Of files of your own, if they are text, and of both.

    Raises
    ------
    FileNotFoundError, DataError
        The message says what is wrong and what to do.
    ValueError
        What is said of a file of your own is said of a MovieLens release.
    """
    if _is_own_file(dataset):
        form = {"separator": separator or None, "encoding": encoding}
        ratings = read_ratings(dataset, user, item, rating, timestamp or None, duplicates=duplicates, **form)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            movies = read_titles(titles or None, ratings["item_id"], item=item, **form)
        for warning in said:
            print(warning.message)
        data = Dataset(ratings, movies)
    elif (user, item, rating, timestamp, titles, separator, encoding) == OWN_DEFAULTS:
        data = load_movielens(dataset, duplicates=duplicates)
    else:
        raise ValueError(
            "user, item, rating, timestamp, titles, separator and encoding are of a CSV or Parquet file; "
            f"{dataset} is none"
        )
    check_learnable(data.ratings)
    return data


def lasting_name(dataset: str) -> str:
    """The name by which a data set is found from any folder: its path, unless it lies in saerec's own ``data``."""
    path = Path(os.path.abspath(dataset if _is_own_file(dataset) else find_dataset(dataset)))
    return Path(dataset).name if path.parent == DATA_DIR and not _is_own_file(dataset) else str(path)


def _is_own_file(dataset: str) -> bool:
    path = Path(dataset)
    if path.suffix == ".zip":
        return path.is_file() and ratings_file(path) is None
    return path.is_file() or (TABLE.search(path.name) is not None and not path.is_dir())


OF_LOADING = set(inspect.signature(load_dataset).parameters) - {"dataset"}
