"""Which keys of the configuration Python code reads, as its syntax tree tells: words in comments or docstrings do not count."""

from __future__ import annotations

import ast
from collections.abc import Iterator

LOOKED_UP_BY_NAME = ("get", "pop", "getattr", "hasattr", "select")
"""Functions whose string arguments name what they look up."""


def keys_read(source: str) -> set[str]:
    """Names that this module reads: attributes, what is looked up by name, parameters that are more than stored."""
    return set(_found(ast.parse(source)))


def _found(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name, ctx=ast.Load()):
                yield name
            case ast.Subscript(slice=ast.Constant(value=str(name)), ctx=ast.Load()):
                yield name
            case ast.Compare(left=ast.Constant(value=str(name)), ops=[ast.In() | ast.NotIn()]):
                yield name
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=arguments):
                if called in LOOKED_UP_BY_NAME:
                    texts = [one.value for one in arguments if isinstance(one, ast.Constant)]
                    yield from (name for text in texts if isinstance(text, str) for name in text.split("."))
            case ast.FunctionDef(args=ast.arguments() as parameters, body=body):
                names = {one.arg for one in (*parameters.args, *parameters.kwonlyargs)}
                yield from names & {name for statement in body if not _stores(statement) for name in _loaded(statement)}


def _stores(statement: ast.stmt) -> bool:
    """Whether it is `self.name = name`, after which nobody need read the attribute."""
    match statement:
        case ast.Assign(targets=[ast.Attribute(attr=attribute)], value=ast.Name(id=name)):
            return attribute == name
    return False


def _loaded(statement: ast.stmt) -> set[str]:
    names = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
    return {node.id for node in names if isinstance(node.ctx, ast.Load)}
