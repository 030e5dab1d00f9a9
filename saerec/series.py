"""Runs the notebook series. The only module that uses papermill; `saerec.runs` knows what is in a run's folder.

A run is a folder: the executed notebooks, an HTML page of each, and the files that the notebooks hand to one another.
"""

import ast
import os
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import pandas as pd

import saerec
from saerec import exports, page, runs, study
from saerec.checkpoints import check_keep
from saerec.datasets import OF_LOADING, TABLE, lasting_name, load_dataset
from saerec.files import PART, one_writer, remove, remove_parts, save_atomically, sha256_of
from saerec.index import write_index
from saerec.movielens import CITATION
from saerec.parameters import of_type
from saerec.readers import Dataset
from saerec.record import (
    RECORD,
    TRAINING,
    checksums,
    difference,
    fingerprint,
    others,
    read_record,
    surroundings,
    write_record,
)

DEFAULT = "ml-latest-small"
STARTS = 3  # of a kernel: another one may be quicker to take the port that it was given


class SeriesError(Exception):
    """A notebook of the series failed; the message says which, where and why."""


def write_page(folder: Path, out: str | os.PathLike = "", *, n_users: int = 1000) -> Path:
    """The web page in which the recommender of a run runs (`saerec.page`): `out`, or recommender.html in the folder.

    Raises
    ------
    FileNotFoundError
        The run lacks something; the message names the notebook to run first.
    ValueError
        `n_users` is negative, what `saerec.runs.to_recommend` says, or what `saerec.load` finds wrong.
    """
    runs.to_recommend(folder)  # before the folder is held, and made for it
    if out:
        return _write_recommender(folder, Path(out), n_users)
    with one_writer(folder):
        path = _write_recommender(folder, Path(folder, runs.RECOMMENDER_PAGE), n_users)
        if Path(folder, RECORD).exists():
            record = read_record(folder)
            record["pages"] |= checksums(folder, [runs.RECOMMENDER_PAGE])
            write_record(folder, record)
    return path


def _write_recommender(folder: Path, path: Path, n_users: int = 1000) -> Path:
    model, movies, ratings = runs.to_recommend(folder)
    record = runs.record_of(folder)
    scores = runs.table_of(folder, record, runs.SCORES)
    rmse = {} if scores is None else scores.set_index("model")["rmse"].to_dict()
    dataset = record["parameters"].get("dataset", "")
    movielens = Path(dataset).name.startswith("ml-") and not TABLE.search(dataset)
    return page.write_page(
        path,
        saerec.load(model),
        pd.read_parquet(movies),
        seen=[pd.read_parquet(ratings)],
        rmse=rmse,
        source=CITATION if movielens else "",
        thing="movie" if movielens else "item",
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
    declared = {notebook: parameters_of(notebook) for notebook in _choose(list(runs.TRAINED_BY))}
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
    like: str | os.PathLike = "",
    restart: bool = False,
    progress: bool = True,
) -> Path:
    """Execute the series on a data set; the run's index page.

    In the folder of an earlier run it goes on: what is finished stays, unless its parameters, what it reads, the data,
    the notebook or saerec's code have changed, which is said on stderr; an interrupted training goes on from its last
    epoch. What else lies in that folder is left alone.

    Parameters
    ----------
    dataset : str or path
        See `load_dataset`. Left out: that of the run `like`, with `only` that of the earlier run, or ml-latest-small.
    out : path, optional
        See `saerec.runs.run_folder`.
    parameters : mapping of name to value
        Each goes to the notebooks that declare it. Strings are read as the type of the default.
    only : names of notebooks, such as "04_user_report", or how one of them begins, such as "04"
        Execute these alone, in an earlier run's folder, with its parameters where `parameters` does not say otherwise.
        What they wrote before goes first, but for a training that was interrupted, if it can go on.
    like : path, optional
        A run whose data set and parameters to take where they are not given. Should the data, the code or the libraries
        be others now, that is said on stderr.
    restart : bool
        Whether to remove an earlier run in the same folder first.
    progress : bool
        Show a progress bar for each notebook on stderr.

    Raises
    ------
    ValueError
        A parameter that no notebook declares, here or in the run `like`, or of the wrong type; an unknown notebook;
        `only` with `restart`; unusable data; a damaged record of the earlier run. Before anything is executed.
    FileExistsError
        The folder is of something else, or holds a run without its record.
    FileNotFoundError
        What a notebook of `only` reads is not there.
    BusyFolderError
        Another process works in the folder.
    SeriesError
        A notebook failed. Its executed copy, with the traceback, is in the folder, and the index page tells.
    """
    only = list(only)
    if only and restart:
        raise ValueError("restart removes the whole run: leave it out, or only")
    notebooks = _choose(only)
    declared = {notebook: parameters_of(notebook) for notebook in notebooks}
    for name in ("dataset", "out"):
        if name in parameters:
            raise ValueError(f"{name} is no parameter to set with the others: give it as --{name}")
    given = _typed(parameters, declared)
    check_keep(given.get("keep", "all"))
    if given.get("titles"):
        given["titles"] = os.path.abspath(given["titles"])
    model = read_record(Path(like)) if like else None
    if model:
        _check_repeatable(Path(like), model)
        dataset = dataset or model["parameters"]["dataset"]
    folder = runs.folder_of(str(dataset or DEFAULT), str(out)).resolve()
    if not only:  # what is wrong with the data is said before an earlier run is touched
        values = _values(declared, given, like, model)
        dataset, data = _with_data(str(dataset or DEFAULT), values)
    with one_writer(folder):
        _check_folder(folder, restart)
        for notebook in _choose([]):
            remove_parts(folder, notebook.name)  # nobody else executes into it
        record = runs.record_of(folder)
        if only:
            values = _values(declared, given, like or folder, model or record)
            dataset, data = str(dataset or record["parameters"].get("dataset", DEFAULT)), record["data"]
            if any(OF_LOADING & set(names) for names in declared.values()):
                dataset, data = _with_data(dataset, values)
        _check_reads(folder, notebooks)
        record["parameters"] = {"dataset": dataset, "out": str(folder)} | record["parameters"]
        made = {"saerec": saerec.__version__, **surroundings()}
        if model:
            _tell_what_is_other(like, model, data, made)
        for name in runs.PAGES:
            (folder / name).unlink(missing_ok=True)
        try:
            for notebook, defaults in declared.items():
                passed = values[notebook]
                inputs = _inputs(notebook, defaults, passed, folder, data, made["code"])
                work = {"inputs": inputs, "parameters": _own(defaults | passed), "made": made}
                todo, said = _what_to_do(notebook, inputs, defaults, folder, record)
                if only and todo != GO_ON:
                    begun = "writes" not in record["notebooks"].get(notebook.stem, {"writes": {}})
                    todo, said = BEGIN, said if begun else ""
                if said:
                    print(f"{notebook.stem} {said}", file=sys.stderr)
                passed = {name: v for name, v in {"dataset": dataset, "out": str(folder)}.items() if name in defaults}
                passed |= values[notebook]
                if todo != STAY:
                    _run_notebook(notebook, passed, todo, work, folder, record, progress)
                # Not before: they come back in later runs.
                of_others = {name: v for name, v in record["parameters"].items() if name not in defaults}
                passed = {name: v for name, v in passed.items() if v != defaults[name] or name in ("dataset", "out")}
                record |= {"parameters": of_others | passed, "data": inputs["data"] or record["data"]}
                write_record(folder, record)
                for name in runs.UNTIL_DONE.intersection(runs.written_by(notebook.stem)):
                    runs.remove_idle(folder / name)
        except BaseException:
            try:
                _write_pages(folder, record)
            except Exception as error:  # of any kind: what stopped the run is what there is to tell
                print(f"the pages are not all written: {error}", file=sys.stderr)
            raise
        for name, changed in runs.changed_since(folder, record).items():
            told = f"{name} read another {', '.join(changed)} than lies there now"
            print(f"{told}: saerec run without --only runs it again", file=sys.stderr)
        return _write_pages(folder, record)


def _values(
    declared: Mapping[Path, Mapping[str, object]],
    given: Mapping[str, object],
    earlier: str | os.PathLike = "",
    record: dict | None = None,
) -> dict[Path, dict[str, object]]:
    """What to pass to each notebook: what is given, and for the rest what it had in an earlier run, if there is one.

    That is what it worked with last; or was begun with, if there is something to go on from or it was interrupted.
    """
    values = {}
    for notebook, defaults in declared.items():
        had = {}
        if record:
            work, had = record["notebooks"].get(notebook.stem), record["parameters"]
            if work and ("failed" not in work or _has_states(Path(earlier), notebook)):
                had = had | work.get("parameters", work["inputs"]["parameters"])  # older records have these alone
            try:
                had = _typed({name: had[name] for name in _own(defaults) if name in had}, {notebook: defaults})
            except ValueError as error:
                raise ValueError(f"{RECORD} of the earlier run is damaged: {error}") from error
        values[notebook] = had | {name: value for name, value in given.items() if name in defaults}
    return values


def _own(parameters: Mapping[str, object]) -> dict[str, object]:
    """A notebook's parameters but for those that are the run's, or of one time that it is executed."""
    return {name: value for name, value in parameters.items() if name not in ("dataset", "out", "resume")}


def _has_states(folder: Path, notebook: Path) -> bool:
    """Whether a training of a notebook can be gone on with."""
    names = runs.CHECK_THEMSELVES.intersection(runs.written_by(notebook.stem))
    return any(any((folder / name).rglob("state*")) for name in names)


def _check_repeatable(like: Path, record: dict) -> None:
    known = {name for notebook in _choose([]) for name in parameters_of(notebook)}
    works = record["notebooks"].values()
    had = set(record["parameters"]).union(*(work.get("parameters", work["inputs"]["parameters"]) for work in works))
    if unknown := sorted(had - known - {"dataset", "out"}):
        raise ValueError(
            f"{like} was made by saerec {record['saerec']} with a parameter {unknown[0]}, which no notebook has now: "
            "this saerec cannot repeat it"
        )


def _tell_what_is_other(like: str | os.PathLike, model: dict, data: dict | None, made: dict) -> None:
    """Say in what a run cannot be like another: the data, the code, the libraries."""
    if data and model["data"] not in (None, data):
        told = f"{data['ratings']:,} ratings, then {model['data']['ratings']:,}"
        print(f"the data are not those of {like} any more: {told}", file=sys.stderr)
    words = {"code": "saerec's code", "commit": "its commit"}
    other = [word for name, word in words.items() if model.get(name, made[name]) != made[name]]
    for name, now in made["versions"].items():
        then = model.get("versions", {}).get(name, now)
        other += [f"{name} ({then}, here {now})"] if then != now else []
    if other:
        print(f"not as in {like}: {', '.join(other)}", file=sys.stderr)


def load_recorded(dataset: str, **parameters: object) -> Dataset:
    """The data set of a record, by `load_dataset`; a ValueError if a parameter is of another type than its default."""
    return load_dataset(dataset, **_typed(parameters, {path: parameters_of(path) for path in _choose(["01"])}))


def _with_data(dataset: str, values: Mapping[Path, Mapping[str, object]]) -> tuple[str, dict]:
    """The name of a data set that holds in every folder, and the `fingerprint` of the data."""
    own = {name: value for passed in values.values() for name, value in passed.items() if name in OF_LOADING}
    return lasting_name(dataset), fingerprint(load_dataset(dataset, **own))


def _inputs(
    notebook: Path,
    declared: Mapping[str, object],
    parameters: Mapping[str, object],
    folder: Path,
    data: dict | None,
    code: str,
) -> dict:
    """All that a notebook's work depends on, as `difference` compares it."""
    return {
        "parameters": _no_defaults(parameters, declared),
        "reads": checksums(folder, runs.READS.get(notebook.stem, ())),
        "data": data if OF_LOADING & set(declared) else None,
        "notebook": sha256_of(notebook),
        "code": code,
    }


def _no_defaults(parameters: Mapping[str, object], declared: Mapping[str, object]) -> dict[str, object]:
    """Those of a notebook's parameters that make its work another: its checksum tells what the defaults are."""
    return {name: v for name, v in _own(parameters).items() if name != "keep" and v != declared.get(name)}


BEGIN, GO_ON, STAY = "begin", "go on", "stay"


def _what_to_do(
    notebook: Path, inputs: dict, declared: Mapping[str, object], folder: Path, record: dict
) -> tuple[str, str]:
    """What there is to do about a notebook, and what to say of it."""
    before = record["notebooks"].get(notebook.stem)
    if before is None:
        return BEGIN, ""
    # Older records have defaults too, if they were given.
    then = before["inputs"] | {"parameters": _no_defaults(before["inputs"]["parameters"], declared)}
    changed = difference(then, inputs)
    if "writes" not in before:
        if changed is None and "resume" in declared:
            return GO_ON, "was interrupted and goes on"
        return BEGIN, f"runs again: {changed or 'it was interrupted'}"
    missing = [f"{file.name} is missing" for file in _copies(notebook, folder) if not file.exists()]
    # But for the executed copy, which may be opened in JupyterLab and saved.
    handed_on = {file: checksum for file, checksum in before["writes"].items() if file != notebook.name}
    spoiled = [f"{file} is not as it was written" for file in others(folder, handed_on)]
    why = next(filter(None, [changed, *missing, *spoiled]), None)
    return (STAY, "is finished and stays") if why is None else (BEGIN, f"runs again: {why}")


def _run_notebook(
    notebook: Path,
    parameters: dict[str, object],
    todo: str,
    work: dict,
    folder: Path,
    record: dict,
    progress: bool,
) -> None:
    """Execute a notebook; the record says that it is begun or has failed, and the caller writes that it is done."""
    name = notebook.stem
    own = runs.written_by(name)
    going = () if todo == GO_ON else own
    for path in (*_copies(notebook, folder), *(folder / written for written in going)):
        remove(path)
    start = time.perf_counter()
    record |= work["made"]
    record["notebooks"][name] = work
    record["seconds"].pop(name, None)
    record["pages"] = {}
    record.pop("results", None)
    write_record(folder, record)
    try:
        _execute(notebook, folder / notebook.name, parameters | ({"resume": True} if todo == GO_ON else {}), progress)
    except SeriesError as error:
        work["failed"] = str(error).splitlines()[0]
        write_record(folder, record)
        raise
    exports.write_notebook_page(folder / notebook.name)
    copies = [copy.name for copy in _copies(notebook, folder)]
    work["writes"] = checksums(folder, [*(file for file in own if file not in runs.CHECK_THEMSELVES), *copies])
    stay = runs.CHECK_THEMSELVES - runs.UNTIL_DONE
    work["folders"] = [file for file in own if file in stay and (folder / file).exists()]
    record["seconds"][name] = round(time.perf_counter() - start, 1)


def _copies(notebook: Path, folder: Path) -> list[Path]:
    """The executed notebook in a run's folder, and its page."""
    return [folder / notebook.name, folder / notebook.with_suffix(".html").name]


def _write_pages(folder: Path, record: dict) -> Path:
    """The index of a run and, of a whole model, the page that recommends; checksums of both in the record."""
    record.pop("results", None)
    scores = runs.table_of(folder, record, runs.SCORES)
    if scores is not None:
        record["results"] = scores.to_dict("records")
    write_record(folder, record)
    try:
        if all((folder / name).exists() for name in runs.FOR_ITS_PAGE) and not runs.unfit_to_recommend(folder, record):
            _write_recommender(folder, folder / runs.RECOMMENDER_PAGE)
    finally:  # whatever is wrong with the model; and last, for it leads to that page if there is one
        index = write_index(folder)
        write_record(folder, record | {"pages": checksums(folder, runs.PAGES)})
    return index


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
    parts = study.parts(study.load(str(dataset or DEFAULT), values), values)
    own = study.of_recommender(values)
    return (
        parts.train,
        parts.valid,
        parts.features,
        {name: own[name] for name in own if name in {*parameters, "seed", "device"}},
    )


def _choose(only: list[str]) -> list[Path]:
    notebooks = {path.stem: path for path in sorted(runs.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    chosen = set()
    for begin in only:
        fitting = [name for name in notebooks if name.startswith(begin)]
        if len(fitting) != 1:
            which = f"several notebooks begin with {begin!r}" if fitting else f"there is no notebook {begin!r}"
            raise ValueError(f"{which}; there are {', '.join(notebooks)}")
        chosen |= set(fitting)
    return [path for name, path in notebooks.items() if name in chosen or not only]


def _typed(given: Mapping[str, object], declared: Mapping[Path, Mapping[str, object]]) -> dict[str, object]:
    """The given parameters, each of the type of its default."""
    defaults = {name: default for parameters in declared.values() for name, default in parameters.items()}
    unknown = [name for name in given if name not in defaults]
    if unknown:
        elsewhere = [path.stem for path in _choose([]) if path not in declared and unknown[0] in parameters_of(path)]
        if elsewhere:
            raise ValueError(f"{unknown[0]} is a parameter of {', '.join(elsewhere)}: add --only {elsewhere[0]}")
        raise ValueError(f"no notebook has a parameter {unknown[0]!r}; there are {', '.join(sorted(defaults))}")
    return {name: of_type(name, value, defaults[name]) for name, value in given.items()}


def _check_reads(folder: Path, notebooks: Iterable[Path]) -> None:
    """Raise unless what the notebooks read is there, or one of them writes it before."""
    coming = set()
    for notebook in notebooks:
        for name in runs.READS.get(notebook.stem, ()):
            if runs.ARTEFACTS[name][0] not in coming:
                runs.artefact(folder, name)
        coming.add(notebook.stem)


def _check_folder(folder: Path, restart: bool) -> None:
    """Raise unless the folder is empty or of a run that can be gone on with; remove that, with `restart`.

    What else lies beside a run stays. Without a run's record, be it damaged, it takes the page of an executed notebook
    to tell whose folder it is: others too call a file index.html.
    """
    copies = [copy.name for notebook in _choose([]) for copy in _copies(notebook, folder)]
    ours = {RECORD, *runs.PAGES, *runs.ARTEFACTS, *copies}
    there = {path.name: path for path in sorted(folder.iterdir()) if path.name[0] != "." and not PART.search(path.name)}
    foreign = [name for name in there if name not in ours]
    with suppress(FileNotFoundError, ValueError):  # of a damaged one nobody knows, and the caller says so
        if TRAINING in read_record(folder)["notebooks"]:
            raise FileExistsError(f"{folder} is the folder of saerec train: choose another with --out")
    if there and RECORD not in there:
        if foreign:
            raise FileExistsError(
                f"{folder} holds something that is not of a run, {foreign[0]}: choose another folder with --out"
            )
        executed = any(name in there for name in copies if name.endswith(".html"))
        if not (restart and executed):
            raise FileExistsError(
                f"{folder} holds files of a run without its record, {RECORD}: remove them "
                f"{'with --restart' if executed else 'yourself'}, or choose another folder with --out"
            )
    if foreign:
        print(f"left alone, for it is not of the run: {', '.join(foreign)}", file=sys.stderr)
    if restart:
        for name in ours & set(there):
            remove(there[name])


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
    failures = []

    def execute(part: Path) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The specified file .* does not end in")
            for start in range(STARTS):
                try:
                    papermill.execute_notebook(notebook, part, parameters=dict(parameters), **options)
                    break
                except (papermill.PapermillExecutionError, DeadKernelError) as error:
                    failures.append(error)
                    break
                except RuntimeError as error:
                    if "Kernel died before replying" not in str(error) or start == STARTS - 1:
                        raise

    save_atomically(output, execute)  # papermill writes after every cell; a failed copy is kept too
    for error in failures:
        if isinstance(error, DeadKernelError):
            where = f"{notebook.stem} did not finish: its kernel died, perhaps for want of memory"
            raise SeriesError(f"{where}\nthe executed copy, as far as it got: {output}") from error
        text = error.evalue.strip("'\"") if error.ename == "KeyError" else error.evalue  # a KeyError quotes itself
        reason = f"{error.ename}: {text}".strip().splitlines()[-1]
        where = f"{notebook.stem} failed in cell {error.exec_count}"
        raise SeriesError(f"{where}: {reason}\nthe executed copy: {output}") from error
