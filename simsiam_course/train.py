"""Training: one step, a `Trainer` that takes the steps, and `fit` that watches, saves and resumes.

The images stay on the device as bytes and are augmented there a batch at a time, so there are no loader workers to
wait for or to hang. The host never asks the device for a number between two rows of the history.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import checkpoint as ckpt
from .augment import PRESETS
from .collapse import effective_rank, std
from .data import ImageSet
from .distributed import (
    average_,
    average_gradients,
    from_first,
    gather,
    gather_outputs,
    own_gpu,
    rank,
    share,
    world,
)
from .errors import InputError
from .files import (
    append_line,
    atomic_write,
    json_bytes,
    make_folder,
    read_lines,
    remove_leftovers,
    write_lines,
)
from .lock import folder_lock
from .loss import cross_entropy_similarity, negative_cosine, stop_gradient, symmetric_loss
from .memory import forget, out_of_memory, step_does_not_fit
from .model import SimSiam
from .recipe import Recipe
from .relatives import MovingAverage, Relative
from .switches import switch_off, switch_on
from .sync_batch_norm import synchronize

SECONDS_BETWEEN_CHECKPOINTS = 4.5
QUICK_STEPS = 30  # with SIMSIAM_QUICK=1 in the environment every run stops here
COSINE_METHODS = ("simsiam", "alternating", "moving_average", "byol")  # others have a loss of another kind
SIMILARITY = {"cosine": negative_cosine, "cross_entropy": cross_entropy_similarity}

Step = Callable[..., Tensor]  # (model, x1, x2) -> loss
Row = dict[str, Any]
Callback = Callable[[Row, nn.Module], Row | None]  # (row, model) -> more columns


class Diverged(InputError):
    """The loss is no longer a finite number."""


def train_step(model: SimSiam, x1: Tensor, x2: Tensor, *, similarity: Callable = negative_cosine) -> Tensor:
    """The loss of one pair of views; the caller takes the gradient and the optimiser's step.

    Shapes: `x1`, `x2` (B, 3, H, W) normalised views; a scalar comes back. Source: Algorithm 1.
    """
    p1, p2, z1, z2 = model(x1, x2)  # (B, d) each
    return symmetric_loss(p1, p2, z1, z2, stop_gradient=model.stop_gradient, similarity=similarity)


def asymmetric_step(
    model: SimSiam, x1: Tensor, x2: Tensor, *, similarity: Callable = negative_cosine
) -> Tensor:
    """The loss of one pair of views of which only the first foretells the other: D(p1, sg z2).

    Shapes: (B, 3, H, W) twice -> (). Source: Sec. 4.6.
    """
    p1, _, _, z2 = model(x1, x2)  # (B, d) each
    p1, z2 = stop_gradient(p1, z2, model.stop_gradient)
    return similarity(p1, z2, stop_gradient=False)


def resolve_device(name: str = "auto") -> torch.device:
    """The device to train on: `auto` is CUDA where there is one. Errors: `InputError`, unknown or absent device."""
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"The device is '{name}', expected auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("There is no CUDA device here: use '--device auto' or '--device cpu'.")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return own_gpu() if world() > 1 else torch.device("cuda")


def total_steps(recipe: Recipe, images: ImageSet) -> int:
    """How many steps a run takes; with SIMSIAM_QUICK at most 30."""
    steps = len(images) // recipe.batch_size * recipe.epochs
    return min(steps, QUICK_STEPS) if os.environ.get("SIMSIAM_QUICK") else steps


def check_images(recipe: Recipe, images: ImageSet) -> None:
    """Errors: `InputError` where a recipe cannot train on these images: too few for a batch, or no squares to turn."""
    if recipe.batch_size > len(images):
        raise InputError(
            f"The batch of {recipe.batch_size} is larger than the training set of {len(images)} images: "
            f"give a batch of at most {len(images)} (--batch-size), or more images."
        )
    height, width = images.images.shape[2:]
    if PRESETS[recipe.augmentation].turn and height != width:
        raise InputError(
            f"The augmentation '{recipe.augmentation}' turns images, but these are {height}x{width} pixels and only "
            "square ones can be turned: choose another (--augmentation), or square images."
        )


class History(list):
    """The rows of a run, one every few steps: `history["loss"]` is a column, and it prints as a table.

    Columns: step, epoch (passes), images_seen, lr, loss (mean since the row before), std and effective_rank (of z of
    one view of one training batch, train mode), seconds, images_per_second.
    """

    def __getitem__(self, key: Any) -> Any:
        return [row.get(key) for row in self] if isinstance(key, str) else super().__getitem__(key)

    def __repr__(self) -> str:
        if not self:
            return "History: no rows yet"
        shown = list(self) if len(self) <= 12 else [*self[:: max(1, len(self) // 10)], self[-1]]
        columns = list(self[-1])
        lines = ["".join(f"{name:>18}" for name in columns)]
        lines += ["".join(f"{_cell(row.get(name)):>18}" for name in columns) for row in shown]
        return "\n".join(lines)


def cosines(history: Sequence[Row], recipe: Recipe) -> list[Row]:
    """A history that `diagnose` can read: without the loss where that is no cosine from -1 to 1."""
    if recipe.similarity == "cosine" and recipe.method in COSINE_METHODS:
        return list(history)
    return [{**row, "loss": None} for row in history]


class Trainer:
    """A run that takes one step at a time, so that `fit`, a widget or a test can stand between the steps.

    Where several processes train (distributed.py), each has a trainer of its own and takes its share of every batch;
    the model gives all of them the outputs of the whole batch, and so the loss is that of one process.
    Errors: `InputError` where the batch is larger than the set or cannot be shared, the images cannot be augmented as
    the recipe says, or the device is not there.
    """

    def __init__(
        self,
        model: nn.Module,
        images: ImageSet,
        recipe: Recipe,
        *,
        step: Step | None = None,
        device: str = "auto",
    ) -> None:
        check_images(recipe, images)
        if isinstance(model, MovingAverage) and model.bank_size < len(images):
            raise InputError(
                f"The bank has {model.bank_size:,} rows for {len(images):,} training images, and each needs one: "
                "give bank_size at least their number, or fewer images (--limit)."
            )
        self.device = resolve_device(device)
        self.share = share(recipe.batch_size)
        self.recipe = recipe
        self.images = images
        self.model = model.to(self.device)
        if world() > 1:
            synchronize(self.model)
        if recipe.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.mean, self.std = images.mean.to(self.device), images.std.to(self.device)
        for name, buffer in model.named_buffers():  # a model of your own need not have them
            if name in ("pixel_mean", "pixel_std"):
                buffer.copy_(self.mean if name == "pixel_mean" else self.std)
        self.own_loss = model.loss if step is None and isinstance(model, Relative) else None
        if step is None or step is train_step:
            of_recipe = train_step if recipe.symmetric else asymmetric_step
            step = partial(of_recipe, similarity=SIMILARITY[recipe.similarity])
        self.step = step
        self.augmentation = PRESETS[recipe.augmentation]
        self.pixels = images.images.to(self.device)
        self.optimizer, self.names = make_optimizer(self.model, recipe)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.amp == "fp16")
        self.switched = switch_on(self.model, recipe, self.device)
        target = getattr(model, "target", None)
        self.gathering = gather_outputs(model, *([target] if isinstance(target, nn.Module) else []))
        self.order = torch.Generator().manual_seed(recipe.seed)
        self.draws = torch.Generator(self.device).manual_seed(recipe.seed + 1)
        self.steps_per_epoch = len(images) // recipe.batch_size
        self.total = total_steps(recipe, images)
        self.done = 0
        self.loss_sum = torch.zeros((), device=self.device)
        self.losses = 0
        self.permutation: Tensor | None = None
        self.order_state = self.order.get_state()
        self.z: Tensor | None = None
        self.hook: Any = None

    def close(self) -> None:
        """Takes off the model what was put on it for the training."""
        for hook in (self.hook, *self.gathering):
            if hook is not None:
                hook.remove()
        switch_off(self.switched)

    def advance(self) -> Tensor:
        """Takes one step and returns its loss, still on the device: reading it would make the host wait."""
        chosen = self._next_batch()
        self._set_rates()
        self._watch()
        self.model.train()
        self.z = None
        loss = self._loss(chosen) / self.recipe.pairs
        for _ in range(self.recipe.pairs - 1):
            loss = loss + self._loss(chosen) / self.recipe.pairs
        self.optimizer.zero_grad(set_to_none=True)
        if loss.requires_grad:  # with stop_gradient="both" it does not: nothing moves
            self.scaler.scale(loss).backward()  # fp16 alone is scaled
            average_gradients(self.names.values())
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.loss_sum += loss.detach()
        self.losses += 1
        self.done += 1
        return loss.detach()

    def steps(self, callback: Callback | None = None, *, seconds: float = 0.0) -> Iterator[Row | None]:
        """Takes the steps that are left and yields after each: the history's row where one is due, else None.

        `callback(row, model)` may return more columns; `seconds` is what the steps so far took.
        Errors: `Diverged` where the loss, or at the end a weight, is no longer finite; `InputError` where memory does
        not suffice for a step.
        """
        mark, marked = time.perf_counter(), self.done
        start = mark - seconds
        while self.done < self.total:
            try:
                self.advance()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                forget(error)
                raise step_does_not_fit(self.recipe.batch_size) from None
            row = None
            if self.row_due:
                row = self.row()
                if row["loss"] - row["loss"] != 0:
                    raise Diverged(_divergence(self.done))
                now = time.perf_counter()
                row["seconds"] = now - start
                row["images_per_second"] = (self.done - marked) * self.recipe.batch_size / (now - mark)
                mark, marked = now, self.done
                row.update(callback(row, self.model) or {} if callback else {})
            yield row
        if not self.sound():
            raise Diverged(_divergence(self.done))

    def views(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Two fresh views of the chosen images as the model gets them, drawn as `two_views` does.

        Shapes: (B,) -> (B, 3, H, W) twice; with several processes those of this one's share, drawn for all.
        """
        drawn = self.augmentation.draw(2 * len(chosen), self.draws)
        own = {name: torch.cat([view[self.share] for view in both.chunk(2)]) for name, both in drawn.items()}
        x = self.pixels.index_select(0, chosen[self.share])  # (B, 3, H, W) uint8
        views = self.augmentation.apply(torch.cat((x, x)), own, self.mean, self.std)  # (2 B, 3, H, W)
        x1, x2 = views.chunk(2)
        if self.recipe.channels_last:
            x1, x2 = (v.contiguous(memory_format=torch.channels_last) for v in (x1, x2))
        return x1, x2

    def _loss(self, chosen: Tensor) -> Tensor:
        """The loss of one fresh pair of views of each of the chosen images. Shapes: (B,) -> ()."""
        x1, x2 = self.views(chosen)
        if self.own_loss is not None:
            return self.own_loss(x1, x2, chosen)
        return self.step(self.model, x1, x2)

    @property
    def row_due(self) -> bool:
        """Whether the history gets a row after the step just taken."""
        return self.done % self.recipe.monitor_every == 0 or self.done == self.total

    def sound(self) -> bool:
        """Whether the loss and all weights are finite numbers; the host waits for the device to say so."""
        values = (self.loss_sum, *self.names.values())
        return bool(torch.stack([value.detach().isfinite().all() for value in values]).all())

    def row(self) -> Row:
        """The position and what the monitors say of the step just taken."""
        average_(self.loss_sum)
        mean_loss = float(self.loss_sum) / max(1, self.losses)
        self.loss_sum.zero_()
        self.losses = 0
        z = gather(self.z[: self.share.stop - self.share.start].float()) if self.z is not None else None
        if z is not None and not z.isfinite().all():
            z = None
        return {
            "step": self.done,
            "epoch": round(self.done / self.steps_per_epoch, 4),
            "images_seen": self.done * self.recipe.batch_size,
            "lr": self.recipe.step_lr(min(self.done, self.total) - 1, self.total),
            "loss": mean_loss,
            "std": None if z is None else std(z),
            "effective_rank": None if z is None else effective_rank(z),
        }

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next step depends on: tensors, and a description for the checkpoint's head."""
        momentum = {
            name: self.optimizer.state[p]["momentum_buffer"]
            for name, p in self.names.items()
            if self.optimizer.state.get(p, {}).get("momentum_buffer") is not None
        }
        tensors = {
            **ckpt.prefixed("model", self.model.state_dict()),
            **ckpt.prefixed("momentum", momentum),
            "run.order": self.order_state,
            "run.draws": self.draws.get_state(),
            "run.global": torch.get_rng_state(),
            "run.loss_sum": self.loss_sum,
        }
        about = {"recipe": self.recipe.to_dict(), "images": self.fingerprint, "size": self.pixels.shape[-1],
                 "step": self.done, "losses": self.losses, "threads": torch.get_num_threads(),
                 "scaler": self.scaler.state_dict()}  # fmt: skip
        return tensors, about

    @cached_property
    def fingerprint(self) -> str:
        """That of the images, which takes every pixel: every checkpoint names it."""
        return self.images.fingerprint()

    def restore(self, tensors: dict[str, Tensor], about: dict[str, Any], path: Path) -> None:
        """Goes back to where `state` was taken; memory layouts, which files do not keep, are the model's own.

        Errors: `InputError` where the checkpoint is of another recipe, another model, other images or another kind of
        device, or is not whole.
        """
        ckpt.check_same_recipe(ckpt.recipe_of(about, path), self.recipe, path)
        if about.get("images") != self.fingerprint:
            raise InputError(
                f"'{path}' was trained on other images: give the same --data, --limit and --size as before."
            )
        ckpt.load_state(self.model, tensors, path)
        self._check_state(tensors, about, path)
        for name, buffer in ckpt.stripped("momentum", tensors).items():
            p = self.names[name]
            self.optimizer.state[p]["momentum_buffer"] = torch.empty_like(p).copy_(buffer)
        self.order.set_state(tensors["run.order"])
        self.draws.set_state(tensors["run.draws"])
        torch.set_rng_state(tensors["run.global"])
        self.loss_sum.copy_(tensors["run.loss_sum"])
        self.done, self.losses = about["step"], about["losses"]
        if about.get("scaler"):
            self.scaler.load_state_dict(about["scaler"])
        if self.done:  # draw the order of the present pass again
            self.order_state = tensors["run.order"]
            self.permutation = torch.randperm(len(self.pixels), generator=self.order).to(self.device)

    def _check_state(self, tensors: dict[str, Tensor], about: dict[str, Any], path: Path) -> None:
        """Errors: `InputError` where what a checkpoint holds beside the model is incomplete or of another shape."""
        own = {name: tensor for name, tensor in self.state()[0].items() if name.startswith("run.")}
        draws = tensors.get("run.draws")
        # Every kind of device has a generator of its own, and a state of its own length.
        if draws is not None and draws.shape != own["run.draws"].shape:
            there, kind = ("the CPU", "cpu") if self.device.type == "cuda" else ("a GPU", "cuda")
            raise InputError(
                f"'{path}' was trained on {there}: go on there (--device {kind}), or train again with another --out."
            )
        known = {**ckpt.prefixed("momentum", self.names), **own}
        odd = sorted(own.keys() - tensors.keys()) + [
            name
            for name, tensor in tensors.items()
            if not name.startswith("model.")
            and (name not in known or (tensor.shape, tensor.dtype) != (known[name].shape, known[name].dtype))
        ]
        if odd:
            raise ckpt.damaged(path, odd[0])
        ckpt.check_counts(about, path, step=int, losses=int)

    def _next_batch(self) -> Tensor:
        """Which images the next step sees, (B,); every pass has an order of its own."""
        size, place = self.recipe.batch_size, self.done % self.steps_per_epoch
        if self.permutation is None or place == 0:
            self.order_state = self.order.get_state()
            self.permutation = torch.randperm(len(self.pixels), generator=self.order).to(self.device)
        return self.permutation[place * size : (place + 1) * size]

    def _set_rates(self) -> None:
        set_rates(self.optimizer, self.recipe, self.done, self.total)

    def _watch(self) -> None:
        """Keeps z of the first view of a step for the monitors, where the model has a projector."""
        projector = getattr(self.model, "projector", None)
        if self.hook is None and isinstance(projector, nn.Module):
            self.hook = projector.register_forward_hook(self._keep_z)

    def _keep_z(self, module: nn.Module, inputs: Any, z: Tensor) -> None:
        if self.z is None and module.training:
            self.z = z.detach()


def fit(
    model: nn.Module,
    images: ImageSet,
    recipe: Recipe,
    *,
    step: Step | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    resume: bool = False,
    callback: Callback | None = None,
    progress: bool = True,
) -> History:
    """Trains a model and returns its history; with `out` the run can be killed at any moment and resumed.

    `step(model, x1, x2)` returns the loss and may be your own; without it `train_step` does, or the relative's own
    `loss`. `callback(row, model)` is called for every row and may
    return more columns. `out` gets `checkpoint.safetensors`, `history.jsonl` and `recipe.json`; with `resume` a run
    that is there goes on, and its curve is the one an uninterrupted run would have had. Where several processes call it
    together, the first alone writes and shows, and its weights are where all start.
    Errors: `InputError` for a batch larger than the set, a folder that holds a run already (or another run) or that
    another process writes, a full disk, a step that memory does not hold; `Diverged` where the loss is no longer
    finite (the last good checkpoint stays).
    Source: Algorithm 1, App. A.
    """
    trainer = Trainer(model, images, recipe, step=step, device=device)
    first = rank() == 0
    folder = RunFolder(out, recipe, resume) if out is not None and first else None
    bar = None
    try:
        history, seconds = folder.restore(trainer) if folder else (History(), 0.0)
        history, seconds = _start_alike(trainer, history, seconds)
        start = time.perf_counter() - seconds
        bar = _bar(trainer, progress and first)
        if recipe.stop_gradient == "both" and first:
            bar.write("stop_gradient='both': no gradient reaches any weight, so nothing will move.")
        if folder and trainer.done == 0:
            folder.save(trainer, history, 0.0)
        for row in trainer.steps(callback, seconds=seconds):
            bar.update()
            if row is not None:
                history.append(row)
                if folder:
                    append_line(folder.path / ckpt.HISTORY, row)
                bar.set_postfix_str(_short(row))
            if folder and folder.due() and trainer.sound():
                folder.save(trainer, history, time.perf_counter() - start)
        if folder:
            folder.save(trainer, history, time.perf_counter() - start)
    except Diverged as error:
        if folder:
            raise Diverged(f"{error} The last good checkpoint is in '{folder.path}'.") from None
        raise
    finally:
        if bar is not None:
            bar.close()
        trainer.close()
        if folder:
            folder.close()
    model.eval()
    return history


class RunFolder:
    """The files of one run, which one process writes at a time, until `close`.

    Errors: `InputError` where the folder cannot be written, another process writes it, or it holds a run and `resume`
    is off.
    """

    def __init__(self, path: str | Path, recipe: Recipe, resume: bool) -> None:
        self.path = make_folder(path)
        self.saved = self.asked = 0.0  # when, by the monotonic clock
        self.lock = folder_lock(path)
        try:
            if not resume and ckpt.holds_run(path):
                raise InputError(
                    f"'{path}' holds a run already: go on with --resume, or choose another --out."
                )
            for name in (ckpt.CHECKPOINT, ckpt.HISTORY, ckpt.RECIPE):
                remove_leftovers(self.path / name)
            if (self.path / ckpt.RECIPE).exists():
                ckpt.check_same_recipe(ckpt.read_recipe(path), recipe, self.path / ckpt.RECIPE)
            else:
                atomic_write(self.path / ckpt.RECIPE, json_bytes(recipe.to_dict(), indent=1) + b"\n")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets other processes write the folder."""
        self.lock.release()

    def due(self) -> bool:
        """Whether the checkpoint would be too old after one more step as long as the last; asked after each step."""
        now = time.monotonic()
        step, self.asked = now - self.asked, now
        return now - self.saved + step > SECONDS_BETWEEN_CHECKPOINTS

    def save(self, trainer: Trainer, history: History, seconds: float) -> None:
        """Replaces the checkpoint by the present state."""
        tensors, about = trainer.state()
        ckpt.save_tensors(
            self.path / ckpt.CHECKPOINT, tensors, {**about, "rows": len(history), "seconds": seconds}
        )
        self.saved = self.asked = time.monotonic()

    def restore(self, trainer: Trainer) -> tuple[History, float]:
        """Puts the trainer where the last checkpoint was taken; the rows since then are dropped and come again.

        Errors: `InputError` where the checkpoint does not fit, or rows are missing from the history.
        """
        path, log = self.path / ckpt.CHECKPOINT, self.path / ckpt.HISTORY
        if not path.exists():
            log.unlink(missing_ok=True)
            return History(), 0.0
        tensors, about = ckpt.load_tensors(path)
        trainer.restore(tensors, about, path)
        ckpt.check_counts(about, path, rows=int, seconds=float)
        rows = read_lines(log) if log.exists() else []
        if len(rows) < about["rows"]:
            raise InputError(
                f"'{log}' has lost rows that the checkpoint counts: train again with another --out."
            )
        rows = rows[: about["rows"]]
        write_lines(log, rows)
        return History(rows), about["seconds"]


def _start_alike(trainer: Trainer, history: History, seconds: float) -> tuple[History, float]:
    """Puts all processes where the first one is."""
    if world() == 1:
        return history, seconds

    def state() -> Any:
        tensors, about = trainer.state()
        return {name: tensor.cpu() for name, tensor in tensors.items()}, about, history, seconds

    tensors, about, history, seconds = from_first(state)
    if rank():
        trainer.restore(tensors, about, Path("the first process"))
    return history, seconds


def make_optimizer(model: nn.Module, recipe: Recipe) -> tuple[torch.optim.SGD, dict[str, nn.Parameter]]:
    """SGD in two groups, f and, where it has weights, h, which has a rate of its own (Table 1c)."""
    names = {name: p for name, p in model.named_parameters() if p.requires_grad}
    h = [p for name, p in names.items() if name.startswith("predictor.")]
    f = [p for name, p in names.items() if not name.startswith("predictor.")]
    groups = [{"params": f, "predictor": False}, {"params": h, "predictor": True}]
    optimizer = torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov and recipe.momentum > 0,
    )  # fmt: skip
    return optimizer, names


def set_rates(optimizer: torch.optim.Optimizer, recipe: Recipe, step: int, total: int) -> None:
    """Gives f and h the learning rates of one step (0 .. total - 1)."""
    rate = recipe.step_lr(min(step, total - 1), total)  # who goes on after the end keeps the last rate
    constant = recipe.lr * recipe.batch_size / 256
    of_h = constant if recipe.predictor_schedule == "constant" else rate
    for group in optimizer.param_groups:
        group["lr"] = recipe.predictor_lr * of_h if group["predictor"] else rate


def _bar(trainer: Trainer, progress: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=trainer.total, initial=trainer.done, disable=not progress, unit="step", mininterval=0.5)


def _short(row: Row) -> str:
    parts = [f"loss {row['loss']:.3f}"]
    parts += [
        f"{label} {row[name]:.2f}"
        for label, name in (("std", "std"), ("rank", "effective_rank"))
        if row[name]
    ]
    return ", ".join([*parts, f"{row['images_per_second']:.0f} images/s"])


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _divergence(step: int) -> str:
    return f"The loss is no longer a finite number at step {step}: try a smaller lr or a longer warm-up."
