"""The layout, read from the import statements themselves: imports run one way.

What stands under `if TYPE_CHECKING:` doesn't count, since nothing is imported there. Imports inside
functions do.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import xuna_middleware

PACKAGE = "xuna_middleware"
ROOT = Path(xuna_middleware.__file__).parent

#: The core, lowest first: a part imports only from the layers before its own, or from itself.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("_core",),
    ("events",),
    ("stores",),
    ("identity",),
    ("access", "providers"),
    ("anonymous", "platform"),
    ("web",),
    ("issuing",),
    ("relay",),
    ("endpoints",),
    ("assembly",),
    ("gate",),
    ("middleware",),
    ("__init__",),
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}

#: Outside the core: they stand on its public names.
OUTSIDE = {"sandbox", "testing", "demo", "telemetry", "cli"}

#: They put the parts together, and so may take any module of those below.
COMPOSERS = {"assembly", "gate", "__init__"}

#: What other folders may take from a folder. `_core` is for all.
FACES: dict[str, tuple[str, ...]] = {
    "stores": ("protocol", "namespace", "memory.store"),
    "identity": (
        *("authentication", "authorization_header", "bound.request", "client_address"),
        *("credentials", "jwt.verifiers"),
        *("protocols", "proxies.trusted", "rechecks", "tickets.tickets"),
    ),
    "access": (
        *("agents", "grants", "limits.budgets", "limits.keys", "limits.limits"),
        *("limits.reservations", "relay_rules", "rules.rule", "values.personalize"),
        "values.sources",
    ),
    "anonymous": ("admission",),
    "platform": ("issued", "protocol", "rest.client", "rest.responses", "webhooks", "wire"),
    "web": (
        *("app_root_paths", "cors", "cross_site", "lifespan", "protected_paths", "refusals"),
        *("requests", "responses", "servers"),
    ),
    "issuing": ("pipeline", "settlement"),
    "relay": ("client", "conversation", "live"),
    "endpoints": ("callers", "metadata", "routes", "webhook"),
}

#: Presets configure verifiers, and take what those are made of.
PRESETS_TAKE = (
    *("identity.bound.dpop", "identity.bound.policy", "identity.jwt.claims"),
    *("identity.jwt.options", "identity.jwt.verifiers", "identity.keys.endpoints"),
    *("identity.keys.sources", "identity.protocols", "identity.proxies.authenticators"),
    "identity.tenants",
)

#: How many modules a folder of the core may hold beside `__init__`; providers has one for each.
MOST_MODULES = 10

#: Modules beside the package itself whose names are public: for those who write parts of their own.
PUBLIC = ("anonymous", "errors", "events", "identity", "platform", "providers", "stores")

#: The only modules that lie outside a folder.
AT_THE_TOP = {"__init__", "assembly", "errors", "events", "gate", "middleware"}

#: Libraries that one module of the core keeps to itself.
KEPT = {
    "joserfc": "identity.jwt._jose",
    "httpx": "_core.http",
    "redis": "stores.redis.store",
    "websockets": "platform.connect",
    "itsdangerous": "anonymous.cookie",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """Say that `module` imports `target`; `names` are those of `from target import …`."""

    module: str
    target: str
    names: tuple[str, ...] = ()
    line: int = 0

    @property
    def part(self) -> str:
        return self.module.partition(".")[0]

    @property
    def own(self) -> str | None:
        """Name the target within the package, `""` for the package itself; None for others."""
        head, _, rest = self.target.partition(".")
        return rest if head == PACKAGE else None

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target} ({', '.join(self.names)})"


class Imports(ast.NodeVisitor):
    """Collect the imports of one module that are carried out when it runs."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.found: list[Import] = []

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)
        for otherwise in node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else ():
            self.visit(otherwise)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._note(alias.name, (), node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        names = tuple(alias.name for alias in node.names)
        self._note("." * node.level + (node.module or ""), names, node.lineno)

    def _note(self, target: str, names: tuple[str, ...], line: int) -> None:
        self.found.append(Import(module=self.module, target=target, names=names, line=line))


def imports_in(source: str, module: str) -> list[Import]:
    reader = Imports(module)
    reader.visit(ast.parse(source))
    return reader.found


def modules() -> Iterator[tuple[str, str]]:
    """Yield each module's name within the package, and its source."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and parts[1:] else parts)
        yield name, path.read_text(encoding="utf-8")


ALL = [each for name, source in modules() for each in imports_in(source, name)]
CORE = [each for each in ALL if each.part not in OUTSIDE]


def crosses(each: Import) -> bool:
    """Tell whether an import of the core runs against the layers."""
    if each.own is None:
        return False
    targets = [each.own] if each.own else [*each.names]
    return any(_against(each.part, target.partition(".")[0]) for target in targets)


def _against(part: str, target: str) -> bool:
    return part != target and (target not in RANK or RANK[target] >= RANK[part])


def reaches_machinery(each: Import) -> bool:
    """Tell whether a part takes more of another folder than its face."""
    if not each.own or each.part in COMPOSERS:
        return False
    target, _, module = each.own.partition(".")
    if target == each.part or target not in FACES:
        return False
    if each.part == "providers" and each.own in PRESETS_TAKE:
        return False
    taken = [module] if module else each.names
    return not set(FACES[target]).issuperset(taken)


def leaks_a_library(each: Import) -> bool:
    """Tell whether a module imports a library that another module keeps to itself."""
    keeper = KEPT.get(each.target.partition(".")[0])
    return keeper is not None and each.module != keeper


def goes_behind(each: Import) -> bool:
    """Tell whether a part outside the core takes anything but public names of it."""
    if each.own is None or each.own.partition(".")[0] in OUTSIDE:
        return False
    return not public_names(each.own).issuperset(each.names or ("",))


def public_names(module: str) -> set[str]:
    """Return the names that a public module offers; none where it isn't public."""
    if not module:
        return {*xuna_middleware.__all__, "__version__", *OUTSIDE}
    if module not in PUBLIC:
        return set()
    offered = import_module(f"xuna_middleware.{module}")
    own = {name for name, value in vars(offered).items() if is_own(value, offered)}
    return set(getattr(offered, "__all__", own))


def is_own(value: object, module: ModuleType) -> bool:
    return getattr(value, "__module__", None) == module.__name__


def test_every_module_has_a_place() -> None:
    """A new file is either in a layer of the core or outside it: someone decided which."""
    placed = {*RANK, *OUTSIDE}
    assert [name for name, _ in modules() if name.partition(".")[0] not in placed] == []


def test_imports_are_absolute() -> None:
    """One spelling, so that the other tests here read all there is."""
    assert [str(each) for each in ALL if each.target.startswith(".")] == []


def test_imports_run_one_way() -> None:
    """No part of the core imports from its own layer's neighbours or from one above."""
    assert [str(each) for each in CORE if crosses(each)] == []


def test_folders_show_their_faces_only() -> None:
    """What is behind a folder's face can be changed without a look at the other folders."""
    assert [str(each) for each in CORE if reaches_machinery(each)] == []


def test_faces_hold_what_is_taken() -> None:
    """A face is no longer than what others need."""
    taken = {each.own for each in CORE if each.own and each.part not in COMPOSERS}
    faces = {f"{folder}.{module}" for folder, face in FACES.items() for module in face}
    assert sorted((faces | set(PRESETS_TAKE)) - taken) == []


def test_folders_are_small() -> None:
    """Nothing lies loose at the top, and no folder is a hall."""
    core = [path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] not in OUTSIDE]
    assert {path.stem for path in core if path.parent == ROOT} == AT_THE_TOP
    sizes = Counter(path.parent for path in core if path.stem != "__init__")
    del sizes[ROOT], sizes[ROOT / "providers"]
    assert {str(folder): size for folder, size in sizes.items() if size > MOST_MODULES} == {}


def test_libraries_stay_in_their_module() -> None:
    """Signatures, outbound HTTP and Redis can each be replaced in one file."""
    assert [str(each) for each in CORE if leaks_a_library(each)] == []


def test_what_is_outside_uses_public_names() -> None:
    """Sandbox, testing and demo could have been written by a user."""
    outside = [each for each in ALL if each.part in OUTSIDE]
    assert [str(each) for each in outside if goes_behind(each)] == []


def test_all_is_sorted_and_complete() -> None:
    """`__all__` names what `__init__` imports from the package, each once, in order."""
    imported = [n for e in ALL if e.module == "__init__" and e.own is not None for n in e.names]
    listed = [name for name in xuna_middleware.__all__ if name != "__version__"]
    assert listed == sorted(listed)
    assert listed == sorted(imported)
    assert all(hasattr(xuna_middleware, name) for name in listed)


@pytest.mark.parametrize(
    ("module", "source", "judge"),
    [
        ("errors", "from xuna_middleware.gate import XunaGate", crosses),
        ("errors", "import xuna_middleware.events", crosses),
        ("gate", "from xuna_middleware import middleware", crosses),
        ("gate", "def f():\n from xuna_middleware.middleware import X", crosses),
        ("identity.tenants", "from xuna_middleware import Agent", crosses),
        ("endpoints.routes", "from xuna_middleware.testing import sandboxed", crosses),
        ("identity.tenants", "from xuna_middleware.access.grants import Grant", crosses),
        ("access.agents", "from xuna_middleware.identity.keys.sources import K", reaches_machinery),
        ("web.cors", "from xuna_middleware.identity import tenants", reaches_machinery),
        ("gate", "import joserfc.jwk", leaks_a_library),
        ("identity.tenants", "try:\n import httpx\nexcept ImportError:\n pass", leaks_a_library),
        ("demo.app", "from xuna_middleware.gate import XunaGate", goes_behind),
        ("testing", "from xuna_middleware import _private", goes_behind),
        ("sandbox.app", "import xuna_middleware", goes_behind),
    ],
)
def test_a_broken_layout_would_be_seen(module: str, source: str, judge: object) -> None:
    """The reader itself: each of these lines breaks a rule, and is found to."""
    assert callable(judge)
    assert any(judge(each) for each in imports_in(source, module))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "identity.tenants",
            "if TYPE_CHECKING:\n import httpx\n from xuna_middleware.gate import X",
        ),
        ("identity.tenants", "from xuna_middleware._core.http import Outbound"),
        ("access.agents", "from xuna_middleware.identity.credentials import Identity"),
        ("_core.http", "import httpx"),
        ("identity.jwt._jose", "from joserfc import jws"),
        ("__init__", "from xuna_middleware.middleware import XunaMiddleware"),
    ],
)
def test_a_sound_layout_passes(module: str, source: str) -> None:
    """The reader finds nothing wrong with these."""
    judges = (crosses, reaches_machinery, leaks_a_library)
    assert not any(judge(each) for each in imports_in(source, module) for judge in judges)
