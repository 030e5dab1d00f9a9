"""MovieLens releases as two tidy frames. The only module that knows MovieLens."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

PACKAGE = Path(__file__).parent
DATA_DIR = (PACKAGE if (PACKAGE / "data").is_dir() else PACKAGE.parent) / "data"  # in a wheel; in a checkout


@dataclass(frozen=True)
class MovieLens:
    """A MovieLens release.

    Attributes
    ----------
    ratings : DataFrame
        One row a rating, as in the file: user_id and item_id (int64), rating (float32, stars), timestamp (int64,
        seconds since 1970, UTC).
    movies : DataFrame
        One row a movie: item_id (int64), title and genres (str; genres separated by "|", "" for none) and year (Int16,
        from the title; missing where the title has none).
    """

    ratings: pd.DataFrame
    movies: pd.DataFrame

    def __repr__(self) -> str:
        users, rated = self.ratings["user_id"].nunique(), self.ratings["item_id"].nunique()
        known = f"{len(self.ratings):,} ratings by {users:,} users of {rated:,} movies"
        return f"MovieLens({known}; {len(self.movies):,} movies listed)"


def load_movielens(name_or_path: str | os.PathLike = "ml-latest-small") -> MovieLens:
    """The ratings and movies of a MovieLens release in its CSV layout (20M, 25M, 32M, latest, latest-small).

    Parameters
    ----------
    name_or_path : str or path
        A folder with ratings.csv and movies.csv, or the name of such a folder in ``data/``: of the current folder, or
        of the checkout that saerec runs from, or of the installed package.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or a file is missing in it.
    ValueError
        A file does not have the columns of MovieLens.
    """
    folder = find_dataset(name_or_path)
    ratings = _read_csv(
        folder / "ratings.csv", {"userId": np.int64, "movieId": np.int64, "rating": np.float32, "timestamp": np.int64}
    )
    movies = _read_csv(folder / "movies.csv", {"movieId": np.int64, "title": str, "genres": str})
    ratings.columns = ["user_id", "item_id", "rating", "timestamp"]
    movies.columns = ["item_id", "title", "genres"]
    movies["genres"] = movies["genres"].replace("(no genres listed)", "")
    movies["year"] = pd.to_numeric(movies["title"].str.extract(r"\((\d{4})\)\s*$")[0]).astype("Int16")
    return MovieLens(ratings, movies)


def find_dataset(name_or_path: str | os.PathLike) -> Path:
    """The folder that a data set's name or path means, as `load_movielens` says."""
    places = [Path(name_or_path), Path("data") / name_or_path, DATA_DIR / name_or_path]
    for place in places:
        if (place / "ratings.csv").is_file():
            return place
    looked = ", ".join(f"{place}/" for place in places)
    raise FileNotFoundError(
        f"no data set {str(name_or_path)!r}: there is no ratings.csv in {looked}. Download a MovieLens release from "
        "https://grouplens.org/datasets/movielens/, unpack it into data/ or anywhere, and give its name or path"
    )


def genre_table(ratings: pd.DataFrame, movies: pd.DataFrame) -> pd.DataFrame:
    """n_movies (rated), n_ratings and mean_rating (stars) of every genre; a movie counts in each of its genres."""
    of_movie = ratings.groupby("item_id")["rating"].agg(["size", "sum"])
    genres = movies.drop_duplicates("item_id").set_index("item_id")["genres"].str.split("|").explode()
    genres = genres[genres != ""].to_frame("genre").join(of_movie, how="inner").groupby("genre")
    totals = genres.agg(n_movies=("size", "count"), n_ratings=("size", "sum"), stars=("sum", "sum"))
    return totals.assign(mean_rating=totals["stars"] / totals["n_ratings"]).drop(columns="stars")


def find_titles(movies: pd.DataFrame, titles: list[str]) -> list:
    """The item ids of the movies with these titles: whole, or a part that one title alone has, in any case of letters.

    Raises
    ------
    KeyError
        No title, or more than one, fits.
    """
    return [_find_title(movies, title) for title in titles]


def _find_title(movies: pd.DataFrame, title: str):
    for fits in (
        movies["title"].str.casefold() == title.casefold(),
        movies["title"].str.contains(title, case=False, regex=False),
    ):
        found = movies[fits].drop_duplicates("item_id")
        if len(found) == 1:
            return found["item_id"].iloc[0]
        if len(found) > 1:
            examples = "; ".join(
                f"{title} (id {item})" for item, title in found[["item_id", "title"]].head(8).to_numpy()
            )
            raise KeyError(f"{len(found)} movies fit {title!r}, say which: {examples}{' …' if len(found) > 8 else ''}")
    raise KeyError(f"no movie's title contains {title!r}")


def _read_csv(path: Path, dtypes: dict) -> pd.DataFrame:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: a MovieLens folder holds ratings.csv and movies.csv")
    try:
        return pd.read_csv(path, usecols=list(dtypes), dtype=dtypes, encoding="utf-8", keep_default_na=False)[
            list(dtypes)
        ]
    except ValueError as error:
        raise ValueError(f"{path} is not a MovieLens file with the columns {', '.join(dtypes)}: {error}") from error
