"""How the code is built, as figures: `make measure`.

- Functions: lines of code without docstring, comments and blank lines, the signature included; the
  median and the 90th percentile. Complexity: one more than the branches, loops, handlers and
  comprehensions of a function (McCabe's), nested functions apart.
- File switches: how often a call enters a function of this package's core in another file than the
  one that was entered before. The platform is the sandbox, whose calls don't count.
- Participles: functions whose name begins with one and that await something.

The same script reads other packages as they are installed; what isn't installed has no row.
"""

import ast
import asyncio
import importlib.util
import inspect
import json
import statistics
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from benchmarks.report import table

ROOT: Final = Path(__file__).parents[1] / "xuna_middleware"
#: Outside the core.
OUTSIDE: Final = {"sandbox", "testing", "demo", "telemetry", "cli"}
#: One file for each of them is their point.
UNBOUNDED: Final = {"providers"}
PEERS: Final = ("starlette", "httpx", "joserfc", "fastmcp.server.auth", "mcp.server.auth")
#: Words on -ed and -en that are no participles, or stand for a thing.
NO_PARTICIPLES: Final = {"need", "feed", "speed", "seed", "token", "open", "listen", "broken"}
IRREGULAR: Final = {"told", "held", "known", "given", "sent", "made", "kept", "met", "left"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """Describe one function of some code."""

    name: str
    lines: int
    complexity: int
    awaits: bool


def functions_in(source: str) -> list[Function]:
    """Return all functions and methods of a module."""
    code = _code_lines(source)
    return [
        Function(
            name=node.name,
            lines=len(
                code & set(range(node.lineno, (node.end_lineno or 0) + 1)) - _docstring(node)
            ),
            complexity=1 + sum(map(_branches, _own_nodes(node))),
            awaits=any(isinstance(each, _IO) for each in _own_nodes(node)),
        )
        for node in ast.walk(ast.parse(source))
        if isinstance(node, _FUNCTIONS)
    ]


_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_IO: Final = (ast.Await, ast.AsyncFor, ast.AsyncWith)
_BRANCHES: Final = (
    *(ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler),
    *(ast.comprehension, ast.match_case),
)


def _code_lines(source: str) -> set[int]:
    lines = enumerate(source.splitlines(), 1)
    return {number for number, line in lines if line.strip() and not line.strip().startswith("#")}


def _docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[int]:
    if ast.get_docstring(node, clean=False) is None:
        return set()
    first = node.body[0]
    return set(range(first.lineno, (first.end_lineno or first.lineno) + 1))


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, (*_FUNCTIONS, ast.Lambda)):
            yield child
            yield from _own_nodes(child)


def _branches(node: ast.AST) -> int:
    return int(isinstance(node, _BRANCHES))


def begins_with_participle(name: str) -> bool:
    word = name.lstrip("_").partition("_")[0]
    if word in NO_PARTICIPLES:
        return False
    return word in IRREGULAR or word.endswith("ed")


def sources(root: Path, *, without: set[str] | None = None) -> dict[Path, str]:
    """Return the modules beneath a folder."""
    return {
        path: path.read_text(encoding="utf-8")
        for path in sorted(root.rglob("*.py"))
        if not (without and path.relative_to(root).parts[0] in without)
    }


def shape_of(name: str, modules: dict[Path, str]) -> tuple[str, ...]:
    """Return a row: how long and how branched the functions of some code are."""
    functions = [each for source in modules.values() for each in functions_in(source)]
    lines = sorted(each.lines for each in functions)
    longest = max(modules.values(), key=lambda source: source.count("\n")).count("\n")
    return (
        name,
        f"{len(modules)}",
        f"{len(functions):,}",
        f"{statistics.median(lines):g}",
        f"{lines[len(lines) * 9 // 10]}",
        f"{max(each.complexity for each in functions)}",
        f"{longest:,}",
    )


def installed(name: str) -> dict[Path, str] | None:
    """Return the modules of an installed package; None where it isn't there."""
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    if found is None or not found.submodule_search_locations:
        return None
    return sources(Path(next(iter(found.submodule_search_locations))))


def shapes() -> str:
    rows = [shape_of("xuna_middleware, core", sources(ROOT, without=OUTSIDE))]
    rows += [shape_of(name, modules) for name in PEERS if (modules := installed(name))]
    head = (
        "code",
        "files",
        "functions",
        "median lines",
        "9 in 10 ≤",
        "most complex",
        "longest file",
    )
    return table(head, rows)


def layout() -> str:
    """Return the table of the house's figures that are read from the source."""
    core = sources(ROOT, without=OUTSIDE)
    loose = [path for path in core if path.parent == ROOT and path.stem != "__init__"]
    halls = Counter(path.parent for path in core if path.stem != "__init__")
    fullest = max(
        count for folder, count in halls.items() if folder != ROOT and folder.name not in UNBOUNDED
    )
    gate = core[ROOT / "gate.py"]
    functions = [each for source in core.values() for each in functions_in(source)]
    participles = sorted(
        {each.name for each in functions if each.awaits and begins_with_participle(each.name)}
    )
    rows = [
        ("modules loose at the top", f"{len(loose)}", "5"),
        ("most files at one level of a folder", f"{fullest}", "10"),
        ("gate.py: lines", f"{gate.count(chr(10))}", "≤ 350"),
        ("XunaGate: methods", f"{_methods(gate, 'XunaGate')}", "≤ 20"),
        ("gate.py: imports of the package", f"{_imports(gate)}", "≤ 12"),
        ("things handed to Routes", f"{_parameters_of_routes(core)}", "1"),
        ("places that report a refusal", f"{_reporting_places(core)}", "3"),
        ("functions that begin with a participle and await", f"{len(participles)}", "0"),
        ("public names at the top", f"{_public_names(core[ROOT / '__init__.py'])}", "≈ 60"),
    ]
    told = table(("figure", "now", "goal"), [*rows, *_switches()])
    return f"{told}\n\nParticiples that await: {', '.join(participles) or 'none'}."


def _class(source: str, name: str) -> ast.ClassDef:
    return next(
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef) and node.name == name
    )


def _methods(source: str, name: str) -> int:
    return sum(isinstance(each, _FUNCTIONS) for each in _class(source, name).body)


def _imports(source: str) -> int:
    tree = ast.walk(ast.parse(source))
    return sum(
        isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xuna_middleware")
        for node in tree
    )


def _parameters_of_routes(core: dict[Path, str]) -> int:
    routes = _class(core[ROOT / "endpoints" / "routes.py"], "Routes")
    for each in routes.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            return len(each.args.args) - 1 + len(each.args.kwonlyargs)
    return sum(isinstance(each, ast.AnnAssign) for each in routes.body)  # a dataclass


def _reporting_places(core: dict[Path, str]) -> int:
    """Count the calls that report a refusal: `….refusals.report(…)`, or `….reporting(…)`."""
    calls = [
        ast.unparse(node.func)
        for source in core.values()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
    ]
    return sum(each.endswith(("refusals.report", ".reporting")) for each in calls)


def _public_names(source: str) -> int:
    names = next(
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return len(ast.literal_eval(names))


def _switches() -> list[tuple[str, str, str]]:
    warm, relayed = asyncio.run(file_switches())
    return [
        ("file switches of a warm GET /get-signed-url", f"{warm}", "≤ 50"),
        ("file switches of a conversation until the first frame", f"{relayed}", "≤ 90"),
    ]


class SwitchCounter:
    """Count how often a call enters a file of the core other than the last one that was entered."""

    def __init__(self) -> None:
        self.count = 0
        self._last = ""

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call":
            return
        file = frame.f_code.co_filename
        if file != self._last and _is_core(file):
            self.count += self._last != ""
            self._last = file


def _is_core(file: str) -> bool:
    path = Path(file)
    return path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] not in OUTSIDE


async def file_switches() -> tuple[int, int]:
    """Return the switches of a warm GET, and of a relayed conversation until its first frame."""
    from xuna_middleware import Agent, OIDCVerifier, XunaGate
    from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform
    from xuna_middleware.testing import sandboxed

    gate = XunaGate(
        verifier=OIDCVerifier("https://id.example.com", audience="voice"),
        agents=[
            Agent("support", id="agent_1"),
            Agent("carried", id="agent_2", transports=("relay",), max_duration=60),
        ],
        public_url="http://testserver",
    )
    stage = SandboxPlatform(agents=[SandboxAgent("agent_1"), SandboxAgent("agent_2")])
    with sandboxed(gate, platform=stage) as sandbox:
        headers = [
            (name.lower().encode(), value.encode())
            for name, value in sandbox.sign_in("ada").items()
        ]
        for _ in range(3):
            await _ask(gate, headers, "support")
        warm = await _counted(lambda: _ask(gate, headers, "support"))
        body = await _ask(gate, headers, "carried")
        relayed = await _counted(lambda: _begin(gate, json.loads(body)["signed_url"]))
    await gate.aclose()
    return warm, relayed


async def _counted(run: Callable[[], Awaitable[Any]]) -> int:
    counter = SwitchCounter()
    sys.setprofile(counter)
    try:
        await run()
    finally:
        sys.setprofile(None)
    return counter.count


async def _ask(app: Any, headers: list[tuple[bytes, bytes]], agent: str) -> bytes:
    scope = _scope("http", "/get-signed-url", f"agent={agent}")
    scope |= {"method": "GET", "headers": [(b"host", b"testserver"), *headers]}
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if sent[0]["status"] != 200:
        raise RuntimeError(f"the gate answered {sent}")
    return b"".join(each.get("body", b"") for each in sent[1:])


async def _begin(app: Any, url: str) -> None:
    """Open a conversation, and hang up at the platform's first frame."""
    path, _, query = url.partition("//")[2].partition("/")[2].partition("?")
    scope = _scope("websocket", f"/{path}", query)
    scope |= {"headers": [(b"host", b"testserver")], "subprotocols": ["convai"]}
    first = json.dumps({"type": "conversation_initiation_client_data"})
    messages: asyncio.Queue[Any] = asyncio.Queue()
    messages.put_nowait({"type": "websocket.connect"})
    messages.put_nowait({"type": "websocket.receive", "text": first})

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            sys.setprofile(None)
            messages.put_nowait({"type": "websocket.disconnect", "code": 1000})
        elif message["type"] != "websocket.accept":
            raise RuntimeError(f"the gate sent {message}")

    async with asyncio.timeout(30):
        await app(scope, messages.get, send)


def _scope(kind: str, path: str, query: str) -> dict[str, Any]:
    return {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "client": ("127.0.0.1", 50_000),
        "server": ("testserver", 80),
    }


def main() -> None:
    print(inspect.cleandoc(__doc__ or "").partition("\n")[0], end="\n\n")
    print(layout(), end="\n\n")
    print(shapes())


if __name__ == "__main__":
    main()
