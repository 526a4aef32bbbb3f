"""How a network is fitted, whatever it does: device, precision, seed, batches, and the loop.

skorch runs the loop; here, and in :mod:`xray_harmonize.callbacks`, is what this package adds to it. On a processor
everything is deterministic given a seed; on a GPU convolutions are, but what enlarges, pads or looks up adds its
gradients in any order. PyTorch's own random numbers are left as they were. Knows networks and tensors, but no images of
files and no estimators::

    with seeded(0, device):
        network = ...
        net = Net(network, criterion=..., device=device, precision="auto",
                  iterator_train__shuffle=True, callbacks=[BestState(lambda row: ...)])
        net.fit(TensorDataset(images, targets))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import torch
from skorch import NeuralNet
from torch.utils.data import TensorDataset

from xray_harmonize.exceptions import InvalidParameterError

PRECISIONS: Final = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

BatchTransform = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


# -- where and how exactly ---------------------------------------------------------------------


def resolve_device(device: str) -> torch.device:
    """Device by name, ``"auto"`` being the GPU where there is one.

    Parameters
    ----------
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or another name that PyTorch knows.

    Raises
    ------
    InvalidParameterError
        If PyTorch does not know the name, or this machine has no such device.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        raise InvalidParameterError(
            f"device={device!r} is not there on this machine; expected 'auto', 'cpu', 'cuda' or "
            f"'cuda:<number>'. 'auto' takes a GPU where there is one."
        ) from error
    return resolved


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Type in which convolutions and products are computed; weights stay float32.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16", "float16"}
        ``"auto"``: on a GPU bfloat16 where its hardware has it and float16 otherwise, on a CPU
        float32, whose results do not depend on the model of the CPU more than by rounding.
    device : torch.device

    Raises
    ------
    InvalidParameterError
        For another name, and for float16 without a GPU.

    Examples
    --------
    >>> resolve_precision("auto", torch.device("cpu"))
    torch.float32
    """
    if not isinstance(precision, str) or precision not in ("auto", *PRECISIONS):
        known = ", ".join(["auto", *PRECISIONS])
        raise InvalidParameterError(f"precision must be one of {known}; got {precision!r}.")
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        hardware = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if hardware else torch.float16
    if precision == "float16" and device.type != "cuda":
        raise InvalidParameterError(f"precision='float16' needs a GPU; on {device.type} use 'bfloat16' or 'float32'.")
    return PRECISIONS[precision]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Context in which operations that may be are computed in ``dtype``."""
    if dtype is torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Hold the convolutions of a GPU to deterministic algorithms and, in float32, to all its bits.

    By default they round float32 to the 10 bits of TF32, as coarsely as float16: a flow is then no longer its own
    inverse. Types of :func:`autocast` are as they are. Afterwards all is as before; nothing happens elsewhere.

    Examples
    --------
    >>> with exactly(torch.device("cpu")):
    ...     pass
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    # Not by cudnn.flags: it fails where TF32 was switched off by the newer of PyTorch's two ways, which this one is.
    newer = hasattr(cudnn, "conv")
    place, name = (cudnn.conv, "fp32_precision") if newer else (cudnn, "allow_tf32")
    before = cudnn.benchmark, cudnn.deterministic, getattr(place, name)
    try:
        cudnn.benchmark, cudnn.deterministic = False, True
        setattr(place, name, "ieee" if newer else False)
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before[:2]
        setattr(place, name, before[2])


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw PyTorch's random numbers from ``seed`` inside, and leave its generators as they were.

    On a GPU convolutions are also held to what :func:`exactly` asks of them.

    Examples
    --------
    >>> with seeded(3, torch.device("cpu")):
    ...     first = torch.rand(2)
    >>> with seeded(3, torch.device("cpu")):
    ...     torch.equal(first, torch.rand(2))
    True
    """
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if not on_gpu:
            yield
            return
        with torch.cuda.device(device), exactly(device):
            torch.cuda.manual_seed(seed)
            yield


# -- batches -----------------------------------------------------------------------------------


class TensorBatches:
    """Batches of a dataset that lies in memory, changed a whole batch at a time.

    For images that fit in memory this is several times faster than a ``DataLoader``, which
    fetches items one by one. Batches are as equal in size as can be, so that none holds a single
    image, of which batch normalization could make nothing.

    Parameters
    ----------
    dataset : TensorDataset
        Its first tensor holds the images.
    batch_size : int
        At most that many a batch.
    shuffle : bool, default=False
        Whether each pass takes the items in a new order.
    transform : callable, optional
        ``transform(images, generator)`` makes the images of a batch that is used; the generator
        is on the CPU.
    seed : int, optional
        Of order and transform; None draws one from PyTorch's generator, which :func:`seeded` sets.
    device : torch.device or str, default="cpu"
        Where batches are wanted; transforms are computed there.

    Examples
    --------
    >>> dataset = TensorDataset(torch.arange(5.0), torch.arange(5))
    >>> [len(images) for images, targets in TensorBatches(dataset, batch_size=4)]
    [3, 2]
    """

    def __init__(
        self,
        dataset: TensorDataset,
        batch_size: int,
        shuffle: bool = False,
        transform: BatchTransform | None = None,
        seed: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.transform = transform
        self.device = device
        seed = int(torch.randint(2**31 - 1, ())) if seed is None else seed
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return math.ceil(len(self.dataset) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        n = len(self.dataset)
        order = torch.randperm(n, generator=self.generator) if self.shuffle else torch.arange(n)
        for positions in torch.tensor_split(order, len(self)):
            images, *targets = (t[positions].to(self.device) for t in self.dataset.tensors)
            if self.transform is not None:
                images = self.transform(images, self.generator)
            yield images, *targets


# -- the loop ----------------------------------------------------------------------------------


class Net(NeuralNet):
    """skorch's net with mixed precision, and with interruptions told from early stopping.

    Parameters
    ----------
    *args, **kwargs
        As :class:`skorch.NeuralNet`. Batches come from :class:`TensorBatches` unless others are
        named; nothing is split off for validation unless ``train_split`` says so.
    precision : str, default="auto"
        See :func:`resolve_precision`.

    Attributes
    ----------
    interrupted_ : bool
        Whether the user stopped the training (Ctrl-C). Callbacks end it with
        :class:`StopTraining`.
    """

    def __init__(self, *args: Any, precision: str = "auto", **kwargs: Any) -> None:
        kwargs.setdefault("iterator_train", TensorBatches)
        kwargs.setdefault("iterator_valid", TensorBatches)
        kwargs.setdefault("train_split", None)
        self.precision = precision
        super().__init__(*args, **kwargs)

    def initialize(self) -> Net:
        """Make module, criterion, optimizer and callbacks ready."""
        super().initialize()
        self.device_ = torch.device(self.device)
        self.dtype_ = resolve_precision(self.precision, self.device_)
        # Gradients of float16 underflow without scaling; for other types the scaler does nothing.
        self.scaler_ = torch.amp.GradScaler(self.device_.type, enabled=self.dtype_ is torch.float16)
        self.interrupted_ = False
        return self

    def infer(self, x: torch.Tensor, **fit_params: Any) -> torch.Tensor:
        """Output of the module in float32, computed in the precision asked for."""
        with autocast(self.device_, self.dtype_):
            output: torch.Tensor = super().infer(x, **fit_params)
        return output.float()

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, torch.Tensor]:
        """One step of the optimizer."""
        self._set_training(True)
        self.optimizer_.zero_grad(set_to_none=True)
        inputs, targets = batch
        predicted = self.infer(inputs, **fit_params)
        loss = self.get_loss(predicted, targets, X=inputs, training=True)
        self.scaler_.scale(loss).backward()
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()
        return {"loss": loss, "y_pred": predicted}

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **kwargs: Any) -> Net:
        """All epochs, until done, stopped by a callback, or interrupted."""
        try:
            super().fit_loop(X, y, epochs=epochs, **kwargs)
        except StopTraining:
            pass
        except KeyboardInterrupt:
            self.interrupted_ = True
        return self


class StopTraining(Exception):  # noqa: N818 - a signal, no error, as StopIteration
    """Raised by a callback to end the training after an epoch."""
