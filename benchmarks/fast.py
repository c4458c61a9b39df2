"""A training step as a GPU likes it, and the ladder that leads there, one rung at a time.

A graphics card is fast when it is never asked to wait: for images (they lie on it as bytes, and views are made there),
for numbers (nobody reads the loss), for 32-bit arithmetic (bfloat16 goes through its matrix units), for memory
(`torch.compile` fuses BN and ReLU), and for Python. The last one is the CUDA graph: the launches of a whole step are
recorded once and replayed as one. A graph always reads and writes the same memory, so batch, draws and learning rate
are copied into fixed places before each replay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simsiam_course.data import ImageSet
from simsiam_course.loss import symmetric_loss
from simsiam_course.recipe import Recipe
from simsiam_course.train import SIMILARITY, Trainer

WARM_UP = 3  # steps before a graph is recorded: libraries choose their kernels and reserve their memory


@dataclass(frozen=True)
class Rung:
    """What is done for speed; each rung of `LADDER` does one thing more than the one before."""

    channels_last: bool = False
    bf16: bool = False
    compile: bool = False
    graph: bool = False

    @property
    def plain(self) -> bool:
        """Whether the package's own `Trainer` does it all."""
        return not (self.bf16 or self.compile or self.graph)


LADDER = {
    "eager float32": Rung(),  # as PyTorch comes: its convolutions may round to TF32
    "+ channels_last": Rung(channels_last=True),  # what `fit` does
    "+ bfloat16": Rung(channels_last=True, bf16=True),
    "+ torch.compile": Rung(channels_last=True, bf16=True, compile=True),
    "+ CUDA graph": Rung(channels_last=True, bf16=True, compile=True, graph=True),
}


def make_trainer(images: ImageSet, recipe: Recipe, rung: Rung, *, device: str = "auto") -> Trainer:
    """The trainer of a fresh model that does what its rung says. Errors: as `Trainer`."""
    recipe = recipe.replace(channels_last=rung.channels_last)
    if rung.plain:
        return Trainer(recipe.build(), images, recipe, device=device)
    return FastTrainer(recipe.build(), images, recipe, rung=rung, device=device)


def autocast(device: torch.device, rung: Rung) -> torch.autocast:
    """Convolutions and matrix products in bfloat16, all else as it was; weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=rung.bf16)


class FastTrainer(Trainer):
    """A `Trainer` with bfloat16, compiled kernels and a CUDA graph, each where the rung asks for it.

    The draws are `Trainer`'s own, so on the rung without all three the losses are too. What does not work here is
    struck from `rung` at the first step, with a sentence in `notes`. A graph's `z` is valid until the next step.
    """

    def __init__(
        self, model: nn.Module, images: ImageSet, recipe: Recipe, *, rung: Rung, device: str = "auto"
    ) -> None:
        super().__init__(model, images, recipe, device=device)
        self.rung = rung
        self.notes: list[str] = []
        self.ready = False
        self.graph: torch.cuda.CUDAGraph | None = None
        self.side = torch.cuda.Stream() if self.device.type == "cuda" else None
        self.loss_of = self.eager = _loss(model, recipe, self.device, rung)
        self.batch = torch.empty(
            recipe.batch_size, *self.pixels.shape[1:], dtype=torch.uint8, device=self.device
        )
        self.drawn: dict[str, Tensor] = {}  # the parameters of both views
        self.loss = torch.zeros((), device=self.device)
        self.plain_optimizer, self.rates = self.optimizer, []
        if rung.graph:  # a graph keeps numbers as they were recorded, so the rate becomes a tensor
            self.rates = [torch.zeros((), device=self.device) for _ in self.optimizer.param_groups]
            groups = [{**group, "lr": rate, "fused": True}
                      for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True)]  # fmt: skip
            self.optimizer = torch.optim.SGD(groups, fused=True)

    def advance(self) -> Tensor:
        """Takes one step and returns its loss, still on the device."""
        self._choose()
        self._set_rates()
        if not self.ready:
            self._prepare()
        if self.graph is not None:
            self.graph.replay()
        else:
            self._step()
        self.loss_sum += self.loss
        self.losses += 1
        self.done += 1
        return self.loss.clone()

    def restore(self, tensors: dict[str, Tensor], about: dict[str, Any], path: Path) -> None:
        """As `Trainer.restore`; a graph is recorded anew, as it knows the old momentum's memory."""
        self.ready, self.graph = False, None
        super().restore(tensors, about, path)

    def _choose(self) -> None:
        """The next batch and what its views' augmentations are drawn to be, as `two_views` does it."""
        torch.index_select(self.pixels, 0, self._next_batch(), out=self.batch)
        drawn = self.augmentation.draw(2 * len(self.batch), self.draws)
        if self.graph is None:
            self.drawn = drawn
        else:
            for name, value in drawn.items():
                self.drawn[name].copy_(value)

    def _set_rates(self) -> None:
        super()._set_rates()
        for rate, group in zip(self.rates, self.optimizer.param_groups, strict=False):
            rate.fill_(group["lr"])
            group["lr"] = rate

    def _step(self) -> None:
        """All that a graph records: views, forward, backward and SGD; no number goes to the host or comes from it."""
        self._gradients()
        self.optimizer.step()

    def _gradients(self) -> None:
        layout = torch.channels_last if self.rung.channels_last else torch.contiguous_format
        both = torch.cat((self.batch, self.batch))
        views = self.augmentation.apply(both, self.drawn, self.mean, self.std)  # (2 B, 3, H, W)
        x1, x2 = (view.contiguous(memory_format=layout) for view in views.chunk(2))
        self.optimizer.zero_grad(set_to_none=True)
        loss, self.z = self.loss_of(x1, x2)
        loss.backward()
        self.loss = loss.detach()

    def _prepare(self) -> None:
        """Compiles and records by taking steps that are undone again."""
        self.ready = True
        self.model.train()
        if not (self.rung.compile or self.rung.graph):
            return
        for p in self.names.values():  # zeros are what SGD takes a missing momentum for
            self.optimizer.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
        momentum = [self.optimizer.state[p]["momentum_buffer"] for p in self.names.values()]
        moved = [*self.model.parameters(), *self.model.buffers(), *momentum]
        before = [tensor.detach().clone() for tensor in moved]
        if self.rung.compile and not self._works("torch.compile", self._compile):
            self.loss_of, self.rung = self.eager, replace(self.rung, compile=False)
        if self.rung.graph and not self._works("the CUDA graph", self._record):
            self.plain_optimizer.state.update(self.optimizer.state)
            self.optimizer, self.rates, self.rung = self.plain_optimizer, [], replace(self.rung, graph=False)
            self._set_rates()
        with torch.no_grad():
            for tensor, value in zip(moved, before, strict=True):
                tensor.copy_(value)

    def _compile(self) -> None:
        self.loss_of = torch.compile(self.eager, dynamic=False)
        self._aside(self._gradients)

    def _record(self) -> None:
        """Source: PyTorch's notes on CUDA semantics, whole-network capture."""
        for _ in range(WARM_UP):
            self._aside(self._step)
        self.optimizer.zero_grad(set_to_none=True)  # so that the gradients, too, lie in the graph's memory
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, stream=self.side, capture_error_mode="thread_local"):
                self._step()
        finally:
            torch.cuda.set_stream(stream)  # a recording that fails does not always go back to it
        self.graph = graph

    def _aside(self, work: Callable[[], None]) -> None:
        """Work on the stream that the graph will be recorded on."""
        if self.side is None:
            return work()
        self.side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.side):
            work()
        return torch.cuda.current_stream().wait_stream(self.side)

    def _works(self, what: str, attempt: Callable[[], None]) -> bool:
        try:
            attempt()
        except Exception as error:  # whatever a compiler or a driver may raise: the run goes on without it
            reason = str(error).strip().splitlines() or [type(error).__name__]
            self.notes.append(f"Without {what}, which does not work here: {reason[0][:200]}")
            return False
        return True


def _loss(
    model: Any, recipe: Recipe, device: torch.device, rung: Rung
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Two views in, the loss in float32 and z of the first view out: `train_step` with the rung's precision."""
    similarity = SIMILARITY[recipe.similarity]

    def loss_of(x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(device, rung):
            outputs = model(x1, x2)
        p1, p2, z1, z2 = (y.float() for y in outputs)  # cosines of bfloat16 would have two digits
        loss = symmetric_loss(p1, p2, z1, z2, stop_gradient=model.stop_gradient, similarity=similarity)
        return loss, z1.detach()

    return loss_of
