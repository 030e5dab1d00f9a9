"""Running notebooks: parameters are checked before anything starts, runs are not overwritten, failures are named."""

import json
import os
import re
import shutil
import zipfile
from contextlib import nullcontext
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from bs4 import BeautifulSoup
from filelock import FileLock
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import saerec
from saerec import exports, plots, runs, series
from saerec.__main__ import main
from saerec.datasets import lasting_name, load_dataset
from saerec.files import BusyFolderError, one_writer, remove
from saerec.index import _with_what, write_index
from saerec.movielens import DATA_DIR
from saerec.record import checksums, new_record, read_record, verify, write_record
from saerec.validation import ConstantRatingsError, DuplicateRatingError, FileFormatError, MissingColumnError

NOTHING = {"parameters": {}, "reads": {}, "data": None, "notebook": "", "code": ""}
FIRST_FOUR = ["01_exploration", "02_training", "03_best_epoch", "04_user_report"]


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """Two little notebooks in place of the series."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    parameters = (
        'dataset = "ml-latest-small"  # a\nout = ""  # b\nn = 3  # c\nx = 0.5  # d\n'
        "flag = False  # e\nids = []  # f\nsizes = [1]  # g"
    )
    first = [
        new_markdown_cell("# 1. First\n\n**What is n?**\n\nNext: [2](02_second.ipynb)"),
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        new_code_cell('from pathlib import Path\nPath(out, "sizes.csv").write_text(repr((n, x, flag, ids)))'),
    ]
    second = [
        new_markdown_cell("# 2. Second\n\n**Does it divide?**"),
        new_code_cell('out = ""  # b\ndivisor = 1  # g', metadata={"tags": ["parameters"]}),
        new_code_cell("1 / divisor"),
    ]
    for name, cells in (("01_first", first), ("02_second", second)):
        notebook = new_notebook(cells=cells)
        notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(notebook, folder / f"{name}.ipynb")
    monkeypatch.setattr(runs, "NOTEBOOKS", folder)
    return folder


def forbid_execution(monkeypatch):
    monkeypatch.setattr(series, "_execute", lambda *_: pytest.fail("a notebook was executed"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"n": "7"}, 7),
        ({"n": 7}, 7),
        ({"x": "1"}, 1.0),
        ({"x": 1}, 1.0),
        ({"x": "1e-3"}, 0.001),
        ({"flag": "true"}, True),
        ({"flag": "False"}, False),
        ({"ids": "1,2"}, [1, 2]),
        ({"ids": "5"}, [5]),
        ({"ids": "[]"}, []),
        ({"ids": "anna, 7b"}, ["anna", "7b"]),
        ({"ids": (1, "b")}, [1, "b"]),
        ({"dataset": "123"}, "123"),
    ],
)
def test_parameters_take_the_type_of_their_default(notebooks, given, expected):
    declared = {path: series.parameters_of(path) for path in notebooks.glob("*.ipynb")}
    assert list(series._typed(given, declared).values()) == [expected]
    assert type(next(iter(series._typed(given, declared).values()))) is type(expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"m": "7"}, "no notebook has a parameter 'm'; there are dataset, divisor, flag, ids, n, out, sizes, x"),
        ({"n": "7.5"}, "the parameter n is of type int, like 3, not 7.5"),
        ({"n": "many"}, "the parameter n is of type int, like 3, not 'many'"),
        ({"n": True}, "the parameter n is of type int, like 3, not True"),
        ({"flag": "yes"}, "the parameter flag is of type bool, like False, not 'yes'"),
        ({"ids": "1", "x": "1,2"}, "the parameter x is of type float, like 0.5, not (1, 2)"),
        ({"sizes": "a,b"}, "the parameter sizes is a list like [1], not ['a', 'b']"),
        ({"sizes": ""}, "the parameter sizes is a list like [1], not ['']"),
        ({"dataset": "nowhere"}, "dataset is no parameter to set with the others: give it as --dataset"),
    ],
)
def test_bad_parameters_are_refused_before_any_kernel_starts(notebooks, tmp_path, monkeypatch, given, message):
    forbid_execution(monkeypatch)
    with pytest.raises((ValueError, FileNotFoundError), match="^" + re.escape(message)):
        series.run(out=tmp_path / "run", parameters=given)
    assert not (tmp_path / "run").exists()


def test_an_unknown_notebook_is_refused(notebooks, tmp_path):
    with pytest.raises(ValueError, match="there is no notebook '03_third'; there are 01_first, 02_second"):
        series.run(out=tmp_path / "run", only=["03_third"])
    with pytest.raises(ValueError, match="several notebooks begin with '0'; there are 01_first, 02_second"):
        series.run(out=tmp_path / "run", only=["0"])
    assert [path.stem for path in series._choose(["02", "01_f"])] == ["01_first", "02_second"]


@pytest.mark.series
def test_a_run_passes_each_notebook_its_parameters_and_leaves_pages(notebooks, tmp_path):
    index = series.run(out=tmp_path / "run", parameters={"n": "7", "ids": "1,2", "divisor": 2}, progress=False)
    assert (index.parent / "sizes.csv").read_text() == "(7, 0.5, False, [1, 2])"
    page = index.read_text(encoding="utf-8")
    assert 'href="01_first.html"' in page and "What is n?" in page and "n = 7" in page
    assert 'href="02_second.html"' in (index.parent / "01_first.html").read_text(encoding="utf-8")

    (index.parent / "top10.csv").touch()
    series.run(out=tmp_path / "run", restart=True, progress=False)
    assert not (index.parent / "top10.csv").exists()
    assert (index.parent / "sizes.csv").read_text() == "(3, 0.5, False, [])"


def test_what_jupyter_left_behind_is_removed_when_asked(notebooks, tmp_path, monkeypatch):
    monkeypatch.setattr(series, "_execute", lambda *_: None)
    monkeypatch.setattr(exports, "write_notebook_page", lambda *_: None)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "ratings.parquet").touch()
    (folder / "01_first.html").touch()
    with pytest.raises(FileExistsError, match=r"a run without its record, run\.json: remove them with --restart"):
        series.run(out=folder)
    series.run(out=folder, restart=True)
    assert not (folder / "ratings.parquet").exists()


def test_what_somebody_put_beside_a_run_stays_and_stops_nothing(notebooks, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(series, "_execute", lambda notebook, output, *_: output.touch())
    monkeypatch.setattr(exports, "write_notebook_page", lambda path: path.with_suffix(".html").touch())
    monkeypatch.setattr(series, "write_index", lambda folder: folder / "index.html")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".DS_Store").touch()
    series.run(out=folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "02_second.ipynb.0123abcd.part").touch()  # which we left, being killed
    (folder / ".ipynb_checkpoints").mkdir()
    for restart in (False, True):
        series.run(out=folder, restart=restart)
        assert "left alone, for it is not of the run: notes.txt\n" in capsys.readouterr().err
    assert (folder / "notes.txt").read_text() == "mine" and (folder / ".ipynb_checkpoints").exists()
    (folder / "run.json").write_text("{}")
    with pytest.raises(ValueError, match=r"run\.json is damaged: .*; with --restart"):
        series.run(out=folder)
    series.run(out=folder, restart=True)
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "run.json").unlink()
    for restart in (False, True):
        with pytest.raises(FileExistsError, match=r"not of a run, notes\.txt"):
            series.run(out=folder, restart=restart)


def test_a_folder_that_is_no_run_is_never_cleared(notebooks, tmp_path, monkeypatch):
    forbid_execution(monkeypatch)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match=r"not of a run, thesis\.txt"):
        series.run(out=folder, restart=True)
    assert (folder / "thesis.txt").exists()


def test_files_that_are_only_called_like_those_of_a_run_are_never_cleared(notebooks, tmp_path, monkeypatch):
    forbid_execution(monkeypatch)
    folder = tmp_path / "site"
    (folder / "model").mkdir(parents=True)
    (folder / "index.html").touch()
    (folder / "01_first.ipynb").touch()  # as in the folder of the notebooks themselves
    for restart in (False, True):
        with pytest.raises(FileExistsError, match=r"run\.json: remove them yourself, or choose another folder"):
            series.run(out=folder, restart=restart)
    assert len(list(folder.glob("[!.]*"))) == 3


@pytest.mark.parametrize("only", ["01_first", "02_second"])
def test_one_notebook_alone_takes_nothing_for_a_run_either(notebooks, tmp_path, monkeypatch, only):
    forbid_execution(monkeypatch)
    folder = tmp_path / "site"
    (folder / "model").mkdir(parents=True)
    for name in ("index.html", "sizes.csv", "model/mine.txt"):
        (folder / name).write_text("mine")
    with pytest.raises(FileExistsError, match=r"run\.json: remove them yourself, or choose another folder"):
        series.run(out=folder, only=[only])
    (folder / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match=r"not of a run, thesis\.txt"):
        series.run(out=folder, only=[only])
    assert all((folder / name).read_text() == "mine" for name in ("index.html", "sizes.csv", "model/mine.txt"))


def test_one_notebook_alone_is_no_restart(notebooks, tmp_path, monkeypatch):
    forbid_execution(monkeypatch)
    with pytest.raises(ValueError, match="restart removes the whole run: leave it out, or only"):
        series.run(out=tmp_path / "run", only=["01"], restart=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("there", [True, False])
def test_of_a_link_only_the_link_is_removed(tmp_path, there):
    target, link = tmp_path / "weights", tmp_path / "checkpoints"
    if there:
        target.mkdir()
    link.symlink_to(target)
    remove(link)
    assert not link.is_symlink() and target.exists() == there


class TestGoingOn:
    """In the folder of an earlier run; notebooks are not executed but write their files."""

    @pytest.fixture
    def run(self, notebooks, tmp_path, monkeypatch, capsys):
        """Runs the series; what was executed, with what `resume`, and what was said."""
        monkeypatch.setattr(runs, "READS", {"02_second": ("sizes.csv",)})
        monkeypatch.setattr(
            runs, "ARTEFACTS", {"sizes.csv": ("01_first", "sizes"), "checkpoints": ("02_second", "weights")}
        )
        more = {
            "01_first": ("n = 3", r"encoding = 'utf-8'\nn = 3"),
            "02_second": ("divisor =", r"resume = False\ndivisor ="),
        }
        for name, change in more.items():
            path = notebooks / f"{name}.ipynb"
            path.write_text(path.read_text().replace(*change, 1))
        executed = []

        def execute(notebook, output, parameters, progress):
            executed.append((notebook.stem, parameters.get("resume")))
            output.touch()
            if notebook.stem == "01_first":
                (output.parent / "sizes.csv").write_text(str(parameters.get("n")))
            else:
                (output.parent / "checkpoints").mkdir(exist_ok=True)
            if parameters.get("divisor") == 0:
                raise series.SeriesError("stopped")

        monkeypatch.setattr(series, "_execute", execute)
        monkeypatch.setattr(exports, "write_notebook_page", lambda path: path.with_suffix(".html").touch())
        monkeypatch.setattr(series, "write_index", lambda folder: folder / "index.html")

        def run(**options):
            executed.clear()
            series.run(out=tmp_path / "run", **options)
            return executed.copy(), capsys.readouterr().err

        return run

    def test_what_is_finished_stays(self, run):
        assert run() == ([("01_first", None), ("02_second", None)], "")
        assert run() == ([], "01_first is finished and stays\n02_second is finished and stays\n")
        assert run(restart=True) == ([("01_first", None), ("02_second", None)], "")

    def test_the_executed_copy_and_folders_of_checkpoints_are_in_the_record(self, run, tmp_path):
        run()
        works = read_record(tmp_path / "run")["notebooks"]
        assert set(works["01_first"]["writes"]) == {"sizes.csv", "01_first.ipynb", "01_first.html"}
        assert set(works["02_second"]["writes"]) == {"02_second.ipynb", "02_second.html"}
        assert works["02_second"]["folders"] == ["checkpoints"] and works["01_first"]["folders"] == []
        (tmp_path / "run" / "02_second.ipynb").write_text("opened and saved")  # which is no reason to train again
        assert run()[0] == []
        checks = verify(tmp_path / "run", series.load_recorded, set()).set_index("check")["found"]
        assert checks["02_second"] == "02_second.ipynb was changed; checkpoints holds no checkpoint"

    def test_what_is_made_anew_alone_leaves_a_mix_and_says_so(self, run):
        run()
        executed, said = run(only=["01"], parameters={"n": 9})
        assert executed == [("01_first", None)]
        told = "02_second read another sizes.csv than lies there now: saerec run without --only runs it again\n"
        assert said == told

    def test_a_changed_parameter_is_named_and_what_depends_on_it_runs(self, run):
        run()
        executed, said = run(parameters={"n": 5})
        assert executed == [("01_first", None), ("02_second", None)]
        assert said == ("01_first runs again: n was its default, is 5\n02_second runs again: sizes.csv is another\n")
        executed, said = run(parameters={"n": 5, "divisor": 2})
        assert executed == [("02_second", None)]
        assert said.endswith("02_second runs again: divisor was its default, is 2\n")
        assert "n was 5, is its default" in run()[1]

    def test_what_does_not_change_the_files_does_not_go_further(self, run):
        run()
        executed, said = run(parameters={"x": 0.75})
        assert executed == [("01_first", None)] and said.endswith("02_second is finished and stays\n")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda folder: (folder / "sizes.csv").write_text("mine"), "sizes.csv is not as it was written"),
            (lambda folder: (folder / "sizes.csv").unlink(), "sizes.csv is not as it was written"),
            (lambda folder: (folder / "01_first.html").unlink(), "01_first.html is missing"),
        ],
    )
    def test_files_that_were_changed_or_lost_are_made_again(self, run, tmp_path, change, reason):
        run()
        change(tmp_path / "run")
        executed, said = run()
        assert executed == [("01_first", None)] and f"01_first runs again: {reason}\n" in said
        assert (tmp_path / "run" / "sizes.csv").read_text() == "None"

    def test_other_code_other_data_or_an_edited_notebook_are_said(self, run, notebooks, monkeypatch, tastes):
        run()
        second = notebooks / "02_second.ipynb"
        second.write_text(second.read_text() + "\n")
        assert "02_second runs again: the notebook was edited" in run()[1]
        monkeypatch.setattr(series, "load_dataset", lambda *_, **__: saerec.Dataset(tastes, tastes))
        assert "01_first runs again: the data are others" in run()[1]
        monkeypatch.setattr(saerec.record, "code", lambda: "other")
        assert run()[1].count("saerec's code is another") == 2

    def test_an_interrupted_training_goes_on(self, run, tmp_path, monkeypatch):
        run()
        execute = series._execute

        def killed(*arguments):
            execute(*arguments)
            if arguments[0].stem == "02_second":
                raise KeyboardInterrupt

        monkeypatch.setattr(series, "_execute", killed)
        with pytest.raises(KeyboardInterrupt):
            run(restart=True)
        (tmp_path / "run" / "checkpoints" / "state").touch()
        monkeypatch.setattr(series, "_execute", execute)
        executed, said = run()
        assert executed == [("02_second", True)] and "02_second was interrupted and goes on\n" in said
        assert (tmp_path / "run" / "checkpoints" / "state").exists()

    def test_what_it_takes_to_go_on_goes_when_the_record_says_that_all_is_done(self, run, tmp_path, monkeypatch):
        monkeypatch.setattr(runs, "UNTIL_DONE", {"checkpoints"})
        write, there = series.write_record, []

        def killed(folder, record):
            done = "writes" in record["notebooks"].get("02_second", {})
            there.append((done, (folder / "checkpoints").exists()))
            if done and len(there) < 9:
                raise KeyboardInterrupt
            write(folder, record)

        monkeypatch.setattr(series, "write_record", killed)
        with pytest.raises(KeyboardInterrupt):
            run()
        assert (True, True) in there and (tmp_path / "run" / "checkpoints").exists()
        there.extend([(False, False)] * 9)
        assert run()[0] == [("02_second", True)] and not (tmp_path / "run" / "checkpoints").exists()
        assert saerec.record.read_record(tmp_path / "run")["notebooks"]["02_second"]["folders"] == []
        (tmp_path / "run" / "checkpoints").mkdir()  # killed between the record and that
        assert run()[0] == [] and not (tmp_path / "run" / "checkpoints").exists()

    def test_an_interrupted_one_of_other_parameters_does_not(self, run, tmp_path):
        with pytest.raises(series.SeriesError):
            run(parameters={"divisor": 0})
        (tmp_path / "run" / "checkpoints" / "state").touch()
        executed, said = run()
        assert executed == [("02_second", None)] and "divisor was 0, is its default" in said
        assert not (tmp_path / "run" / "checkpoints" / "state").exists()

    def test_a_folder_has_one_writer(self, run, tmp_path, notebooks):
        with one_writer(tmp_path / "run"), pytest.raises(BusyFolderError, match=f"process {os.getpid()} is writing to"):
            run()
        assert run()[0]

    def test_the_record_is_read_by_who_holds_the_folder(self, run, monkeypatch):
        run()
        reading, held = saerec.record.read_record, []

        def read(folder):
            with pytest.raises(BusyFolderError), one_writer(folder):
                pass
            held.append(True)
            return reading(folder)

        for module in (runs, series):
            monkeypatch.setattr(module, "read_record", read)
        run()
        run(only=["02_second"])
        assert len(held) == 4

    def test_what_failed_alone_does_not_come_back(self, run, tmp_path):
        run(parameters={"divisor": 3})
        with pytest.raises(series.SeriesError):
            run(parameters={"divisor": 0}, only=["02_second"])
        record = read_record(tmp_path / "run")
        assert record["parameters"]["divisor"] == 3
        assert record["notebooks"]["02_second"]["inputs"]["parameters"]["divisor"] == 0
        run(only=["02_second"])
        assert read_record(tmp_path / "run")["notebooks"]["02_second"]["inputs"]["parameters"]["divisor"] == 3

    def test_a_notebook_alone_begins_without_its_files_of_before(self, run, tmp_path, monkeypatch):
        run()

        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(series, "_execute", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(only=["01"])
        assert not (tmp_path / "run" / "sizes.csv").exists() and (tmp_path / "run" / "checkpoints").exists()

    def test_nothing_goes_before_what_a_notebook_reads_is_there(self, run, tmp_path):
        run()
        for name in ("sizes.csv", "index.html"):
            (tmp_path / "run" / name).touch()
        (tmp_path / "run" / "sizes.csv").unlink()
        (tmp_path / "run" / "checkpoints" / "state").touch()
        with pytest.raises(
            FileNotFoundError, match=r"sizes\.csv is missing: the notebook 01_first writes it, run that"
        ):
            run(only=["02"])
        assert (tmp_path / "run" / "checkpoints" / "state").exists() and (tmp_path / "run" / "index.html").exists()
        assert run(only=["02", "01"])[0] == [("01_first", None), ("02_second", None)]

    @pytest.mark.parametrize("stopped", [KeyboardInterrupt, series.SeriesError])
    def test_an_interrupted_one_alone_goes_on_with_its_own_parameters(self, run, tmp_path, monkeypatch, stopped):
        run()
        execute = series._execute

        def stop(*arguments):
            execute(*arguments)
            raise stopped("stopped")

        with monkeypatch.context() as patch, pytest.raises(stopped):
            patch.setattr(series, "_execute", stop)
            run(only=["02"], parameters={"divisor": 7})
        (tmp_path / "run" / "checkpoints" / "state").touch()
        executed, said = run(only=["02"])
        assert executed == [("02_second", True)] and said == "02_second was interrupted and goes on\n"
        assert (tmp_path / "run" / "checkpoints" / "state").exists()
        record = read_record(tmp_path / "run")
        assert record["parameters"]["divisor"] == record["notebooks"]["02_second"]["parameters"]["divisor"] == 7

    def test_an_interrupted_one_alone_that_begins_anew_says_so(self, run, tmp_path, monkeypatch):
        def stop(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(series, "_execute", stop)
            run()
        executed, said = run(only=["01"])
        assert executed == [("01_first", None)] and said == "01_first runs again: it was interrupted\n"
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(series, "_execute", stop)
            run(only=["02"], parameters={"divisor": 7})
        executed, said = run(only=["02"], parameters={"divisor": 2})
        assert executed == [("02_second", None)] and said == "02_second runs again: divisor was 7, is 2\n"

    def test_an_interrupted_run_once_more_is_of_its_own_parameters(self, run, tmp_path, monkeypatch):
        def stop(notebook, *arguments):
            execute(notebook, *arguments)
            if notebook.stem == "02_second":
                raise KeyboardInterrupt

        execute = series._execute
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(series, "_execute", stop)
            run(parameters={"divisor": 7})
        series.run(like=tmp_path / "run", out=tmp_path / "again")
        assert read_record(tmp_path / "again")["parameters"]["divisor"] == 7

    def test_all_parameters_are_recorded_and_the_index_tells_what_is_no_default(self, run, tmp_path, notebooks):
        run(parameters={"n": 5, "x": 0.5})
        work = read_record(tmp_path / "run")["notebooks"]["01_first"]
        every = {"n": 5, "x": 0.5, "flag": False, "ids": [], "sizes": [1], "encoding": "utf-8"}
        assert work["parameters"] == every and _with_what(tmp_path / "run", work) == "n = 5"
        assert run(parameters={"n": 5})[0] == []  # 0.5 is the default
        first = notebooks / "01_first.ipynb"
        first.write_text(first.read_text().replace("x = 0.5", "x = 0.75").replace("n = 3", "n = 4"))
        series.run(like=tmp_path / "run", out=tmp_path / "again")
        again = read_record(tmp_path / "again")["notebooks"]["01_first"]
        assert again["parameters"] == every and again["inputs"]["parameters"] == {"n": 5, "x": 0.5}

    def test_a_record_without_all_parameters_is_of_the_same_run(self, run, tmp_path):
        run(parameters={"n": 5, "x": 0.5})
        record = read_record(tmp_path / "run")
        for work in record["notebooks"].values():
            del work["parameters"]
        record["notebooks"]["01_first"]["inputs"]["parameters"]["x"] = 0.5  # as it was given
        write_record(tmp_path / "run", record)
        assert run(parameters={"n": 5}) == ([], "01_first is finished and stays\n02_second is finished and stays\n")
        assert run(only=["01"])[0] == [("01_first", None)]
        assert read_record(tmp_path / "run")["notebooks"]["01_first"]["inputs"]["parameters"] == {"n": 5}

    def test_what_two_notebooks_call_alike_stays_each_ones_own(self, run, tmp_path, notebooks):
        second = notebooks / "02_second.ipynb"
        second.write_text(second.read_text().replace("divisor = 1", "n = 40\\ndivisor = 1"))
        run()
        run(only=["02"], parameters={"n": 7})
        run(only=["01"])
        works = read_record(tmp_path / "run")["notebooks"]
        assert (works["01_first"]["parameters"]["n"], works["02_second"]["parameters"]["n"]) == (3, 7)

    def test_what_can_be_repeated_no_more_is_an_error_before_anything_is_made(self, run, tmp_path):
        run()
        record = read_record(tmp_path / "run")
        old = {"parameters": record["parameters"] | {"learning_speed": 2}, "saerec": "0.0.1"}
        write_record(tmp_path / "run", record | old)
        message = (
            "saerec 0.0.1 with a parameter learning_speed, which no notebook has now: this saerec cannot repeat it"
        )
        with pytest.raises(ValueError, match=message):
            series.run(like=tmp_path / "run", out=tmp_path / "again")
        assert not (tmp_path / "again").exists()

    def test_what_is_repeated_by_another_code_or_other_libraries_is_said(self, run, tmp_path, capsys):
        run()
        again = {"like": tmp_path / "run", "out": tmp_path / "again"}
        series.run(**again)
        assert "not as in" not in capsys.readouterr().err
        record = read_record(tmp_path / "run")
        record |= {"code": "0", "commit": "1", "versions": record["versions"] | {"torch": "1.0"}}
        write_record(tmp_path / "run", record)
        series.run(**again, restart=True)
        here = saerec.record.surroundings()["versions"]["torch"]
        said = capsys.readouterr().err
        assert f"not as in {tmp_path / 'run'}: saerec's code, its commit, torch (1.0, here {here})\n" in said

    def test_the_record_names_parameters_and_data_that_worked(self, run, tmp_path, monkeypatch, tastes):
        """Not those that a whole run was begun with, nor earlier ones of a notebook that has worked without them."""
        run(parameters={"n": 5, "divisor": 3})
        before = read_record(tmp_path / "run")

        def interrupted(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(series, "_execute", interrupted)
            patch.setattr(series, "load_dataset", lambda *_, **__: saerec.Dataset(tastes, tastes))
            with pytest.raises(KeyboardInterrupt):
                run(parameters={"n": 6})
        after = read_record(tmp_path / "run")
        assert (after["parameters"], after["data"]) == (before["parameters"], before["data"])
        with pytest.raises(series.SeriesError):
            run(parameters={"divisor": 0})
        parameters = read_record(tmp_path / "run")["parameters"]
        assert "n" not in parameters and parameters["divisor"] == 3
        run(parameters={"divisor": 3})
        run(parameters={"divisor": 3, "resume": True})  # no reason to run again, and recorded
        assert read_record(tmp_path / "run")["parameters"] == parameters | {"resume": True}

    def test_the_index_says_with_what_each_was_made_and_what_is_older(self, run, tmp_path):
        run(parameters={"divisor": 3})
        run(only=["01"], parameters={"n": 9})
        folder, works = tmp_path / "run", read_record(tmp_path / "run")["notebooks"]
        assert _with_what(folder, works["01_first"]) == "n = 9"
        assert _with_what(folder, works["02_second"]) == "divisor = 3; sizes.csv has changed since"

    def test_another_run_once_more(self, run, notebooks, tmp_path, monkeypatch, tastes):
        run(parameters={"n": 5, "divisor": 3})
        again = {"like": tmp_path / "run", "out": tmp_path / "again"}
        series.run(**again, parameters={"n": 6})
        parameters = read_record(tmp_path / "again")["parameters"]
        assert parameters["n"] == 6 and parameters["divisor"] == 3 and parameters["out"] == str(tmp_path / "again")
        series.run(**again, only=["02"], parameters={"divisor": 4})  # which does not know n
        assert read_record(tmp_path / "again")["parameters"] == parameters | {"divisor": 4}
        monkeypatch.setattr(series, "load_dataset", lambda *_, **__: saerec.Dataset(tastes, tastes))
        told = f"the data are not those of {tmp_path / 'run'} any more: {len(tastes):,} ratings, then 100,004\n"
        assert told in run(like=tmp_path / "run")[1]

    def test_a_parameter_of_another_type_in_the_record_is_an_error(self, run, tmp_path):
        run()
        record = read_record(tmp_path / "run")
        record["notebooks"]["02_second"]["parameters"]["divisor"] = "x"
        write_record(tmp_path / "run", record)
        with pytest.raises(ValueError, match=r"run\.json of the earlier run is damaged: the parameter divisor is of"):
            run(only=["02"])

    def test_a_damaged_record_is_an_error(self, run, tmp_path):
        run()
        (tmp_path / "run" / "run.json").write_text("{")
        with pytest.raises(ValueError, match=r"run\.json is damaged: .*; with --restart"):
            run()
        assert run(restart=True)[0]


@pytest.mark.parametrize("path", sorted(runs.NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_what_a_notebook_reads_is_known(path):
    source = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
    named = set(re.findall(r'artefact\(run, "([\w.]+)"\)', source))
    for names in re.findall(r'artefact\(run, f"\{name\}\.parquet"\)\) for name in \(([^)]*)\)', source):
        named |= {f"{name}.parquet" for name in re.findall(r'"(\w+)"', names)}
    assert source.count("artefact(run, ") <= len(named)
    assert named == set(runs.READS.get(path.stem, ()))


@pytest.mark.series
def test_a_failure_names_notebook_cell_and_reason_and_the_index_tells(notebooks, tmp_path):
    with pytest.raises(
        series.SeriesError,
        match=r"^02_second failed in cell 3: ZeroDivisionError: division by zero\n.*02_second.ipynb$",
    ):
        series.run(out=tmp_path / "run", parameters={"divisor": 0}, progress=False)
    index = (tmp_path / "run" / "index.html").read_text(encoding="utf-8")
    assert "divisor = 0; 02_second failed in cell 3: ZeroDivisionError: division by zero" in index
    assert 'href="01_first.html"' in index and 'href="02_second.ipynb"' in index
    assert "ZeroDivisionError" in (tmp_path / "run" / "02_second.ipynb").read_text(encoding="utf-8")


def test_a_run_with_a_model_gets_its_page_and_the_index_leads_there(notebooks, tmp_path, monkeypatch, tastes):
    monkeypatch.setattr(series, "_execute", lambda *_: None)
    monkeypatch.setattr(exports, "write_notebook_page", lambda *_: None)
    link = 'href="recommender.html"'
    folder = tmp_path / "run"
    index = series.run(out=folder, only=["02_second"], progress=False)
    assert link not in index.read_text(encoding="utf-8") and not (folder / "recommender.html").exists()
    saerec.Recommender(hidden_dims=(4,), n_epochs=1, rank_by="rating").fit(tastes).save(folder / "model")
    tastes.to_parquet(folder / "ratings.parquet")
    tastes[["item_id"]].assign(title="T").to_parquet(folder / "movies.parquet")
    index = series.run(out=folder, only=["02_second"], progress=False)
    assert link in index.read_text(encoding="utf-8") and (folder / "recommender.html").exists()


@pytest.mark.parametrize("name", runs.FOR_ITS_PAGE)
def test_nothing_is_recommended_by_what_is_not_as_it_was_written(tmp_path, tastes, capsys, name):
    for file in ("model", "ratings.parquet", "movies.parquet"):
        (tmp_path / file).write_text("whole")
    writers = {file: runs.ARTEFACTS[file][0] for file in runs.FOR_ITS_PAGE}
    works = {
        writer: {
            "inputs": NOTHING,
            "writes": checksums(tmp_path, [file for file in writers if writers[file] == writer]),
        }
        for writer in writers.values()
    }
    write_record(tmp_path, new_record() | {"parameters": {"dataset": "d"}, "notebooks": works})
    assert runs.to_recommend(tmp_path) == [tmp_path / file for file in runs.FOR_ITS_PAGE]
    (tmp_path / name).write_text("another's")
    for command in (["recommend", "--user", "1000"], ["page"]):
        assert main([command[0], "--run", str(tmp_path), *command[1:]]) == 1
        told = f"saerec: {tmp_path / name} is not as {writers[name]} wrote it; run that again first\n"
        assert capsys.readouterr().err == told


@pytest.fixture
def unexecuted(notebooks, monkeypatch):
    """Notebooks that are not executed: their copies have no outputs, their pages are empty."""
    monkeypatch.setattr(series, "_execute", lambda notebook, output, *_: shutil.copy(notebook, output))
    monkeypatch.setattr(exports, "write_notebook_page", lambda path: path.with_suffix(".html").touch())


def test_the_index_is_of_the_runs_notebooks_whatever_lies_beside_them(unexecuted, notebooks, tmp_path):
    folder = series.run(out=tmp_path / "run").parent
    (folder / "07_notes.html").touch()
    (folder / "08_more.html").touch()
    nbformat.write(new_notebook(cells=[new_markdown_cell("mine")]), folder / "08_more.ipynb")
    (folder / "02_second.ipynb").write_text("garbled")
    index = series.run(out=folder, only=["01"]).read_text(encoding="utf-8")
    assert "What is n?" in index and "Does it divide?" in index and "07_notes" not in index and "08_more" not in index
    (notebooks / "02_second.ipynb").unlink()
    assert ">02_second</a>" in series.run(out=folder, only=["01"]).read_text(encoding="utf-8")


def test_a_damaged_model_hides_neither_an_earlier_error_nor_the_index(unexecuted, tmp_path, monkeypatch, capsys):
    def damaged(*_):
        raise ValueError("the model is damaged")

    def failing(*_):
        raise series.SeriesError("02_second failed")

    folder = tmp_path / "run"
    monkeypatch.setattr(runs, "FOR_ITS_PAGE", ())
    monkeypatch.setattr(series, "_write_recommender", damaged)
    with pytest.raises(ValueError, match="the model is damaged"):
        series.run(out=folder)
    assert "What is n?" in (folder / "index.html").read_text(encoding="utf-8")

    def without_errors(*_):
        raise KeyError("no rmse")

    monkeypatch.setattr(series, "_write_recommender", without_errors)
    monkeypatch.setattr(series, "_execute", failing)
    with pytest.raises(series.SeriesError, match="02_second failed"):
        series.run(out=folder, only=["02"])
    assert "the pages are not all written: 'no rmse'\n" in capsys.readouterr().err
    assert "02_second failed" in (folder / "index.html").read_text(encoding="utf-8")


def test_a_table_of_errors_that_was_changed_is_not_told_and_stops_nothing(unexecuted, tmp_path, monkeypatch):
    def execute(notebook, output, *_):
        shutil.copy(notebook, output)
        if notebook.stem == "01_first":
            (output.parent / "scores.csv").write_text("model,rmse\nsaerec,0.5\n")

    monkeypatch.setattr(series, "_execute", execute)
    monkeypatch.setattr(runs, "ARTEFACTS", {"scores.csv": ("01_first", "errors")})
    index = series.run(out=tmp_path / "run")
    assert runs.errors(index.parent).to_dict("list") == {"model": ["saerec"], "rmse": [0.5]}
    assert "0.5000" in index.read_text(encoding="utf-8")
    (index.parent / "scores.csv").write_text('model,rmse\n"saerec,0.4\n1,2,3')
    index = series.run(out=index.parent, only=["02"])
    assert runs.errors(index.parent) is None and "There are no errors on test ratings yet" in index.read_text(
        encoding="utf-8"
    )
    assert "results" not in read_record(index.parent)


def test_a_missing_artefact_names_the_notebook_that_writes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.parquet is missing: the notebook 02_training writes it"):
        runs.artefact(tmp_path, "train.parquet")


def test_what_a_notebook_needed_to_go_on_is_removed_by_who_knows_that_it_is_done(tmp_path, monkeypatch):
    for writer, there in ((None, False), ("1", True)):
        (tmp_path / "peers").mkdir()
        if writer:
            monkeypatch.setenv("SAEREC_WRITER", writer)
        runs.done_with(tmp_path, "peers")
        assert (tmp_path / "peers").exists() == there


def test_what_a_process_works_in_is_not_removed(tmp_path):
    lock = FileLock(tmp_path / "original" / "both" / ".lock")
    (tmp_path / "original" / "both").mkdir(parents=True)
    with lock:
        (tmp_path / "original" / "both" / ".lock.pid").write_text("1")
        runs.remove_idle(tmp_path / "original")
        assert (tmp_path / "original" / "both").exists()
    runs.remove_idle(tmp_path / "original")
    assert not (tmp_path / "original").exists()


def test_a_run_folder_is_named_after_the_data_set(monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "RUNS", tmp_path / "runs")
    assert runs.run_folder("some/where/ml-25m") == tmp_path / "runs" / "ml-25m"
    assert runs.run_folder("ml-25m", str(tmp_path / "mine")) == tmp_path / "mine"


def test_an_unknown_data_set_is_refused_before_any_kernel_starts(notebooks, tmp_path, monkeypatch):
    forbid_execution(monkeypatch)
    with pytest.raises(FileNotFoundError, match="no data set 'nowhere'"):
        series.run("nowhere", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.series
def test_one_notebook_again_keeps_the_record_of_the_others(notebooks, tmp_path):
    folder = tmp_path / "run"
    index = series.run(out=folder, parameters={"n": 7, "divisor": 2}, progress=False)
    before = json.loads((folder / "run.json").read_text())
    series.run(out=folder, parameters={"divisor": 4}, only=["02_second"], progress=False)
    after = json.loads((folder / "run.json").read_text())
    assert after["parameters"] == before["parameters"] | {"divisor": 4}
    assert set(after["seconds"]) == {"01_first", "02_second"}
    shown = index.read_text(encoding="utf-8")
    assert "<small>n = 7; took" in shown and "<small>divisor = 4; took" in shown

    with pytest.raises(series.SeriesError):
        series.run(out=folder, parameters={"divisor": 0}, only=["02_second"], progress=False)
    assert not (folder / "02_second.html").exists()
    series.run(out=folder, only=["02"], progress=False)  # with what it last worked with
    assert json.loads((folder / "run.json").read_text())["parameters"]["divisor"] == 4
    assert "<small>divisor = 4; took" in index.read_text(encoding="utf-8")


@pytest.mark.series
@pytest.mark.parametrize(
    ("raised", "reason"),
    [("'no such user'", "no such user"), ("type('Id', (int,), {'__repr__': lambda i: 'Id(5)'})(5)", "Id(5)")],
)
def test_a_key_error_is_told_without_its_quotes(notebooks, tmp_path, raised, reason):
    path = notebooks / "02_second.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].source = f"raise KeyError({raised})"
    nbformat.write(notebook, path)
    with pytest.raises(series.SeriesError) as error:
        series.run(out=tmp_path / "run", progress=False)
    assert str(error.value).splitlines()[0] == f"02_second failed in cell 3: KeyError: {reason}"


@pytest.mark.series
def test_a_dead_kernel_is_a_failure_like_another(notebooks, tmp_path):
    path = notebooks / "02_second.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].source = "import os\nos._exit(1)"
    nbformat.write(notebook, path)
    with pytest.raises(series.SeriesError, match="02_second did not finish: its kernel died"):
        series.run(out=tmp_path / "run", progress=False)


@pytest.mark.parametrize("n_deaths", [1, 2, 3])
def test_a_kernel_that_does_not_start_is_started_again(notebooks, tmp_path, monkeypatch, n_deaths):
    """Two that start at once may be given the same port."""
    started = []

    def start(notebook, part, **_):
        started.append(part)
        if len(started) <= n_deaths:
            raise RuntimeError("Kernel died before replying to kernel_info")
        Path(part).write_text("executed")

    monkeypatch.setattr(papermill, "execute_notebook", start)
    copy = tmp_path / "01_first.ipynb"
    with pytest.raises(RuntimeError, match="Kernel died") if n_deaths == 3 else nullcontext():
        series._execute(notebooks / "01_first.ipynb", copy, {}, progress=False)
    assert len(started) == min(n_deaths + 1, 3) and copy.exists() == (n_deaths < 3)


def test_a_killed_notebook_leaves_no_half_copy(notebooks, tmp_path, monkeypatch):
    """Whoever is killed cannot tidy up, so what matters is where papermill writes to."""
    seen = []

    def killed(notebook, part, **_):
        Path(part).write_text("half")
        seen.extend(tmp_path.iterdir())
        raise SystemExit

    monkeypatch.setattr(papermill, "execute_notebook", killed)
    with pytest.raises(SystemExit):
        series._execute(notebooks / "01_first.ipynb", tmp_path / "01_first.ipynb", {}, progress=False)
    assert seen and tmp_path / "01_first.ipynb" not in seen


def test_a_bad_keep_is_refused_at_once(tmp_path, monkeypatch):
    forbid_execution(monkeypatch)
    with pytest.raises(ValueError, match="keep must be 'all', 'best' or how many of the last epochs, not 'some'"):
        series.run(out=tmp_path / "run", parameters={"keep": "some"})


def test_paths_are_recorded_so_that_they_hold_in_any_folder(notebooks, tmp_path, monkeypatch):
    monkeypatch.setattr(series, "_execute", lambda notebook, output, *_: shutil.copy(notebook, output))
    monkeypatch.setattr(exports, "write_notebook_page", lambda path: path.with_suffix(".html").touch())
    path = notebooks / "01_first.ipynb"
    path.write_text(path.read_text().replace("n = 3", "titles = ''\\nn = 3", 1))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.csv").write_text("user_id,item_id,rating\na,x,9\nb,x,-3\na,y,0\n")
    (tmp_path / "titles.csv").write_text("item_id,title\nx,X\ny,Y\n")
    series.run("shop.csv", "run", parameters={"titles": "titles.csv"})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    index = series.run(like=tmp_path / "run", out="again")
    parameters = read_record(index.parent)["parameters"]
    assert (parameters["dataset"], parameters["titles"]) == (str(tmp_path / "shop.csv"), str(tmp_path / "titles.csv"))
    assert lasting_name(str(DATA_DIR / "ml-latest-small")) == lasting_name("ml-latest-small") == "ml-latest-small"


class TestLoadDataset:
    """What the parameters of 01_exploration mean."""

    @pytest.fixture
    def shop(self, tmp_path):
        (tmp_path / "shop.csv").write_text("who;what;stars;when\na;x;9;5\nb;x;-3;6\na;y;0;7\na;y;4;8\n")
        (tmp_path / "titles.csv").write_text("what,title\ny,Ypsilon\n")
        return tmp_path

    def test_a_file_of_ones_own(self, shop):
        names = {"user": "who", "item": "what", "rating": "stars"}
        data = load_dataset(str(shop / "shop.csv"), **names, duplicates="mean")
        assert data.ratings.to_dict("list") == {"user_id": list("aba"), "item_id": list("xxy"), "rating": [9, -3, 2]}
        assert data.movies["title"].tolist() == ["x", "y"]
        options = {"timestamp": "when", "titles": str(shop / "titles.csv"), "duplicates": "last"}
        data = load_dataset(str(shop / "shop.csv"), **names, **options)
        assert data.ratings["timestamp"].tolist() == [5, 6, 8]
        assert data.movies["title"].tolist() == ["x", "Ypsilon"]
        with pytest.raises(DuplicateRatingError, match=r"shop\.csv: ratings of a \(user, item\) pair"):
            load_dataset(str(shop / "shop.csv"), **names)

    def test_how_files_of_ones_own_are_written(self, shop, capsys):
        text = (shop / "shop.csv").read_text().replace("x", "café").replace(";", "^")
        (shop / "shop.csv").write_bytes(text.encode("cp1252"))
        (shop / "titles.csv").write_bytes("what^title\ncafé^Café\n".encode("cp1252"))
        names = {"user": "who", "item": "what", "rating": "stars", "titles": str(shop / "titles.csv")}
        form = {"separator": "^", "encoding": "cp1252", "duplicates": "mean"}
        data = load_dataset(str(shop / "shop.csv"), **names, **form)
        assert data.movies["title"].tolist() == ["Café", "y"]
        said = "titles.csv: 1 of 2 rated items have no title in it, for example 'y'; their ids stand for titles\n"
        assert capsys.readouterr().out.endswith(said)

    def test_a_file_alone_in_a_zip(self, shop):
        archive = shop / "shop.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            packed.write(shop / "shop.csv", "shop.csv")
        names = {"user": "who", "item": "what", "rating": "stars"}
        assert len(load_dataset(str(archive), **names, duplicates="last").ratings) == 3
        with zipfile.ZipFile(archive, "a") as packed:
            packed.write(shop / "titles.csv", "titles.csv")
        with pytest.raises(FileFormatError, match="export or unpack it as CSV"):
            load_dataset(str(archive), **names)

    def test_doubled_ratings_of_a_release(self, tmp_path):
        (tmp_path / "ratings.dat").write_text("1::2::3::4\n1::3::4::4\n2::2::3::4\n1::2::5::4\n")
        (tmp_path / "movies.dat").write_text("2::Heat (1995)::Crime\n")
        assert len(load_dataset(str(tmp_path), duplicates="last").ratings) == 3
        with pytest.raises(DuplicateRatingError):
            load_dataset(str(tmp_path))

    def test_bad_data_are_refused_before_the_first_notebook_alone_is_run(self, shop, monkeypatch):
        """As those of an earlier run, with what was said of them then."""
        forbid_execution(monkeypatch)
        (shop / "run").mkdir()
        record = {"parameters": {"dataset": str(shop / "shop.csv"), "user": "who", "item": "what"}, "seconds": {}}
        (shop / "run" / "run.json").write_text(json.dumps(record | {"saerec": "0"}))
        with pytest.raises(MissingColumnError, match="no column rating; there are"):
            series.run(out=shop / "run", only=["01_exploration"])

    def test_a_release_by_name_or_zip(self, tmp_path):
        assert len(load_dataset("ml-latest-small").ratings) == 100_004
        (tmp_path / "ratings.dat").write_text("1::2::3::4\n1::3::4::4\n2::2::3::4\n")
        (tmp_path / "movies.dat").write_text("2::Heat (1995)::Crime\n")
        archive = shutil.make_archive(str(tmp_path.parent / "some"), "zip", tmp_path)
        assert len(load_dataset(archive).ratings) == 3

    def test_ratings_that_teach_nothing_are_refused_at_once(self, tmp_path):
        path = tmp_path / "likes.csv"
        path.write_text("user_id,item_id,rating\n1,2,1\n2,2,1\n1,3,1\n")
        with pytest.raises(ConstantRatingsError, match="all 3 ratings are 1"):
            load_dataset(str(path))

    def test_a_missing_file_and_options_of_another_kind_of_data_are_named(self, shop):
        with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere\.csv"):
            load_dataset(str(shop / "nowhere.csv"))
        names = {"user": "who", "item": "what", "rating": "stars"}
        with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.csv"):
            load_dataset(str(shop / "shop.csv"), **names, titles=str(shop / "none.csv"), duplicates="last")
        with pytest.raises(ValueError, match="are of a CSV or Parquet file; ml-latest-small is none"):
            load_dataset("ml-latest-small", titles="titles.csv")

    def test_bad_data_leave_an_earlier_run_alone(self, shop, notebooks):
        (shop / "run").mkdir()
        (shop / "run" / "scores.csv").write_text("old")
        with pytest.raises(MissingColumnError, match="no column user_id, item_id, rating; there are: who, what"):
            series.run(shop / "shop.csv", shop / "run", restart=True)
        assert (shop / "run" / "scores.csv").read_text() == "old"

    @pytest.mark.parametrize(
        ("dataset", "name"),
        [("shop.csv", "shop"), ("a/ml-25m.zip", "ml-25m"), ("b/r.csv.gz", "r"), ("c.d", "c.d"), ("v1.2.csv", "v1.2")],
    )
    def test_the_run_is_named_after_it(self, tmp_path, monkeypatch, dataset, name):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(runs, "RUNS", tmp_path / "runs")
        path = tmp_path / dataset
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if dataset == "c.d" else path.touch()
        assert runs.run_folder(dataset) == tmp_path / "runs" / name


def told(notebook) -> str:
    """What an executed notebook says, in text, markdown and the texts of its pictures."""
    cells = nbformat.read(notebook, as_version=4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    markdown = [output.get("data", {}).get("text/markdown", "") for output in outputs]
    return "\n".join([*markdown, *(f"{output.get('text', '')} {output.get('metadata', '')}" for output in outputs)])


@pytest.mark.series
def test_the_series_runs_on_a_file_of_ones_own(tastes, tmp_path):
    """Ids of text, a scale from -10 to 10 in steps of 0.01, no times, titles for some, no genres."""
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, len(tastes))
    rating = ((tastes["rating"] - 2.75) * (20 / 4.5) + noise).clip(-10, 10).round(2)
    shop = pd.DataFrame({"who": "u" + tastes["user_id"].astype(str), "what": "i" + tastes["item_id"].astype(str)})
    shop.assign(score=rating).to_csv(tmp_path / "shop.csv", index=False)
    pd.DataFrame({"what": ["i10", "i13"], "title": ["Ten", "Thirteen"]}).to_csv(tmp_path / "titles.csv", index=False)
    own = {"user": "who", "item": "what", "rating": "score", "titles": str(tmp_path / "titles.csv")}
    small = {"n_epochs": 3, "hidden_dims": [8], "batch_size": 8, "k": 3}
    index = series.run(tmp_path / "shop.csv", tmp_path / "run", parameters=own | small, only=FIRST_FOUR, progress=False)
    top = pd.read_csv(index.parent / "top10.csv")
    assert set(top["user_id"]) <= set(shop["who"]) and set(top["item_id"]) <= set(shop["what"])
    assert {"Thirteen", "i22"} <= set(top["title"])
    assert not set(zip(top["user_id"], top["item_id"])) & set(zip(shop["who"], shop["what"]))
    assert pd.read_csv(index.parent / "scores.csv", index_col="model").loc["global mean", "rmse"] > 4
    assert not {"genres", "year"} & set(top)
    numbers = pd.read_csv(index.parent / "exploration.csv")
    figures = ["how people rate", "the long tail of items", "the long tail of users", "map of the table: all"]
    assert list(numbers["figure"].unique()) == figures
    assert (index.parent / "for_you.csv").stat().st_size and len(pd.read_csv(index.parent / "explained.csv"))
    first, fourth = (told(index.parent / f"{name}.ipynb") for name in ("01_exploration", "04_user_report"))
    assert "No genres are known" in first
    assert "22 of 24 rated items have no title in it, for example" in first
    assert f"{len(shop)} ratings are too few to learn taste from" in first
    assert "Nothing: there are no more users and no more items than it keeps" in first and "nan" not in first
    assert "Maps of the table. All: " in first and "ever more steeply: items from" in first
    assert "of 24 items" in fourth and "ratings of these items" in fourth


def test_training_parts_are_those_of_the_parameters(movielens):
    given = {"split_by": "time", "n_items": "50", "valid_share": "0.3", "item_features": "false", "dropout": "0.2"}
    train, valid, features, settings = series.training_parts(parameters=given)
    ratings = saerec.top_users_and_items(movielens.ratings, n_items=50)
    expected = saerec.split_ratings(ratings, valid=0.3, by="time")
    pd.testing.assert_frame_equal(train, expected[0])
    pd.testing.assert_frame_equal(valid, expected[1])
    assert features is None and settings == {"dropout": 0.2, "seed": 0, "device": "cpu"}
    with pytest.raises(ValueError, match="no notebook has a parameter 'epochs'"):
        series.training_parts(parameters={"epochs": 1})


def test_the_index_begins_with_what_was_found_and_defines_its_measures(tmp_path):
    inputs = {"parameters": {"titles": "/home/anna/titles.csv"}, "reads": {}, "data": None, "notebook": "", "code": ""}
    record = {"saerec": "9.9", "parameters": {"dataset": "/home/anna/shop.csv", "rank_by": "rating"}}
    record |= {"notebooks": {"01_exploration": {"inputs": inputs, "writes": {}}}}
    write_record(tmp_path, record)
    scores = pd.DataFrame(
        {"model": ["regularised biases", "saerec"], "rmse": [0.86, 0.8], "user_rmse": 0.7, "mae": 0.6}
    )
    lists = pd.DataFrame({"order": ["most popular", "saerec: rating"], "ndcg": [0.1, 0.2], "recall": [0.05, 0.25]})
    lists = lists.assign(coverage=[0.1, 0.625], popularity=9.4, novelty=1.5)
    page = write_index(tmp_path).read_text(encoding="utf-8")
    assert "There are no errors on test ratings yet" in page and "<table" in page and "Lists of ten" not in page
    scores.to_csv(tmp_path / "scores.csv", index=False)
    lists.to_csv(tmp_path / "list_scores.csv", index=False)
    (tmp_path / "scores.png").write_bytes(b"a picture")
    page = BeautifulSoup(write_index(tmp_path).read_text(encoding="utf-8"), "html.parser")
    first, *_ = page.find_all("p")
    assert first.text == (
        "saerec is off by 0.80 points on ratings that it has not seen, where averages of users and items are off by "
        "0.86 (root mean square). Of what a user liked among them its list of ten holds 25% on average, a list of the "
        "most popular 5%."
    )
    (picture,) = page.find_all("img")
    assert picture["alt"].endswith("on the test ratings: regularised biases 0.8600; saerec 0.8000.")
    assert page.find("figcaption").a["href"] == "scores.csv"
    for word in ("user_rmse", "mae", "Regularised biases", "ndcg@10", "recall@10", "coverage", "popularity", "novelty"):
        assert word in [em.text for em in page.find_all("em")] and word.lower() in page.text.lower()
    assert "62.5%" in page.text and "/home" not in str(page) and "titles = titles.csv" in page.text
    assert page.find("details").find("a", href="list_scores.csv") and "saerec 9.9" in page.text
    pd.DataFrame().to_csv(tmp_path / "list_scores.csv")  # nobody liked anything
    assert "Lists of ten" not in write_index(tmp_path).read_text(encoding="utf-8")


def test_a_notebooks_page_folds_code_numbers_captions_and_hides_where_it_lay(tmp_path):
    about = {"alt": "dots", "caption": "Errors & more.", "csv": "errors.csv", "width": 672}
    picture = new_output("display_data", data={"image/png": "AAAA"}, metadata={"image/png": about})
    table = new_output("display_data", data={"text/html": plots.table(pd.DataFrame({"n": [1]}), caption="One.").data})
    said = new_output("stream", name="stdout", text=f"saerec run --out {tmp_path / 'here'} of data/ml-1m")
    passed = new_code_cell(f'out = "{tmp_path / "here"}"\ndataset = "/home/anna/shop.csv"\nseparator = "/"')
    passed.metadata["tags"] = ["injected-parameters"]
    cells = [new_markdown_cell("# 3. Title"), passed, new_code_cell("1 + 1", outputs=[picture, table, said, picture])]
    nbformat.write(new_notebook(cells=cells), tmp_path / "03_a.ipynb")
    exports.write_notebook_page(tmp_path / "03_a.ipynb")
    html = (tmp_path / "03_a.html").read_text(encoding="utf-8")
    page = BeautifulSoup(html, "html.parser")
    assert [one.text for one in page.find_all("figcaption")] == [
        "Figure 3.1. Errors & more. Its numbers",
        "Figure 3.2. Errors & more. Its numbers",
    ]
    assert page.find("figcaption").a["href"] == "errors.csv" and page.find("img")["width"] == "672"
    assert page.find("caption").text == "Table 3.1. One."
    assert (
        all(code.find_parent("details") for code in page.find_all(class_="highlight")) and page.summary.text == "Code"
    )
    (scrolls,) = [table.find_parent("div") for table in page.find_all("table")]
    assert (scrolls["tabindex"], scrolls["role"]) == ("0", "region") and scrolls["aria-label"]
    assert str(tmp_path) not in html and "/home/anna" not in html
    assert "saerec run --out here of data/ml-1m" in html and 'dataset = "shop.csv"' in page.text
    assert html.count("scope=") == len(page.find_all("th")) == 1


def test_titles_and_ids_in_a_text_are_no_html_on_its_page(tmp_path):
    hostile = '### User <img src="x" onerror="alert(1)"> & **<script>alert(2)</script>** ![x](http://x.example/y)'
    cell = new_code_cell("show()", outputs=[new_output("display_data", data={"text/markdown": hostile})])
    told = f"### User {plots.in_markdown('# [a](http://y.example) *z* <b>')}: 3"
    cell.outputs.append(new_output("display_data", data={"text/markdown": told}))
    alt = 'Top of "x" > <img src=y>'
    picture = new_output("display_data", data={"image/png": "AAAA"}, metadata={"image/png": {"alt": alt}})
    cell.outputs.append(picture)
    table = pd.DataFrame({"title": ["<b>bold</b>"]}).to_html()
    cell.outputs.append(new_output("display_data", data={"text/html": table}))
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Title"), cell]), tmp_path / "01_a.ipynb")
    exports.write_notebook_page(tmp_path / "01_a.ipynb")
    page = (tmp_path / "01_a.html").read_text(encoding="utf-8")
    assert "&lt;img src=" in page and "&lt;script&gt;alert(2)" in page and "<strong>" in page
    assert "<img src=" not in page and "<script>alert" not in page
    assert "<td>&lt;b&gt;bold&lt;/b&gt;</td>" in page and "<h1" in page
    assert ">User # [a](http://y.example) *z* &lt;b&gt;: 3<" in page and "y.example</a>" not in page
    assert [image["alt"] for image in BeautifulSoup(page, "html.parser").find_all("img")] == ["x", alt]
    # What Markdown makes of the rest, links that run code and pictures from elsewhere, the browser is told to leave.
    assert "default-src 'none'; img-src data:; style-src" in page.partition("<style>")[0]


def test_a_path_is_taken_out_of_a_page_but_not_out_of_pictures(tmp_path):
    notebook = tmp_path / "01.ipynb"
    cell = {"source": ['out = "/ab/cd"\n', 'separator = "/"'], "metadata": {"tags": ["injected-parameters"]}}
    notebook.write_text(json.dumps({"cells": [cell]}))
    picture = '<img src="data:image/png;base64,xx/ab/cd==" alt="/ab/cd">'
    html = exports._without_paths(f'<p>in "/ab/cd/file" a/b</p>{picture}', notebook)
    assert html == '<p>in "cd/file" a/b</p><img src="data:image/png;base64,xx/ab/cd==" alt="cd">'
    cell["source"] = ['out = "/p"\n', 'dataset = "/p/o\'b"']
    notebook.write_text(json.dumps({"cells": [cell]}))
    html = exports._without_paths("<p>/p/o'b/x and /p/o&#x27;b, /p/y either/p /pq</p>", notebook)
    assert html == "<p>o&#x27;b/x and o&#x27;b, p/y either/p /pq</p>"
