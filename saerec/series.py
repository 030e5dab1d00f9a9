"""Runs the notebook series, and knows which file of a run which notebook writes. The only module that uses papermill.

A run is a folder: the executed notebooks, an HTML page of each, and the files that the notebooks hand to one another.
"""

import ast
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

import pandas as pd

import saerec
from saerec import page, study
from saerec.datasets import OF_LOADING, TABLE, load_dataset
from saerec.files import LOCK, PART, one_writer, save_atomically, sha256_of
from saerec.movielens import CITATION
from saerec.record import (
    RECORD,
    checksums,
    difference,
    fingerprint,
    read_record,
    surroundings,
    write_record,
)

PACKAGE = Path(__file__).parent
INSTALLED = (PACKAGE / "notebooks").is_dir()  # from a wheel, which holds the notebooks; otherwise this is a checkout
NOTEBOOKS = (PACKAGE if INSTALLED else PACKAGE.parent) / "notebooks"
RUNS = (Path() if INSTALLED else PACKAGE.parent) / "runs"

DEFAULT = "ml-latest-small"

# What the notebooks write to a run's folder: which of them, and what it is.
ARTEFACTS = {
    "ratings.parquet": ("01_exploration", "the ratings that the cut keeps"),
    "movies.parquet": ("01_exploration", "all items: title, genres, year"),
    "sizes.csv": ("01_exploration", "users, items and ratings before and after the cut"),
    "train.parquet": ("02_training", "training ratings"),
    "valid.parquet": ("02_training", "validation ratings"),
    "test.parquet": ("02_training", "test ratings"),
    "baselines.csv": ("02_training", "validation errors of the baselines"),
    "history.csv": ("02_training", "training and validation error of every epoch"),
    "history.png": ("02_training", "their picture"),
    "seconds.csv": ("02_training", "how long every epoch took"),
    "checkpoints": ("02_training", "the weights of every epoch, and what it takes to go on"),
    "trained": ("02_training", "the model of the best epoch, trained on the training ratings"),
    "scores.csv": ("03_best_epoch", "test errors of the model and the baselines"),
    "scores.png": ("03_best_epoch", "their picture"),
    "errors.csv": ("03_best_epoch", "test errors by rating, by activity and by popularity"),
    "list_scores.csv": ("03_best_epoch", "what lists in several orders are worth"),
    "calibration.csv": ("03_best_epoch", "how often the error bars held, and how wide they are, by group"),
    "refit": ("03_best_epoch", "what it takes to go on with the last training"),
    "model": ("03_best_epoch", "the final model, for saerec.load"),
    "top10.csv": ("04_user_report", "the list of every user"),
    "reports.csv": ("04_user_report", "the lists of the reported users"),
    "predictions.csv": ("04_user_report", "their predictions for all unseen items"),
    "ledger.csv": ("05_original_study", "the defects of the original study: test errors before and after each mending"),
    "ledger_seconds.csv": ("05_original_study", "how long an epoch, or what was timed, took before and after"),
    "ledger.png": ("05_original_study", "test errors from the original to saerec, a bar for each step"),
    "original.png": ("05_original_study", "the original's errors, epoch by epoch"),
    "peers.csv": ("06_peers", "saerec and other recommenders: test errors and what their lists are worth"),
    "peers_seconds.csv": ("06_peers", "how long each took, and how much memory"),
    "peers.png": ("06_peers", "their picture"),
}

# What they read of it.
READS = {
    "02_training": ("ratings.parquet", "movies.parquet"),
    "03_best_epoch": ("trained", "history.csv", "baselines.csv", "train.parquet", "valid.parquet", "test.parquet"),
    "04_user_report": ("model", "movies.parquet", "ratings.parquet"),
    "05_original_study": ("ratings.parquet", "movies.parquet"),
    "06_peers": ("trained", "train.parquet", "valid.parquet", "test.parquet"),
}
CHECK_THEMSELVES = {"checkpoints", "refit"}  # their files hold their own checksums
TRAINED_BY = ("01_exploration", "02_training")  # whose parameters are all that training takes

RECOMMENDER_PAGE = "recommender.html"  # written after the notebooks, once these are there:
FOR_ITS_PAGE = ("model", "movies.parquet", "ratings.parquet")


class SeriesError(Exception):
    """A notebook of the series failed; the message says which, where and why."""


def run_folder(dataset: str, out: str = "") -> Path:
    """The folder of a run, made if need be: `out`, or ``runs/<dataset>``.

    The latter in the checkout that saerec runs from; if it was installed from a wheel, in the current folder.
    """
    folder = _folder(dataset, out)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _folder(dataset: str, out: str) -> Path:
    return Path(out) if out else RUNS / re.sub(r"\.zip$|" + TABLE.pattern, "", Path(dataset).resolve().name)


def artefact(folder: Path, name: str) -> Path:
    """The path of a file (or folder) that an earlier notebook wrote to a run's folder.

    Raises
    ------
    FileNotFoundError
        It is not there; the message names the notebook to run first.
    """
    path = Path(folder) / name
    if not path.exists():
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"there is no run in {folder}: no such folder; saerec run makes one")
        raise FileNotFoundError(f"{path} is missing: the notebook {ARTEFACTS[name][0]} writes it, run that first")
    return path


def write_page(folder: Path, out: str | os.PathLike = "", *, n_users: int = 1000) -> Path:
    """The web page in which the recommender of a run runs (`saerec.page`): `out`, or recommender.html in the folder.

    Raises
    ------
    FileNotFoundError
        The run lacks something; the message names the notebook to run first.
    ValueError
        `n_users` is negative, or what `saerec.load` finds wrong.
    """
    model, movies, ratings = (artefact(folder, name) for name in FOR_ITS_PAGE)
    scores = Path(folder, "scores.csv")
    rmse = pd.read_csv(scores).set_index("model")["rmse"].to_dict() if scores.exists() else {}
    dataset = read_record(folder)["parameters"]["dataset"] if Path(folder, RECORD).exists() else ""
    return page.write_page(
        out or Path(folder, RECOMMENDER_PAGE),
        saerec.load(model),
        pd.read_parquet(movies),
        seen=[pd.read_parquet(ratings)],
        rmse=rmse,
        source=CITATION if Path(dataset).name.startswith("ml-") else "",
        n_users=n_users,
    )


def parameters_of(notebook: Path) -> dict[str, object]:
    """The parameters that a notebook declares, with their defaults."""
    import papermill

    return {name: ast.literal_eval(p["default"]) for name, p in papermill.inspect_notebook(str(notebook)).items()}


def settings(given: Mapping[str, object]) -> dict[str, object]:
    """All parameters of the notebooks that cut, split and train: as they are given, otherwise as declared there.

    Raises
    ------
    ValueError
        A parameter that none of them has, or of the wrong type.
    """
    declared = {notebook: parameters_of(notebook) for notebook in _choose(list(TRAINED_BY))}
    for name in ("dataset", "out", "resume"):
        if name in given:
            raise ValueError(f"{name} is no parameter to set with the others: give it as --{name}")
        for parameters in declared.values():
            parameters.pop(name, None)
    return {name: default for parameters in declared.values() for name, default in parameters.items()} | _typed(
        given, declared
    )


def run(
    dataset: str | os.PathLike = "",
    out: str | os.PathLike = "",
    *,
    parameters: Mapping[str, object] = {},
    only: Iterable[str] = (),
    restart: bool = False,
    progress: bool = True,
) -> Path:
    """Execute the series on a data set; the run's index page.

    In the folder of an earlier run it goes on: what is finished stays, unless its parameters, what it reads, the data,
    the notebook or saerec's code have changed, which is said on stderr; an interrupted training goes on from its last
    epoch.

    Parameters
    ----------
    dataset : str or path
        See `load_dataset`. Left out: that of the earlier run with `only`, otherwise ml-latest-small.
    out : path, optional
        See `run_folder`.
    parameters : mapping of name to value
        Each goes to the notebooks that declare it. Strings are read as the type of the default.
    only : names of notebooks, such as "04_user_report"
        Execute these alone, in an earlier run's folder, with its parameters where `parameters` does not say otherwise.
    restart : bool
        Whether to remove an earlier run in the same folder first.
    progress : bool
        Show a progress bar for each notebook on stderr.

    Raises
    ------
    ValueError
        A parameter that no notebook declares or of the wrong type, an unknown notebook, unusable data, a damaged record
        of the earlier run; before anything is executed.
    FileExistsError
        The folder holds something that is not of a run, or a run without its record.
    BusyFolderError
        Another process works in the folder.
    SeriesError
        A notebook failed. Its executed copy, with the traceback, is in the folder.
    """
    only = list(only)
    notebooks = _choose(only)
    declared = {notebook: parameters_of(notebook) for notebook in notebooks}
    for name in ("dataset", "out"):
        if name in parameters:
            raise ValueError(f"{name} is no parameter to set with the others: give it as --{name}")
    typed = _typed(parameters, declared)
    folder = _folder(str(dataset or DEFAULT), str(out)).resolve()
    record = {"parameters": {}, "data": None, "notebooks": {}, "seconds": {}}
    if (folder / RECORD).exists() and not restart:
        record |= read_record(folder)
    if only:
        dataset = dataset or record["parameters"].get("dataset", "")
    else:
        record["parameters"] = {}
    dataset = str(dataset or DEFAULT)
    record["parameters"] |= {"dataset": dataset, "out": str(folder)} | typed
    if not only or any(OF_LOADING & set(names) for names in declared.values()):
        own = {name: value for name, value in record["parameters"].items() if name in OF_LOADING}
        # What is wrong with it is said before an earlier run is touched.
        record["data"] = fingerprint(load_dataset(dataset, **own))
    with one_writer(folder):
        if not only:
            _check_folder(folder, restart)
        made = {"saerec": saerec.__version__, **surroundings()}
        for name in ("index.html", RECOMMENDER_PAGE):
            (folder / name).unlink(missing_ok=True)
        for notebook in notebooks:
            passed = {name: value for name, value in record["parameters"].items() if name in declared[notebook]}
            _run_notebook(notebook, passed, "resume" in declared[notebook], folder, record, made, bool(only), progress)
        if (folder / "scores.csv").exists():
            record["results"] = pd.read_csv(folder / "scores.csv").to_dict("records")
        write_record(folder, record)
        if all((folder / name).exists() for name in FOR_ITS_PAGE):
            write_page(folder)
        return _write_index(folder)


def _run_notebook(
    notebook: Path,
    parameters: dict[str, object],
    can_resume: bool,
    folder: Path,
    record: dict,
    made: dict,
    anyway: bool,
    progress: bool,
) -> None:
    """Execute a notebook, unless its work is done; then, or with its work begun, the record says so."""
    name = notebook.stem
    inputs = {
        "parameters": {
            key: value for key, value in parameters.items() if key not in ("dataset", "out", "keep", "resume")
        },
        "reads": checksums(folder, READS.get(name, ())),
        "data": record["data"] if OF_LOADING & set(parameters_of(notebook)) else None,
        "notebook": sha256_of(notebook),
        "code": made["code"],
    }
    own = [written for written, (writer, _) in ARTEFACTS.items() if writer == name]
    before = record["notebooks"].get(name)
    changed = None if before is None else difference(before["inputs"], inputs)
    if before is not None and changed is None and "writes" not in before and can_resume:
        print(f"{name} was interrupted and goes on", file=sys.stderr)
        parameters = parameters | {"resume": True}
    elif before is not None and not anyway:
        pages = tuple(notebook.with_suffix(ending).name for ending in (".ipynb", ".html"))
        now = checksums(folder, (*own, *pages))
        changed = changed or next((f"{file} is missing" for file in pages if file not in now), None)
        for file, checksum in before.get("writes", {}).items():
            changed = changed or (None if now.get(file) == checksum else f"{file} is not as it was written")
        if "writes" in before and changed is None:
            print(f"{name} is finished and stays", file=sys.stderr)
            return
        print(f"{name} runs again: {changed or 'it was interrupted'}", file=sys.stderr)
        for written in own:
            _remove(folder / written)
    else:
        for written in CHECK_THEMSELVES & set(own):  # of what cannot be gone on with
            _remove(folder / written)
    start = time.perf_counter()
    (folder / notebook.name).with_suffix(".html").unlink(missing_ok=True)
    record |= made
    record["notebooks"][name] = {"inputs": inputs, "made": made}
    write_record(folder, record)
    _execute(notebook, folder / notebook.name, parameters, progress)
    _write_html(folder / notebook.name)
    files = (*(file for file in own if file not in CHECK_THEMSELVES), notebook.with_suffix(".html").name)
    record["notebooks"][name]["writes"] = checksums(folder, files)
    record["seconds"][name] = round(time.perf_counter() - start, 1)
    write_record(folder, record)


def training_parts(
    dataset: str | os.PathLike = "", parameters: Mapping[str, object] = {}
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None, dict[str, object]]:
    """What a run with these parameters trains on: train, valid, item features, and the parameters of `Recommender`.

    Parameters
    ----------
    dataset, parameters
        As of `run`: those of the notebooks that cut, split and train. Of the parameters of `saerec.Recommender` those
        that are given are returned, seed and device in any case.

    Raises
    ------
    ValueError, FileNotFoundError, DataError
        As of `run`.
    """
    values = settings(parameters)
    train, valid, _, features = study.parts(str(dataset or DEFAULT), values)
    own = study.of_recommender(values)
    return train, valid, features, {name: own[name] for name in own if name in {*parameters, "seed", "device"}}


def _choose(only: list[str]) -> list[Path]:
    notebooks = {path.stem: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    unknown = [name for name in only if name not in notebooks]
    if unknown:
        raise ValueError(f"there is no notebook {unknown[0]!r}; there are {', '.join(notebooks)}")
    return [path for name, path in notebooks.items() if name in only or not only]


def _typed(given: Mapping[str, object], declared: Mapping[Path, Mapping[str, object]]) -> dict[str, object]:
    """The given parameters, each of the type of its default."""
    defaults = {name: default for parameters in declared.values() for name, default in parameters.items()}
    unknown = [name for name in given if name not in defaults]
    if unknown:
        elsewhere = [path.stem for path in _choose([]) if path not in declared and unknown[0] in parameters_of(path)]
        if elsewhere:
            raise ValueError(f"{unknown[0]} is a parameter of {', '.join(elsewhere)}: add --only {elsewhere[0]}")
        raise ValueError(f"no notebook has a parameter {unknown[0]!r}; there are {', '.join(sorted(defaults))}")
    return {name: _of_type(name, value, defaults[name]) for name, value in given.items()}


def _of_type(name: str, value: object, default: object) -> object:
    kind = type(default)
    if isinstance(value, str) and kind is not str:
        value = _read(value, kind)
    if kind is float and type(value) is int:
        value = float(value)
    if kind is list and type(value) is tuple:
        value = list(value)
    if type(value) is not kind:
        raise ValueError(f"the parameter {name} is of type {kind.__name__}, like {default!r}, not {value!r}")
    if kind is list and default and any(type(element) is not type(default[0]) for element in value):
        raise ValueError(f"the parameter {name} is a list like {default!r}, not {value!r}")
    return value


def _read(text: str, kind: type) -> object:
    """`text` as a value of a type, or as the text it is if it cannot be."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if kind is list:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        return list(value) if isinstance(value, (list, tuple)) else [value]
    return value


def _check_folder(folder: Path, restart: bool) -> None:
    """Raise unless the folder is empty or of a run that can be gone on with; remove that, with `restart`."""
    pages = {path.with_suffix(ending).name for path in NOTEBOOKS.glob("*.ipynb") for ending in (".ipynb", ".html")}
    ours = {RECORD, "index.html", RECOMMENDER_PAGE, *ARTEFACTS, *pages}
    there = [path for path in sorted(folder.iterdir()) if not path.name.startswith(LOCK)]
    foreign = [path.name for path in there if PART.sub("", path.name) not in ours]
    if foreign:
        raise FileExistsError(
            f"{folder} holds something that is not of a run, {foreign[0]}: choose another folder with --out"
        )
    if restart:
        for path in there:
            _remove(path)
    elif there and not (folder / RECORD).exists():
        raise FileExistsError(
            f"{folder} holds files of a run without its record, {RECORD}: remove them with --restart, or choose "
            "another folder with --out"
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _execute(notebook: Path, output: Path, parameters: Mapping[str, object], progress: bool) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    settings = {
        # ipykernel 7 warns of connections that are not encrypted.
        "KernelManager": {"transport_encryption": "auto"},
        # A kernel that is asked kindly to stop may report the interrupt as an error.
        "NotebookClient": {"shutdown_kernel": "immediate"},
    }
    options = {
        "progress_bar": {"desc": notebook.stem} if progress else False,
        "kernel_name": "python3",
        "config": Config(settings),
    }
    try:
        papermill.execute_notebook(notebook, output, parameters=dict(parameters), **options)
    except papermill.PapermillExecutionError as error:
        text = error.evalue.strip("'\"") if error.ename == "KeyError" else error.evalue  # a KeyError quotes itself
        reason = f"{error.ename}: {text}".strip().splitlines()[-1]
        where = f"{notebook.stem} failed in cell {error.exec_count}"
        raise SeriesError(f"{where}: {reason}\nthe executed copy: {output}") from error
    except DeadKernelError as error:
        where = f"{notebook.stem} did not finish: its kernel died, perhaps for want of memory"
        raise SeriesError(f"{where}\nthe executed copy, as far as it got: {output}") from error


STYLE = PACKAGE / "pages.css"  # of all pages but the recommender's
NOTEBOOK_PAGE = """
{%- extends "classic/base.html.j2" -%}
{% block header %}<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
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


def _write_html(notebook: Path) -> None:
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
<thead><tr><th scope="col">notebook</th><th scope="col">answers</th><th scope="col">took</th></tr></thead>
<tbody>{notebooks}</tbody>
</table></div>
<h2>Errors on the test ratings</h2>
<p>In stars; opened once, after the epoch had been chosen on the validation ratings.</p>
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
ROW = '<tr><td><a href="{page}">{title}</a></td><td>{question}</td><td class="number">{seconds}</td></tr>'


def _write_index(folder: Path) -> Path:
    """The run's first page: its notebooks, scores and files."""
    import nbformat

    record = read_record(folder)
    rows = []
    for path in sorted(folder.glob("[0-9][0-9]_*.html")):
        first = nbformat.read(path.with_suffix(".ipynb"), as_version=4).cells
        told = next(cell.source for cell in first if cell.cell_type == "markdown" and cell.source.startswith("# "))
        title, question = (re.sub(r"[*`#]", "", line).strip() for line in [*filter(None, told.splitlines()), ""][:2])
        seconds = record["seconds"].get(path.stem)
        spent = f"{seconds} s" if seconds is not None else ""
        rows.append(ROW.format(page=path.name, title=escape(title), question=escape(question), seconds=spent))
    scores = ""
    if (folder / "scores.csv").exists():
        scores = pd.read_csv(folder / "scores.csv").to_html(index=False, float_format="{:.4f}".format, border=0)
    files = [(name, what) for name, (_, what) in ARTEFACTS.items() if (folder / name).exists()]
    chosen = {name: value for name, value in record["parameters"].items() if name not in ("dataset", "out")}
    settings = ", ".join(f"{name} = {value}" for name, value in chosen.items()) or "all settings at their defaults"
    button = f'<p><a class="button" href="{RECOMMENDER_PAGE}">Try it: rate movies, and see what it recommends</a></p>'
    text = PAGE.format(
        style=STYLE.read_text(encoding="utf-8"),
        title=escape(f"A study of {Path(record['parameters']['dataset']).name}"),
        summary=escape(f"saerec {record['saerec']}; {settings}."),
        recommender=button if (folder / RECOMMENDER_PAGE).exists() else "",
        notebooks="\n".join(rows),
        scores=_with_scopes(scores),
        files="\n".join(f'<tr><td><a href="{name}">{name}</a></td><td>{what}</td></tr>' for name, what in files),
    )
    index = folder / "index.html"
    save_atomically(index, lambda part: part.write_text(text, encoding="utf-8"))
    return index
