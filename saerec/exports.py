"""What of a run opens in a browser: a page of each executed notebook, and the index that leads to them.

All are self-contained, run no script and ask no network for anything. The page that recommends is `saerec.page`'s.
"""

import re
from collections.abc import Iterable, Mapping
from html import escape
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
{% block data_png scoped %}
<div class="output_png"><img src="data:image/png;base64,{{ output.data['image/png'] }}"
alt="{{ output | get_metadata('alt', 'image/png') | escape_html }}"></div>
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
    html = _with_scopes(html)
    save_atomically(notebook.with_suffix(".html"), lambda part: part.write_text(html, encoding="utf-8"))


def _with_scopes(html: str) -> str:
    """Every header of a table says what it heads, for who has the table read to them: columns, or its row."""
    heads = re.compile(r"<thead.*?</thead>", re.DOTALL)
    html = heads.sub(lambda head: re.sub(r"<th(?=[ >])", '<th scope="col"', head[0]), html)
    return re.sub(r'<th(?=[ >])(?! scope="col")', '<th scope="row"', html)


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
<p>{summary}</p>
{recommender}
<h2>Notebooks</h2>
<div class="scrolls"><table>
<thead><tr><th scope="col">notebook</th><th scope="col">answers</th><th scope="col">with</th>
<th scope="col">took</th></tr></thead>
<tbody>{notebooks}</tbody>
</table></div>
<h2>Errors on the test ratings</h2>
<p>In points of the ratings (stars on MovieLens); opened once, after the epoch was chosen on validation ratings.</p>
<div class="scrolls">{scores}</div>
<h2>Files</h2>
<div class="scrolls"><table>
<thead><tr><th scope="col">file</th><th scope="col">holds</th></tr></thead>
<tbody>{files}</tbody>
</table></div>
</main>
</body>
</html>
"""
ROW = (
    '<tr><td><a href="{page}">{title}</a></td><td>{question}</td><td>{settings}</td>'
    '<td class="number">{seconds}</td></tr>'
)
FILE = '<tr><td><a href="{name}">{name}</a></td><td>{what}</td></tr>'
BUTTON = '<p><a class="button" href="{page}">Try it: give a few ratings, and see what it recommends</a></p>'


def write_index(
    path: Path,
    *,
    title: str,
    summary: str,
    notebooks: Iterable[Mapping[str, str]],
    scores: pd.DataFrame | None,
    files: Iterable[tuple[str, str]],
    recommender: str = "",
) -> None:
    """A run's first page.

    Parameters
    ----------
    path : Path
    title, summary : str
    notebooks : iterable of mappings
        What stands in a row of `ROW`: page (a file beside `path`), title, question, settings, seconds.
    scores : DataFrame, optional
        The errors on the test ratings, if there are any.
    files : iterable of (str, str)
        Names of files beside `path`, and what they hold.
    recommender : str
        The page that recommends, if there is one.
    """
    table = "<p>There are none yet.</p>"
    if scores is not None:
        table = _with_scopes(scores.to_html(index=False, float_format="{:.4f}".format, border=0))
    text = PAGE.format(
        style=STYLE.read_text(encoding="utf-8"),
        title=escape(title),
        summary=escape(summary),
        recommender=BUTTON.format(page=recommender) if recommender else "",
        notebooks="\n".join(ROW.format(**{name: escape(text) for name, text in row.items()}) for row in notebooks),
        scores=table,
        files="\n".join(FILE.format(name=name, what=what) for name, what in files),
    )
    save_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
