"""What of a run opens in a browser: a page of each executed notebook, and the index that leads to them.

All are self-contained, run no script and ask no network for anything. The page that recommends is `saerec.page`'s.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from itertools import count
from pathlib import Path

import pandas as pd

from saerec.files import save_atomically

STYLE = Path(__file__).with_name("pages.css")  # of all pages but the recommender's
NOTEBOOK_PAGE = """
{%- extends "classic/base.html.j2" -%}
{% block header %}<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{{ nb.cells[0].source.splitlines()[0].strip("# ") | escape_html }}</title>
<style>{{ resources.style }}</style>
</head>
<body>
<nav><a href="index.html">All of this run</a></nav>
<main>
{% endblock %}
{% block input %}
<details class="input_area"><summary>Code</summary>
{{ cell.source | highlight_code(metadata=cell.metadata) }}</details>
{% endblock %}
{% block data_html scoped %}
<div class="scrolls" tabindex="0" role="region" aria-label="Table, scrolls sideways">
{{ output.data['text/html'] }}</div>
{% endblock %}
{% block data_png scoped %}
{%- set about = output.metadata.get('image/png', {}) -%}
<figure><img src="data:image/png;base64,{{ output.data['image/png'] }}" alt="{{ about.alt | escape_html }}"
{%- if about.width %} width="{{ about.width }}"{% endif %}>
{%- if about.caption %}
<figcaption>{{ about.caption | escape_html }}
{%- if about.csv %} <a href="{{ about.csv | escape_html }}">Its numbers</a>{% endif %}</figcaption>
{%- endif %}</figure>
{% endblock %}
{% block footer %}
</main>
</body>
</html>
{% endblock %}
"""


def write_notebook_page(notebook: Path) -> None:
    """An HTML page beside the executed notebook: self-contained, without scripts, linked to the other pages."""
    from jinja2 import DictLoader
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor
    from nbconvert.preprocessors.sanitize import SanitizeHTML

    exporter = HTMLExporter(
        extra_loaders=[DictLoader({"page.html.j2": NOTEBOOK_PAGE})],
        template_file="page.html.j2",
        exclude_anchor_links=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    exporter.register_preprocessor(CoalesceStreamsPreprocessor(), enabled=True)  # a progress bar becomes one line
    # Titles and ids may stand in Markdown; tables, which are HTML, come escaped.
    harmless = SanitizeHTML(sanitized_output_types={"text/markdown"})
    harmless.safe_output_keys = harmless.safe_output_keys | {"text/html"}
    exporter.register_preprocessor(harmless, enabled=True)
    html, _ = exporter.from_filename(str(notebook), resources={"style": STYLE.read_text(encoding="utf-8")})
    html = re.sub(r"<script\b.*?</script>", "", html, flags=re.DOTALL)
    html = re.sub(r'href="(\d\d_\w+)\.ipynb"', r'href="\1.html"', html)
    html = _without_paths(_numbered(_with_scopes(html), notebook.stem[:2].lstrip("0")), notebook)
    save_atomically(notebook.with_suffix(".html"), lambda part: part.write_text(html, encoding="utf-8"))


def _with_scopes(html: str) -> str:
    """Every header of a table says what it heads, for who has the table read to them: columns, or its row."""
    silent = re.compile("<th(?=[ >])(?![^>]* scope=)")
    heads = re.compile(r"<thead.*?</thead>", re.DOTALL)
    html = heads.sub(lambda head: silent.sub('<th scope="col"', head[0]), html)
    return silent.sub('<th scope="row"', html)


def _numbered(html: str, chapter: str) -> str:
    """Captions say which figure or table of which notebook they are of."""
    for tag, word in (("figcaption", "Figure"), ("caption", "Table")):
        first, *rest = html.split(f"<{tag}>")
        html = first + "".join(f"<{tag}>{word} {chapter}.{n}. {part}" for n, part in zip(count(1), rest))
    return html


def _without_paths(html: str, notebook: Path) -> str:
    """Of paths that were passed to the notebook only their names: where a run lay is nobody's business."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    passed = "".join("".join(c["source"]) for c in cells if "injected-parameters" in c["metadata"].get("tags", []))
    paths = [path for path in map(Path, re.findall(r'"([^"]+)"', passed)) if path.is_absolute() and path.name]
    for path in sorted(paths, key=lambda path: -len(str(path))):  # one may lie in another
        forms = "|".join(re.escape(form) for form in {str(path), escape(str(path)), escape(str(path), quote=False)})
        # Neither in pictures, which may hold any few letters, nor in tags, nor a part of another name.
        there = re.compile(rf'"data:[^"]*"|(?<![\w<])(?:{forms})(?![\w-])')
        html = there.sub(lambda found, name=path.name: found[0] if found[0][0] == '"' else escape(name), html)
    return html


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>saerec: {title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p><strong>{result}</strong></p>
{picture}{recommender}
<h2>Notebooks</h2>
<ul>
{notebooks}
</ul>
{tables}
<h2>Files</h2>
<details><summary>What the notebooks wrote</summary>
<div class="scrolls" tabindex="0" role="region" aria-label="Files"><table>
<thead><tr><th scope="col">file</th><th scope="col">holds</th></tr></thead>
<tbody>{files}</tbody>
</table></div></details>
<p>Made by {maker}.</p>
</main>
</body>
</html>
"""
NOTEBOOK = '<li><a href="{page}">{title}</a> {question}<br><small>{settings}</small></li>'
FILE = '<tr><td><a href="{name}">{name}</a></td><td>{what}</td></tr>'
BUTTON = '<p><a class="button" href="{page}">Try it: give a few ratings, and see what it recommends</a></p>'
PICTURE = (
    '<figure><img src="data:image/png;base64,{data}" alt="{alt}" width="672">\n<figcaption>Errors on the test ratings; '
    'left is better. <a href="scores.csv">Their numbers</a></figcaption></figure>\n'
)
TABLE = """<h2>{title}</h2>
<p>{about}</p>
<div class="scrolls" tabindex="0" role="region" aria-label="{title}">{table}</div>"""
ERRORS = (
    "Errors on the test ratings",
    "In points of the ratings (stars on MovieLens). <em>rmse</em>: root of the mean squared error over all test "
    "ratings. <em>user_rmse</em>: the same of each user, averaged over users. <em>mae</em>: mean absolute error. "
    "<em>Regularised biases</em> are averages: the mean of all, how generous the user is, and how good the item is. "
    "The test ratings were opened once, after everything had been chosen on others.",
)
LISTS = (
    "Lists of ten",
    "<em>recall@10</em>: the share of what a user liked among the test ratings that is on their list, averaged over "
    "users. <em>ndcg@10</em> counts the first places more; 1 is perfect. <em>coverage</em>: the share of all items "
    "that is on anybody's list. <em>popularity</em>: how many ratings a listed item has. <em>novelty</em>: how rare a "
    "listed item is, in bits; one more is half as many raters.",
)


def write_index(
    path: Path,
    *,
    title: str,
    result: str,
    picture: Path | None,
    notebooks: Iterable[Mapping[str, str]],
    scores: pd.DataFrame | None,
    lists: pd.DataFrame | None,
    files: Iterable[tuple[str, str]],
    maker: str,
    recommender: str = "",
) -> None:
    """A run's first page.

    Parameters
    ----------
    path : Path
    title, result, maker : str
        What was studied, what was found, in a sentence or two, and by which version.
    picture : Path, optional
        Of the scores, PNG.
    notebooks : iterable of mappings
        What stands in a row of `NOTEBOOK`: page (a file beside `path`), title, question, settings.
    scores, lists : DataFrame, optional
        The errors on the test ratings, and what lists in several orders are worth, if there are any.
    files : iterable of (str, str)
        Names of files beside `path`, and what they hold.
    recommender : str
        The page that recommends, if there is one.
    """
    from saerec.plots import LIST_MEASURES  # here, for it takes a second to import

    shown = dict.fromkeys(("rmse", "user_rmse", "mae"), "{:.4f}".format)
    shown |= {label: form.format for label, form in LIST_MEASURES.values()}
    tables = []
    for (heading, about), frame in ((ERRORS, scores), (LISTS, lists)):
        if frame is not None:
            frame = frame.rename(columns={name: label for name, (label, _) in LIST_MEASURES.items()})
            table = _with_scopes(frame.to_html(index=False, formatters=shown, border=0))
            tables.append(TABLE.format(title=heading, about=about, table=table))
    figure = ""
    if picture is not None and scores is not None:
        told = "; ".join(f"{model} {rmse:.4f}" for model, rmse in scores[["model", "rmse"]].to_numpy())
        data = base64.b64encode(picture.read_bytes()).decode()
        figure = PICTURE.format(data=data, alt=escape(f"A dot for each model, its rmse on the test ratings: {told}."))
    text = PAGE.format(
        style=STYLE.read_text(encoding="utf-8"),
        title=escape(title),
        result=escape(result),
        picture=figure,
        recommender=BUTTON.format(page=recommender) if recommender else "",
        notebooks="\n".join(NOTEBOOK.format(**{name: escape(text) for name, text in row.items()}) for row in notebooks),
        tables="\n".join(tables),
        files="\n".join(FILE.format(name=name, what=what) for name, what in files),
        maker=escape(maker),
    )
    save_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
