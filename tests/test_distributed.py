"""Two processes train as one does: the same errors, and checkpoints that any number of processes goes on from."""

import multiprocessing
import os
import socket
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import saerec.training
from saerec import SAE, BiasBaseline, RatingMatrix, TwoEncoderSAE, distributed
from saerec.distributed import choose_device

SETTINGS = {"n_epochs": 4, "lr": 0.03, "weight_decay": 0.1, "input_dropout": 0.0}
CASES = {
    "rows written out": {"sparse": False, "batch_size": 8},
    "observed cells": {"sparse": True, "batch_size": 8},
    "one row for two": {"sparse": True, "batch_size": 37},  # of 38 with ratings
    "two encoders": {"both": True, "batch_size": 20},
    "dropout": {"sparse": False, "batch_size": 8, "dropout": 0.5, "input_dropout": 0.3, "with_features": True},
    "dropout, one row for two": {"sparse": True, "batch_size": 37, "dropout": 0.5, "input_dropout": 0.3},
    "two encoders, dropout": {"both": True, "batch_size": 20, "dropout": 0.5, "input_dropout": 0.3},
}


def train(parts, *, both=False, dropout=0.0, with_features=False, **options) -> tuple[pd.DataFrame, dict]:
    """The history and the weights of a training."""
    ids = saerec.RatingMatrix.from_frame(pd.concat(parts))
    train, valid = (RatingMatrix.from_frame(part, user_ids=ids.user_ids, item_ids=ids.item_ids) for part in parts[:2])
    torch.manual_seed(0)
    model = TwoEncoderSAE(*train.shape, 6, dropout) if both else SAE(train.n_items, (6,), dropout=dropout)
    if with_features:
        model = SAE(train.n_items, (6,), dropout=dropout, n_features=2)
        options["features"] = np.random.default_rng(0).random((train.n_users, 2), dtype=np.float32)
    history = saerec.fit(model, train, valid, baseline=BiasBaseline().fit(train), **SETTINGS | options)
    return history.drop(columns="seconds"), {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def start(target, *arguments):
    """Start two processes; the queue of their results."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["saerec"])
    results = context.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for rank in (0, 1):
        context.Process(target=target, args=(rank, port, *arguments, results), daemon=True).start()
    return results


def join(rank, port):
    """Say what torchrun says to each of its processes."""
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    warnings.simplefilter("error")  # of strides, say


def work(rank, port, parts, folder, results):
    """What each of two processes does."""
    join(rank, port)
    with distributed.processes():
        found = {name: train(parts, **options) for name, options in CASES.items()}
        found["stopped"] = train(parts, batch_size=8, checkpoint_dir=folder / "by two", stop_after=2)
        found["resumed"] = train(parts, batch_size=8, checkpoint_dir=folder / "by one", resume=True)
        found["turns"] = list(distributed.in_turns(lambda part: (part, distributed.rank()), range(5)))
        found["total"] = distributed.total(1.5, rank)
        with distributed.first_alone():
            found["there"] = (folder / "first").exists()
            (folder / "first").touch()
    results.put((rank, found))


@pytest.fixture(scope="module")
def found(parts, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("processes")
    train(parts, batch_size=8, checkpoint_dir=folder / "by one", stop_after=2)
    results = start(work, parts, folder)
    return dict(results.get(timeout=120) for _ in range(2)) | {"folder": folder}


def assert_close(one, other, **tolerance) -> None:
    np.testing.assert_allclose(one[0], other[0], **tolerance)
    for name, weights in one[1].items():
        np.testing.assert_allclose(weights, other[1][name], **tolerance)


@pytest.mark.parametrize("name", CASES)
def test_two_train_as_one_does(found, parts, name):
    alone = train(parts, **CASES[name])
    assert_close(found[0][name], alone, atol=1e-5)
    assert_close(found[1][name], found[0][name], rtol=0)
    assert alone[0]["train_rmse"].iloc[-1] < alone[0]["train_rmse"].iloc[0] - 0.01  # there is something to agree on


def test_another_number_of_processes_goes_on(found, parts):
    expected = train(parts, batch_size=8)
    assert_close(found[0]["resumed"], expected, atol=1e-5)
    resumed = train(parts, batch_size=8, checkpoint_dir=found["folder"] / "by two", resume=True)
    assert_close(resumed, expected, atol=1e-5)
    assert len(found[0]["stopped"][0]) == 2


def test_results_of_all_come_in_order_to_the_first(found):
    assert found[0]["turns"] == [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)] and found[1]["turns"] == []
    assert found[0]["total"] == found[1]["total"] == [3.0, 1.0]
    assert not found[0]["there"] and found[1]["there"]


def test_alone_there_is_nobody_to_ask(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with distributed.processes():
        assert (distributed.rank(), distributed.size()) == (0, 1)
        assert list(distributed.in_turns(str, range(3))) == ["0", "1", "2"]
        assert distributed.share(np.arange(3)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("has", "expected"), [((True, True), "cuda"), ((False, True), "mps"), ((False, False), "cpu")])
def test_the_device_is_the_first_that_is_there(monkeypatch, has, expected):
    monkeypatch.setattr("torch.cuda.is_available", lambda: has[0])
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: has[1])
    assert choose_device("auto") == expected
    assert choose_device("cpu") == "cpu"
    for name, there in zip(("cuda", "mps", "cuda:1"), (*has, has[0])):
        if there:
            assert choose_device(name) == name
        else:
            with pytest.raises(ValueError, match=f"torch finds no {name} here: take device='cpu'"):
                choose_device(name)
    for name in ("gpu", "xpu", "meta"):  # torch knows the last two
        with pytest.raises(ValueError, match=f"device must be 'cpu', 'cuda', 'mps' or 'auto', not '{name}'"):
            choose_device(name)


def lose_another(rank, port, results):
    """The second of two processes ends in the middle."""
    join(rank, port)
    try:
        with distributed.processes():
            distributed.total(1.0)
            if rank:
                os._exit(9)
            distributed.total(1.0)
    except distributed.LostProcessError as error:
        results.put(str(error))


def test_who_is_left_alone_says_so():
    results = start(lose_another)
    assert results.get(timeout=60).startswith("process 0 of 2 has lost another, which failed or was killed")
