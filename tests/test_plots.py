"""Every picture draws what it was given, labels its axes, and can be drawn on an axes of the caller's."""

import re
from html import unescape
from itertools import pairwise

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.lines import Line2D
from matplotlib.text import Text
from nbconvert.filters import markdown2html

import saerec
from saerec import plots


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


RATINGS = pd.DataFrame(
    {
        "user_id": [1, 1, 2, 2, 3],
        "item_id": [10, 20, 10, 30, 10],
        "rating": np.array([5, 3, 4, 3, 5], dtype=np.float32),
        "timestamp": [988675200, 991353600, 1041379200, 1041465600, 1041552000],  # two of 2001, three of 2003
    }
)
HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "train_rmse": [0.9, 0.8, 0.7], "valid_rmse": [0.95, 0.9, 0.92]})
TOP = pd.DataFrame({"title": ["A" * 80, "Heat (1995)", None], "score": [4.5, 4.25, 4.0]})

DRAWN = {
    "plot_ratings": lambda ax: plots.plot_ratings(RATINGS, ax=ax),
    "plot_long_tail": lambda ax: plots.plot_long_tail(RATINGS["item_id"].value_counts(), kept=2, what="movies", ax=ax),
    "plot_years": lambda ax: plots.plot_years(RATINGS, ax=ax),
    "plot_density": lambda ax: plots.plot_density(saerec.RatingMatrix.from_frame(RATINGS), title="all", ax=ax),
    "plot_history": lambda ax: plots.plot_history(HISTORY, baselines={"biases": 0.93}, best_epoch=2, ax=ax),
    "plot_error_by": lambda ax: plots.plot_error_by(
        {"a": pd.DataFrame({"rmse": [0.5, 1.0], "n_ratings": [3, 4]}, index=["low", "high"])}, xlabel="x", ax=ax
    ),
    "plot_calibration": lambda ax: plots.plot_calibration(pd.Series({0.5: 0.4, 0.9: 0.8}), ax=ax),
    "plot_error_bars": lambda ax: plots.plot_error_bars({"a": pd.Series({0: 1.0, 300: 0.5})}, ylabel="y", ax=ax),
    "plot_curves": lambda ax: plots.plot_curves({"test": pd.Series({1: 0.9, 2: 0.8})}, title="t", ax=ax),
    "plot_predicted": lambda ax: plots.plot_predicted(RATINGS["rating"], RATINGS["rating"] - 0.5, ax=ax),
}


@pytest.mark.parametrize("name", DRAWN)
def test_draws_on_the_given_axes_with_labelled_axes(name):
    _, ax = plt.subplots()
    assert DRAWN[name](ax) is ax
    assert ax.get_xlabel() and ax.get_ylabel()
    ax.figure.canvas.draw()


LISTS = ["ndcg", "recall", "coverage", "popularity", "novelty"]
NAME = r"$5 off \frac{ $9"  # between the dollars is no formula: to draw it as one would be an error
NAMED = {
    "plot_long_tail": lambda: plots.plot_long_tail(pd.Series([3, 2]), kept=1, what=NAME),
    "plot_genres": lambda: plots.plot_genres(pd.DataFrame({"n_ratings": [9], "mean_rating": [3.0]}, index=[NAME])),
    "plot_density": lambda: plots.plot_density(saerec.RatingMatrix.from_frame(RATINGS), title=NAME),
    "plot_history": lambda: plots.plot_history(HISTORY, baselines={NAME: 0.9}),
    "plot_scores": lambda: plots.plot_scores(pd.Series({NAME: 0.9, "b": 0.8}), xlabel="x", highlight=NAME),
    "plot_list_scores": lambda: plots.plot_list_scores(pd.DataFrame(dict.fromkeys(LISTS, 0.1), index=[NAME])),
    "plot_error_by": lambda: plots.plot_error_by(
        {NAME: pd.DataFrame({"rmse": [0.5], "n_ratings": [3]}, index=[NAME])}, xlabel="x"
    ),
    "plot_top": lambda: plots.plot_top(TOP.assign(title=NAME), title=NAME, scale=(0.5, 5.0)),
    "plot_error_bars": lambda: plots.plot_error_bars({NAME: pd.Series({5: 1.0})}, ylabel="y"),
    "plot_influence": lambda: plots.plot_influence(
        pd.DataFrame({"title": [NAME], "rating": [5.0], "influence": [0.1]}), title=NAME
    ),
    "plot_curves": lambda: plots.plot_curves({NAME: pd.Series({1: 0.9})}, dots={NAME + "2": pd.Series({1: 0.9})}),
    "plot_curves, baselines": lambda: plots.plot_curves({"a": pd.Series({1: 0.9})}, baselines={NAME: 0.85}),
    "plot_steps": lambda: plots.plot_steps(pd.DataFrame({"rmse": [0.9], "rmse_spread": [0.0]}, [NAME]), xlabel="x"),
}


@pytest.mark.parametrize("name", NAMED)
def test_dollars_in_names_are_dollars(name):
    ax = NAMED[name]()
    ax.figure.canvas.draw()
    assert r"\$5 off \frac{ \$9" in " ".join(text.get_text() for text in ax.findobj(Text))


def heights(ax):
    return [round(float(bar.get_height()), 3) for bar in ax.patches]


def test_bars_are_shares_and_counts():
    assert heights(plots.plot_ratings(RATINGS)) == [0.4, 0.2, 0.4]
    assert heights(plots.plot_years(RATINGS)) == [2, 3]


def test_a_cut_that_takes_nothing_is_not_drawn():
    counts = RATINGS["item_id"].value_counts()
    assert [len(plots.plot_long_tail(counts, kept=kept, what="items").texts) for kept in (2, 3, 4)] == [1, 0, 0]


def test_one_year_is_one_tick():
    ax = plots.plot_years(RATINGS.head(2))
    ax.figure.canvas.draw()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2001"]


def test_history_marks_the_chosen_epoch_and_draws_each_curve():
    ax = plots.plot_history(HISTORY, baselines={"biases": 0.93}, best_epoch=2)
    training, validation, *_ = ax.lines
    assert list(training.get_ydata()) == [0.9, 0.8, 0.7]
    assert list(validation.get_ydata()) == [0.95, 0.9, 0.92]
    assert "chosen: epoch 2, 0.9000" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert "biases" in [text.get_text() for text in ax.texts]


def test_scores_name_every_model_with_its_score():
    ax = plots.plot_scores(pd.Series({"biases": 0.9, "saerec": 0.8}), xlabel="RMSE (stars)")
    assert sorted(text.get_text() for text in ax.texts) == ["0.8000", "0.9000"]
    assert sorted(label.get_text() for label in ax.get_yticklabels()) == ["biases", "saerec"]


def test_density_is_the_observed_share_of_each_block():
    matrix = saerec.RatingMatrix.from_frame(RATINGS)
    (image,) = plots.plot_density(matrix, title="all").collections
    # users 1, 2, 3 by activity, items 10 (3 ratings), 20, 30 by popularity
    np.testing.assert_array_equal(image.get_array(), [[1, 1, 0], [1, 0, 1], [1, 0, 0]])


def test_blocks_of_a_map_end_at_whole_users_and_items():
    rng = np.random.default_rng(0)
    pairs = pd.DataFrame(
        {"user_id": np.repeat(np.arange(67), 61), "item_id": np.tile(np.arange(61), 67), "rating": 1.0}
    )
    matrix = saerec.RatingMatrix.from_frame(pairs[rng.random(len(pairs)) < 0.4])
    blocks = plots.density_blocks(matrix)
    assert blocks.shape == (60, 60) and (blocks.index[-1], blocks.columns[-1]) == (67, 61)
    sizes = [np.diff([0, *ends]) for ends in (blocks.index, blocks.columns)]
    assert set(sizes[0]) == {1, 2} and (blocks * np.outer(*sizes)).sum(axis=None) == pytest.approx(matrix.n_ratings)


def test_boxes_are_quantiles_of_the_predictions_for_the_nearest_level():
    rating, predicted = np.array([1.0, 1, 1, 5]), np.array([1.0, 2, 4, 5])
    quantiles = plots.prediction_quantiles(rating, predicted)
    assert list(quantiles.index) == [1, 5] and list(quantiles.columns) == [0.05, 0.25, 0.5, 0.75, 0.95]
    assert quantiles.loc[1].tolist() == pytest.approx([1.1, 1.5, 2, 3, 3.8]) and set(quantiles.loc[5]) == {5}
    fine = plots.prediction_quantiles(np.linspace(0, 9.9, 100), np.linspace(0, 9.9, 100))
    assert list(fine.index) == list(range(11)) and fine.loc[3, 0.5] == pytest.approx(3.05)
    medians = [
        line.get_ydata()[0] for line in plots.plot_predicted(rating, predicted).lines if line.get_color() == plots.RED
    ]
    assert medians == [2, 5]


def test_curves_and_dots_of_one_name_share_a_colour_and_a_legend_entry():
    curve, published = pd.Series({1: 0.9, 2: 0.8}), pd.Series({1: 0.95})
    ax = plots.plot_curves(
        {"test": curve}, dots={"test": curve.iloc[[1]], "published": published}, baselines={"biases": 0.85}
    )
    line, best, dot, baseline = ax.lines
    assert list(line.get_xdata()) == [1, 2] and list(line.get_ydata()) == [0.9, 0.8]
    assert list(best.get_ydata()) == [0.8] and list(dot.get_ydata()) == [0.95] and best.get_linestyle() == "None"
    assert best.get_color() == line.get_color() != dot.get_color()
    assert list(baseline.get_ydata()) == [0.85, 0.85] and "biases" in [text.get_text() for text in ax.texts]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["test", "published"]


def test_steps_are_bars_from_zero_in_order_and_dots_beside_them():
    steps = pd.DataFrame(
        {"rmse": [0.9, 3.7, 0.85, 0.8], "rmse_spread": [0.02, 0, 0, 0]},
        index=["original", "collapsed", "mended", "saerec, refitted"],
    )
    _, ax = plt.subplots()
    assert plots.plot_steps(steps, xlabel="RMSE (stars)", baselines={"biases": 0.86}, ax=ax) is ax
    assert [label.get_text() for label in ax.get_yticklabels()] == list(steps.index)
    assert [text.get_text() for text in ax.texts] == ["0.9000", "3.7000", "0.8500", "0.8000"]
    assert [(bar.get_x(), bar.get_width()) for bar in ax.patches] == [(0, 0.9), (0, 3.7), (0, 0.85), (0, 0.8)]
    assert [bar.get_facecolor() == to_rgba(plots.RED) for bar in ax.patches] == [False, False, False, True]
    assert ax.get_xlabel() == "RMSE (stars)" and ax.yaxis_inverted() and max(ax.get_xticks()) <= 3.7
    (beside,) = ax.child_axes
    *dots, baseline = beside.lines
    assert [dot.get_marker() for dot in dots] == ["o", ">", "o", "o"]  # what is far off is an arrow at the edge
    places = [(float(dot.get_xdata()[0]), float(dot.get_ydata()[0])) for dot in dots]
    assert places == [(0.9, 0), (pytest.approx(0.912), 1), (0.85, 2), (0.8, 3)]
    assert list(baseline.get_xdata()) == [0.86, 0.86] and [text.get_text() for text in beside.texts] == ["biases"]
    spread = [bar.get_segments()[0][:, 0] for bar in beside.collections]
    assert list(spread[0]) == pytest.approx([0.89, 0.91]) and len(spread) == 3
    ax.figure.canvas.draw()


def test_peers_are_named_dots_and_who_has_no_rmse_stands_in_the_strip():
    names = ["saerec", "biases", "SVD", "popular"]
    scores = pd.DataFrame({"rmse": [0.8, 0.9, 0.91, None], "ndcg": [0.3, 0.1, 0.1, 0.2]}, index=names)
    _, ax = plt.subplots()
    assert plots.plot_peers(scores, ax=ax) is ax and ax.get_xlabel() and ax.get_ylabel()
    (strip,) = ax.child_axes
    assert {text.get_text(): text.xy for text in ax.texts} == {name: tuple(scores.loc[name]) for name in names[:3]}
    assert {text.get_text(): text.xy for text in strip.texts} == {"popular": (0, 0.2)} and strip.get_xlabel()
    heights = [text.get_position()[1] for text in ax.texts]  # the names of close dots stand apart
    assert min(np.diff(sorted(heights))) > 0.01
    coloured = [line.get_color() == plots.RED for line in ax.lines]
    assert sum(coloured) == 1 and ax.lines[coloured.index(True)].get_marker() == "D"
    assert not plots.plot_peers(scores.head(3)).child_axes and plots.plot_peers(scores.tail(1)).child_axes
    ax.figure.canvas.draw()


def test_no_name_of_a_peer_is_cut_off():
    names = ["saerec", "saerec: ratings alone", "regularised biases", "original: best of 5 epochs", "most popular"]
    scores = pd.DataFrame({"rmse": [0.79, 0.80, 0.86, 0.96, None], "ndcg": [0.34, 0.335, 0.06, 0.03, 0.15]}, names)
    for some in (scores, scores.head(1), scores.iloc[3:4]):
        ax = plots.plot_peers(some)
        ax.figure.canvas.draw()
        for text in ax.texts:
            shown, frame = text.get_window_extent(), ax.get_window_extent()
            assert frame.x0 < shown.x0 and shown.x1 < frame.x1, text.get_text()


def test_top_shortens_long_titles_and_survives_missing_ones():
    ax = plots.plot_top(TOP, title="Top", scale=(0.5, 5.0))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A" * 41 + "…", "Heat (1995)", "(no title)"]
    assert [round(float(bar.get_width()), 3) for bar in ax.patches] == [4.0, 3.75, 3.5]


def test_top_draws_error_bars_within_the_scale_and_tells_them():
    ax = plots.plot_top(TOP.assign(error=[1.0, 0.5, 0.25]), title="Top", scale=(0.5, 5.0))
    (bars,) = ax.collections
    assert [segment[:, 0].tolist() for segment in bars.get_segments()] == [[3.5, 5], [3.75, 4.75], [3.75, 4.25]]
    assert [text.get_text() for text in ax.texts] == ["4.50 (3.5–5.0)", "4.25 (3.8–4.8)", "4.00 (3.8–4.2)"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.5", "1", "2", "3", "4", "5"]


def test_influence_shows_the_strongest_for_and_against_and_not_what_does_nothing():
    titles = ["little", None, "much", "against", "nothing", "more against"]
    influence = [0.1, 0.2, 0.3, -0.1, 0.0, -0.2]
    explained = pd.DataFrame({"title": titles, "rating": [4, 4.5, 5, 1, 3, 2], "influence": influence})
    ax = plots.plot_influence(explained, title="t", n=2)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["much, rated 5", "(no title), rated 4.5", "against, rated 1", "more against, rated 2"]
    assert [round(float(bar.get_width()), 3) for bar in ax.patches] == [0.3, 0.2, -0.1, -0.2]
    assert [bar.get_facecolor() == to_rgba(plots.BLUE) for bar in ax.patches] == [True, True, False, False]
    assert not list(plots.plot_influence(explained.head(0), title="t").patches)


def test_a_long_title_does_not_widen_the_picture():
    explained = pd.DataFrame({"title": ["a"], "rating": [4.0], "influence": [0.1]})
    ax = plots.plot_influence(explained, title="Lord of the Rings: The Fellowship of the Ring, The (2001) for user 473")
    assert max(map(len, (ax.get_title(loc="center") or ax.get_title(loc="left")).split("\n"))) <= 44


def test_small_influences_have_labels_that_tell_and_what_a_label_would_call_zero_is_left_out():
    explained = pd.DataFrame({"title": list("abc"), "rating": 4, "influence": [0.3, 0.004, -0.004]})
    assert [text.get_text() for text in plots.plot_influence(explained, title="t").texts] == ["+0.30"]
    small = explained.assign(influence=[0.004, 0.001, -0.0021])
    ax = plots.plot_influence(small, title="t")
    assert [text.get_text() for text in ax.texts] == ["+0.0040", "+0.0010", "−0.0021"]
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_text()]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_names_of_baselines_that_are_nearly_equal_stand_apart():
    baselines = pd.Series({"a": 0.93, "b": 0.931, "c": 0.9305})
    ax = plots.plot_history(HISTORY, baselines=baselines)
    ax.figure.canvas.draw()
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 3 and all(lower.y1 <= upper.y0 + 1 for lower, upper in pairwise(boxes))
    assert [line.get_ydata()[0] for line in ax.lines[2:]] == list(baselines)


def test_a_tab_in_a_title_is_drawn_as_a_space(recwarn):
    ax = plots.plot_top(TOP.assign(title="Tea\tno. 7"), title="Tea\tno. 7", scale=(0.5, 5.0))
    ax.figure.canvas.draw()
    titles = {ax.get_title(loc=loc) for loc in ("left", "center")}  # of whatever style
    assert "Tea no. 7" in titles and not [one for one in recwarn if "Glyph" in str(one.message)]


def test_calibration_is_drawn_against_what_was_stated():
    stated, observed = plots.plot_calibration(pd.Series({0.5: 0.4, 0.9: 0.8})).lines
    assert list(stated.get_xdata()) == list(stated.get_ydata())
    assert list(zip(observed.get_xdata(), observed.get_ydata())) == [(0.5, 0.4), (0.9, 0.8)]


def test_genres_are_sorted_by_ratings():
    genres = pd.DataFrame({"n_ratings": [9, 5], "mean_rating": [3.0, 4.0]}, index=["Drama", "Noir"])
    ax = plots.plot_genres(genres)
    assert [round(float(bar.get_width())) for bar in ax.patches] == [5, 9]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Noir", "Drama"]
    assert "4.00 ★" in [text.get_text() for text in ax.texts] and ax.get_xlabel()


def test_a_title_in_markdown_is_shown_and_makes_nothing_of_itself():
    hostile = "# [x](http://y.z) *z* _u_ `c` $a$ <b> &amp; \\* 1. | ~s~\n- www.a.b a@b.c"
    html = markdown2html(plots.in_markdown(hostile)).strip()
    assert html.startswith("<p>") and html.endswith("</p>") and html.count("<") == 2
    assert unescape(html[3:-4]) == hostile.replace("\n", " ")


def test_table_escapes_text_and_formats_numbers():
    frame = pd.DataFrame({"title": ["<i>x</i>", "-"], "score": [4.5678, -1], "n": [1, 2]})
    html = plots.table(frame, {"score": "{:.2f}"}, "What & why").data
    assert "&lt;i&gt;x&lt;/i&gt;" in html and ">4.57<" in html and ">−1.00<" in html and ">-<" in html
    assert "<caption>What &amp; why</caption>" in html
    assert re.findall(r"<th ([^>]*)>(\w+)<", html) == [
        ('scope="col" style="text-align: left"', "title"),
        ('scope="col" style="text-align: right"', "score"),
        ('scope="col" style="text-align: right"', "n"),
    ]


def cells(table):
    return [re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in table.data.split("<tr>")[1:]]


def test_a_named_index_is_a_column_and_one_format_is_of_all_floats():
    frame = pd.DataFrame({"rmse": [0.5, None], "n": [1000, 2]}, index=pd.Index(["a", "b"], name="model"))
    assert cells(plots.table(frame, "{:.3f}")) == [["model", "rmse", "n"], ["a", "0.500", "1000"], ["b", "–", "2"]]
    assert cells(plots.table(frame))[1] == ["a", "0.5", "1000"]


def test_a_table_leaves_out_columns_that_hold_nothing():
    frame = pd.DataFrame({"a": [1, 2], "b": ["", ""], "c": [None, None], "d": ["", "x"]})
    assert cells(plots.table(frame, {"a": "{:.1f}", "b": "{}"})) == [["a", "d"], ["1.0", "–"], ["2.0", "x"]]
    assert cells(plots.table(frame.head(0))) == [["a", "b", "c", "d"]]


def test_show_displays_the_figure_with_all_that_its_page_says_of_it(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda figure, metadata: shown.append((figure, metadata)))
    ax = plots.plot_years(RATINGS, ax=plt.subplots(figsize=(7, 4))[1])
    plots.show(ax, "two bars", "Ratings by year.", "exploration.csv")
    about = {"alt": "two bars", "caption": "Ratings by year.", "csv": "exploration.csv", "width": 672}
    assert shown == [(ax.figure, {"image/png": about})]
    assert not plt.fignum_exists(ax.figure.number)


def contrast(colour, ground="white"):
    """As of WCAG 2."""
    parts = np.array([to_rgb(colour), to_rgb(ground)])
    light = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    return (light.max() + 0.05) / (light.min() + 0.05)


def peers():
    return plots.plot_peers(pd.DataFrame({"rmse": [0.8, 0.9, None], "ndcg": [0.3, 0.1, 0.2]}, ["saerec", "a", "b"]))


ALL = {name: lambda draw=draw: draw(plt.subplots()[1]) for name, draw in DRAWN.items()} | NAMED | {"plot_peers": peers}
ALL |= {
    "plot_top, sure": lambda: plots.plot_top(TOP.assign(error=0.5), title="t", scale=(0.5, 5.0)),
    "plot_error_by, many": lambda: plots.plot_error_by(
        {name: pd.DataFrame({"rmse": [0.5, 1.0], "n_ratings": [3, 4]}, index=["low", "high"]) for name in "abcd"},
        xlabel="x",
    ),
    "plot_curves, many": lambda: plots.plot_curves({name: pd.Series({1: 0.9, 2: 0.8}) for name in "abcde"}),
}


@pytest.mark.parametrize("name", ALL)
def test_text_stands_out_by_4_5_to_1_and_lines_by_3_to_1(name):
    figure = ALL[name]().figure
    grid = plt.rcParams["grid.color"]
    texts = [text.get_color() for text in figure.findobj(Text) if text.get_text()]
    lines = [line.get_color() for line in figure.findobj(Line2D) if line.get_color() != grid]
    lines += [colour for lines in figure.findobj(LineCollection) for colour in lines.get_colors()]
    bars = [patch for ax in figure.findobj(plt.Axes) for patch in ax.patches if patch.get_alpha() is None]
    assert texts and all(contrast(colour) >= 4.5 for colour in texts)
    assert all(contrast(colour) >= 3 for colour in lines)
    assert all(max(map(contrast, (bar.get_facecolor()[:3], bar.get_edgecolor()[:3]))) >= 3 for bar in bars)


def test_the_name_of_the_cut_stands_out_on_its_shade():
    (label,) = plots.plot_long_tail(RATINGS["item_id"].value_counts(), kept=2, what="movies").texts
    shade = 0.8 + 0.2 * np.array(to_rgb(plots.SKY))
    assert contrast(label.get_color(), shade) >= 4.5


def test_the_style_cycles_through_lines_that_stand_out():
    plots.use_style()
    assert [f"#{colour.strip('#')}" for colour in plt.rcParams["axes.prop_cycle"].by_key()["color"]] == [
        plots.BLUE,
        plots.ORANGE,
        plots.GREEN,
        plots.PINK,
        plots.RED,
    ]
    matplotlib.rcdefaults()


def test_names_of_baselines_stand_beside_the_axes_and_epochs_count_from_1():
    ax = plots.plot_history(HISTORY, baselines={"a": 0.93, "b": 0.931}, best_epoch=2)
    ax.figure.canvas.draw()
    assert all(text.get_window_extent().x0 > ax.bbox.x1 for text in ax.texts) and ax.get_xlim()[0] >= 0.5
    assert plots.plot_curves({"test": pd.Series({1: 0.9, 40: 0.8})}).get_xlim()[0] >= 0.5


def test_lists_are_told_by_all_their_measures():
    scores = pd.DataFrame(
        dict(zip(LISTS, ([0.1, 0.2], [0.3, 0.1], [0.05, 0.5], [90, 30.4], [2.5, 4]))), ["a", "saerec: b"]
    )
    ax = plots.plot_list_scores(scores)
    told = [text.get_text() for text in ax.texts]
    assert [text for text in told if text[0].isalpha()] == [
        "ndcg@10",
        "recall@10",
        "coverage",
        "popularity",
        "novelty (bits)",
    ]
    numbers = [text for text in told if text[0].isdigit()]
    assert numbers == ["0.100", "0.200", "0.300", "0.100", "5.0%", "50.0%", "90", "30", "2.50", "4.00"]
    widths = np.array([bar.get_width() for bar in ax.patches]).reshape(5, 2)
    assert np.allclose(widths.max(axis=1), widths.max()) and widths[0, 0] == pytest.approx(widths[0, 1] / 2)
