"""How an exercise is checked: facts about the student's function, held against the same facts about the reference.

A *fact* looks at a function and returns what it saw: the value on a small example, who received a gradient, whether
an argument was changed. An exercise lists its facts in teaching order, each with the sentence that is true of a right
answer. The first fact that comes out otherwise ends the check, so that there is one thing to think about.

A *suspect* is a wrong answer that people really give, with the sentence that explains it. Whether an answer is right is
never the suspects' to say: only when a fact has failed is the student's outcome compared with theirs, to name the
likely cause. So no wrong answer passes because nobody thought of it, and no right one fails because it looks odd.
"""

from __future__ import annotations

import ast
import dis
import inspect
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .clock import TooSlow, limit

Function = Callable[..., Any]
SECONDS = 20  # that a check may take while somebody waits
PATIENT = 100  # where a machine grades, perhaps several notebooks at once
MIXED = ("same device", "expected device")  # what PyTorch says of an operation on two devices
NUMBERS = (
    "item",
    "tolist",
    "tensor",
    "__float__",
    "__int__",
    "__bool__",
    "__index__",
)  # calls that read numbers


PRODUCTS = ("matmul", "__matmul__", "__rmatmul__", "mm", "mv", "bmm", "addmm", "einsum", "linear", "dot")


@dataclass(frozen=True)
class Fact:
    """Something to see about a function: `says` is the sentence about a right answer, `of` does the looking.

    `tolerance` is absolute and relative at once; numbers within it are the same.
    """

    says: str
    of: Callable[[Function], Any]
    tolerance: float = 1e-4


@dataclass(frozen=True)
class Suspect:
    """A wrong answer that people give, and the sentence that tells them what they did."""

    says: str
    function: Function


@dataclass(frozen=True)
class Exercise:
    """A function that students write: what it is called, the reference, the facts, the suspects and three hints.

    `solution` is what is shown as the answer where the reference itself is too thorough to read; `exhibit` is what
    stands in the notebook where the student is to repair a function instead of writing one.
    """

    number: str
    name: str
    reference: Function
    facts: Sequence[Fact]
    suspects: Sequence[Suspect]
    hints: tuple[str, str, str]
    solution: Function | None = None
    exhibit: Function | None = None


@dataclass(frozen=True)
class Verdict:
    """What came of a check: `status` is 'not attempted', 'passed' or 'failed'; `message` says why."""

    status: str
    message: str
    yours: str = field(default="", compare=False)
    expected: str = field(default="", compare=False)
    cause: str = ""


@dataclass(frozen=True)
class Raised:
    """The outcome of a fact where the function raised an exception."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.text else self.kind


def judge(exercise: Exercise, function: Any, *, seconds: float | None = None) -> Verdict:
    """Compares a function with the reference, fact by fact, and stops at the first difference, or after 20 seconds."""
    seconds = SECONDS if seconds is None else seconds
    if not is_attempted(function):
        return Verdict("not attempted", "Not attempted yet.")
    if not callable(function):
        said = f"`{exercise.name}` is {_kind(function)}, expected a function."
        return Verdict("failed", said, cause="Was the name given to something else after the `def`?")
    try:
        with limit(seconds):
            for fact in exercise.facts:
                expected, yours = see(fact, exercise.reference), see(fact, function)
                if yours is Ellipsis:
                    return Verdict("not attempted", "There is still a `...` in it.")
                if not same(yours, expected, fact.tolerance):
                    cause = likely_cause(exercise, fact, function, yours)
                    return Verdict("failed", fact.says, *told_apart(yours, expected), cause)
    except TooSlow:
        return Verdict(
            "failed", f"It ran for more than {seconds:g} seconds.", cause="Is there a loop without an end?"
        )
    return Verdict("passed", "")


def is_attempted(function: Any) -> bool:
    """Whether there is more than a docstring, `...`, `pass` or `return` in it; what is no function was attempted."""
    if function is None or function is Ellipsis:
        return False
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    if code is None:
        return True
    work = [
        i.opname for i in dis.get_instructions(code) if i.opname not in ("RESUME", "NOP", "COPY_FREE_VARS")
    ]
    returned = [i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_CONST", "RETURN_CONST")]
    nothing = set(work) <= {"LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"} and len(work) <= 2
    return not (nothing and returned in ([None], [Ellipsis]))


def as_found(exercise: Exercise, function: Any) -> bool:
    """Whether a function is still the exhibit that is to be repaired, to the letter but for comments and types.

    The function may be given as the node of its `def`. One whose source is nowhere counts as changed.
    """
    if exercise.exhibit is None:
        return False
    try:
        return _body(function) == _body(exercise.exhibit)
    except (OSError, TypeError, SyntaxError):
        return False


def _body(function: Any) -> str:
    """The arguments and lines of a function, without docstrings and types. Errors: no source, no function."""
    if not isinstance(function, ast.FunctionDef):
        function = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    if not isinstance(function, ast.FunctionDef):
        raise TypeError("There is no `def`.")
    function = deepcopy(function)
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
            node.body = node.body[ast.get_docstring(node) is not None :]
    return ast.dump(ast.Module([function.args, *function.body], []))


def see(fact: Fact, function: Function) -> Any:
    """The outcome of a fact; an exception is an outcome, too.

    Random numbers are the same each time, and a function under `functools.cache` has forgotten what it made.
    """
    getattr(function, "cache_clear", bool)()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        try:
            return fact.of(function)
        except TooSlow:
            raise
        except (Exception, SystemExit) as error:
            return Raised(type(error).__name__, str(error).strip().partition("\n")[0])


def likely_cause(exercise: Exercise, fact: Fact, function: Function, yours: Any) -> str:
    """The sentence of the suspect that comes out as the student does in this fact and in most of the others.

    What fails an earlier fact is no suspect: the student passed those. Nor is one that explains less than half of
    the later facts which the student fails.
    """
    alike = [s for s in exercise.suspects if same(see(fact, s.function), yours, fact.tolerance)]
    at = exercise.facts.index(fact)
    for passed in exercise.facts[:at] if alike else ():
        right = see(passed, exercise.reference)
        alike = [s for s in alike if same(see(passed, s.function), right, passed.tolerance)]
    later = [(other, see(other, function)) for other in exercise.facts[at + 1 :] if alike]
    wrong = [
        (other, seen)
        for other, seen in later
        if not same(seen, see(other, exercise.reference), other.tolerance)
    ]

    def likeness(suspect: Suspect, outcomes: Sequence[tuple[Fact, Any]]) -> int:
        return sum(same(see(other, suspect.function), seen, other.tolerance) for other, seen in outcomes)

    alike = [s for s in alike if 2 * likeness(s, wrong) >= len(wrong)]
    return max(alike, key=lambda s: likeness(s, later)).says if alike else ""


# ---- outcomes


def same(a: Any, b: Any, tolerance: float) -> bool:
    """Whether two outcomes are alike: numbers within the tolerance, all else equal."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or a.dtype.is_floating_point != b.dtype.is_floating_point:
            return False
        return bool(
            torch.allclose(a.detach().double(), b.detach().double(), tolerance, tolerance, equal_nan=True)
        )
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key], tolerance) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b


def told_apart(yours: Any, expected: Any) -> tuple[str, str]:
    """Both outcomes as `shown`, with as many digits and numbers as it takes to see a difference."""
    for limits in ((4, 8), (9, 8), (9, None)):
        said = shown(yours, *limits), shown(expected, *limits)
        if said[0] != said[1]:
            break
    return said


def shown(outcome: Any, digits: int = 4, few: int | None = 8) -> str:
    """An outcome as a student would write it: few digits, and the first few of many numbers."""
    if isinstance(outcome, Tensor):
        if few and outcome.numel() > 2 * few:
            return (
                f"a tensor of shape {tuple(outcome.shape)}, mean {outcome.double().mean().item():.{digits}g}"
            )
        return shown(outcome.tolist(), digits, few)
    if isinstance(outcome, bool) or outcome is None:
        return {True: "yes", False: "no", None: "None"}[outcome]
    if isinstance(outcome, float):
        return f"{outcome:.{digits}g}"
    if isinstance(outcome, Mapping):
        return ", ".join(f"{name} {shown(value, digits, few)}" for name, value in outcome.items())
    if isinstance(outcome, (list, tuple)):
        more = [f"... ({len(outcome)} in all)"] if few and len(outcome) > 2 * few else []
        inside = ", ".join([shown(part, digits, few) for part in outcome[: few if more else None]] + more)
        return f"[{inside}]" if isinstance(outcome, list) else f"({inside})"
    return str(outcome)


def _kind(value: Any) -> str:
    return f"{value!r}" if isinstance(value, (int, float, str)) else f"a {type(value).__name__}"


# ---- what facts are made of


def kind_and_shape(value: Any) -> Any:
    """What a function gave, in words: 'a tensor of shape (4, 3), float32'; several as a list."""
    if value is Ellipsis:
        return Ellipsis
    if isinstance(value, Tensor):
        usual = (value.layout, value.device.type) == (torch.strided, "cpu")
        kept = "" if usual else f", {str(value.layout).removeprefix('torch.')}, on {value.device.type}"
        return f"a tensor of shape {tuple(value.shape)}, {str(value.dtype).removeprefix('torch.')}{kept}"
    if isinstance(value, (tuple, list)):
        return [kind_and_shape(part) for part in value]
    return "nothing: is there a `return`?" if value is None else _kind(value)


def gradients(loss: Tensor, **tensors: Tensor) -> dict[str, str]:
    """Who receives a gradient from a scalar: name -> 'a gradient' or 'none'. Shapes: any."""
    found: Sequence[Tensor | None] = [None] * len(tensors)
    if loss.requires_grad:
        found = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
    return {
        name: "a gradient" if g is not None and bool(g.abs().sum() > 0) else "none"
        for name, g in zip(tensors, found, strict=True)
    }


def unchanged(function: Function, *arguments: Any) -> dict[str, bool]:
    """Whether a call leaves its tensor arguments as they were, by place."""
    before = [a.detach().clone() if isinstance(a, Tensor) else None for a in arguments]
    function(*arguments)
    pairs = [
        (i, old, new) for i, (old, new) in enumerate(zip(before, arguments, strict=True)) if old is not None
    ]
    return {f"argument {i + 1}": bool(torch.equal(old, new.detach())) for i, old, new in pairs}


class _LastCall(TorchFunctionMode):
    """Inside, `name` is the function of PyTorch that was called last; products of two devices fail, as on a GPU.

    On `meta` PyTorch itself lets them pass.
    """

    name = ""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.name = getattr(function, "__name__", "")
        if self.name in PRODUCTS and len({a.device for a in args if isinstance(a, Tensor)}) > 1:
            raise RuntimeError(f"Expected all tensors to be on the {MIXED[0]}")
        return function(*args, **(kwargs or {}))


def elsewhere(function: Function, *arguments: Any, turn: bool = True) -> str:
    """Where the result is when the arguments are on another device.

    That device is PyTorch's `meta`, which knows shapes and no numbers: it is on every machine. A function that asks
    for a number there (a perfectly good `if`) stops. So it is turned round: its arguments are on the CPU, and what it
    makes without a device is on `meta`. Without `turn` (for a module, whose weights are on `meta`) it counts as right.
    """
    moved = [a.detach().to("meta") if isinstance(a, Tensor) else a for a in arguments]
    wrong = (*MIXED, "no data!", "can't convert meta", "device type")
    with _LastCall() as last:
        found = place(lambda: function(*moved), home="meta", wrong=wrong)
    if last.name not in NUMBERS:
        return found
    with torch.device("meta"):
        return place(lambda: function(*arguments), home="cpu") if turn else "where its input is"


def place(compute: Callable[[], Any], *, home: str, wrong: Sequence[str] = MIXED) -> str:
    """Whether a result is on the device `home`, or an error has one of the `wrong` words; others say nothing of it."""
    try:
        result = compute()
    except Exception as error:
        mixed = any(words in str(error) for words in wrong)
        return "an error about devices" if mixed else "where its input is"
    first = result[0] if isinstance(result, (tuple, list)) and result else result
    at_home = not isinstance(first, Tensor) or first.device.type == home
    return "where its input is" if at_home else "elsewhere"


@contextmanager
def counted(owner: Any, name: str) -> Iterator[list[tuple[Any, ...]]]:
    """Inside, the calls of `owner.name` are kept: a list of their positional arguments."""
    real, calls = getattr(owner, name), []

    def count(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        return real(*arguments, **named)

    setattr(owner, name, count)
    try:
        yield calls
    finally:
        setattr(owner, name, real)
