"""saerec: rating autoencoders, from MovieLens files to top-10 lists.

Notation of shapes: U users, I items, B rows in a batch, H hidden units. Ratings and errors are in stars, whatever the
scale of the data.

Modules, each importing only from those above it:

- `files`: files that are whole or not there, folders with one writer, room on the disk
- `validation`: what can be wrong with ratings: one error type per cause
- `ratings`: RatingMatrix, the study's cut, the splits
- `tables`: columns of text and Parquet files, read strictly
- `readers`: your own ratings as a tidy frame
- `movielens`: MovieLens releases as tidy frames
- `datasets`: the data set that a name or a path means
- `fetch`: downloads MovieLens releases
- `synthetic`: made ratings with a known truth, of any size and in any MovieLens layout
- `baselines`: the means and regularised biases
- `drift`: UserDrift, what is known of a moment
- `intervals`: PredictionIntervals, how far a prediction may be off
- `lists`: the best items of many users at once, and the same list for all
- `model`: SAE, layers only
- `distributed`: which device, and training in several processes
- `metrics`: masked squared error, rmse, user_rmse, mae
- `storage`: tensors in files with a checksum, and a trained recommender in one
- `batches`: the rows of a matrix as a network reads and writes them, dense or sparse
- `checkpoints`: what a training leaves to go on from
- `training`: fit, history, best epoch
- `choice`: ChoiceModel, what people choose to watch
- `original`: the original study's loop, figures and lists, defects included
- `prediction`: from a trained SAE to predictions for known and new users
- `layouts`: how each autoencoder of a recommender is built and trained
- `settings`: what the settings of a recommender can be, and those of a grid
- `recommender`: Recommender
- `loading`: load, which trusts no file
- `record`: what a run was made of, and whether it still holds
- `study`: the series' training and scores without notebooks
- `selection`: tune, cross_validate: what suits your data
- `page`: one web page with the model inside
- `peers`: other recommenders beside ours, each in a process of its own
- `plots`: pictures (matplotlib)
- `parameters`: those of notebooks, read from a command line
- `exports`: pages of executed notebooks
- `runs`: what a run's folder holds, and whether it is as it was written
- `index`: a run's first page
- `series`: runs the notebooks (papermill)
"""

__version__ = "0.1.0"  # first, for files say which version wrote them

from saerec.baselines import BiasBaseline, fit_baselines
from saerec.choice import ChoiceModel
from saerec.drift import UserDrift
from saerec.fetch import fetch_movielens
from saerec.intervals import PredictionIntervals
from saerec.lists import same_list_for_all
from saerec.loading import load
from saerec.metrics import (
    coverage_by,
    error_by,
    list_scores,
    mae,
    masked_squared_error,
    ndcg,
    quantile_groups,
    recall,
    rmse,
    scores,
    user_rmse,
)
from saerec.model import SAE, TwoEncoderSAE
from saerec.movielens import find_titles, genre_table, load_movielens, movie_features
from saerec.page import write_page
from saerec.ratings import RatingMatrix, describe_ratings, split_ratings, top_users_and_items
from saerec.readers import Dataset, read_ratings, read_titles
from saerec.recommender import Recommender
from saerec.selection import cross_validate, tune
from saerec.storage import DamagedFileError
from saerec.tables import write_table
from saerec.training import DivergedError, best_epoch, fit
from saerec.validation import DataError

__all__ = [
    "SAE",
    "BiasBaseline",
    "ChoiceModel",
    "DamagedFileError",
    "DataError",
    "Dataset",
    "DivergedError",
    "PredictionIntervals",
    "RatingMatrix",
    "Recommender",
    "TwoEncoderSAE",
    "UserDrift",
    "best_epoch",
    "coverage_by",
    "cross_validate",
    "describe_ratings",
    "error_by",
    "fetch_movielens",
    "find_titles",
    "fit",
    "fit_baselines",
    "genre_table",
    "list_scores",
    "load",
    "load_movielens",
    "mae",
    "masked_squared_error",
    "movie_features",
    "ndcg",
    "quantile_groups",
    "read_ratings",
    "read_titles",
    "recall",
    "rmse",
    "same_list_for_all",
    "scores",
    "split_ratings",
    "top_users_and_items",
    "tune",
    "user_rmse",
    "write_page",
    "write_table",
]
