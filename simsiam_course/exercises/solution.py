"""A function's source as an answer to read: the imports it needs, without its docstring and its checks of arguments."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from types import ModuleType
from typing import Any

CHECK = re.compile(r"_?check_\w+")


def source(function: Callable[..., Any], name: str | None = None) -> str:
    """The function's code, ready to run in a notebook, under another name where one is given."""
    code = textwrap.dedent(inspect.getsource(function))
    tree = ast.parse(code).body[0]
    if not isinstance(tree, ast.FunctionDef):
        raise TypeError(f"{function!r} is no function with a `def`.")
    lines = code.splitlines()
    drop = [node for node in tree.body if _is_check(node)]
    if len(tree.body) > 1 and ast.get_docstring(tree) is not None:
        drop.append(tree.body[0])
    for node in drop:
        lines[node.lineno - 1 : node.end_lineno] = [None] * (node.end_lineno - node.lineno + 1)  # type: ignore
    kept = [line for line in lines[tree.lineno - 1 :] if line is not None]
    while kept and not kept[-1].strip():
        kept.pop()
    body = "\n".join(kept)
    if name is not None and name != tree.name:
        body = re.sub(rf"\bdef {tree.name}\b", f"def {name}", body, count=1)
    imports = _imports(function, ast.parse(body))
    return "\n".join([*imports, "", "", body]) if imports else body


def _is_check(node: ast.stmt) -> bool:
    """A call of check_..., or an `if` that does nothing but raise."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return isinstance(node.value.func, ast.Name) and bool(CHECK.fullmatch(node.value.func.id))
    return (
        isinstance(node, ast.If)
        and not node.orelse
        and all(isinstance(part, ast.Raise) for part in node.body)
    )


def _imports(function: Callable[..., Any], tree: ast.Module) -> list[str]:
    """An import for every global name that the code uses."""
    found = set()
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for name in names & inspect.unwrap(function).__globals__.keys():
        value = inspect.unwrap(function).__globals__[name]
        if isinstance(value, ModuleType):
            found.add(f"import {value.__name__}" + ("" if value.__name__ == name else f" as {name}"))
        else:
            home = getattr(value, "__module__", None) or function.__module__
            home = {"torch.nn.modules.module": "torch.nn"}.get(home, home)
            found.add(f"from {home} import {name}")
    return sorted(found)
