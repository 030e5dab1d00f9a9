"""Kills a study at random moments, again and again, and compares what is there in the end with one that ran in peace.

python tests/kill.py --kills 50
python tests/kill.py --kills 10 --series

The study trains on the ratings that ship with the repository, chooses an epoch, refits, saves the model and writes
lists; or with --series it is what `saerec run` makes of the notebooks that train, kernels and all. Every kill is a
SIGKILL, which no program can prepare for; then the same study is started again.
"""

import argparse
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pandas as pd

import saerec
from saerec.files import save_atomically

RESULTS = ("recommender.safetensors", "history.csv", "top10.csv")
OF_SERIES = ("history.csv", "scores.csv", "list_scores.csv", "calibration.csv", "model/recommender.safetensors")
OF_SERIES += ("ledger.csv", "original_history.csv", "peers.csv")
SETTINGS = {"hidden_dims": (200,), "n_epochs": 30, "batch_size": 128}


def study(folder: Path, train: pd.DataFrame, valid: pd.DataFrame, settings: dict) -> None:
    """Everything, going on from what is in the folder."""
    recommender = saerec.Recommender(**settings)
    recommender.fit(train, valid, checkpoint_dir=folder / "checkpoints", keep=2, resume=True)
    recommender.save(folder)
    history, lists = (
        recommender.history.drop(columns="seconds"),
        recommender.recommend(recommender.user_ids[:50], because=False),
    )
    save_atomically(folder / "history.csv", lambda part: history.to_csv(part, index=False))
    save_atomically(folder / "top10.csv", lambda part: lists.to_csv(part, index=False))


def series(folder: Path) -> None:
    """The notebooks, going on from what is in the folder."""
    from saerec.series import run

    parameters = {"n_users": 300, "n_items": 300, "n_epochs": 12, "original_epochs": 3, "short_epochs": 1}
    run(out=folder, parameters=parameters | {"batch_epochs": 30, "n_seeds": 2, "seeds": 1}, progress=False)


def kill_and_compare(
    study: Callable[[Path], None], results: Iterable[str], *, n_kills: int, seed: int, folder: Path
) -> dict[str, int]:
    """Kill studies `n_kills` times in all; how many were compared in the end, and when the kills fell.

    A study is called with its folder, in which it leaves `results`.

    Raises
    ------
    AssertionError
        A file differs from that of the study that ran in peace.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["saerec", "sklearn.linear_model"])  # which fit imports
    draw = random.Random(seed)

    def start(at: Path) -> multiprocessing.Process:
        process = context.Process(target=study, args=(at,))
        process.start()
        return process

    peaceful, folder = folder / "peaceful", folder / "killed"
    start(peaceful).join()  # the first also pays for the imports
    shutil.rmtree(peaceful)
    begin = time.perf_counter()
    start(peaceful).join()
    duration = time.perf_counter() - begin
    expected = {name: (peaceful / name).read_bytes() for name in results}
    counts = {"kills": 0, "before the first checkpoint": 0, "while a file was written": 0, "compared": 0}
    while counts["kills"] < n_kills or folder.exists():
        process = start(folder)
        left = draw.uniform(0, duration) if counts["kills"] < n_kills else None
        process.join(left)
        if process.is_alive():
            process.kill()
            process.join()
            counts["kills"] += 1
            counts["before the first checkpoint"] += not any(folder.rglob("state_*.safetensors"))
            counts["while a file was written"] += any(folder.rglob("*.part"))
            continue
        assert process.exitcode == 0, "a study failed"
        for name in results:
            assert (folder / name).read_bytes() == expected[name], f"{name} differs"
        counts["compared"] += 1
        shutil.rmtree(folder)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--series", action="store_true", help="whole runs of notebooks instead of trainings")
    options = parser.parse_args()
    ratings = saerec.top_users_and_items(saerec.load_movielens().ratings, n_users=300, n_items=500)
    train, valid, _ = saerec.split_ratings(ratings)
    one, results = partial(study, train=train, valid=valid, settings=SETTINGS), RESULTS
    if options.series:
        one, results = series, OF_SERIES
    with tempfile.TemporaryDirectory() as folder:
        counts = kill_and_compare(one, results, n_kills=options.kills, seed=options.seed, folder=Path(folder))
    print(", ".join(f"{name}: {count}" for name, count in counts.items()))
    print(f"the same bytes as of a study that was not killed: {', '.join(results)}")
    if options.kills >= 50 and not counts["while a file was written"]:
        sys.exit("no kill fell while a file was written: that is not shown")


if __name__ == "__main__":
    sys.exit(main())
