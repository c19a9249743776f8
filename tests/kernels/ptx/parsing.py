"""What Triton compiles a program to, PTX, as a list of instructions."""

import re
from typing import NamedTuple


class Instruction(NamedTuple):
    """One instruction: ``@!%p1 ld.global.b32 %r1, [%rd1]`` is guarded by %p1, which must be false."""

    guard: str
    negated: bool
    op: tuple[str, ...]  # ("ld", "global", "b32")
    operands: tuple[str, ...]

    def __str__(self) -> str:
        return f"{'.'.join(self.op)} {', '.join(self.operands)}"


class Program(NamedTuple):
    """The entry of a file in PTX: its code, where its labels point, and the kinds of its registers, by their prefix."""

    code: list[Instruction]
    labels: dict[str, int]
    registers: dict[str, str]  # {"rd": "b64"}
    parameters: int


def parse(text: str) -> Program:
    """Read PTX of one entry; what debuggers alone want is left out."""
    registers = {prefix: kind for kind, prefix in re.findall(r"\.reg \.(\w+)\s+%(\w+)<\d+>", text)}
    parameters = len(re.findall(r"^\s*\.param ", text, flags=re.MULTILINE))
    body = text[text.index("{", text.index(".entry")) + 1 :]
    body = re.sub(r"//[^\n]*", "", body)
    body = re.sub(r"^\s*\.(loc|file|reg|pragma)[^\n]*", "", body, flags=re.MULTILINE)
    body = re.split(r"\.section|^\}\s*$", body, flags=re.MULTILINE)[0]
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    for statement in re.findall(r"\$[\w$]+:|(?:[^;{}$]|\$(?![\w$]+:)|\{[^{}]*\})+;", body):
        if statement.endswith(":"):
            labels[statement[:-1]] = len(code)
        elif statement.strip(" \n\t;"):
            code.append(_instruction(statement.strip(" \n\t;")))
    return Program(code, labels, registers, parameters)


def _instruction(statement: str) -> Instruction:
    found = re.fullmatch(r"(?:@(!?)(%p\d+)\s+)?([a-z][\w.:]*)\s*(.*)", statement, flags=re.DOTALL)
    if found is None:
        raise ValueError(f"not an instruction: {statement!r}")
    negated, guard, op, rest = found.groups(default="")
    return Instruction(guard, bool(negated), tuple(op.replace("::cta", "").split(".")), _operands(rest))


def _operands(text: str) -> tuple[str, ...]:
    """Cut at the commas that are in no braces and no brackets."""
    return tuple(part.strip() for part in re.findall(r"(?:\{[^}]*\}|\[[^]]*\]|[^,{\[])+", text) if part.strip())


def names(operand: str) -> list[str]:
    """The registers of a vector: ``{%r1, %r2}``; of one that is none, itself."""
    return [part.strip() for part in operand.strip("{} ").split(",")]
