"""The web page with the model inside: what it shows is what Python says, it is whole, it is safe, and it is usable.

The tests with a browser need playwright (of the extra `test`) and a Chromium or Chrome that is installed; playwright's
own is not downloaded.
"""

import json
import re
import shutil

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import saerec
from saerec import exports, page, series
from saerec.__main__ import main
from saerec.files import sha256_of
from saerec.index import write_index
from saerec.record import read_record

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
HOSTILE = '</script><img src=x onerror="document.title=1"> & "quoted" {{model}}'


@pytest.fixture(scope="module")
def parts(movielens):
    """Train, valid and test of a few users and movies of the shipped data."""
    return saerec.split_ratings(saerec.top_users_and_items(movielens.ratings, n_users=120, n_items=150))


@pytest.fixture(scope="module")
def make(parts, tmp_path_factory, movielens):
    """A fitted recommender and its page, each made once."""
    made = {}

    def make(**settings):
        name = "-".join(map(str, settings.values())) or "default"
        if name not in made:
            train, valid, test = parts
            settings = {"n_epochs": 8, "hidden_dims": (24,), "ridge": 0.5} | settings  # a ridge that tells
            rec = saerec.Recommender(**settings).fit(train, valid)
            path = tmp_path_factory.mktemp("page") / "recommender.html"
            made[name] = rec, saerec.write_page(path, rec, movielens.movies, seen=[test])
        return made[name]

    return make


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("neither Chromium nor Chrome is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Opens a page without a network; afterwards nothing may have been asked of one, nor an error reported."""
    context = browser.new_context(offline=True, viewport={"width": 360, "height": 700})
    tab = context.new_page()
    asked, said = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))

    def open_page(path, fragment=""):
        tab.goto(path.as_uri() + fragment)
        return tab

    yield open_page
    context.close()
    assert said == [] and {url.partition(":")[0] for url in asked} <= {"file", "data"}


def content_of(path) -> dict:
    """What the page was given: the JSON inside."""
    html = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="model">(.*?)</script>', html, re.DOTALL)[1])


# By keyboard, in a browser


def rate(tab, title, col, rating, *, by_key):
    """Find a movie by its title and give it stars, 0.5 to 5, from the search field and back there.

    Not by key, what is typed and the stars arrive in their inputs at once, which is faster.
    """
    if by_key:
        tab.keyboard.type(title)
    else:
        tab.keyboard.insert_text(title)
    cols = tab.eval_on_selector_all("#found [role=option]", "options => options.map(option => +option.dataset.col)")
    for _ in range(cols.index(col)):
        tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    if by_key:
        tab.keyboard.press("Home" if rating < 2.75 else "End")
        for _ in range(round(2 * min(rating - 0.5, 5 - rating))):
            tab.keyboard.press("ArrowRight" if rating < 2.75 else "ArrowLeft")
    else:
        tab.locator("#rated input").first.fill(str(rating))
    tab.keyboard.press("Enter")


def listed(tab) -> pd.DataFrame:
    """The list on the page: col, stars, error, chance, n_ratings, and the reasons with what each added."""
    rows = tab.eval_on_selector_all(
        "#best tbody tr",
        """rows => rows.map(row => ({
            col: +row.dataset.col, n_ratings: +row.lastElementChild.firstChild.data,
            stars: +row.querySelector("data").value, shown: row.querySelector("data").textContent,
            error: row.querySelector(".below").textContent,
            chance: parseFloat(row.lastElementChild.lastElementChild.textContent) / 100,
            reasons: [...row.querySelectorAll("cite")].map(cite =>
                [cite.textContent, ...cite.nextSibling.data.match(/ (.+) \\(\\+(.+)\\)/).slice(1).map(Number)]),
        }))""",
    )
    return pd.DataFrame(rows)


def assert_same(on_page, expected, rec):
    """The same items in the same order, but where keys are within 0.01, with stars and errors that are so, too."""
    expected = expected.assign(col=rec.item_ids.get_indexer(expected["item_id"]))
    key = expected["score"] / rec.ratings.unit
    if rec.rank_by != "rating":
        key += np.log(expected["chance"]) if rec.choice else np.log1p(expected["n_ratings"]) / 2
    key = pd.Series(key.to_numpy(), index=expected["col"])
    by_col, top = expected.set_index("col"), expected["col"].head(10).to_numpy()
    assert len(on_page) == len(top)
    np.testing.assert_allclose(key[on_page["col"]], key[top], rtol=0, atol=0.01)
    wanted = by_col.loc[on_page["col"]]
    np.testing.assert_allclose(on_page["stars"], wanted["score"], rtol=0, atol=0.01)
    assert (on_page["shown"] == on_page["stars"].map("{:.2f}".format)).all()
    errors = [float(text.removeprefix("± ")) for text in on_page["error"]]
    np.testing.assert_allclose(errors, wanted["error"], rtol=0, atol=0.01)
    if rec.choice:
        np.testing.assert_allclose(on_page["chance"], wanted["chance"], rtol=0.01, atol=0.0006)
    else:
        assert on_page["chance"].isna().all()


def assert_reasons(on_page, cols, values, predictor, rec, titles):
    """Of all ratings the two that raised each prediction most, and how much lower it would be without."""
    targets, by_title = np.array(on_page["col"]), {titles[rec.item_ids[col]]: i for i, col in enumerate(cols)}
    influence = predictor.influence(cols, values, targets) if len(cols) else np.zeros((0, len(targets)))
    for reasons, of_all in zip(on_page["reasons"], influence.T):
        strongest = np.sort(np.append(np.maximum(of_all, 0), [0, 0]))[:-3:-1]
        shown = [by for _, _, by in reasons]
        np.testing.assert_allclose([*shown, 0, 0][:2], strongest, rtol=0, atol=0.0061)
        for title, rating, by in reasons:
            assert of_all[by_title[title]] == pytest.approx(by, abs=0.0061) and values[by_title[title]] == rating


every_layout = pytest.mark.parametrize(
    ("settings", "n"),
    [
        ({"orientation": "item"}, 50),
        ({"orientation": "user", "hidden_dims": (16, 8, 16), "rank_by": "popularity"}, 5),
        ({"orientation": "both", "refit": False}, 5),
        ({"orientation": "mean", "blend": 0.3}, 5),
        ({"orientation": "item", "rank_by": "rating", "refit": False}, 5),
    ],
    ids=["item", "user", "both", "mean", "rating"],
)


@every_layout
def test_visitors_get_what_recommend_new_says(make, opened, movielens, parts, settings, n):
    """All by the inputs of the page, the first key by key."""
    rec, path = make(**settings)
    titles, rng = movielens.movies.set_index("item_id")["title"], np.random.default_rng(n)
    n_people = pd.concat(parts)["item_id"].value_counts()
    for visitor in range(n):
        tab = opened(path)
        tab.focus("#search")
        ratings = {}
        cols = rng.choice(len(rec.item_ids), rng.integers(1, 9), replace=False)
        for col, rating in zip(cols, rng.integers(1, 11, len(cols)) / 2):
            if visitor < 2:
                assert_same(listed(tab), rec.recommend_new(ratings, k=None), rec)
            rate(tab, titles[rec.item_ids[col]], col, rating, by_key=visitor == 0)
            ratings[rec.item_ids[col]] = rating
        on_page = listed(tab)
        assert_same(on_page, rec.recommend_new(ratings, k=None), rec)
        values = np.array(list(ratings.values()), dtype=np.float32)
        assert_reasons(on_page, cols, values, rec.predictors[0], rec, titles)
        assert on_page["n_ratings"].tolist() == n_people[rec.item_ids[on_page["col"]]].tolist()


@every_layout
def test_users_get_what_recommend_says_and_the_reasons_of_explain(make, opened, movielens, parts, settings, n):
    rec, path = make(**settings)
    titles = movielens.movies.set_index("item_id")["title"]
    item_of = pd.Series(titles.index, index=titles)
    tab = opened(path)
    for row in np.random.default_rng(n).choice(len(rec.user_ids), n, replace=False):
        user_id = rec.user_ids[row]
        tab.select_option("#person", str(row))
        on_page, rated = listed(tab), rec.ratings.csr[[row]]
        assert_same(on_page, rec.recommend([user_id], k=None, seen=parts[2]), rec)
        assert_reasons(on_page, rated.indices, rated.data, rec._predictor, rec, titles)
        seen = pd.concat(parts).query("user_id == @user_id")["item_id"]
        assert not set(rec.item_ids[on_page["col"]]) & set(seen)
        assert f"({len(seen)} ratings)" in tab.inner_text(f"#person option[value='{row}']")
        col, reasons = on_page.loc[0, ["col", "reasons"]]
        explained = rec.explain(user_id, rec.item_ids[col])
        assert [item_of[title] for title, *_ in reasons] == explained["item_id"].head(len(reasons)).tolist()


@pytest.mark.parametrize("orientation", ["item", "user", "mean"])
def test_without_a_rating_a_prediction_is_lower_by_what_the_reason_says(make, opened, movielens, orientation):
    """As a visitor sees who takes the rating back, and gives it again."""
    rec, path = make(orientation=orientation, blend=0.3)
    titles = movielens.movies.set_index("item_id")["title"]
    tab = opened(path)
    tab.set_viewport_size({"width": 1280, "height": 900})  # where no rating is folded away
    tab.focus("#search")
    given = dict(zip([3, 80, 41], [5.0, 1.5, 4.0]))
    for col, rating in given.items():
        rate(tab, titles[rec.item_ids[col]], col, rating, by_key=False)
    before, stars = listed(tab), tab.evaluate("[...person.stars]")
    col_of = {titles[rec.item_ids[col]]: col for col in given}
    told = {(row.col, col_of[title]): by for row in before.itertuples() for title, _, by in row.reasons}
    assert len(told) > 10
    of_all = "titles.map((_, col) => col)"
    each = tab.evaluate(f"predictors.map(each => influence(each, person, {of_all}))")
    influence = each[0]  # somebody new is predicted by the first alone
    for place, (col, rating) in enumerate(given.items()):
        tab.get_by_role("button", name=f"Remove {titles[rec.item_ids[col]]}").press("Enter")
        without = tab.evaluate("[...person.stars]")
        for (target, reason), by in told.items():
            assert reason != col or stars[target] - without[target] == pytest.approx(by, abs=0.0051)
        np.testing.assert_allclose(influence[place], np.subtract(stars, without), rtol=0, atol=1e-5)
        rate(tab, titles[rec.item_ids[col]], col, rating, by_key=False)


def test_a_disliked_movie_may_be_the_reason(make, opened):
    """What did most is told, whether it was liked or not, with the stars it got."""
    _, path = make(orientation="item")
    tab, reasons = opened(path), []
    for row in range(40):
        tab.select_option("#person", str(row))
        mean = tab.evaluate("person.values.reduce((sum, value) => sum + value, 0) / person.values.length")
        reasons += [rating < mean for row in listed(tab)["reasons"] for _, rating, _ in row]
    assert 0.05 < np.mean(reasons) < 0.95
    assert tab.inner_text("#best .because").startswith("because they rated ")


def test_a_link_may_lead_to_a_users_list(make, opened):
    rec, path = make(orientation="item")
    row = 7
    tab = opened(path, f"#{rec.user_ids[row]}")
    assert tab.input_value("#person") == str(row) and tab.inner_text("#you") == "What they liked most"
    tab.evaluate(f"location.hash = '{rec.user_ids[row + 1]}'")
    tab.wait_for_function(f"document.getElementById('person').value === '{row + 1}'")
    tab = opened(make(orientation="mean")[1], "#100%")
    assert tab.input_value("#person") == "me" and tab.locator("#best tbody tr").count() == 10
    assert tab.inner_text("#people").endswith("“100%” is not among them.")


def test_a_search_that_finds_nothing_says_so_where_one_looks(make, opened):
    tab = opened(make(orientation="item")[1])
    tab.focus("#search")
    tab.keyboard.insert_text("zzzz")
    said = "No title like this is among the 150 that the network knows."
    assert tab.inner_text("#none") == said == tab.get_by_role("status").text_content()
    tab.keyboard.press("Escape")
    assert not tab.is_visible("#none")


def test_a_search_finds_what_is_rated_and_leads_to_its_stars(make, opened):
    tab = opened(make(orientation="item")[1])
    for title, key in (("star wars", "End"), ("matrix", "Home")):
        tab.focus("#search")
        tab.keyboard.type(title)
        tab.keyboard.press("Enter")
        tab.keyboard.press(key)
    before = tab.inner_text("#best")
    tab.focus("#search")
    tab.keyboard.type("star wars")
    option = tab.inner_text("#found [role=option] >> nth=0")
    assert option.startswith("Star Wars") and option.endswith(" – rated 5")
    tab.keyboard.press("Enter")
    slider = tab.get_by_role("slider", name="Rating of Star Wars")
    assert slider.evaluate("one => one === document.activeElement") and slider.input_value() == "5"
    assert tab.locator("#rated li").count() == 2 and tab.inner_text("#best") == before


def test_a_title_counts_once_it_has_stars_the_lowest_too(make, opened):
    """Chosen from a list it has none; where the slider stands already, neither a key nor a click moves it."""
    tab = opened(make(orientation="item")[1])
    before, titles = tab.inner_text("#best tbody"), tab.locator("#best u")
    title = titles.first.inner_text()
    for give in (lambda slider: slider.press("Home"), lambda slider: slider.click(position={"x": 2, "y": 8})):
        tab.get_by_role("button", name=f"{title} Rate").first.press("Enter")
        slider = tab.get_by_role("slider", name=f"Rating of {title}")
        assert slider.evaluate("one => one === document.activeElement")
        assert slider.get_attribute("aria-valuetext") == "no stars yet" == tab.inner_text("#rated .given")
        assert tab.inner_text("#best tbody") == before
        give(slider)
        assert slider.get_attribute("aria-valuetext") == "0.5 of 5" and title not in titles.all_inner_texts()
        tab.get_by_role("button", name=f"Remove {title}").press("Enter")
        assert tab.inner_text("#best tbody") == before


@every_layout
def test_along_the_control_titles_are_better_known_and_the_middle_is_what_recommend_says(make, opened, settings, n):
    rec, path = make(**settings)
    tab, counts, known = opened(path), rec.ratings.item_counts, []
    for row in range(0, 120, 10 if n == 50 else 40):
        tab.select_option("#person", str(row))
        tab.focus("#weight")
        tab.keyboard.press("Home")
        lists = [listed(tab)["col"]]
        for _ in range(8):
            tab.keyboard.press("ArrowRight")
            lists.append(listed(tab)["col"])
        assert tab.input_value("#weight") == "1"
        assert (np.diff([np.log1p(counts[cols]).sum() for cols in lists]) >= -1e-6).all()
        known.append([counts[cols].mean() for cols in lists])
        expected = rec.recommend([rec.user_ids[row]], k=None, seen=rec.seen.to_frame())
        cols = rec.item_ids.get_indexer(expected["item_id"])
        key = expected["score"] / rec.ratings.unit + np.log1p(counts[cols])
        if rec.rank_by != "rating":
            key += np.log(expected["chance"]) if rec.choice else np.log1p(counts[cols]) / 2
        key = pd.Series(key.to_numpy(), index=cols)
        unseen = key.drop(tab.evaluate("[...person.seen]"), errors="ignore").sort_values(ascending=False)
        np.testing.assert_allclose(key[lists[-1]], unseen.head(10), rtol=0, atol=0.01)
    known = np.mean(known, axis=0)
    assert known[0] < known[4] < known[8] > 1.1 * known[0]


def test_the_control_says_what_it_trades_in_numbers_and_where_it_stands(make, opened):
    tab = opened(make(orientation="item")[1])
    number = r"([\d.]+)"
    here = f"These were rated by {number} people on average and are predicted {number}; "
    here += f"the chance that you rate one of them next is {number} %."
    assert tab.input_value("#weight") == "0"
    assert tab.get_attribute("#weight", "aria-valuetext") == "5 of 9, the middle"
    middle = re.search(f"{here}$", tab.inner_text("#trade")).groups()
    tab.focus("#weight")
    tab.keyboard.press("Home")
    assert tab.get_attribute("#weight", "aria-valuetext") == "1 of 9, towards surprise me"
    told = re.search(
        f"{here} In the middle: {number} people, {number}, {number} %.$", tab.inner_text("#trade")
    ).groups()
    assert told[3:] == middle
    on_page = listed(tab)
    assert float(told[0]) == pytest.approx(on_page["n_ratings"].mean(), abs=0.51)
    assert float(told[1]) == pytest.approx(on_page["stars"].mean(), abs=0.0051)
    assert float(told[2]) == pytest.approx(100 * on_page["chance"].sum(), abs=1)
    assert float(told[0]) < float(middle[0])
    tab.keyboard.press("End")
    assert tab.get_attribute("#weight", "aria-valuetext") == "9 of 9, towards what most people know"
    assert tab.get_attribute("#weight", "aria-describedby") is None


def test_on_a_phone_the_first_of_the_list_is_seen_to_change(make, opened):
    """However many ratings there are: two are shown, and a bar at the bottom repeats the first row."""
    tab = opened(make(orientation="item")[1])
    bar, heights, firsts = tab.locator("#bar"), [], set()
    for title in ("star wars", "matrix", "pulp fiction", "titanic"):
        tab.focus("#search")
        tab.keyboard.type(title)
        tab.keyboard.press("Enter")
        tab.keyboard.press("End")
        assert bar.bounding_box()["y"] + bar.bounding_box()["height"] == pytest.approx(700, abs=1)
        said = tab.locator("#news").inner_text()
        assert said.startswith("First now: ") and tab.inner_text("#best u >> nth=0") in said
        heights.append(tab.locator("#rated").bounding_box()["height"])
        firsts.add(said)
    assert len(firsts) > 1 and heights[3] < heights[1] + 60
    more = tab.get_by_role("button", name="Show all 4")
    assert more.get_attribute("aria-expanded") == "false" and not tab.locator("#rated li").nth(2).is_visible()
    more.press("Enter")
    assert tab.locator("#rated li").nth(3).is_visible()
    tab.get_by_role("button", name="See the list").press("Enter")
    assert tab.evaluate("document.activeElement.id") == "top" and tab.locator("#best tbody tr").first.is_visible()
    tab.wait_for_function("document.getElementById('to-list').hidden")
    assert tab.evaluate("getComputedStyle(document.getElementById('bar')).clipPath") != "none"
    tab.set_viewport_size({"width": 1280, "height": 900})
    assert not tab.get_by_role("button", name="Show").is_visible()
    tab.wait_for_function("document.querySelector('.open-if-wide').open")


def test_in_forced_colours_ratings_and_choices_are_seen(browser, make):
    context = browser.new_context(offline=True, forced_colors="active")
    tab = context.new_page()
    tab.goto(make(orientation="item")[1].as_uri())
    tab.focus("#search")
    tab.keyboard.type("star")
    marked, other = (
        tab.locator(f"#found [aria-selected={selected}]").first.evaluate("one => getComputedStyle(one).backgroundColor")
        for selected in ("true", "false")
    )
    assert marked != other
    tab.keyboard.press("Enter")
    style = tab.locator("#rated input").evaluate(
        "one => [getComputedStyle(one).opacity, getComputedStyle(one.parentElement, '::before').display]"
    )
    assert style == ["1", "none"]
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_all_text_of_the_page_stands_out(browser, make, scheme, width):
    context = browser.new_context(viewport={"width": width, "height": 700}, color_scheme=scheme)
    tab = context.new_page()
    tab.goto(make(orientation="item")[1].as_uri())
    tab.focus("#search")
    tab.keyboard.type("star")
    contrasts = tab.evaluate(CONTRASTS)
    assert len(contrasts) > 60 and min(contrasts) >= 4.5
    context.close()


def test_all_is_labelled_announced_and_within_a_narrow_window(make, opened):
    tab = opened(make(orientation="item")[1])
    tab.focus("#search")
    tab.keyboard.type("star")
    assert tab.get_attribute("#search", "aria-expanded") == "true"
    assert tab.locator("#found [aria-selected=true]").count() == 1
    tab.keyboard.press("Enter")
    tab.keyboard.press("End")
    assert tab.get_by_role("slider", name="Rating of Star").get_attribute("aria-valuetext") == "5 of 5"
    assert tab.get_by_role("status").text_content().startswith("First now: ")
    assert tab.get_by_role("heading", level=1).count() == 1 and tab.get_attribute("html", "lang") == "en"
    names = tab.evaluate(
        """[...document.querySelectorAll("input, select, button")].map(one =>
            one.getAttribute("aria-label") || one.labels[0]?.textContent || one.textContent)"""
    )
    assert all(names)
    assert tab.eval_on_selector_all("th", "all => all.every(th => ['col', 'row'].includes(th.scope))")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    tab.get_by_role("button", name="Remove Star").press("Enter")
    assert tab.locator("#rated li").count() == 0
    popular = tab.locator("#popular tbody button").first
    title = popular.inner_text().removesuffix(" Rate")
    popular.press("Enter")
    assert tab.get_by_role("slider", name=f"Rating of {title}").evaluate("one => one === document.activeElement")


def test_a_hostile_title_is_shown_and_not_obeyed(opened, tmp_path, tastes):
    rec = saerec.Recommender(hidden_dims=(4,), n_epochs=1, rank_by="rating").fit(tastes)
    movies = pd.DataFrame({"item_id": rec.item_ids, "title": HOSTILE})
    path = saerec.write_page(tmp_path / "page.html", rec, movies)
    assert path.read_text(encoding="utf-8").count("</script>") == page.TEMPLATE.read_text("utf-8").count("</script>")
    assert content_of(path)["titles"] == [HOSTILE] * len(rec.item_ids)
    tab = opened(path)
    tab.focus("#search")
    tab.keyboard.type("<img")
    tab.keyboard.press("Enter")
    assert tab.inner_text("#rated li > span:first-child") == HOSTILE and tab.locator("img").count() == 0
    assert tab.title() == "What you may like next"


# Without one


@pytest.mark.filterwarnings("ignore:after epoch 1 the error")
def test_the_page_of_the_default_study_is_below_5_mb(movielens, tmp_path):
    ratings = saerec.top_users_and_items(movielens.ratings)
    rec = saerec.Recommender(n_epochs=1, batch_size=500, refit=False, rank_by="rating").fit(ratings)
    rec.choice = saerec.ChoiceModel(n_epochs=1, batch_size=1000).fit(rec.ratings)
    path = saerec.write_page(tmp_path / "page.html", rec, movielens.movies)
    assert rec.ratings.shape == (671, 1000) and 4_500_000 < path.stat().st_size < 5_000_000


def test_of_many_users_some_are_drawn_and_the_page_says_so(make, tmp_path, movielens):
    rec, whole = make(orientation="item")
    paths = [saerec.write_page(tmp_path / f"{i}.html", rec, movielens.movies, n_users=9) for i in range(2)]
    some, every = content_of(paths[0]), content_of(whole)
    assert len(some["users"]["ids"]) == 9 < len(every["users"]["ids"]) == len(rec.user_ids)
    assert some["about"][1] == "Or look up one of 9 people, drawn at random from the 120 in the data."
    assert every["about"][1] == "Or look up one of the 120 people in the data."
    assert paths[0].read_bytes() == paths[1].read_bytes() and len(paths[0].read_bytes()) < whole.stat().st_size
    assert content_of(saerec.write_page(tmp_path / "0.html", rec, n_users=0))["users"]["ids"] == []
    with pytest.raises(ValueError, match="n_users must not be negative, but is -1"):
        saerec.write_page(tmp_path / "0.html", rec, n_users=-1)


@pytest.mark.parametrize(
    ("values", "step"),
    [([0.5, 1, 1.5, 2, 5], 0.5), ([1, 2, 3, 5], 1), ([-10, 0, 10], 10), ([1, 2, 3, 10 / 3, 4, 5], 1)],
)
def test_the_step_is_that_of_the_data(values, step):
    frame = pd.DataFrame({"user_id": np.arange(len(values)), "item_id": 1, "rating": values})
    assert page._step(saerec.RatingMatrix.from_frame(frame)) == pytest.approx(step)


def test_titles_go_by_id_and_what_has_none_by_its_id():
    movies = pd.DataFrame({"item_id": [7, 5, 5], "title": ["A (1999)", "B", "C"]})
    assert page._titles(pd.Index([5, 6, 7]), movies) == ["B", "6", "A (1999)"]
    assert page._titles(pd.Index(["a"]), None) == ["a"]


def test_a_failed_write_leaves_the_page_that_was_there(make, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("before")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space"):
        saerec.write_page(path, make(orientation="item")[0])
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_text_stands_out_in_light_and_in_dark():
    style = page.TEMPLATE.read_text(encoding="utf-8")
    schemes = [
        dict(re.findall(r"--(\w+): #(\w+);", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    pairs = [("ink", "paper"), ("ink", "card"), ("soft", "paper"), ("soft", "card"), ("accent", "wash")]
    pairs += [("accent", "card"), ("star", "card"), ("card", "accent")]
    assert len(schemes) == 2
    for scheme in schemes:
        light = {name: luminance(color) for name, color in scheme.items()}
        for pair in pairs:
            darker, lighter = sorted(light[name] for name in pair)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, pair


def luminance(color: str) -> float:
    """Relative luminance as of WCAG 2, of #rgb or #rrggbb."""
    digits = color if len(color) == 6 else "".join(2 * digit for digit in color)
    parts = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


# The other pages of a run

CONTRASTS = """() => {
  const parts = colour => [...colour.match(/[0-9.]+/g).map(Number), 1];  // the fourth is the opacity
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = one => {
    const colour = parts(getComputedStyle(one).backgroundColor);
    return colour[3] ? colour : one.parentElement ? ground(one.parentElement) : [255, 255, 255];
  };
  return [...document.body.querySelectorAll("*")]
    .filter(one => [...one.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim()))
    .map(one => [light(parts(getComputedStyle(one).color)), light(ground(one))].sort((a, b) => a - b))
    .map(([darker, lighter]) => (lighter + 0.05) / (darker + 0.05));
}"""


SIGNS = """() => [...document.body.querySelectorAll("*")]
  .filter(one => one.scrollWidth > one.clientWidth && getComputedStyle(one).overflowX === "auto")
  .map(one => getComputedStyle(one).backgroundImage)"""  # of what can be scrolled: that there is more is shaded


@pytest.fixture
def pages(tmp_path):
    """The index of a run, and an executed notebook with every kind of output, wide tables and failures among them."""
    wide = pd.DataFrame({f"a long name of column {i}": ["some words"] for i in range(12)})
    outputs = [
        new_output("stream", name="stdout", text="said"),
        new_output("stream", name="stderr", text="epoch 3 of 40 " * 40),
        new_output("display_data", {"text/html": wide.to_html()}),
        new_output("display_data", {"text/html": wide.style.hide(axis="index").to_html()}),
        new_output("display_data", {"text/markdown": "**told**, `so`\n\n|a|b|\n|---|---|\n|1|2|"}),
        new_output("execute_result", {"text/plain": "1"}),
        new_output("error", ename="E", evalue="e", traceback=["\x1b[31mE\x1b[39m: e", "\x1b[32mgreen\x1b[0m"]),
    ]
    source = 'import a\nif not b in "c":  # why\n    d = f"{e:.2f}" + 3 + 0.5\n    return None'
    cells = [
        new_markdown_cell("# One\n\n**Why?** [two](02_two.ipynb)\n\n## `More`"),
        new_code_cell(source, outputs=outputs),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "01_one.ipynb")
    exports.write_notebook_page(tmp_path / "01_one.ipynb")
    inputs = {"parameters": {"n": 1}, "reads": {}, "data": None, "notebook": "", "code": ""}
    record = {"saerec": "0", "parameters": {"dataset": "d"}, "notebooks": {"01_one": {"inputs": inputs}}}
    record |= {"seconds": {"01_one": 1.5}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    pd.DataFrame({"model": ["saerec"], "rmse": [0.8]}).to_csv(tmp_path / "scores.csv", index=False)
    (tmp_path / "recommender.html").touch()
    return [write_index(tmp_path), tmp_path / "01_one.html"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_of_a_run_stand_out_and_fit_a_phone(browser, pages, scheme):
    context = browser.new_context(viewport={"width": 360, "height": 700}, color_scheme=scheme)
    tab = context.new_page()
    for path in pages:
        tab.goto(path.as_uri())
        contrasts = tab.evaluate(CONTRASTS)
        assert len(contrasts) > 15 and min(contrasts) >= 4.5, path
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360, path
        shades = tab.evaluate(SIGNS)
        assert (shades or path.stem == "index") and all(shade.count("linear-gradient") == 4 for shade in shades), path
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark != "rgb(255, 255, 255)") == (scheme == "dark")
    context.close()


def test_headers_of_tables_say_what_they_head(pages):
    """Those of pandas, of its styled tables and of Markdown."""
    for path in pages:
        headers = re.findall(r"<th\b[^>]*>", path.read_text(encoding="utf-8"))
        assert headers and all(re.search(' scope="(col|row)"', header) for header in headers)
    assert len(re.findall(r'<th scope="col"', path.read_text("utf-8"))) == 13 + 12 + 2
    assert len(re.findall(r'<th scope="row"', path.read_text("utf-8"))) == 1


# From the command line


@pytest.fixture
def run(tmp_path, tastes):
    """A run's folder, as far as the page needs it."""
    saerec.Recommender(hidden_dims=(4,), n_epochs=1).fit(tastes).save(tmp_path / "run" / "model")
    tastes.to_parquet(tmp_path / "run" / "ratings.parquet")
    item_ids = tastes["item_id"].unique()
    pd.DataFrame({"item_id": item_ids, "title": "T"}).to_parquet(tmp_path / "run" / "movies.parquet")
    scores = pd.DataFrame({"model": ["regularised biases", "saerec"], "rmse": [0.911, 0.844]})
    scores.to_csv(tmp_path / "run" / "scores.csv", index=False)
    return tmp_path / "run"


def test_the_command_writes_the_page_of_a_run_and_says_where(run, tmp_path, capsys):
    assert main(["page", "--run", str(run)]) == 0
    assert capsys.readouterr().out == f"open {run / 'recommender.html'}\n"
    about, _ = content_of(run / "recommender.html")["about"]
    assert (
        "are off by 0.84 (root mean square, on a scale from 0.5 to 5); predictions from the averages of each item and "
        "each person are off by 0.91." in about
    )
    elsewhere = tmp_path / "new" / "page.html"
    assert main(["page", "--run", str(run), "--out", str(elsewhere), "--n-users", "3"]) == 0
    assert len(content_of(elsewhere)["users"]["ids"]) == 3


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("model", "is missing: the notebook 03_best_epoch writes it, run that first"),
        ("movies.parquet", "is missing: the notebook 01_exploration writes it, run that first"),
        ("", "no such folder; saerec run makes one"),
    ],
)
def test_a_run_that_is_not_finished_is_one_line_and_exit_1(run, capsys, missing, message):
    (run / missing).rename(run.parent / "away")
    assert main(["page", "--run", str(run)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("saerec: ") and error.endswith(f"{message}\n") and error.count("\n") == 1
    assert not (run / "recommender.html").exists()


def test_only_ratings_of_movielens_are_credited_to_it(run):
    for dataset, credited in (("data/ml-1m", True), ("shop.csv", False), ("data/ml-orders.csv.gz", False)):
        (run / "run.json").write_text(json.dumps({"parameters": {"dataset": dataset}}))
        content = content_of(series.write_page(run))
        assert ("Harper" in content["source"]) == credited == ("24 movies" in content["about"][0])


def test_a_page_of_a_run_that_is_written_anew_is_in_its_record(run):
    (run / "run.json").write_text(json.dumps({"parameters": {"dataset": "d"}}))
    series.write_page(run, run / "elsewhere.html")
    assert read_record(run)["pages"] == {}
    path = series.write_page(run, n_users=3)
    assert read_record(run)["pages"] == {path.name: sha256_of(path)}


def test_nothing_is_recommended_by_what_a_notebook_has_not_finished(run, capsys):
    """Notebook 03 was stopped between its scores and its model."""
    inputs = {"parameters": {}, "reads": {}, "data": None, "notebook": "", "code": ""}
    record = {"parameters": {"dataset": "d"}, "notebooks": {"03_best_epoch": {"inputs": inputs}}}
    (run / "run.json").write_text(json.dumps(record))
    for command in (["page"], ["page", "--out", str(run / "elsewhere.html")], ["recommend", "--user", "1000"]):
        assert main([command[0], "--run", str(run), *command[1:]]) == 1
        error = capsys.readouterr().err
        assert error == f"saerec: {run / 'model'} may be half old: 03_best_epoch is not finished; run it again first\n"
    assert not list(run.glob("*.html"))
    record["notebooks"]["03_best_epoch"]["writes"] = {}
    (run / "run.json").write_text(json.dumps(record))
    assert main(["page", "--run", str(run)]) == main(["recommend", "--run", str(run), "--user", "1000"]) == 0


def test_nothing_is_recommended_by_a_mix(run, capsys):
    """Notebook 01 has made another cut since; 06 does not matter."""
    inputs = {"parameters": {}, "reads": {"ratings.parquet": "0"}, "data": None, "notebook": "", "code": ""}
    work = {"inputs": inputs, "writes": {}}
    record = {"parameters": {"dataset": "d"}, "notebooks": {"02_training": work, "06_peers": work}}
    (run / "run.json").write_text(json.dumps(record))
    for command in ("page", "recommend"):
        assert main([command, "--run", str(run), *(["--user", "1000"] if command == "recommend" else [])]) == 1
        told = f"{run} is a mix: 02_training read another ratings.parquet than lies there; saerec run makes it anew"
        assert capsys.readouterr().err == f"saerec: {told}\n"
    del record["notebooks"]["02_training"]
    (run / "run.json").write_text(json.dumps(record))
    assert main(["page", "--run", str(run)]) == 0
