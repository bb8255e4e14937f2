"""The prose of the tree: sentences of docstrings, comments, messages and pages, and the names that code defines."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.words.sentence import Sentence, blocks, is_message, sentences

#: Folders and files with text that others wrote, that breaks rules on purpose, or that a program wrote.
SKIPPED = re.compile(
    r"^(tests/(broken|definitions|databases|words)/|docs/schema/|requirements|bench/requirements|CHANGELOG)"
)
SUFFIXES = {".py", ".md", ".sh", ".yaml", ".yml", ".toml"}
NAMES = {"Makefile", "Dockerfile", "run"}
_DIRECTIVE = re.compile(r"^#(?:!|\s*(?:noqa|type:|fmt:|pragma|pylint|mypy|ruff|shellcheck|syntax=))")


def files(root: Path) -> list[str]:
    """Return the files of the tree that contain prose, as paths relative to its root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    return [
        name
        for name in sorted(set(listed.stdout.splitlines()))
        if not SKIPPED.match(name)
        and (Path(name).suffix in SUFFIXES or Path(name).name in NAMES)
        and (root / name).is_file()
    ]


def prose_of(root: Path, name: str) -> list[Sentence]:
    """Return the sentences of a file, and the names that it defines. A file that is no text or no Python raises."""
    source = (root / name).read_text("utf-8")
    if name.endswith(".py"):
        found = python(source, with_messages=not name.startswith("tests/"))
        stem = Path(name).parent.name if Path(name).name == "__init__.py" else Path(name).stem
        found = [(1, "name", stem), *found]
    elif name.endswith(".md"):
        found = list(markdown(source))
    else:
        found = list(marked(source, with_messages=name.endswith(".sh")))
    return [Sentence(name, line, kind, text) for line, kind, text in found]


def markdown(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield the sentences of a Markdown page: paragraphs, items, cells of tables, and headings, but no code."""
    block: list[tuple[int, str]] = []
    is_fenced = False

    def flush() -> Iterator[tuple[int, str, str]]:
        for part in blocks(block):
            for line, text in sentences(part):
                yield line, "docs", text
        block.clear()

    for number, line in enumerate(source.splitlines(), 1):
        bare = line.strip()
        if bare.startswith(("```", "~~~")):
            is_fenced = not is_fenced
            yield from flush()
        elif is_fenced:
            continue
        elif bare.startswith("#"):
            yield from flush()
            yield number, "heading", bare.lstrip("# ")
        elif bare.startswith("|"):
            yield from flush()
            for cell in re.split(r"(?<!\\)\|", bare.strip("|")):
                for _, text in sentences([(number, cell)]):
                    if text.strip("-: "):
                        yield number, "cell", text
        elif bare.startswith(("![", "<!--", "---")):
            yield from flush()
        else:
            block.append((number, line))
            if not bare:
                yield from flush()
    yield from flush()


def marked(source: str, *, with_messages: bool) -> Iterator[tuple[int, str, str]]:
    """Yield the sentences of comments behind ``#``, and the quoted texts of a shell script."""
    block: list[tuple[int, str]] = []
    for number, line in enumerate([*source.splitlines(), ""], 1):
        comment = None if _DIRECTIVE.match(line.strip()) else re.search(r"(?:^|\s)##?\s+(.*)", line)
        is_own_line = comment is not None and not line[: comment.start()].strip()
        # A table of commands has its columns apart.
        is_table = comment is not None and "   " in comment[1].strip()
        if block and (is_table or not (is_own_line and number == block[-1][0] + 1)):
            yield from ((at, "comment", text) for at, text in sentences(block))
            block = []
        if comment is not None:
            block.append((number, comment[1]))
        elif with_messages:
            for text in re.findall(r'"([^"]*)"', line):
                if is_message(text):
                    yield number, "message", text


def python(source: str, *, with_messages: bool) -> list[tuple[int, str, str]]:
    """Return the prose and the names of a module."""
    tree = ast.parse(source)
    found: list[tuple[int, str, str]] = []
    taken: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.append((node.lineno, "name", node.name))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and (text := _literal(first.value)) is not None:
                taken.add(id(first.value))
                found += _docstring(text, first.lineno)
    if with_messages:
        for node in ast.walk(tree):
            if id(node) in taken or not isinstance(node, ast.Constant | ast.JoinedStr):
                continue
            taken.update(id(part) for part in ast.walk(node))
            text = _literal(node)
            if text is not None and is_message(text):
                for line in re.split(r"\n(?=\s|[-|#*])", text):
                    found += ((node.lineno, "message", one) for _, one in sentences([(0, line)]))
    found += _comments(source)
    return sorted(found, key=lambda one: one[0])


def _docstring(text: str, line: int) -> Iterator[tuple[int, str, str]]:
    is_first = True
    for block in blocks((line + number, one) for number, one in enumerate(text.split("\n"))):
        for at, one in sentences(block):
            yield at, "opening" if is_first else "docstring", one
            is_first = False


def _comments(source: str) -> Iterator[tuple[int, str, str]]:
    block: list[tuple[int, str]] = []
    is_attribute = False

    def flush() -> Iterator[tuple[int, str, str]]:
        for number, (line, text) in enumerate(sentences(block)):
            yield line, "opening" if is_attribute and number == 0 else "comment", text

    for token in tokenize.generate_tokens(io.StringIO(source).readline) if "#" in source else ():
        if token.type != tokenize.COMMENT or _DIRECTIVE.match(token.string):
            continue
        line, text = token.start[0], token.string.lstrip("#:").strip()
        is_own_line = not token.line[: token.start[1]].strip()
        starts_attribute = token.string.startswith("#:")
        if not (block and is_own_line and line == block[-1][0] + 1 and starts_attribute == is_attribute):
            yield from flush()
            block, is_attribute = [], starts_attribute
        block.append((line, text))
    yield from flush()


def _literal(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if not isinstance(node, ast.JoinedStr):
        return None
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{…}" for part in node.values)
