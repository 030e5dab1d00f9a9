"""What a recommender is made of: autoencoders whose rows are items or users, or both; how each is built and trained."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from saerec import training
from saerec.baselines import BiasBaseline
from saerec.batches import TwoSidedRatings
from saerec.model import SAE, TwoEncoderSAE
from saerec.prediction import ItemPredictor, UserPredictor
from saerec.ratings import RatingMatrix

# What is trained for an orientation, and the settings of each.
LAYOUTS = {"item": ("item",), "user": ("user",), "both": ("both",), "mean": ("item", "both")}
ROWS = {"hidden_dims": (500,), "n_epochs": 40, "batch_size": None, "lr": 1e-3, "weight_decay": 3.0}
BOTH = {"hidden_dims": (300,), "n_epochs": 60, "batch_size": None, "lr": 5e-3, "weight_decay": 2.0}
SETTINGS = {"item": ROWS, "user": ROWS, "both": BOTH}


def check_layers(orientation: str, hidden_dims: tuple[int, ...] | None) -> None:
    """Raise if two encoders are to have several hidden layers."""
    if "both" in LAYOUTS[orientation] and hidden_dims is not None and np.size(hidden_dims) != 1:
        raise ValueError(
            f"orientation {orientation!r} takes one hidden layer, not {hidden_dims}; 'item' and 'user' take several"
        )


class Layout:
    """One autoencoder.

    Parameters
    ----------
    name : {"item", "user", "both"}
        What a row is: see `saerec.Recommender`.
    parameters : mapping
        Those of `saerec.Recommender`. What is None is the layout's own, in `SETTINGS`.
    """

    def __init__(self, name: str, parameters: Mapping[str, object]):
        self.name = name
        given = {key: value for key, value in parameters.items() if value is not None}
        self.settings = {"patience": None} | SETTINGS[name] | given

    def features(self, ratings: RatingMatrix, item_features: pd.DataFrame | None) -> np.ndarray | None:
        """What the network reads of each item besides its ratings: (I, F) float32."""
        if item_features is None:
            return None
        aligned = item_features.astype(np.float32).reindex(ratings.item_ids, fill_value=0).to_numpy()
        # Products round by the order in memory, and pandas' own depends on its version and on how a frame was made.
        return np.asfortranarray(self.settings["feature_weight"] * aligned)

    def network(self, ratings: RatingMatrix, item_features: pd.DataFrame | None) -> SAE | TwoEncoderSAE:
        """The network, untrained."""
        n_features = 0 if item_features is None else item_features.shape[1]
        hidden_dims = self.settings["hidden_dims"]
        # A tenth of the usual output weights: training starts at the biases.
        shape = {"dropout": self.settings["dropout"], "output_gain": 0.1, "n_features": n_features}
        if self.name != "both":
            return SAE(ratings.n_users if self.name == "item" else ratings.n_items, hidden_dims, **shape)
        check_layers(self.settings["orientation"], hidden_dims)
        return TwoEncoderSAE(ratings.n_users, ratings.n_items, *hidden_dims, **shape)

    def kept_network(self, ratings: RatingMatrix, item_features: pd.DataFrame | None) -> SAE:
        """A network of the form that `train` returns: "both" as an ordinary user autoencoder."""
        if self.name == "both":
            return SAE(ratings.n_items, self.settings["hidden_dims"])
        return self.network(ratings, item_features)

    def train(
        self,
        ratings: RatingMatrix,
        valid: RatingMatrix | None,
        baseline: BiasBaseline,
        item_features: pd.DataFrame | None,
        *,
        progress: bool = False,
        **options,
    ) -> tuple[SAE, pd.DataFrame]:
        """The network trained by `saerec.training.fit`, which takes the `options`, and its history."""
        by_item, settings = self.name == "item", self.settings
        inputs = {"mask_weight": settings["mask_weight"], "features": self.features(ratings, item_features)}
        with torch.random.fork_rng():
            torch.manual_seed(settings["seed"])
            model = self.network(ratings, item_features)
        n_rows = ratings.n_items if by_item else ratings.n_users
        batch_size = settings["batch_size"]
        if batch_size is None:
            batch_size = -(-n_rows // 6) if self.name == "both" else max(64, n_rows // 100)
        history = training.fit(
            model,
            ratings.T if by_item else ratings,
            valid.T if by_item and valid is not None else valid,
            baseline=baseline.T if by_item else baseline,
            batch_size=batch_size,
            patience=None if valid is None else settings["patience"],
            **{name: settings[name] for name in ("input_dropout", "n_epochs", "lr", "weight_decay", "seed", "device")},
            progress=progress and f"layout {self.name}",
            **inputs,
            **options,
        )
        if self.name == "both":
            model = TwoSidedRatings(ratings, baseline, device=settings["device"], **inputs).as_sae(model)
        return model, history

    def predictor(
        self, model: SAE, ratings: RatingMatrix, baseline: BiasBaseline, item_features: pd.DataFrame | None
    ) -> ItemPredictor | UserPredictor:
        """What predicts with the trained network."""
        options = {name: self.settings[name] for name in ("mask_weight", "device")}
        if self.name != "item":
            return UserPredictor(model, ratings, baseline, **options)
        options |= {"ridge": self.settings["ridge"], "features": self.features(ratings, item_features)}
        return ItemPredictor(model, ratings, baseline, **options)
