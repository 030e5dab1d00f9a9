"""MovieLens releases, in any of their layouts, as two tidy frames. Nothing else in saerec knows MovieLens."""

import os
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from saerec.files import save_atomically
from saerec.readers import Dataset
from saerec.tables import INT_ID, RATING, SECONDS, TEXT, open_bytes, read_text, to_frame
from saerec.validation import DuplicateRatingError, FileFormatError, check_columns, resolve_duplicates

PACKAGE = Path(__file__).parent
DATA_DIR = (PACKAGE if (PACKAGE / "data").is_dir() else PACKAGE.parent) / "data"  # in a wheel; in a checkout

CITATION = (
    "The ratings are MovieLens's, for research: F. M. Harper and J. A. Konstan, “The MovieLens Datasets: History and "
    "Context”, ACM Transactions on Interactive Intelligent Systems 5(4), 2015."
)
READER = 4  # version of what is below, for the cached copies
CACHE_FROM = 10_000_000  # bytes of text; less is read in no time

# In the order of the flags in u.item; "unknown" is no genre.
GENRES_100K = (
    "unknown",
    *("Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
YEAR = r"\(([0-9]{4})(?:\s?[-–]\s?(?:[0-9]{4})?)?\)\s*$"  # (1995), and (1975-1979) or (2009– ) of series


def load_movielens(name_or_path: str | os.PathLike = "ml-latest-small", *, duplicates: str = "error") -> Dataset:
    """The ratings and movies of a MovieLens release: 100K, 1M, 10M, 20M, 25M, 32M, latest or latest-small.

    What it is, is told by its files: ``u.data`` and ``u.item``, ``ratings.dat`` and ``movies.dat``, or ``ratings.csv``
    and ``movies.csv``; the ratings may be compressed (.gz). If several of these lie in a folder, ratings.csv counts
    before ratings.dat before u.data, and the movies likewise. Of a large release a converted copy is kept beside the
    source, ``….saerec.parquet``, which is used as long as the source has the same size and time.

    Parameters
    ----------
    name_or_path : str or path
        A folder or a zip file, or the name of one in ``data/``: of the current folder, or of the checkout that saerec
        runs from, or of the installed package. The files may lie in a folder in it, in a zip three folders deep.
    duplicates : {"error", "last", "mean"}
        What to do about pairs of a user and an item that stand more than once: `saerec.validation.resolve_duplicates`.

    Raises
    ------
    FileNotFoundError
        There is no such data set, or its movies are missing.
    DataError
        A file is not what MovieLens has under that name; see `saerec.validation`.
    """
    source = find_dataset(name_or_path)
    file = ratings_file(source)
    movies = next((file.parent / name for name in MOVIE_READERS if (file.parent / name).is_file()), None)
    if movies is None:
        raise FileNotFoundError(f"{file.parent} has ratings, but its movies are missing: {' or '.join(MOVIE_READERS)}")
    on_disk = source if source.is_file() else file
    ratings = _cached(on_disk, duplicates, lambda: _read_ratings(file, duplicates))
    listed = MOVIE_READERS[movies.name](movies).set_axis(["item_id", "title", "genres"], axis=1)
    listed["genres"] = listed["genres"].replace("(no genres listed)", "")
    listed["year"] = pd.to_numeric(listed["title"].str.extract(YEAR)[0]).astype("Int16")
    return Dataset(ratings, listed)


def find_dataset(name_or_path: str | os.PathLike) -> Path:
    """The folder or zip file that a data set's name or path means, as `load_movielens` says."""
    if not os.fspath(name_or_path):
        raise FileNotFoundError("no data set '': give its name or its path")
    here = Path(name_or_path)
    places = [parent / here for parent in (Path(), Path("data"), DATA_DIR)] if here.name.strip(".") else [here]
    for place in [*places, *(place.with_name(place.name + ".zip") for place in places if place.name)]:
        if ratings_file(place):
            return place
    looked = ", ".join(dict.fromkeys(map(str, places)))
    raise FileNotFoundError(
        f"no data set {str(name_or_path)!r}: there is no {', '.join(RATING_FORMS)} in {looked}, nor in a zip "
        "file so called. saerec fetch NAME downloads a MovieLens release; otherwise give the path of its folder or zip "
        "file, or (to saerec run) that of a CSV or Parquet file of your own"
    )


def genre_table(ratings: pd.DataFrame, movies: pd.DataFrame) -> pd.DataFrame:
    """n_movies (rated), n_ratings and mean_rating (stars) of every genre; a movie counts in each of its genres."""
    of_movie = ratings.groupby("item_id")["rating"].agg(["size", "sum"])
    genres = movies.drop_duplicates("item_id").set_index("item_id")["genres"].str.split("|").explode()
    genres = genres[genres != ""].to_frame("genre").join(of_movie, how="inner").groupby("genre")
    totals = genres.agg(n_movies=("size", "count"), n_ratings=("size", "sum"), stars=("sum", "sum"))
    return totals.assign(mean_rating=totals["stars"] / totals["n_ratings"]).drop(columns="stars")


def movie_features(movies: pd.DataFrame) -> pd.DataFrame:
    """Genres and years as numbers that a network can read: a frame of float32 indexed by item_id.

    A column for every genre, 1 if the movie is of it; and one for every decade, 1 in its first year and less before and
    after: ``exp(-((year - decade) / 6)²)``. What is not known is 0 throughout. For `Recommender.fit`.

    Parameters
    ----------
    movies : DataFrame
        With item_id, genres (as "Comedy|Drama") and year. Of a movie that stands twice the first counts.

    Raises
    ------
    TypeError, MissingColumnError
        It is no such frame.
    """
    if not isinstance(movies, pd.DataFrame):
        raise TypeError(f"movies are a DataFrame, as a data set's .movies, not of {type(movies).__name__}")
    check_columns(["item_id", "genres", "year"], movies.columns, "movies")
    movies = movies.drop_duplicates("item_id").set_index("item_id")
    genres = movies["genres"].fillna("").str.get_dummies("|").drop(columns="", errors="ignore")
    years = movies["year"].astype(float)
    decades = np.arange(years.min() // 10 * 10, years.max() + 10, 10) if years.notna().any() else []
    bumps = {f"{decade:.0f}s": np.exp(-(((years - decade) / 6) ** 2)).fillna(0) for decade in decades}
    return pd.concat([genres, pd.DataFrame(bumps, index=movies.index)], axis=1).astype(np.float32)


def find_titles(movies: pd.DataFrame, titles: str | list[str]) -> list:
    """The item ids of the movies with these titles, one or several.

    A title is whole, or a part that one title alone has, in any case of letters.

    Raises
    ------
    KeyError
        No title, or more than one, fits.
    """
    return [_find_title(movies, title) for title in ([titles] if isinstance(titles, str) else titles)]


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


def ratings_file(source: Path) -> Path | zipfile.Path | None:
    """The file with the ratings in a folder, or in a folder in it, or in a zip file; None if there is none.

    Raises
    ------
    FileFormatError
        The zip file is damaged, or there are several data sets.
    """
    if not source.exists():
        return None
    depth, folders = 1, [source]
    if source.is_file():
        try:
            depth, folders = 3, [zipfile.Path(source)]
        except Exception as error:  # zipfile meets damaged files with a dozen kinds
            if source.suffix != ".zip":
                return None
            raise FileFormatError(f"{source} is not a whole zip file ({error}): download it again") from error
    for level in range(depth + 1):
        if level:
            folders = sorted((inner for folder in folders for inner in folder.iterdir() if inner.is_dir()), key=str)
        named = [[folder / name for stem in RATING_FORMS for name in (stem, f"{stem}.gz")] for folder in folders]
        found = [file for files in named for file in files if file.is_file()]
        if len({str(file.parent) for file in found}) > 1:
            places = ", ".join(dict.fromkeys(str(file.parent) for file in found))
            raise FileFormatError(f"{source} holds several data sets: give the path of one, unpacked: {places}")
        if found:
            return found[0]
    return None


def _cached(file: Path, duplicates: str, read: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """What `read` reads from `file`, or the copy that is kept beside it since it was last read."""
    state = file.stat()
    if state.st_size < CACHE_FROM:
        return read()
    copy = file.with_name(file.name + ".saerec.parquet")
    key = {b"saerec": f"{READER} {duplicates} {state.st_size} {state.st_mtime_ns}".encode()}
    try:
        if parquet.read_schema(copy).metadata == key:
            return to_frame(parquet.read_table(copy, page_checksum_verification=True))
    except (OSError, ValueError, pa.ArrowException):
        pass  # there is none, or it is damaged: made anew below
    ratings = read()
    table = pa.Table.from_pandas(ratings, preserve_index=False).replace_schema_metadata(key)
    with suppress(OSError):  # a folder that cannot be written to: slower, not wrong
        save_atomically(copy, lambda part: parquet.write_table(table, part, write_page_checksum=True))
    return ratings


def _read_ratings(file: Path, duplicates: str) -> pd.DataFrame:
    names, separator = RATING_FORMS[file.name.removesuffix(".gz")]
    columns = {"userId": INT_ID, "movieId": INT_ID, "rating": RATING, "timestamp": SECONDS}
    frame = read_text(file, columns, names=names, separator=separator, quotes=names is None)
    frame = frame.set_axis(["user_id", "item_id", "rating", "timestamp"], axis=1)
    try:
        return resolve_duplicates(frame, duplicates)
    except DuplicateRatingError as error:
        raise DuplicateRatingError(f"{file}: {error}") from error


def _read_movies_csv(file: Path) -> pd.DataFrame:
    return read_text(file, {"movieId": INT_ID, "title": TEXT, "genres": TEXT}, separator=",")


def _read_movies_dat(file: Path) -> pd.DataFrame:
    """``id::title::genres``; latin-1 in 1M, UTF-8 in 10M; a title may hold colons."""
    with open_bytes(file) as opened:
        content = opened.read()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = re.sub(r"\r*\n|\r", "\n", text).removesuffix("\n").split("\n")
    rows = [re.fullmatch(r"([0-9]{1,18})::(.*)::(.*?)", line) for line in lines]
    if None in rows:
        number = rows.index(None) + 1
        raise FileFormatError(f"{file}, line {number} is not of the form id::title::genres: correct or remove it")
    return pd.DataFrame([row.groups() for row in rows]).astype({0: np.int64})


def _read_u_item(file: Path) -> pd.DataFrame:
    """``id|title|release date|video release date|URL`` and a 0 or 1 for each genre, latin-1."""
    names = ["movieId", "title", "released", "video", "url", *GENRES_100K]
    columns = {"movieId": INT_ID} | dict.fromkeys(["title", *GENRES_100K], TEXT)
    frame = read_text(file, columns, names=names, separator="|", encoding="latin-1", quotes=False)
    flags = frame[list(GENRES_100K[1:])].to_numpy() == "1"
    genres = ["|".join(np.array(GENRES_100K[1:])[row]) for row in flags]
    return frame[["movieId", "title"]].assign(genres=genres)


FIELDS = ["userId", "movieId", "rating", "timestamp"]
RATING_FORMS = {"ratings.csv": (None, ","), "ratings.dat": (FIELDS, "::"), "u.data": (FIELDS, "\t")}
MOVIE_READERS = {"movies.csv": _read_movies_csv, "movies.dat": _read_movies_dat, "u.item": _read_u_item}
