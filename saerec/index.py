"""The index of a run: what was found, and the way to its notebooks and files."""

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from saerec import exports, runs
from saerec.record import others, read_record


def write_index(folder: Path) -> Path:
    """The run's first page: its notebooks, scores and files."""
    record = read_record(folder)
    rows = []
    for name, work in sorted(record["notebooks"].items()):
        title, question = _heading(name)
        seconds = record["seconds"].get(name)
        rows.append(
            {
                "page": f"{name}.html" if (folder / f"{name}.html").exists() else f"{name}.ipynb",
                "title": title,
                "question": question,
                "settings": _with_what(folder, work) + (f"; took {seconds} s" if seconds is not None else ""),
            }
        )
    scores, lists = runs.table_of(folder, record, runs.SCORES), runs.table_of(folder, record, "list_scores.csv")
    picture = folder / "scores.png"
    exports.write_index(
        folder / runs.INDEX_PAGE,
        title=f"A study of {Path(record['parameters']['dataset']).name}",
        result=_result(scores, lists, record["parameters"].get("rank_by", "both")),
        picture=picture if picture.exists() and not runs.fault(folder, record, picture.name) else None,
        notebooks=rows,
        scores=scores,
        lists=lists,
        files=[(name, what) for name, (_, what) in runs.ARTEFACTS.items() if (folder / name).exists()],
        maker=f"saerec {record['saerec']}",
        recommender=runs.RECOMMENDER_PAGE if (folder / runs.RECOMMENDER_PAGE).exists() else "",
    )
    return folder / runs.INDEX_PAGE


def _result(scores: pd.DataFrame | None, lists: pd.DataFrame | None, rank_by: str) -> str:
    """What a run has found: how far predictions are off, and how much of what people like its lists hold."""
    if scores is None:
        return "There are no errors on test ratings yet: the notebook 03_best_epoch measures them."
    rmse = scores.set_index("model")["rmse"]
    told = f"saerec is off by {rmse['saerec']:.2f} points on ratings that it has not seen"
    if "regularised biases" in rmse:
        told += f", where averages of users and items are off by {rmse['regularised biases']:.2f}"
    told += " (root mean square)."
    as_good = [name for name in rmse.index if name != "saerec" and rmse[name] <= rmse["saerec"]]
    if as_good:
        told += f" On these data it is not worth its training: no worse {'is' if len(as_good) == 1 else 'are'} "
        told += f"{', '.join(as_good)}."
    if lists is not None and {"most popular", f"saerec: {rank_by}"} <= set(lists["order"]):
        recall = lists.set_index("order")["recall"]
        told += (
            f" Of what a user liked among them its list of ten holds {recall[f'saerec: {rank_by}']:.0%} on average, "
        )
        told += f"a list of the most popular {recall['most popular']:.0%}."
    return told


def _heading(name: str) -> tuple[str, str]:
    """The title and the question of a notebook, as the series has them; its name, if that cannot be read any more."""
    import nbformat

    try:  # not of the executed copy, which lies where anybody may have changed it
        cells = nbformat.read(runs.NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    except (OSError, ValueError):
        cells = []
    told = next((cell.source for cell in cells if cell.cell_type == "markdown" and cell.source.startswith("# ")), name)
    title, question = (re.sub(r"[*`#]", "", line).strip() for line in [*filter(None, told.splitlines()), ""][:2])
    return title, question


def _with_what(folder: Path, work: Mapping) -> str:
    """With which parameters a notebook's work was done, and whether that is finished and of what lies there now."""
    values = work["inputs"]["parameters"].items()
    values = {name: Path(value).name if name == "titles" else value for name, value in values}  # not where that lies
    told = [", ".join(f"{name} = {value}" for name, value in values.items()) or "default settings"]
    if "writes" not in work:
        told.append(work.get("failed", "not finished").replace(str(folder), folder.name))
    told += [f"{name} has changed since" for name in others(folder, work["inputs"]["reads"])]
    return "; ".join(told)
