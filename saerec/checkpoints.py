"""What a training leaves in a folder after every epoch, to go on from and to look at."""

import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from saerec import distributed
from saerec.files import check_space, one_writer
from saerec.storage import DamagedFileError, NewerFileError, fits, read_tensors, write_tensors

N_STATES = 2  # should the last be damaged, there is the one before
NUMBERS = ("train_rmse", "valid_rmse", "seconds")  # of an epoch
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW


def check_keep(keep: str | int) -> str | int:
    """What `keep` of `Checkpoints` means: "all", "best" or a number.

    Raises
    ------
    ValueError
        None of these.
    """
    keep = int(keep) if str(keep).isdecimal() else keep  # a notebook's parameter is text
    if keep not in ("all", "best") and (type(keep) is not int or keep < 1):
        raise ValueError(f"keep must be 'all', 'best' or how many of the last epochs, not {keep!r}")
    return keep


def room_for(n_bytes: int, n_epochs: int, keep: str | int) -> int:
    """The bytes on disk of the checkpoints of a network of that size, while so many epochs are trained, at most."""
    n_weights = keep + 2 if isinstance(keep, int) else {"all": n_epochs, "best": 2}[keep]
    return n_bytes * (4 * (N_STATES + 1) + min(n_weights, n_epochs))


def size_of(model: nn.Module) -> int:
    """The bytes of its weights."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def crc_of(*arrays: np.ndarray) -> int:
    """A checksum of arrays, to know other data by."""
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)  # without a copy
    return checksum


class Checkpoints:
    """The folder of a training.

    ``epoch_0001.safetensors`` … hold the weights of an epoch, for those who want to look at them;
    ``state_0001.safetensors`` … all it takes to go on to the bit: weights, the optimizer's moments, the schedule, the
    history, the best weights so far. No random generator is among them, for every epoch is seeded anew.

    Parameters
    ----------
    directory : Path
        Made if need be.
    settings : dict
        What a training must share with this one to be gone on with: numbers, text, None.
    keep : "all", "best" or int
        Whose epochs' weights stay: all; the best so far; the last so many, and the best.
    """

    def __init__(self, directory: Path, settings: dict, keep: str | int = "all"):
        self.directory = directory
        self.settings = settings
        self.keep = check_keep(keep)
        directory.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def held(
        self, n_epochs: int, model: nn.Module, optimizer: Optimizer, scheduler: LambdaLR, *, resume: bool
    ) -> Iterator[tuple[int, list[dict], tuple[int, dict[str, Tensor]] | None]]:
        """The folder, held to train that many epochs in; what `resume` returns, or of a training that begins nothing.

        Among several processes the first holds it.

        Raises
        ------
        ValueError
            There are more epochs in it than that; and as of `resume`.
        BusyFolderError, NoSpaceError
        """
        writes = distributed.rank() == 0
        with one_writer(self.directory, alone=True) if writes else nullcontext():
            done, history, best = 0, [], None
            if resume:
                done, history, best = self.resume(model, optimizer, scheduler)
                if done > n_epochs:
                    raise ValueError(f"cannot resume from {self.directory}: it is at epoch {done}, past {n_epochs}")
                distributed.wait_for_all()  # to have read
            if writes:
                self.check_space(model, n_epochs - done, fresh=not resume)
                if not resume:
                    self.clear()
            yield done, history, best

    def clear(self) -> None:
        """Remove what another training left."""
        for path in [*self._files("epoch"), *self._files("state")]:
            path.unlink()

    def check_space(self, model: nn.Module, n_epochs: int, *, fresh: bool) -> None:
        """Raise unless the disk has room for the files of so many more epochs, in place of those that will go.

        These are the states, and if a training starts afresh all that is there.

        Raises
        ------
        NoSpaceError
        """
        advice = "choose another folder, a smaller model" + (" or keep='best'" if self.keep != "best" else "")
        going = [*self._files("state"), *(self._files("epoch") if fresh else [])]
        there = sum(path.stat().st_size for path in going)
        check_space(self.directory, room_for(size_of(model), n_epochs, self.keep) - there, advice)

    def save(
        self,
        epoch: int,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LambdaLR,
        history: list[dict],
        weights: dict[str, Tensor] | None,
        best: tuple[int, dict[str, Tensor]] | None,
    ) -> None:
        """Write the files of an epoch, then remove those that `keep` does not keep; of several processes the first.

        Parameters
        ----------
        epoch : int
        model, optimizer, scheduler, history
            As they stand after it.
        weights : dict of Tensor, optional
            To keep of this epoch.
        best : (int, dict of Tensor), optional
            The best epoch so far, and its weights.
        """
        if distributed.rank() > 0:
            return
        if weights is not None:
            write_tensors(self._file("epoch", epoch), "weights", weights, {"epoch": epoch})
        tensors = {f"model.{name}": _stored(parameter) for name, parameter in model.named_parameters()}
        for name, parameter in model.named_parameters():
            moments = optimizer.state[parameter]
            tensors |= {f"{moment}.{name}": _stored(moments[moment]) for moment in MOMENTS}
        best_epoch, best_weights = best or (None, {})
        tensors |= {f"best.{name}": tensor for name, tensor in best_weights.items()}
        description = {
            "epoch": epoch,
            "settings": self.settings,
            "schedule": scheduler.state_dict(),
            "history": history,
            "best_epoch": best_epoch,
        }
        write_tensors(self._file("state", epoch), "training", tensors, description)
        for path in self._files("state")[:-N_STATES]:
            path.unlink()
        if self.keep != "all":
            last = 0 if self.keep == "best" else self.keep
            stay = {self._file("epoch", each) for each in (*range(epoch - last + 1, epoch + 1), best_epoch or 0)}
            for path in set(self._files("epoch")) - stay:
                path.unlink()

    def resume(
        self, model: nn.Module, optimizer: Optimizer, scheduler: LambdaLR
    ) -> tuple[int, list[dict], tuple[int, dict[str, Tensor]] | None]:
        """Put all three where the last whole checkpoint left them; its epoch, history and `best`, as given to `save`.

        A damaged checkpoint is named in a warning and passed over. Without any the epoch is 0, and damaged ones go.

        Raises
        ------
        ValueError
            The checkpoint is of other settings; the message names the first.
        NewerFileError
            It was written by a newer saerec.
        """
        paths = self._files("state")
        for path in reversed(paths):
            try:
                tensors, description = read_tensors(path, "training")
                self._check(path, tensors, description, model)
            except NewerFileError:
                raise
            except DamagedFileError as error:
                rest = "training begins anew" if path == paths[0] else "going on from what was saved before it"
                warnings.warn(f"{error}; {rest}", stacklevel=5)  # whoever called `fit`
                continue
            return self._restore(tensors, description, model, optimizer, scheduler)
        for path in paths:
            path.unlink(missing_ok=True)
        return 0, [], None

    def _check(self, path: Path, tensors: dict[str, Tensor], description: dict, model: nn.Module) -> None:
        """Raise a DamagedFileError unless all of it makes sense, and a ValueError if it is of other settings."""
        try:
            epoch, history, best_epoch = (description[name] for name in ("epoch", "history", "best_epoch"))
            settings, steps = dict(description["settings"]), description["schedule"]["last_epoch"]
            epochs = [row["epoch"] for row in history]
            rows = [(type(row["epoch"]), *(type(row[name]) for name in NUMBERS), len(row)) for row in history]
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(f"{path} is no checkpoint that saerec wrote: {error}") from error
        for name, value in self.settings.items():
            if settings.get(name) != value:
                told = f"{settings.get(name)!r}, here {value!r}"
                if name in ("model", "train", "valid", "baseline", "features"):  # long, or a checksum
                    told = "another than here"
                raise ValueError(
                    f"cannot resume from {self.directory}: its {name} is {told}; give the same settings and data, or "
                    "start again without resuming"
                )
        counts = type(epoch) is type(steps) is int and 0 < epoch <= steps and steps % epoch == 0
        if not counts or {*rows} - {(int, float, float, float, 4)}:
            raise DamagedFileError(f"{path} does not say how far it got")
        measured = [[], [epoch]] if settings.get("last_alone") else [[*range(1, epoch + 1)]]
        if epochs not in measured or (best_epoch not in epochs or type(best_epoch) is bool if epochs else best_epoch):
            raise DamagedFileError(f"{path} holds a history of other epochs than its own, {epoch}")
        expected = {}
        for name, parameter in model.named_parameters():
            stored = _stored(parameter)
            expected |= {f"model.{name}": stored, f"step.{name}": torch.zeros(())}
            expected |= {f"exp_avg.{name}": stored, f"exp_avg_sq.{name}": stored}
            if epochs:
                expected[f"best.{name}"] = parameter
        if not fits(tensors, expected):
            raise DamagedFileError(f"{path} does not hold what a training of {type(model).__name__} needs")
        for name, tensor in tensors.items():
            kind = name.partition(".")[0]
            fine = bool(tensor.isfinite().all())
            if kind == "step":
                fine &= tensor.item() == min(steps, 2**24)  # where float32 ends to count
            if kind == "exp_avg_sq":
                fine &= bool((tensor >= 0).all())
            if not fine:
                raise DamagedFileError(f"{path} holds numbers in {name} that no training has")

    def _restore(
        self,
        tensors: dict[str, Tensor],
        description: dict,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LambdaLR,
    ) -> tuple[int, list[dict], tuple[int, dict[str, Tensor]] | None]:
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, parameter in parameters.items():
                _stored(parameter).copy_(tensors[f"model.{name}"])
                moments = {"step": tensors[f"step.{name}"].to(parameter.device)}
                for moment in MOMENTS[1:]:
                    moments[moment] = torch.empty_like(parameter)  # stored as the parameter is
                    _stored(moments[moment]).copy_(tensors[f"{moment}.{name}"])
                optimizer.state[parameter] = moments
        steps = description["schedule"]["last_epoch"]  # the rest of the schedule follows from the settings
        rates = [lr * share(steps) for lr, share in zip(scheduler.base_lrs, scheduler.lr_lambdas)]
        scheduler.load_state_dict(
            scheduler.state_dict() | {"last_epoch": steps, "_step_count": steps + 1, "_last_lr": rates}
        )
        for group, lr in zip(optimizer.param_groups, rates):
            group["lr"] = lr
        epoch, history, best_epoch = (description[name] for name in ("epoch", "history", "best_epoch"))
        if best_epoch is None:
            return epoch, history, None
        device = next(iter(parameters.values())).device
        return epoch, history, (best_epoch, {name: tensors[f"best.{name}"].to(device) for name in parameters})

    def _files(self, kind: str) -> list[Path]:
        """In the order of epochs; from 10,000 on their names are longer."""
        return sorted(self.directory.glob(f"{kind}_*.safetensors"), key=lambda path: (len(path.name), path.name))

    def _file(self, kind: str, epoch: int) -> Path:
        return self.directory / f"{kind}_{epoch:04d}.safetensors"


def _stored(tensor: Tensor) -> Tensor:
    """A view whose rows lie one after the other in memory: of what is stored column by column, the transpose."""
    return tensor if tensor.is_contiguous() else tensor.T
