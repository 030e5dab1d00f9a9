"""From a file to a recommender: nothing that it claims is taken on trust."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from saerec.choice import ChoiceModel
from saerec.distributed import choose_device
from saerec.model import SAE
from saerec.recommender import DECLARED, FILE, RANKINGS, Recommender
from saerec.settings import check_one_of, check_settings
from saerec.storage import NONSENSE, DamagedFileError, Trained, fits, read_trained


def load(directory: str | os.PathLike, *, device: str = "cpu") -> Recommender:
    """The recommender that `Recommender.save` wrote to `directory`, on whatever device; here it computes on `device`.

    Raises
    ------
    FileNotFoundError
        There is no saved recommender.
    DamagedFileError
        Its file is not as it was written, or was written by a newer saerec.
    ValueError
        There is no such device.
    """
    device = choose_device(device)
    path = Path(directory, FILE)
    if Path(directory).is_file():
        raise FileNotFoundError(f"{directory} is a file: load takes the folder that it is in")
    if not path.exists():
        raise FileNotFoundError(f"no saved recommender in {directory}: {FILE} is missing")
    trained = read_trained(path)
    try:
        return _restored(trained, device)
    except (*NONSENSE, RuntimeError) as error:
        raise DamagedFileError(f"{path} is no recommender that saerec wrote: {error}") from error


def _restored(trained: Trained, device: str) -> Recommender:
    """The recommender of what was saved of it."""
    parameters = {"blend": 0.5} | trained.parameters | {"device": device}  # before format 4 there was no other
    blend = parameters["blend"] if trained.blend is None else trained.blend
    check_settings(parameters, DECLARED)
    if parameters["hidden_dims"] is not None:
        parameters["hidden_dims"] = tuple(parameters["hidden_dims"])
    recommender = Recommender(**parameters)
    check_one_of("rank_by", recommender.rank_by, RANKINGS)
    ratings, layouts = trained.ratings, recommender._layouts()
    epochs, histories = trained.best_epochs, trained.histories
    if (
        set(epochs) != set(layouts)
        or not {*histories, *trained.refits} <= set(layouts)
        or any(type(n) is not int for n in epochs.values())
    ):
        raise ValueError(f"its layouts are not those of orientation {recommender.orientation!r}")
    recommender.item_features, recommender.tried = trained.item_features, None
    recommender.intervals, recommender.drift = trained.intervals, trained.drift
    trained.baseline.measure_spread(ratings)
    models = {}
    for name, layout in layouts.items():
        n_layers = len(layout.settings["hidden_dims"])
        if n_layers > len(trained.weights[name]):
            raise ValueError(f"there are {n_layers:,} hidden layers, and fewer weights")
        with torch.device("meta"):  # whatever sizes a file claims, no memory is taken
            model = layout.kept_network(ratings, trained.item_features)
        models[name] = _with_weights(model, name, trained.weights, device)
    choice = None
    if recommender.rank_by == "both":
        choice = ChoiceModel(seed=recommender.seed, device=device)
        choice.ratings = ratings
        with torch.device("meta"):
            model = choice.new_model(ratings.n_items)
        choice.model = _with_weights(model, "choice", trained.weights, device)
    recommender._histories, recommender._refits = histories, trained.refits
    with np.errstate(over="ignore", invalid="ignore"):  # it is said below
        recommender._keep(ratings, trained.seen, trained.baseline, models, epochs, choice, blend)
        scores = recommender._predictor.scores(np.argmax(ratings.user_counts, keepdims=True))
    if not np.isfinite(scores).all():
        raise ValueError("what it predicts is no number")
    return recommender


def _with_weights(model: SAE, name: str, weights: Mapping[str, Mapping[str, torch.Tensor]], device: str) -> SAE:
    """The network, holding the weights of that name."""
    if not fits(weights[name], model.state_dict()):
        raise ValueError(f"the weights of {name!r} are not those of its parameters")
    model.load_state_dict(weights[name], assign=True)
    return model.to(device)
