"""The series' pictures: each function draws on one Axes and returns it. The only module that imports matplotlib.

Colours are those of Okabe and Ito's palette, which people with any colour vision tell apart ("Color universal design",
2008), the lighter of them darkened: on white, lines stand out by 3 to 1 and text by 4.5 to 1. SKY is for areas alone.
"""

import math
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator, PercentFormatter, StrMethodFormatter

from saerec.files import save_atomically
from saerec.ratings import RatingMatrix

BLUE, ORANGE, GREEN, PINK, RED = "#0072B2", "#A86500", "#00845F", "#B5568D", "#A84300"
SKY, GREY, INK = "#56B4E9", "#5F5F5F", "#000000"
STYLE = Path(__file__).with_name("saerec.mplstyle")
SMALL = 10  # points: labels of bars, dots and groups
LIST_MEASURES = {  # of `saerec.list_scores`: what they are called in tables and pictures, and how they are written
    "ndcg": ("ndcg@10", "{:.3f}"),
    "recall": ("recall@10", "{:.3f}"),
    "coverage": ("coverage", "{:.1%}"),
    "popularity": ("popularity", "{:.0f}"),
    "novelty": ("novelty (bits)", "{:.2f}"),
}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of a box: whisker, edge, middle, edge, whisker


def use_style() -> None:
    """Set matplotlib's defaults to the look of the series, for this process."""
    plt.style.use(STYLE)


def literal(text: object) -> str:
    """What matplotlib draws as `text` itself: between dollar signs it would see a formula, and it draws no tabs."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text)).replace("$", r"\$")


def _shortened(title: object) -> str:
    title = "(no title)" if pd.isna(title) else title
    return literal(f"{title[:41]}…" if len(title) > 42 else title)


def in_markdown(text: object) -> str:
    """Markdown that shows `text` itself, in a line: a title or an id makes no heading, link, emphasis or HTML."""
    flat = "".join(letter if letter.isprintable() else " " for letter in str(text))
    # By numbers, for what sanitises Markdown would see a tag behind a backslash.
    return re.sub(r"[!-/:-@\[-`{-~]", lambda mark: f"&#{ord(mark[0])};", flat)


def show(figure: Figure | Axes, alt: str, caption: str, csv: str) -> None:
    """Display a figure in a notebook, and close it.

    Parameters
    ----------
    figure : Figure or Axes
    alt : str
        What it shows, for who cannot see it.
    caption : str
        What it is of, in a sentence. It stands on the notebook's page, with the figure's number.
    csv : str
        The file of the run that holds its numbers.
    """
    from IPython.display import display

    figure = figure.figure if isinstance(figure, Axes) else figure
    # More dots than a screen has, for print: the width is what they are shown in.
    about = {"alt": alt, "caption": caption, "csv": csv, "width": round(96 * figure.get_figwidth())}
    display(figure, metadata={"image/png": about})
    plt.close(figure)


def save(figure: Figure | Axes, path: Path) -> None:
    """Write a figure to a file, whole or not at all."""
    figure = figure.figure if isinstance(figure, Axes) else figure
    save_atomically(path, lambda part: figure.savefig(part, format=path.suffix[1:]))


def table(frame: pd.DataFrame, formats: Mapping[str, str] | str = "", caption: str = ""):
    """A frame as a table for readers: text to the left, numbers to the right, a dash where there is nothing.

    Columns that hold nothing are left out.

    Parameters
    ----------
    frame : DataFrame
        Its index is a column if it has a name.
    formats : mapping of column to format string, or one for all columns of floats
    caption : str

    Returns
    -------
    IPython.display.HTML
    """
    from IPython.display import HTML

    frame = frame.reset_index() if frame.index.names != [None] else frame
    frame = frame.loc[:, ~(frame.isna() | (frame == "")).all()] if len(frame) else frame
    heads, columns = [], []
    for name, values in frame.items():
        number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        form = "{:g}" if pd.api.types.is_float_dtype(values) else "{}"
        if isinstance(formats, Mapping):
            form = formats.get(name, form)
        elif form == "{:g}":
            form = formats or form
        cells = ["–" if pd.isna(value) or value == "" else form.format(value) for value in values]
        cells = [cell.replace("-", "−") for cell in cells] if number else map(escape, cells)
        side, whole = ("right", "; white-space: nowrap") if number else ("left", "")
        heads.append(f'<th scope="col" style="text-align: {side}">{escape(str(name))}</th>')
        columns.append([f'<td style="text-align: {side}{whole}">{cell}</td>' for cell in cells])
    caption = f"<caption>{escape(caption)}</caption>" if caption else ""
    rows = "".join(f"<tr>{''.join(row)}</tr>\n" for row in zip(*columns))
    return HTML(f"<table>{caption}<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>\n{rows}</tbody></table>")


def rating_shares(ratings: pd.DataFrame) -> pd.Series:
    """How often each rating was given, as a share of all; of more than 50 ratings, how often each of 20 ranges of them.

    Indexed by the rating, or by the middle of the range.
    """
    share = ratings["rating"].value_counts(normalize=True).sort_index()
    if len(share) > 50:
        counts, edges = np.histogram(ratings["rating"], bins=20)
        share = pd.Series(counts / counts.sum(), index=(edges[:-1] + edges[1:]) / 2)
    return share


def plot_ratings(ratings: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """How often each rating was given: bars of `rating_shares`."""
    ax = ax or plt.subplots()[1]
    share = rating_shares(ratings)
    step = np.diff(share.index).min() if len(share) > 1 else 1.0
    bars = ax.bar(share.index, share, width=0.8 * step)
    if len(share) <= 12:
        ax.bar_label(bars, labels=[f"{value:.1%}" for value in share], padding=2, fontsize=SMALL)
        ax.set_xticks(share.index)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.grid(visible=False, axis="x")
    ax.set(xlabel="rating", ylabel="share of all ratings", title="How people rate")
    return ax


def plot_long_tail(counts: pd.Series, *, kept: int, what: str, ax: Axes | None = None) -> Axes:
    """Number of ratings by rank, both on log scales, and where the cut to the `kept` first falls, if there are more.

    Parameters
    ----------
    counts : Series of int
        Ratings of each movie, or by each user, in any order.
    kept : int
        How many the cut keeps.
    what : str
        Their name in the plural, such as "movies".
    """
    ax = ax or plt.subplots()[1]
    what = literal(what)
    ordered = np.sort(counts.to_numpy())[::-1]
    ax.loglog(np.arange(1, len(ordered) + 1), ordered, linewidth=2)
    if kept < len(ordered):
        ax.axvspan(0.9, kept, color=SKY, alpha=0.2)
        ax.axvline(kept, color=RED, linestyle="--")
        label = f"cut: {kept:,} {what}\n{ordered[:kept].sum() / ordered.sum():.0%} of all ratings"
        at = {"xytext": (-6, 0), "textcoords": "offset points", "ha": "right", "va": "bottom"}  # below the curve
        ax.annotate(label, (kept, ordered.min()), color=RED, **at)
    ax.set(xlabel=f"{what}, by rank", ylabel="ratings", title=f"The long tail of {what}", xlim=(0.9, None))
    return ax


def ratings_by_year(ratings: pd.DataFrame) -> pd.Series:
    """How many ratings were given in each calendar year (UTC)."""
    return pd.to_datetime(ratings["timestamp"], unit="s").dt.year.value_counts().sort_index()


def plot_years(ratings: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Ratings given in each calendar year (UTC): bars of `ratings_by_year`."""
    ax = ax or plt.subplots()[1]
    years = ratings_by_year(ratings)
    ax.bar(years.index, years, color=BLUE)
    ax.xaxis.set_major_locator(FixedLocator(years.index) if len(years) < 3 else MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.grid(visible=False, axis="x")
    ax.set(xlabel="year in which the rating was given", ylabel="ratings", title="Ratings over the years")
    return ax


def plot_genres(genres: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Ratings of each genre: bars labelled with the mean rating.

    Parameters
    ----------
    genres : DataFrame
        Indexed by genre, with n_ratings and mean_rating (stars), as `saerec.genre_table` makes it.
    """
    ax = ax or plt.subplots(figsize=(7, 5.5))[1]
    genres = genres.sort_values("n_ratings")
    bars = ax.barh(genres.index.map(literal), genres["n_ratings"])
    ax.bar_label(bars, labels=[f"{stars:.2f} ★" for stars in genres["mean_rating"]], padding=3, fontsize=SMALL)
    ax.grid(visible=False, axis="y")
    ax.margins(x=0.1)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.set(
        xlabel="ratings of its movies (a movie counts in each of its genres)", title="Genres, with their mean rating"
    )
    return ax


def density_blocks(matrix: RatingMatrix) -> pd.DataFrame:
    """The share of observed cells in at most 60 × 60 blocks of a matrix, users and items by number of ratings.

    A row for each block of users, by the rank of the last of them (1 is the most active); a column for each of items.
    """
    rows, cols, _ = matrix.coordinates()
    by_activity = np.argsort(np.argsort(-matrix.user_counts, kind="stable"))
    by_popularity = np.argsort(np.argsort(-matrix.item_counts, kind="stable"))
    edges = [np.linspace(0, n, min(n, 60) + 1).round().astype(int) for n in matrix.shape]
    observed, *_ = np.histogram2d(by_activity[rows], by_popularity[cols], bins=edges)
    cells = np.outer(np.diff(edges[0]), np.diff(edges[1]))
    users, items = (pd.Index(edge[1:], name=name) for edge, name in zip(edges, ("users", "items")))
    return pd.DataFrame(observed / cells, users, items)


def plot_density(matrix: RatingMatrix, *, title: str, ax: Axes | None = None) -> Axes:
    """The share of observed cells in blocks of the matrix, brighter the fuller: see `density_blocks`."""
    ax = ax or plt.subplots()[1]
    blocks = density_blocks(matrix)
    edges = [[0, *ends] for ends in (blocks.columns, blocks.index)]
    image = ax.pcolormesh(*edges, blocks, cmap="cividis", norm=PowerNorm(0.4, 0, 1))
    ax.figure.colorbar(image, ax=ax, label="share of cells with a rating", format=PercentFormatter(1.0, decimals=0))
    ax.invert_yaxis()
    ax.grid(visible=False)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.set(xlabel="items, most rated first", ylabel="users, most active first", title=literal(title))
    return ax


def plot_history(
    history: pd.DataFrame, *, baselines: Mapping[str, float] = {}, best_epoch: int | None = None, ax: Axes | None = None
) -> Axes:
    """Training and validation RMSE by epoch, the validation RMSE of baselines as lines, and the chosen epoch.

    Parameters
    ----------
    history : DataFrame
        With epoch, train_rmse and valid_rmse, as `saerec.fit` returns it.
    baselines : mapping of name to RMSE, stars
    best_epoch : int, optional
    """
    ax = ax or plt.subplots()[1]
    ax.plot(history["epoch"], history["train_rmse"], color=GREEN, linestyle="--", label="training")
    ax.plot(history["epoch"], history["valid_rmse"], color=BLUE, linewidth=2, label="validation")
    _draw_baselines(ax, baselines)
    if best_epoch is not None:
        best = history.set_index("epoch").loc[best_epoch, "valid_rmse"]
        ax.axvline(best_epoch, color=RED, linewidth=1)
        ax.plot(best_epoch, best, "o", color=RED, label=f"chosen: epoch {best_epoch}, {best:.4f}")
    _draw_epochs(ax)
    ax.set(ylabel="RMSE (rating points)", title="Error while training")
    return ax


def plot_scores(scores: pd.Series, *, xlabel: str, highlight: str = "saerec", ax: Axes | None = None) -> Axes:
    """One error per model: dots (the axis does not start at zero), the lowest last.

    Parameters
    ----------
    scores : Series of float, stars
        Indexed by the models' names.
    highlight : str
        The model that is drawn in colour.
    """
    ax = ax or plt.subplots(figsize=(7, 0.45 * len(scores) + 1.2))[1]
    scores = scores.sort_values(ascending=False).rename(literal)
    colours = [RED if name == literal(highlight) else GREY for name in scores.index]
    ax.hlines(scores.index, scores.min(), scores, color=GREY, linewidth=0.6)
    ax.scatter(scores, scores.index, color=colours, s=60, zorder=3)
    for name, score in scores.items():
        ax.annotate(
            f"{score:.4f}", (score, name), xytext=(8, 0), textcoords="offset points", va="center", fontsize=SMALL
        )
    ax.invert_yaxis()
    ax.margins(x=0.12, y=0.12)
    ax.grid(visible=False, axis="y")
    ax.set(xlabel=xlabel, title="How far predictions are off")
    return ax


def plot_list_scores(scores: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """What lists in several orders are worth: side by side for each measure a bar for each order, from zero.

    Parameters
    ----------
    scores : DataFrame
        Indexed by what the lists are ordered by, with the columns of `LIST_MEASURES`: see `saerec.list_scores`. Orders
        whose name begins with saerec are drawn in colour.
    """
    ax = ax or plt.subplots(figsize=(7, 0.4 * len(scores) + 1))[1]
    colours = [RED if name.startswith("saerec") else GREY for name in scores.index]
    places, longest = range(len(scores)), 0.5  # of a panel: the rest is for the number
    for left, (name, (label, form)) in enumerate(LIST_MEASURES.items()):
        values = scores[name]
        bars = ax.barh(places, longest * values / max(values.max(), 1e-9), left=left, color=colours, height=0.62)
        ax.bar_label(bars, labels=[form.format(value) for value in values], padding=3, fontsize=SMALL)
        ax.text(left, -0.7, label, va="bottom", fontsize=SMALL, weight="bold")
        ax.axvline(left, color=GREY, linewidth=0.8)
    ax.set(xlim=(0, len(LIST_MEASURES)), xticks=[], yticks=places, yticklabels=scores.index.map(literal))
    ax.invert_yaxis()
    ax.spines["bottom"].set_visible(False)
    ax.grid(visible=False)
    ax.set_title("What lists are worth", pad=26)
    return ax


def plot_peers(scores: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Several models by error and lists: a labelled dot each, rmse across, ndcg upwards.

    Parameters
    ----------
    scores : DataFrame
        Indexed by the models' names, with the columns rmse (stars) and ndcg. Who has no rmse is drawn in a strip at the
        side. Models whose name begins with saerec are diamonds in colour.
    """
    ax = ax or plt.subplots(figsize=(7, 5.5))[1]
    scores = scores.sort_values("ndcg")
    parts = {ax: scores.dropna(subset="rmse")}
    lists_only = scores[scores["rmse"].isna()].assign(rmse=0.0)
    if len(lists_only):
        parts[ax.inset_axes([1.03, 0, 0.3, 1])] = lists_only
    top = max(1.15 * scores["ndcg"].max(), 0.01)
    line = top / 24  # of text
    for one, part in parts.items():
        low, high = (part["rmse"].min(), part["rmse"].max()) if len(part) else (0.0, 1.0)
        span, free, room = max(high - low, 0.01), 0.0, 0.1
        for _, close in part.groupby((part["ndcg"].diff() > line).cumsum()):  # their names stand one above another
            lowest = max(free, close["ndcg"].mean() - line * (len(close) - 1) / 2)
            free = lowest + line * len(close)
            for place, (name, rmse, ndcg) in enumerate(zip(close.index, close["rmse"], close["ndcg"])):
                colour, marker = (RED, "D") if name.startswith("saerec") else (GREY, "o")
                one.plot(rmse, ndcg, marker, color=colour, zorder=3)
                arrow = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkB": 4, "relpos": (0, 0.5)}
                at = (close["rmse"].max() + 0.07 * span, lowest + line * place)
                width = min(0.016 * len(name), 0.7)  # of the name, as a share of all that is shown
                room = max(room, ((at[0] - high) / span + 1.06 * width) / (1 - width))
                one.annotate(name, (rmse, ndcg), at, color=colour, va="center", fontsize=SMALL, arrowprops=arrow)
        one.set(xlim=(low - 0.06 * span, high + room * span), ylim=(-0.02 * top, top))
    for strip in list(parts)[1:]:
        strip.set(xticks=[], xlim=(-0.001, 0.01), xlabel="no rmse: lists only")
        strip.tick_params(labelleft=False)
        strip.set_facecolor("#F4F4F4")
    ax.set(
        xlabel="RMSE (rating points); left is better",
        ylabel="ndcg@10; up is better",
        title="Errors and lists",
    )
    return ax


def plot_error_by(errors: Mapping[str, pd.DataFrame], *, xlabel: str, ax: Axes | None = None) -> Axes:
    """The RMSE of each model in each group of ratings: lines, with the number of ratings under each group.

    Parameters
    ----------
    errors : mapping of model name to DataFrame
        As `saerec.error_by` returns them, all with the same groups.
    xlabel : str
        What the groups are.
    """
    ax = ax or plt.subplots()[1]
    styles = zip((GREY, BLUE, ORANGE, GREEN), ("s:", "o-", "^--", "d-."))
    for (name, frame), (colour, style) in zip(errors.items(), styles):
        ax.plot(range(len(frame)), frame["rmse"], style, color=colour, label=literal(name))
    ax.set_xticks(
        range(len(frame)), [f"{literal(group)}\n{n:,}" for group, n in frame["n_ratings"].items()], fontsize=SMALL
    )
    ax.grid(visible=False, axis="x")
    ax.set_ylim(0, 1.15 * max(frame["rmse"].max() for frame in errors.values()))
    ax.legend()
    ax.set(
        xlabel=f"{xlabel}; below, the number of test ratings",
        ylabel="RMSE (rating points)",
        title=f"Error by {xlabel}",
    )
    return ax


def prediction_quantiles(rating: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """`QUANTILES` (columns) of the predictions for each given rating, stars.

    Of more than 12 ratings about ten whole ones stand for those that are nearest to each.
    """
    rating, predicted = np.asarray(rating), np.asarray(predicted)
    levels = np.unique(rating)
    if len(levels) > 12:
        levels = np.unique(np.round(np.quantile(rating, np.linspace(0, 1, 11))))
    nearest = levels[np.abs(levels[:, None] - rating).argmin(axis=0)]
    of_each = pd.Series(predicted, dtype=float).groupby(nearest)
    return pd.DataFrame({share: of_each.quantile(share) for share in QUANTILES}).rename_axis("rating")


def plot_predicted(rating: np.ndarray, predicted: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """The predictions for each given rating: boxes of `prediction_quantiles`, and where a perfect model would be."""
    ax = ax or plt.subplots()[1]
    quantiles = prediction_quantiles(rating, predicted)
    levels = quantiles.index.to_numpy()
    step = np.diff(levels).min() if len(levels) > 1 else 1.0
    box = {"facecolor": SKY, "edgecolor": BLUE}
    names = ["whislo", "q1", "med", "q3", "whishi"]
    ax.bxp(
        quantiles.set_axis(names, axis="columns").to_dict("records"),
        positions=levels,
        widths=0.6 * step,
        showfliers=False,
        patch_artist=True,
        boxprops=box,
        medianprops={"color": RED, "linewidth": 2},
        manage_ticks=False,
    )
    ax.plot(levels[[0, -1]], levels[[0, -1]], linestyle="--", color=GREY, label="a perfect prediction")
    ax.set_xticks(levels)
    ax.legend(loc="upper left")
    ax.set(xlabel="rating given", ylabel="rating predicted", title="Predicted against true")
    return ax


def plot_calibration(observed: pd.Series, *, ax: Axes | None = None) -> Axes:
    """How many ratings lie within intervals, against how many were said to: dots, and where both are the same.

    Parameters
    ----------
    observed : Series of float
        The share of ratings inside, indexed by the stated share.
    """
    ax = ax or plt.subplots()[1]
    ax.plot([0, 1], [0, 1], linestyle="--", color=GREY, label="as stated")
    ax.plot(observed.index, observed, "o-", color=BLUE, label="on test")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.legend(loc="upper left")
    ax.set(xlabel="ratings said to be within the interval", ylabel="ratings that are", title="Do the intervals hold?")
    return ax


def plot_error_bars(errors: Mapping[str, pd.Series], *, ylabel: str, ax: Axes | None = None) -> Axes:
    """How wide intervals are, by number of ratings: a line for each way to count these.

    Parameters
    ----------
    errors : mapping of name to Series of float, stars
        The mean half-width in each group, indexed by the group's number of ratings; 0 is drawn at 1.
    """
    ax = ax or plt.subplots()[1]
    styles = zip((BLUE, ORANGE, GREEN), ("o-", "^--", "s:"))
    for (name, error), (colour, style) in zip(errors.items(), styles):
        ax.plot(np.maximum(error.index, 1), error, style, color=colour, label=literal(name))
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.set_ylim(0, 1.25 * max(error.max() for error in errors.values()))
    ax.legend(loc="lower left")
    ax.set(xlabel="number of training ratings", ylabel=ylabel, title="How wide are they?")
    return ax


def plot_top(recommended: pd.DataFrame, *, title: str, scale: tuple[float, float], ax: Axes | None = None) -> Axes:
    """One user's list: a bar of predicted stars for each title, the first on top, and its error bar if there is one.

    Beside it stand the prediction and where the error bar ends, which is within the scale.

    Parameters
    ----------
    recommended : DataFrame
        With title, score and perhaps error, in order, as `Recommender.recommend` returns it.
    scale : (lowest, highest) rating, stars
    """
    ax = ax or plt.subplots(figsize=(7, 0.36 * len(recommended) + 1))[1]
    titles, title = [_shortened(name) for name in recommended["title"]], literal(title)
    positions = range(len(titles))
    ax.barh(positions, recommended["score"] - scale[0], left=scale[0], color=SKY, edgecolor=BLUE, height=0.6)
    labels = [f"{score:.2f}" for score in recommended["score"]]
    if "error" in recommended:
        ends = [(recommended["score"] + sign * recommended["error"]).clip(*scale) for sign in (-1, 1)]
        labels = [f"{label} ({low:.1f}–{high:.1f})" for label, low, high in zip(labels, *ends)]
        ax.hlines(positions, *ends, color=INK, linewidth=2)
    for place, label in zip(positions, labels):
        ax.annotate(label, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL)
    ax.set_yticks(positions, titles, fontsize=SMALL)
    ax.set_xticks([scale[0], *(tick for tick in MaxNLocator(5).tick_values(*scale) if scale[0] < tick <= scale[1])])
    ax.xaxis.set_major_formatter("{x:g}")
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.set(xlim=(scale[0], scale[1] + 0.02 * (scale[1] - scale[0])), xlabel="predicted rating", title=title)
    return ax


def plot_influence(explained: pd.DataFrame, *, title: str, n: int = 5, ax: Axes | None = None) -> Axes:
    """The ratings that raise a prediction most, the first on top, and those that lower it most: bars, `n` of each.

    What the label of its bar would call 0.00 is left out; where all are small, labels have more digits.

    Parameters
    ----------
    explained : DataFrame
        With title, rating and influence (stars), as `Recommender.explain` returns it, titles joined.
    n : int
        Of either kind, if there are so many.
    """
    ordered = explained.sort_values("influence", ascending=False, kind="stable")
    strongest = ordered["influence"].abs().max() if len(ordered) else 0.0
    digits = max(2, 1 - math.floor(math.log10(strongest))) if strongest > 0 else 2
    told = ordered["influence"].round(digits)
    raising, lowering = ordered[told > 0].head(n), ordered[told < 0].tail(n)
    shown = pd.concat([raising, lowering])
    ax = ax or plt.subplots(figsize=(7, 0.36 * max(len(shown), 1) + 1))[1]
    places = range(len(shown))
    colours = [BLUE if influence > 0 else ORANGE for influence in shown["influence"]]
    bars = ax.barh(places, shown["influence"], color=colours, height=0.6)
    told = [f"{influence:+.{digits}f}".replace("-", "−") for influence in shown["influence"]]
    ax.bar_label(bars, labels=told, padding=3, fontsize=SMALL)
    labels = [f"{_shortened(name)}, rated {stars:g}" for name, stars in zip(shown["title"], shown["rating"])]
    ax.set_yticks(places, labels, fontsize=SMALL)
    ax.invert_yaxis()
    ax.axvline(0, color=GREY, linewidth=1)
    ax.grid(visible=False, axis="y")
    ax.margins(x=0.2)  # room for the labels of bars to the left
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel("what the prediction gains by the rating (rating points)", loc="right")
    ax.set_title("\n".join(wrap(literal(title), 44)))  # not wider than the axes
    return ax


def plot_curves(
    curves: Mapping[str, pd.Series],
    *,
    dots: Mapping[str, pd.Series] = {},
    baselines: Mapping[str, float] = {},
    ylabel: str = "RMSE (rating points)",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Several errors by epoch: a line for each of `curves`, separate dots for each of `dots`.

    Parameters
    ----------
    curves, dots : mapping of name to Series of float, stars
        Indexed by epoch. A name that is in both is drawn in one colour and stands in the legend once.
    baselines : mapping of name to error, stars
        Horizontal lines.
    """
    ax = ax or plt.subplots()[1]
    names = [*curves, *(name for name in dots if name not in curves)]
    colours = dict(zip(names, (BLUE, ORANGE, GREEN, PINK, RED)))
    for (name, curve), style in zip(curves.items(), ("-", "--", "-.", ":", "-")):
        ax.plot(curve.index, curve, style, color=colours[name], linewidth=2, label=literal(name))
    for (name, points), marker in zip(dots.items(), "os^Dv"):
        label = f"_{name}" if name in curves else literal(name)
        ax.plot(points.index, points, marker, color=colours[name], markeredgecolor="white", markersize=8, label=label)
    _draw_baselines(ax, baselines)
    _draw_epochs(ax)
    ax.set(ylabel=ylabel, title=title)
    return ax


def plot_steps(
    steps: pd.DataFrame,
    *,
    xlabel: str,
    highlight: str = "saerec",
    baselines: Mapping[str, float] = {},
    ax: Axes | None = None,
) -> Axes:
    """One bar per step, from zero, the first on top; and beside them their ends enlarged, for bars differ little.

    There each step is a dot. What lies at more than one and a half times the median error would leave no room for the
    others: it is an arrow at the edge.

    Parameters
    ----------
    steps : DataFrame
        In order, indexed by the steps' names, with rmse (stars) and rmse_spread (highest minus lowest, stars; a line of
        that length behind the dot).
    highlight : str
        Drawn in colour: the steps whose names begin so.
    baselines : mapping of name to RMSE, stars
        Lines across the enlarged part.
    """
    ax = ax or plt.subplots(figsize=(7, 0.4 * len(steps) + 1.8))[1]
    colours = [RED if name.startswith(highlight) else GREY for name in steps.index]
    places, longest = np.arange(len(steps)), steps["rmse"].max()
    bars = ax.barh(places, steps["rmse"], height=0.62, color=colours)
    ax.bar_label(bars, labels=[f"{rmse:.4f}" for rmse in steps["rmse"]], padding=3, fontsize=SMALL)
    ax.set(yticks=places, yticklabels=steps.index.map(literal), xlim=(0, 2.6 * longest), title="From zero")
    ax.set_xticks([tick for tick in MaxNLocator(4).tick_values(0, longest) if tick <= longest])
    ax.spines["bottom"].set_bounds(0, longest)  # what is to the right belongs to the enlarged part
    ax.set_xlabel(xlabel, loc="left")
    ax.invert_yaxis()
    near = steps["rmse"] <= 1.5 * steps["rmse"].median()
    low, high = [end([*steps.loc[near, "rmse"], *baselines.values()]) for end in (min, max)]
    edge = high + 0.12 * max(high - low, 0.01)
    beside = ax.inset_axes([0.54, 0, 0.46, 1], sharey=ax)
    for place, rmse, spread, here, colour in zip(places, steps["rmse"], steps["rmse_spread"], near, colours):
        if here:
            beside.hlines(place, rmse - spread / 2, rmse + spread / 2, color=BLUE, linewidth=3)
        beside.plot(rmse if here else edge, place, "o" if here else ">", color=colour, markersize=7, zorder=3)
    for name, rmse in baselines.items():
        beside.axvline(rmse, color=BLUE, linestyle=":", linewidth=1.2)
        at = {"xycoords": ("data", "axes fraction"), "xytext": (4, 0), "textcoords": "offset points", "va": "top"}
        beside.annotate(literal(name), (rmse, 1), color=BLUE, fontsize=SMALL, **at)
    beside.tick_params(labelleft=False)
    beside.margins(x=0.08)
    key = [Line2D([], [], color=BLUE, linewidth=3, label="spread")]
    if not near.all():
        key.append(Line2D([], [], color=GREY, marker=">", linestyle="", label="beyond the edge"))
    below = (0.5, -0.7 / len(steps) - 0.08)
    beside.legend(handles=key, loc="upper center", bbox_to_anchor=below, ncols=2, fontsize=SMALL)
    beside.set_title("Enlarged")
    for one in (ax, beside):
        one.grid(visible=False, axis="y")
    return ax


def _draw_epochs(ax: Axes) -> None:
    """Epochs along the axis, which count from 1, and the legend below them."""
    ax.set_xlim(left=max(ax.get_xlim()[0], 0.5))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)


def _draw_baselines(ax: Axes, baselines: Mapping[str, float]) -> None:
    """Lines across; their names, to the right of the axes, stand one above another where lines are close."""
    for _, error in baselines.items():
        ax.axhline(error, color=GREY, linestyle=":", linewidth=1)
    low, high = ax.get_ylim()
    line, free = (high - low) / 13, -math.inf  # of text
    for name, error in sorted(baselines.items(), key=lambda baseline: baseline[1]):
        lines = wrap(literal(name), 20) or [""]
        place = max(error, free + line * len(lines) / 2)
        at = {"xycoords": ("axes fraction", "data"), "va": "center"}
        ax.annotate("\n".join(lines), (1.01, place), color=GREY, fontsize=SMALL, **at)
        free = place + line * len(lines) / 2
