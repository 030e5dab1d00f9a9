"""Made ratings whose best possible RMSE is known, of any size, and the files of any MovieLens release."""

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import ndtr

from saerec.files import save_atomically
from saerec.movielens import GENRES_100K
from saerec.validation import (
    DataError,
    EmptyDataError,
    EncodingError,
    IdTypeError,
    MissingIdError,
    TimestampError,
    check_columns,
    check_numbers,
    place,
)

BLOCK = 1_000_000  # ratings made or written at a time: what bounds the memory
BEGIN, END = (int(pd.Timestamp(f"{year}-01-01").timestamp()) for year in (1995, 2020))


def make_ratings(n_users: int = 600, n_items: int = 1_000, n_ratings: int = 50_000, **settings) -> pd.DataFrame:
    """All blocks of `iter_ratings` in one frame; the arguments are the same."""
    return pd.concat(iter_ratings(n_users, n_items, n_ratings, **settings), ignore_index=True)


def iter_ratings(
    n_users: int = 600,
    n_items: int = 1_000,
    n_ratings: int = 50_000,
    *,
    seed: int = 0,
    n_factors: int = 4,
    taste: float = 0.5,
    noise: float = 0.8,
    user_spread: float = 1.4,
    item_spread: float = 2.0,
    step: float = 0.5,
) -> Iterator[pd.DataFrame]:
    """Made ratings, some users after the other, of at most about a million ratings at a time.

    The truth about a user and an item is a mean plus a bias of each plus ``p · q``, the taste. The rating is the truth
    plus normal noise, rounded to the scale. Who rates what depends on the user's activity and the item's popularity,
    not on the taste. The defaults give the long tails of ml-latest-small.

    Parameters
    ----------
    n_users, n_items, n_ratings : int
        Every user has a rating, an unpopular item may have none.
    seed : int
        The same arguments give the same ratings.
    n_factors : int
        The length of p and q.
    taste, noise : float, stars
        The standard deviations of ``p · q`` and of the noise.
    user_spread, item_spread : float from 0 to 3
        The standard deviations of the logarithms of activity and popularity: 0 makes all alike.
    step : {0.5, 1}
        Half stars from 0.5 to 5, or whole stars from 1 to 5.

    Yields
    ------
    DataFrame
        user_id and item_id (int64; the items' with gaps), rating (float32, stars), timestamp (int64, seconds since
        1970) and expected (float32, stars): the mean of all ratings this user could have given this item, so that no
        predictor has a lower RMSE in the long run than ``rmse(rating, expected)``. Sorted by user and item.

    Raises
    ------
    DataError
        No such ratings can be made.
    """
    if min(n_users, n_items, n_factors) < 1 or not n_users <= n_ratings <= n_users * n_items:
        raise DataError(
            f"cannot make {n_ratings:,} ratings by {n_users:,} users of {n_items:,} items with {n_factors} factors: "
            "there must be one of each at least, a rating for every user, and no more ratings than users × items"
        )
    spreads = sorted([user_spread, item_spread])
    if not (0 < noise < np.inf and 0 <= taste < np.inf and 0 <= spreads[0] <= spreads[1] <= 3 and step in (0.5, 1)):
        raise DataError(
            "noise must be above 0, taste at least 0, the spreads between 0 and 3, and step 0.5 or 1, not "
            f"noise={noise}, taste={taste}, user_spread={user_spread}, item_spread={item_spread}, step={step}"
        )
    rng = np.random.default_rng([seed, 0])
    fame = rng.standard_normal(n_items)
    popularity = np.exp(item_spread * fame)
    items = _Items(
        ids=np.cumsum(rng.geometric(0.4, n_items)),
        popularity=popularity / popularity.sum(),
        bias=rng.normal(0, 0.4, n_items) + 0.1 * fame,
        factors=rng.standard_normal((n_items, n_factors)) * taste / np.sqrt(n_factors),
    )
    counts = _share_out(n_ratings, np.exp(user_spread * rng.standard_normal(n_users)), n_items)
    # Who rates so much that more than 0.9 of all popularity may be used up draws from all that is left, others redraw.
    heavy = counts > np.searchsorted(np.cumsum(np.sort(items.popularity)[::-1]), 0.9)
    cells = np.cumsum(np.where(heavy, n_items, counts))  # what the draws of the users up to this one hold in memory
    starts = np.flatnonzero(np.diff(cells // BLOCK, prepend=-1))
    return (
        _make_block(start, counts[start:end], heavy[start:end], items, noise, step, np.random.default_rng([seed, end]))
        for start, end in zip(starts, [*starts[1:], n_users])
    )


class _Items(NamedTuple):
    ids: np.ndarray  # (I,), int64, ascending
    popularity: np.ndarray  # (I,), float64, sums to 1
    bias: np.ndarray  # (I,), float64, stars
    factors: np.ndarray  # (I, K), float64; a user's are standard normal


def _share_out(n_ratings: int, activity: np.ndarray, n_items: int) -> np.ndarray:
    """The users' numbers of ratings, (U,), int64: a floor, 20 as in MovieLens where it can be, plus their activity."""
    floor = min(n_items, max(1, min(20, n_ratings // (2 * len(activity)))))
    low, high = 0.0, n_items / activity.min()
    for _ in range(100):  # the largest scale that does not give too many
        scale = (low + high) / 2
        counts = np.minimum(floor + scale * activity, n_items).astype(np.int64)
        low, high = (scale, high) if counts.sum() <= n_ratings else (low, scale)
    counts = np.minimum(floor + low * activity, n_items).astype(np.int64)
    counts[np.flatnonzero(counts < n_items)[: n_ratings - counts.sum()]] += 1
    return counts


def _make_block(
    first: int,
    counts: np.ndarray,
    heavy: np.ndarray,
    items: _Items,
    noise: float,
    step: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """The ratings of the users from position `first`, who have `counts` ratings each."""
    rows, cols = np.divmod(_draw_pairs(counts, heavy, items.popularity, rng), len(items.ids))
    bias, factors = rng.normal(3.4, 0.4, len(counts)), rng.standard_normal((len(counts), items.factors.shape[1]))
    truth = bias[rows] + items.bias[cols] + np.einsum("rk,rk->r", factors[rows], items.factors[cols])
    rating = np.clip(step * np.rint((truth + noise * rng.standard_normal(len(rows))) / step), step, 5)
    expected = np.full(len(rows), float(step))
    for threshold in np.arange(1.5 * step, 5, step):  # a rating is above it with the probability ndtr(…)
        expected += step * ndtr((truth - threshold) / noise)
    return pd.DataFrame(
        {
            "user_id": 1 + first + rows,
            "item_id": items.ids[cols],
            "rating": rating.astype(np.float32),
            "timestamp": _draw_times(rows, counts, rng),
            "expected": expected.astype(np.float32),
        }
    )


def _draw_pairs(counts: np.ndarray, heavy: np.ndarray, popularity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``row * I + col`` of the ratings, ascending: each user's items one after the other, by popularity among the rest.

    Two ways to the same distribution: draw again what was drawn before; or let an exponential clock of the rate of its
    popularity run for every item and take those that ring first (Efraimidis and Spirakis, "Weighted random sampling
    with a reservoir", Information Processing Letters 97(5), 2006).
    """
    n_items, users = len(popularity), np.flatnonzero(heavy)
    clocks = rng.standard_exponential((len(users), n_items)) / popularity
    last = np.sort(clocks, axis=1)[np.arange(len(users)), counts[users] - 1]
    rows, cols = np.nonzero(clocks <= last[:, None])
    taken = users[rows] * n_items + cols
    edges = np.cumsum(popularity)
    edges /= edges[-1]
    short = np.where(heavy, 0, counts)
    while short.any():
        rows = np.repeat(np.arange(len(counts)), short)
        drawn = np.unique(rows * n_items + np.searchsorted(edges, rng.random(len(rows)), side="right"))
        if len(taken):
            drawn = drawn[taken[np.searchsorted(taken, drawn) - len(taken)] != drawn]  # past the end is the first
        taken = np.sort(np.concatenate([taken, drawn]), kind="stable")  # a merge
        short -= np.bincount(drawn // n_items, minlength=len(counts))
    return taken


def _draw_times(rows: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Seconds since 1970, int64, between 1995 and 2019: sessions of ratings seconds apart, weeks between sessions."""
    gaps = rng.lognormal(np.log(10), 1.6, len(rows))
    new_session = rng.random(len(rows)) < 0.05
    gaps[new_session] = rng.exponential(20 * 86_400, new_session.sum())
    ends = np.cumsum(counts)
    since = np.cumsum(gaps)
    since -= since[ends - counts][rows]  # since the user's first
    squeeze = np.minimum(1, (END - BEGIN) / 2 / np.maximum(since[ends - 1], 1))
    since *= squeeze[rows]
    start = BEGIN + rng.random(len(counts)) * (END - BEGIN - since[ends - 1])
    times = np.empty(len(rows), dtype=np.int64)
    times[np.argsort(rows + rng.random(len(rows)))] = start[rows] + since  # not in the order of the items' ids
    return times


WORDS = ("Silent", "Last", "Hidden", "Golden", "Paper", "Second", "Summer", "Lantern", "Harbour", "Letter", "River")
TITLES = (  # all that makes titles hard to read, to write and to find
    "{} {}",
    "{1} {2}, The",
    "{} {}: Episode IV - A New {}",
    "{1} Café, Le",
    '"{} {}" and Other {}s',
    "{}, {} & {}: Part 2",
    "{1} of the {2}, El (The {0} {1})",
    "The {1}'s {2}",
)


def make_movies(item_ids: Iterable[int], seed: int = 0) -> pd.DataFrame:
    """Invented movies with all the traps of real ones: item_id, title, genres and year, as `load_movielens` gives them.

    Commas, colons, quotes, accents and trailing articles stand within any 8 movies; of any 50, one has no year and one
    the title of the movie before it. About one in ten has no genre (""); the genres are those of MovieLens 100K.
    """
    rng = np.random.default_rng(seed)
    item_ids = np.asarray(item_ids, dtype=np.int64)
    source = np.arange(len(item_ids))
    source[26::50] -= 1  # the title of the movie before
    words = np.array(WORDS)[rng.integers(len(WORDS), size=(len(item_ids), 3))[source]]
    year = pd.array(rng.integers(1920, 2020, len(item_ids))[source], dtype="Int16")
    year[49::50] = pd.NA
    titles = [TITLES[i % len(TITLES)].format(*words[i]) for i in source]
    flags = rng.random((len(item_ids), len(GENRES_100K) - 1)) < 0.12
    return pd.DataFrame(
        {
            "item_id": item_ids,
            "title": [title if pd.isna(y) else f"{title} ({y})" for title, y in zip(titles, year)],
            "genres": ["|".join(np.array(GENRES_100K[1:])[chosen]) for chosen in flags],
            "year": year,
        }
    )


class Layout(NamedTuple):
    """The files of a release: their names, what stands between the fields, the encoding, and every rating as text."""

    ratings: str
    movies: str
    separators: tuple[str, str]  # in the ratings, in the movies
    encoding: str
    stars: dict[float, str]


WHOLE, HALVES = range(1, 6), [k / 2 for k in range(1, 11)]
LAYOUTS = {
    "100k": Layout("u.data", "u.item", ("\t", "|"), "latin-1", {x: str(x) for x in WHOLE}),
    "1m": Layout("ratings.dat", "movies.dat", ("::", "::"), "latin-1", {x: str(x) for x in WHOLE}),
    "10m": Layout("ratings.dat", "movies.dat", ("::", "::"), "utf-8", {x: f"{x:g}" for x in HALVES}),
    "csv": Layout("ratings.csv", "movies.csv", (",", ","), "utf-8", {x: f"{x:.1f}" for x in HALVES}),
}


def write_movielens(
    ratings: pd.DataFrame | Iterable[pd.DataFrame],
    layout: str,
    folder: str | os.PathLike,
    movies: pd.DataFrame | None = None,
) -> Path:
    """The folder, now with the ratings and movies of a MovieLens release, byte for byte as GroupLens lays them out.

    Parameters
    ----------
    ratings : DataFrame or iterable of DataFrames
        With user_id, item_id and timestamp, whole numbers, and rating, stars; written in their order. An iterable, such
        as `iter_ratings`, is written as it comes.
    layout : {"100k", "1m", "10m", "csv"}
        u.data and u.item; ratings.dat and movies.dat of 1M or of 10M; ratings.csv and movies.csv of 20M and later.
    folder : path
        Made where it is missing; files of these names are replaced.
    movies : DataFrame, optional
        item_id, title and genres, as `load_movielens` gives them. Left out: `make_movies` of the rated items.

    Raises
    ------
    DataError
        A rating, number, title or genre that the layout cannot hold, a missing column, or one with gaps, no ratings, or
        an unknown layout.
    """
    if layout not in LAYOUTS:
        raise DataError(f"layout must be one of {', '.join(LAYOUTS)}, not {layout!r}")
    form, folder, item_ids = LAYOUTS[layout], Path(folder), []
    text = None if movies is None else _movies_text(movies, layout)  # before the ratings: what is wrong, shows at once

    def save_ratings(path: Path) -> None:
        with path.open("wb") as file:
            file.write(b"userId,movieId,rating,timestamp\n" if layout == "csv" else b"")
            for frame in [ratings] if isinstance(ratings, pd.DataFrame) else ratings:
                _check_columns("ratings", frame, ("user_id", "item_id", "timestamp", "rating"))
                for start in range(0, len(frame), BLOCK):
                    file.write(_ratings_text(frame.iloc[start : start + BLOCK], layout))
                item_ids.append(frame["item_id"].unique())
        if not any(map(len, item_ids)):
            raise EmptyDataError("there are no ratings to write")

    folder.mkdir(parents=True, exist_ok=True)
    save_atomically(folder / form.ratings, save_ratings)
    if text is None:
        text = _movies_text(make_movies(np.unique(np.concatenate(item_ids))), layout)
    save_atomically(folder / form.movies, lambda path: path.write_bytes(text))
    return folder


def _check_columns(what: str, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    check_columns(columns, frame.columns, f"the {what}")
    if "rating" in columns:
        check_numbers(frame["rating"])
    for column, error in (("user_id", MissingIdError), ("item_id", MissingIdError), ("timestamp", TimestampError)):
        if column not in columns:
            continue
        numbers = frame[column]
        if not pd.api.types.is_integer_dtype(numbers):
            raise IdTypeError(f"MovieLens has whole numbers as {column}, not {numbers.dtype}: convert them")
        missing = numbers.isna().to_numpy()
        if missing.any():
            where = place(frame.index, missing)
            raise error(f"{what} without {column}: {missing.sum():,}, the first {where}; drop or repair them")
        if len(numbers) and int(numbers.max()) >= 2**63:
            raise IdTypeError(f"MovieLens has whole numbers below 2**63 as {column}, not {numbers.max()}")


def _ratings_text(frame: pd.DataFrame, layout: str) -> pa.Buffer:
    stars, separator = LAYOUTS[layout].stars, LAYOUTS[layout].separators[0]
    scale, rating = np.array(list(stars)), frame["rating"].to_numpy(dtype=float)
    codes = np.minimum(np.searchsorted(scale, rating), len(scale) - 1)
    wrong = scale[codes] != rating
    if wrong.any():
        value = rating[wrong][0]
        takers = ", ".join(name for name, form in LAYOUTS.items() if value in form.stars) or "none"
        raise DataError(
            f"ratings off the scale of layout {layout!r}, {' '.join(stars.values())}: {wrong.sum():,}, the first is "
            f"{value:g}, at index {frame.index[wrong].tolist()[0]!r}. Layouts that take {value:g}: {takers}"
        )
    user, item, time = (
        pa.array(frame[name].to_numpy(dtype=np.int64)).cast(pa.string()) for name in ("user_id", "item_id", "timestamp")
    )
    star, end = pa.array(stars.values()).take(pa.array(codes)), pc.binary_join_element_wise(time, "\n", "")
    lines = pc.binary_join_element_wise(user, item, star, end, separator)
    return pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), "")[0].as_buffer()


def _movies_text(movies: pd.DataFrame, layout: str) -> bytes:
    _check_columns("movies", movies, ("item_id", "title", "genres"))
    if not len(movies):
        raise EmptyDataError("there are no movies to write")
    for text in (*movies["title"], *movies["genres"]):
        if not isinstance(text, str) or "\r" in text or "\n" in text:
            raise DataError(f"titles and genres are text of one line, not {text!r}")
    details = _details_100k if layout == "100k" else lambda title, genres: [genres or "(no genres listed)"]
    rows = [[str(i), t, *details(t, g)] for i, t, g in zip(movies["item_id"], movies["title"], movies["genres"])]
    if layout == "csv":
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([["movieId", "title", "genres"], *rows])
        return file.getvalue().encode()
    separator, encoding = LAYOUTS[layout].separators[1], LAYOUTS[layout].encoding
    for _, *texts in rows:
        for text in texts:
            if (text + separator).index(separator) < len(text):  # also "A:" before "::"
                raise DataError(f"layout {layout!r} has {separator!r} between fields and cannot hold {text!r}")
    try:
        return b"".join((separator.join(row) + "\n").encode(encoding) for row in rows)
    except UnicodeEncodeError as error:
        character = error.object[error.start]
        raise EncodingError(f"layout {layout!r} is {encoding} without {character!r}: {error.object!r}") from error


def _details_100k(title: str, genres: str) -> list[str]:
    """What stands behind a title in u.item: date of release, of the video, address, and a flag for every genre."""
    chosen = genres.split("|") if genres else ["unknown"]
    for genre in chosen:
        if genre not in GENRES_100K:
            raise DataError(
                f"layout '100k' has no genre {genre!r}, which {title!r} has; it has {', '.join(GENRES_100K)}"
            )
    flags = ["01"[genre in chosen] for genre in GENRES_100K]
    year = re.search(r"\((\d{4})\)\s*$", title)
    if not year:
        return ["", "", "", *flags]
    address = "http://us.imdb.com/M/title-exact?" + quote(title, "(),:!'*", encoding="latin-1", errors="replace")
    return [f"01-Jan-{year[1]}", "", address, *flags]
