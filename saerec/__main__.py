"""The command line. ``saerec fetch`` downloads MovieLens, ``saerec run`` executes the notebook series on it, ``saerec
train`` trains alone, ``saerec tune`` finds settings, ``saerec recommend`` asks a run for a list, ``saerec page`` makes
a web page of it, ``saerec verify`` tells whether it holds."""

import argparse
import os
import shlex
import signal
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

import saerec
from saerec import distributed, fetch, runs, series, study
from saerec.recommender import RANKINGS
from saerec.record import RECORD, read_record, verify
from saerec.tables import check_table_name, write_parts

FETCH_HELP = f"""Download a MovieLens release from GroupLens, check it by its published MD5 and unpack it into a folder
that `saerec run --dataset` finds. What is there already is left alone; an interrupted download starts anew.

releases: {", ".join(fetch.RELEASES)}
The last two change: they have no published MD5, so they cannot be checked.

examples:
  saerec fetch ml-25m                    into data/ml-25m
  saerec fetch ml-1m --to /big/disk      into /big/disk/ml-1m
"""

RUN_HELP = """Execute the notebooks 01 to 06 on a data set, in order, and leave everything in one folder: the executed
notebooks, a web page of each, an index.html to start from, the trained model, and tables as CSV.

In the folder of an earlier run it goes on: what is finished stays, unless its parameters, the data, the notebook or
saerec's code have changed; an interrupted training goes on from its last epoch.

examples:
  saerec run                                          the data set that ships with saerec
  saerec run --dataset ml-25m --out runs/big          a MovieLens release: a folder or zip in data/, or a path
  saerec run --dataset shop.csv --user customer --item product --rating stars --titles products.csv
  saerec run -p orientation=item -p hidden_dims=200,100,200 -p seed=1 --out runs/deep
  saerec run --only 04 -p users=15,259                one notebook again, in the folder of that run
  saerec run --like runs/deep --out runs/again        what another run did, once more
"""

TRAIN_HELP = """Train on a data set without notebooks: the cut, the split, the training and the scores are those of the
notebooks 01 to 03. Leaves model/, ratings.parquet, movies.parquet, test.parquet, history.csv, scores.csv, checkpoints/
and run.json in one folder, which saerec recommend, saerec page and saerec verify take for a run.

Several processes, on one machine or more, share out the rows of every batch; --out must be a folder that all of them
see. What stops goes on from the last epoch with --resume, in as many processes as you like.

examples:
  saerec train --dataset ml-25m --out runs/big -p orientation=user -p rank_by=rating
  saerec train --dataset ml-25m --out runs/big --resume
  torchrun --nproc-per-node 4 -m saerec -- train --dataset ml-25m --out runs/big -p device=cuda
"""

RECOMMEND_HELP = """Print the top k of a user, from the model of a finished run: what they have not rated, best first,
with reasons. Or write the lists of all users to a file, part by part, without reasons: those take far longer.

examples:
  saerec recommend --run runs/ml-latest-small --user 259 -k 5
  saerec recommend --run runs/ml-latest-small --out top10.parquet --min-ratings 20
  saerec recommend --run runs/ml-latest-small --out three.csv --users 15,259,547 -k 5
  torchrun --nproc-per-node 4 -m saerec -- recommend --run runs/big --out top10.parquet
"""
USERS_IN_A_PART = 10_000
WIDTH = 80  # columns of a terminal
ORDERS = {
    "rating": "predicted rating alone",
    "popularity": "predicted rating and popularity",
    "both": "predicted rating and chance",
}
OF_OWN_FILES = ("user", "item", "rating", "timestamp", "titles", "duplicates", "separator", "encoding")

PAGE_HELP = """Write one web page in which the model of a finished run runs: give ratings and see your list change, or
look up what users of the data get, and why. It opens from disk and needs no network. saerec run writes it too.

example:
  saerec page --run runs/ml-latest-small
"""

VERIFY_HELP = """Tell whether a run still holds: what its notebooks wrote and read and its pages are as they were, the
checkpoints are whole, the data set is the one that was read, the model and the baselines have the errors on the test
ratings that the run's tables say, and nobody has edited its record. What is not made yet is told from what does not
hold. The exit status is 0 if all of it is made and holds, otherwise 1.

example:
  saerec verify runs/ml-latest-small
"""

TUNE_HELP = """Try other settings than the default on a data set, one after the other, and print what each is worth on
the validation ratings of the series: the same cut, the same split. The test ratings are not looked at.

The order is fixed and every try repeats to the bit; which of them there is time for may differ from run to run. What
-p sets stays as it is.

examples:
  saerec tune                                         the data set that ships with saerec, ten minutes
  saerec tune --dataset shop.csv --user customer --item product --rating stars --minutes 30 --out tune.csv
  saerec tune -p orientation=item -p n_epochs=20      with rows that are items and 20 epochs, whatever else
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status: 0, 1 if something failed, 2 if the command made no sense."""
    options = _parser().parse_args(arguments)
    try:
        with _ended_as_by_ctrl_c():
            status = options.command(options) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever reads this has read enough; what is left to say goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as error:
        told, _, _ = str(error).partition("; to go on")  # which fit says to those who called it
        kept = {
            _run: "; what was finished is kept: saerec run goes on from there, without --restart",
            _train: "; the same command with --resume goes on",
        }
        print(f"saerec: interrupted{told and ': '}{told}{kept.get(options.command, '')}", file=sys.stderr)
        return 130
    except (series.SeriesError, OSError, ValueError, KeyError) as error:
        message = error.args[0] if type(error) is KeyError else error
        print(f"saerec: {message}", file=sys.stderr)
        return 1


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Within, who is asked to end (SIGTERM: a batch system, `timeout`) does so as after Ctrl-C."""
    if "TORCHELASTIC_RUN_ID" in os.environ or threading.current_thread() is not threading.main_thread():
        yield  # torchrun ends its processes while they wait for each other
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="saerec", description="Rating autoencoders, from MovieLens files to top-10 lists."
    )
    parser.add_argument("--version", action="version", version=f"saerec {saerec.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    raw = argparse.RawDescriptionHelpFormatter

    fetching = commands.add_parser(
        "fetch", help="download a MovieLens release", description=FETCH_HELP, formatter_class=raw
    )
    fetching.add_argument("name", metavar="NAME", help="the release")
    fetching.add_argument(
        "--to",
        type=Path,
        metavar="DIR",
        help="where its folder goes (default: data/); if NAME.zip lies there, it is used instead of a download",
    )
    fetching.add_argument(
        "--insecure",
        action="store_true",
        help="do not check the server's certificate: when it has expired, and only for a release with a published MD5",
    )
    fetching.set_defaults(command=_fetch)

    run = commands.add_parser("run", help="execute the notebook series", description=RUN_HELP, formatter_class=raw)
    _add_data_options(run)
    run.add_argument(
        "--out",
        default="",
        metavar="DIR",
        help="the run's folder (default: runs/<dataset> of the project's folder; of the current folder if saerec was "
        "installed)",
    )
    run.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NOTEBOOK",
        help="execute this notebook alone, finished or not, on an earlier run, with the parameters it had there: its "
        "name, or how that begins; repeatable",
    )
    run.add_argument("--restart", action="store_true", help="remove an earlier run in the same folder first")
    run.add_argument(
        "--like", type=Path, metavar="DIR", help="the data set and the parameters of the run there; needs --out"
    )
    _add_keep(run)
    run.add_argument("--quiet", action="store_true", help="no progress bars")
    run.set_defaults(command=_run)

    train = commands.add_parser("train", help="train without notebooks", description=TRAIN_HELP, formatter_class=raw)
    _add_data_options(train)
    train.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder for all that it leaves")
    earlier = train.add_mutually_exclusive_group()
    earlier.add_argument("--resume", action="store_true", help="go on with the training that is in the folder")
    earlier.add_argument("--restart", action="store_true", help="remove the training that is in the folder first")
    _add_keep(train)
    train.add_argument("--quiet", action="store_true", help="no progress bars")
    train.set_defaults(command=_train)

    recommend = commands.add_parser(
        "recommend", help="print a user's top k", description=RECOMMEND_HELP, formatter_class=raw
    )
    recommend.add_argument("--run", required=True, type=Path, metavar="DIR", help="a run's folder")
    whose = recommend.add_mutually_exclusive_group(required=True)
    whose.add_argument("--user", metavar="ID", help="the user's id in the data")
    whose.add_argument("--out", type=Path, metavar="FILE", help="write the lists of all users: .parquet or .csv")
    recommend.add_argument("--users", metavar="ID,ID,…", help="with --out: of these users alone")
    recommend.add_argument(
        "--min-ratings",
        type=int,
        metavar="N",
        help="with --out: of users with at least so many training ratings",
    )
    recommend.add_argument(
        "--rank-by", choices=RANKINGS, help="what the best are: liked and likely to be chosen, or one of them"
    )
    recommend.add_argument("-k", "--k", type=int, default=10, help="how many (default: %(default)s)")
    recommend.set_defaults(command=_recommend)

    page = commands.add_parser(
        "page", help="write a web page that recommends", description=PAGE_HELP, formatter_class=raw
    )
    page.add_argument("--run", required=True, type=Path, metavar="DIR", help="a run's folder")
    page.add_argument("--out", default="", metavar="FILE", help="the page (default: recommender.html in that folder)")
    page.add_argument(
        "--n-users",
        type=int,
        default=1000,
        metavar="N",
        help="how many users can be looked up; of more, so many are drawn at random (default: %(default)s)",
    )
    page.set_defaults(command=_page)

    verify = commands.add_parser(
        "verify", help="tell whether a run still holds", description=VERIFY_HELP, formatter_class=raw
    )
    verify.add_argument("run", type=Path, metavar="DIR", help="a run's folder")
    verify.set_defaults(command=_verify)
    tune = commands.add_parser("tune", help="find settings for your data", description=TUNE_HELP, formatter_class=raw)
    _add_data_options(tune)
    tune.add_argument("--minutes", type=float, default=10.0, metavar="M", help="about how long (default: %(default)g)")
    tune.add_argument("--out", type=Path, metavar="FILE", help="write the table too: .csv or .parquet")
    tune.add_argument("--quiet", action="store_true", help="no progress bar")
    tune.set_defaults(command=_tune)
    return parser


def _add_keep(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--keep",
        metavar="WHICH",
        help="whose epochs' weights stay: all, best, or how many of the last (default: all); the same as -p keep",
    )


def _add_data_options(command: argparse.ArgumentParser) -> None:
    """What data, and the parameters of the notebooks: alike for all that work as the series does."""
    command.add_argument(
        "--dataset",
        default="",
        metavar="NAME_OR_PATH",
        help="a MovieLens folder or zip, or its name in data/, or a CSV or Parquet file (default: ml-latest-small)",
    )
    command.add_argument(
        "-p",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a parameter of the notebooks (their third cell lists them); repeatable; lists with commas",
    )
    own = command.add_argument_group("a CSV or Parquet file of your own")
    for name in ("user", "item", "rating", "timestamp"):
        known = "" if name == "timestamp" else f" (default: {name}{'' if name == 'rating' else '_id'})"
        own.add_argument(f"--{name}", metavar="COLUMN", help=f"its column of {name}s{known}")
    own.add_argument("--titles", metavar="FILE", help="a second file, with that column of items and one called title")
    own.add_argument("--encoding", help="of these files, if they are text (default: utf-8)")
    own.add_argument(
        "--separator", metavar="TEXT", help="between their columns (default: comma, semicolon, tab or bar)"
    )
    command.add_argument(
        "--duplicates",
        choices=("error", "last", "mean"),
        help="what counts if somebody rated something twice: the last (by time, if the data tell), or the mean",
    )


def _data_parameters(options: argparse.Namespace) -> dict[str, str]:
    """What `_add_data_options` and `_add_keep` were given, as parameters of the notebooks."""
    pairs = [text.partition("=") for text in options.parameters]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise ValueError(f"-p takes NAME=VALUE, not {name!r}")
    own = {name: value for name in (*OF_OWN_FILES, "keep") if (value := getattr(options, name, None)) is not None}
    return own | {name: value for name, _, value in pairs}


def _fetch(options: argparse.Namespace) -> None:
    folder = options.to or fetch.default_folder()
    there = fetch.ratings_file(folder / options.name)
    path = fetch.fetch_movielens(options.name, folder, insecure=options.insecure)
    print(f"{options.name} is already there: {path}" if there else f"{options.name} is in {path}")
    print(f"next: saerec run --dataset {path if options.to else options.name}")


def _run(options: argparse.Namespace) -> None:
    given = _data_parameters(options)
    if options.like and not options.out:
        raise ValueError("--like needs --out, a folder for the new run")
    print("saerec run: the data and the notebooks are looked at", file=sys.stderr, flush=True)  # which takes seconds
    index = series.run(
        options.dataset,
        options.out,
        parameters=given,
        only=options.only,
        like=options.like or "",
        restart=options.restart,
        progress=not options.quiet,
    )
    scores = runs.errors(Path(index).parent)
    if scores is not None:
        _warn_if_worse(scores.set_index("model")["rmse"])
    print(f"done: open {index}")


def _train(options: argparse.Namespace) -> None:
    given, dataset = _data_parameters(options), options.dataset
    if options.resume and (options.out / RECORD).exists():  # what is not given is as it was begun
        begun = read_record(options.out)["parameters"]
        dataset = dataset or begun["dataset"]
        given = {name: value for name, value in begun.items() if name not in ("dataset", "out")} | given
    settings = series.settings(given)
    with distributed.processes(settings["device"]):
        form = {"resume": options.resume, "restart": options.restart, "progress": not options.quiet}
        scores = study.train(dataset or series.DEFAULT, options.out, settings, **form)
    if scores is not None:
        print(scores.to_string(float_format="{:.4f}".format))
        _warn_if_worse(scores["rmse"])
        print(f"done: {options.out}")


def _warn_if_worse(rmse: pd.Series) -> None:
    """Say so if something simpler predicts the test ratings as well; `rmse` is indexed by the models' names."""
    as_good = rmse.index[(rmse <= rmse["saerec"]) & (rmse.index != "saerec")]
    if len(as_good):
        print(
            f"on these data saerec is not worth its training: on the test ratings it is off by {rmse['saerec']:.4f}, "
            f"{rmse[as_good].idxmin()} by {rmse[as_good].min():.4f}"
        )


def _recommend(options: argparse.Namespace) -> None:
    model, movies, rated = runs.to_recommend(options.run)
    recommender, movies, rated = saerec.load(model), pd.read_parquet(movies), pd.read_parquet(rated)
    if options.out:
        _recommend_to_all(options, recommender, movies, rated)
        return
    for name in ("min_ratings", "users"):
        if getattr(options, name) is not None:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} is of the lists of all users: it goes with --out, not with --user")
    user = _as_id(options.user, recommender.user_ids)
    with _warnings_in_a_line():
        top = recommender.recommend([user], k=options.k, rank_by=options.rank_by, movies=movies, seen=rated)
    if top.empty:
        return
    order = ORDERS[options.rank_by or recommender.rank_by]
    print(f"user {options.user}: the best {len(top)} of what they have not rated, by {order}")
    print(_told(top))
    print("\nrating   what they would give it, as predicted")
    if "error" in top:
        print("±        how sure that is: about four ratings in five are no farther off")
    if "chance" in top:
        print("chance   that it is what they choose next")
    print("ratings  how many users have rated it, test ratings aside")
    print("because  the rating of what they liked that speaks most for it, if one does")


def _told(top: pd.DataFrame) -> str:
    """A list within 80 columns: a line for each item, its reason below."""
    columns = {"#": top["rank"].map(str), "rating": top["score"].map("{:.2f}".format)}
    for name, label, form in (("error", "±", "{:.2f}"), ("chance", "chance", "{:.1%}"), ("n_ratings", "ratings", "{}")):
        if name in top:
            columns[label] = top[name].map(form.format)
    cells = [f"{label:<{max(len(label), texts.str.len().max())}}" for label, texts in columns.items()]
    indent, lines = " " * len("  ".join([*cells, ""])), ["  ".join([*cells, "title"])]
    titles, reasons = top["title"].fillna("(no title)"), top.get("because_title", [None] * len(top))
    for place, (title, reason) in enumerate(zip(titles, reasons)):
        numbers = [f"{texts.iloc[place]:<{len(cell)}}" for texts, cell in zip(columns.values(), cells)]
        lines.append("  ".join([*numbers, textwrap.shorten(title, WIDTH - len(indent), placeholder="…")]))
        if not pd.isna(reason):
            lines.append(textwrap.shorten(f"because {reason}", WIDTH - len(indent), placeholder="…"))
            lines[-1] = indent + lines[-1]
    return "\n".join(lines)


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    for warning in said:
        print(f"saerec: {warning.message}", file=sys.stderr)


def _recommend_to_all(
    options: argparse.Namespace, recommender: saerec.Recommender, movies: pd.DataFrame, rated: pd.DataFrame
) -> None:
    user_ids = recommender.user_ids
    if options.users is not None:
        user_ids = pd.Index([_as_id(text.strip(), user_ids) for text in options.users.split(",")]).unique()
    rows, _ = recommender.ratings.positions(user_ids, [])
    unknown = rows < 0  # which recommend says
    user_ids = user_ids[unknown | (recommender.ratings.user_counts[rows] >= (options.min_ratings or 0))]
    if user_ids.empty:
        raise ValueError(f"no user has {options.min_ratings:,} training ratings: lower --min-ratings")
    parts = np.split(user_ids, range(USERS_IN_A_PART, len(user_ids), USERS_IN_A_PART))
    movies = movies.convert_dtypes()  # whole numbers stay so where a movie is not among them: all parts are alike
    settings = {"k": options.k, "rank_by": options.rank_by, "movies": movies, "because": False}
    settings["seen"] = recommender.seen_items(rated)
    with _warnings_in_a_line(), distributed.processes():
        lists = distributed.in_turns(lambda part: recommender.recommend(part, **settings), parts)
        if distributed.rank():  # they work, and the first writes
            list(lists)
            return
        write_parts(options.out, tqdm(lists, total=len(parts), unit="part", disable=len(parts) == 1))
    print(f"wrote the lists of {len(user_ids):,} users to {options.out}")


def _page(options: argparse.Namespace) -> None:
    print(f"open {series.write_page(options.run, options.out, n_users=options.n_users)}")


def _verify(options: argparse.Namespace) -> int:
    checks = verify(options.run, series.load_recorded, series.OF_LOADING)
    for name, holds, found in checks.itertuples(index=False):
        print(f"{'not yet' if pd.isna(holds) else 'holds' if holds else 'FAILS'}  {name}: {found}")
    return 0 if checks["holds"].fillna(False).all() else 1


def _tune(options: argparse.Namespace) -> None:
    if options.out:
        check_table_name(options.out)
    parameters = _data_parameters(options)
    train, valid, features, fixed = series.training_parts(options.dataset, parameters)
    if valid.empty:
        raise ValueError("without validation ratings there is nothing to choose on: valid_share must be above 0")
    print(f"{len(train):,} training and {len(valid):,} validation ratings; the test ratings are not looked at")
    with _warnings_in_a_line():  # such as that it was interrupted
        tried = saerec.tune(
            train, valid, minutes=options.minutes, item_features=features, progress=not options.quiet, **fixed
        )
    best = tried["settings"][0]
    tried["settings"] = [
        ", ".join(f"{n}={_text(v)}" for n, v in s.items()) or "the defaults" for s in tried["settings"]
    ]
    if options.out:
        write_parts(options.out, [tried])
    done = tried["valid_rmse"].notna()
    formats = {"gain": "{:+.4f}".format, "seconds": "{:.0f}".format}
    print(tried[done].to_string(index=False, float_format="{:.4f}".format, formatters=formats))
    if not done.all():
        print(f"not tried, for want of time (--minutes): {'; '.join(tried['settings'][~done])}")
    settings, gain, gain_error = tried.loc[0, ["settings", "gain", "gain_error"]]
    if not best:
        print("best: the defaults")
        return
    verdict = "more than chance" if gain > 2 * gain_error else "which may be chance: it is below twice that"
    print(
        f"best: {settings}; error {gain:.4f} lower than with the defaults, standard error {gain_error:.4f}, "
        f"{verdict}.\nOne split, one seed, and the best of many tries."
    )
    print(_lines_to_paste(options, parameters, best, fixed))


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _lines_to_paste(options: argparse.Namespace, parameters: dict, best: dict, fixed: dict) -> str:
    """The commands that train with the best settings."""
    words = ["saerec", "run"] + (["--dataset", options.dataset] if options.dataset else [])
    for name, value in parameters.items():
        words += [f"--{name}", value] if name in OF_OWN_FILES else ["-p", f"{name}={value}"]
    for name, value in best.items():
        words += ["-p", f"{name}={_text(value)}"]
    keywords = ", ".join(f"{name}={value!r}" for name, value in (fixed | best).items() if name != "device")
    return f"  {shlex.join([*words, '--out', 'runs/tuned'])}\n  saerec.Recommender({keywords})"


def _as_id(text: str, ids: pd.Index) -> object:
    """An id as typed on the command line, in the type of the data's ids."""
    if not pd.api.types.is_integer_dtype(ids.dtype):
        return text
    try:
        return int(text)
    except ValueError:
        raise KeyError(
            f"user {text!r} was not in the data: its user ids are whole numbers, for example {ids[0]}"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
