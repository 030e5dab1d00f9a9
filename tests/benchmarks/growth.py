"""How training grows with ratings, users and items: seconds an epoch, and memory; and ratings larger than memory.

Takes a few minutes on two cores (of Linux) and writes growth.csv and growth.png to the folder --out::

    python tests/benchmarks/growth.py --out runs/growth
    python tests/benchmarks/growth.py --out runs/growth --share 0.01
    python tests/benchmarks/growth.py --out runs/growth --mapped 100000000

The last line is about one size: ratings that lie in files, of which a whole epoch is trained; "own memory" is what the
process held besides files that the operating system can forget and read again.

The model is a row per user, 100 units, 2,048 users a step; few cells are observed, so the layers read and write these
alone. Of each size some steps of training and both errors are timed and scaled up to all users; the matrix is whole.
Times matter here and tastes do not, so cells are drawn fast: activity and popularity have long tails, ratings are
random. Each size is measured in a process of its own. An exponent is the slope of a line through the logarithms.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.ticker import LogLocator, NullFormatter
from scipy import sparse

import saerec
from saerec import plots

USERS, ITEMS, RATINGS = 40_000, 20_000, 3_000_000
SWEEPS = {
    "ratings": [(USERS, ITEMS, n) for n in (1_000_000, 3_000_000, 10_000_000, 25_000_000)],
    "users": [(n, ITEMS, RATINGS) for n in (10_000, 40_000, 160_000)],
    "items": [(USERS, n, RATINGS) for n in (5_000, 20_000, 80_000)],
}
UNITS, BATCH, N_STEPS = 100, 2048, 4  # of the steps, so many are timed
MEASURES = {"seconds": "seconds an epoch", "peak_gb": "peak memory (GB)"}


def main() -> None:
    """Print the table, write it and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--share", type=float, default=1.0, help="of all users and ratings, to try it out")
    parser.add_argument("--mapped", type=int, default=0, help="measure so many ratings in files")
    parser.add_argument("--measure", choices=("epoch", "mapped"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.measure:
        print(json.dumps({"epoch": measure, "mapped": measure_mapped}[options.measure](options.out)))
    elif options.mapped:
        with tempfile.TemporaryDirectory(dir=options.out) as folder:
            make(round(options.mapped / 250), 60_000, options.mapped, Path(folder))
            print(in_a_process("mapped", folder))
    else:
        rows, scaled = [], (options.share, 1, options.share)
        for sweep, sizes in SWEEPS.items():
            for size in sizes:
                n_users, n_items, n_ratings = (round(n * share) for n, share in zip(size, scaled))
                with tempfile.TemporaryDirectory(dir=options.out) as folder:
                    made = make(n_users, n_items, n_ratings, Path(folder))
                    rows.append({"sweep": sweep} | made | in_a_process("epoch", folder))
                print(" ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
        table = pd.DataFrame(rows)
        table.to_csv(options.out / "growth.csv", index=False)
        draw(table).savefig(options.out / "growth.png", dpi=150)
        print(exponents(table).to_string(float_format="{:.2f}".format))
        of_rating, of_weight = costs(table)
        print(f"about {of_rating * 1e6:.1f} s a million ratings and {of_weight * 1e9:.0f} s a billion weights × steps")
        print(f"training with rows written out does {share_of_peak():.0%} of the operations of a plain matrix product")


def make(n_users: int, n_items: int, n_ratings: int, folder: Path) -> dict[str, int]:
    """Write a matrix of about that size to `folder`, some users at a time; its size."""
    rng = np.random.default_rng(0)
    activity = rng.lognormal(0, 1.4, n_users)
    counts = np.clip(activity / activity.sum() * n_ratings, 1, n_items // 4).astype(np.int64)
    counts = np.minimum(np.ceil(counts * n_ratings / counts.sum()).astype(np.int64), n_items // 2)
    n_stored, starts = 0, [0]
    with open(folder / "indices.raw", "wb") as indices, open(folder / "data.raw", "wb") as data:
        for some in np.array_split(counts, max(1, n_ratings // 4_000_000)):
            rows = np.repeat(np.arange(len(some)), some)
            place = np.arange(len(rows)) - np.repeat(np.cumsum(some) - some, some)
            cols = (n_items * ((place + rng.random(len(rows))) / some[rows]) ** 2).astype(np.int32)  # low: popular
            new = np.append(True, (np.diff(cols) != 0) | (np.diff(rows) != 0))
            cols[new].tofile(indices)
            (rng.integers(1, 11, new.sum()) / 2).astype(np.float32).tofile(data)
            starts.extend((n_stored + np.cumsum(np.bincount(rows[new], minlength=len(some)))).tolist())
            n_stored = starts[-1]
    values, cols = (
        np.memmap(folder / f"{name}.raw", dtype, "r") for name, dtype in (("data", "f4"), ("indices", "i4"))
    )
    starts = np.array(starts, dtype=cols.dtype if n_stored < 2**31 else np.int64)
    csr = sparse.csr_array((values, cols, starts), shape=(n_users, n_items))
    saerec.RatingMatrix(csr, pd.RangeIndex(n_users), pd.RangeIndex(n_items)).save(folder)
    for name in ("data", "indices"):
        (folder / f"{name}.raw").unlink()
    return {"users": n_users, "items": n_items, "ratings": n_stored}


def in_a_process(name: str, folder: str) -> dict:
    """What `measure` or `measure_mapped` finds."""
    command = [sys.executable, __file__, "--out", folder, "--measure", name]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(folder: Path) -> dict[str, float]:
    """Seconds an epoch, of the biases, and the peak, with the matrix in memory."""
    matrix = saerec.RatingMatrix.open(folder, mmap=False)
    start = time.perf_counter()
    saerec.BiasBaseline(n_sweeps=1).fit(matrix)
    of_biases = time.perf_counter() - start
    every = max(1, matrix.n_users // (N_STEPS * BATCH))
    some = np.arange(0, matrix.n_users, every)
    sample = saerec.RatingMatrix(matrix.csr[some], matrix.user_ids[some], matrix.item_ids)
    history = train(sample, saerec.BiasBaseline(n_sweeps=1).fit(sample))
    seconds = history["seconds"].iloc[0] * matrix.n_ratings / sample.n_ratings
    return {"seconds": round(seconds, 3), "bias_seconds": round(of_biases, 4), "peak_gb": round(memory("VmHWM"), 3)}


def memory(name: str) -> float:
    """A line of /proc/self/status (Linux only), GB. What getrusage calls the peak may be that of who started this."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e9 for line in status if line.startswith(f"{name}:"))


def measure_mapped(folder: Path) -> dict[str, float]:
    """An epoch of all ratings, in files, and the most memory of its own that the process held."""
    most = [0.0]

    def watch() -> None:
        while True:
            most[0] = max(most[0], memory("RssAnon"))
            time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()
    matrix = saerec.RatingMatrix.open(folder)
    before = most[0]
    history = train(matrix, saerec.BiasBaseline(n_sweeps=1).fit(matrix), units=32)
    files = sum(file.stat().st_size for file in folder.iterdir()) / 1e9
    return {
        "ratings": matrix.n_ratings,
        "files_gb": round(files, 2),
        "own_memory_before_gb": round(before, 2),
        "own_memory_gb": round(most[0], 2),
        "seconds": round(history["seconds"].iloc[0], 1),
    }


def train(matrix: saerec.RatingMatrix, baseline: saerec.BiasBaseline, *, units: int = UNITS) -> pd.DataFrame:
    """One epoch."""
    model = saerec.SAE(matrix.n_items, (units,), output_gain=0.1)
    return saerec.fit(model, matrix, baseline=baseline, n_epochs=1, batch_size=BATCH)


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """The power of what was varied with which each measure grows."""
    slopes = {
        sweep: {
            name: np.polyfit(np.log(of_sweep[sweep]), np.log(of_sweep[name]), 1)[0]
            for name in ("seconds", "bias_seconds", "peak_gb")
        }
        for sweep, of_sweep in table.groupby("sweep", sort=False)
    }
    return pd.DataFrame(slopes).T.rename_axis("exponent of")


def costs(table: pd.DataFrame) -> tuple[float, float]:
    """What an epoch takes for each rating, and for each weight at each step: seconds, by least squares."""
    weights_and_steps = 2 * table["items"] * UNITS * np.ceil(table["users"] / BATCH)
    causes = np.column_stack([table["ratings"], weights_and_steps]) / table[["seconds"]].to_numpy()
    return tuple(np.linalg.lstsq(causes, np.ones(len(table)))[0])  # all relative errors count alike


def draw(table: pd.DataFrame) -> plt.Figure:
    """Both measures against what was varied."""
    plots.use_style()
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for ax, (name, label) in zip(axes, MEASURES.items()):
        for (sweep, of_sweep), marker in zip(table.groupby("sweep", sort=False), "os^"):
            ax.loglog(of_sweep[sweep], of_sweep[name], marker=marker, label=f"more {sweep}")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set(xlabel="number of ratings, users or items", ylabel=label)
        ax.legend()
    return figure


def share_of_peak() -> float:
    """Floating-point operations a second of a dense training, as a share of those of a matrix product, in this run."""
    square = torch.rand(2048, 2048)
    square @ square
    times = []
    for _ in range(5):
        start = time.perf_counter()
        square @ square
        times.append(time.perf_counter() - start)
    peak = 2 * 2048**3 / min(times)
    n_users, n_items, units = 4096, 1000, 500
    rng = np.random.default_rng(0)
    rows, cols = np.nonzero(rng.random((n_users, n_items)) < 0.4)
    ratings = pd.DataFrame({"user_id": rows, "item_id": cols, "rating": rng.integers(1, 11, len(rows)) / 2})
    matrix = saerec.RatingMatrix.from_frame(ratings)
    model = saerec.SAE(n_items, (units,), output_gain=0.1)
    history = saerec.fit(model, matrix, baseline=saerec.BiasBaseline().fit(matrix), n_epochs=3, batch_size=512)
    # A row: forward and the gradient of the weights in both layers, that of the code; then the errors, two passes.
    operations = 2 * n_items * units * (5 + 3) * n_users
    return operations / history["seconds"].min() / peak


if __name__ == "__main__":
    main()
