"""Who imports whom, read from the code: the left of a layer never imports its right, wherever in the file it stands."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
# From left to right. What is in none of them and no edge is a service; apps only wires.
BOTTOM = ("choices", "exceptions")
BASICS = ("encryption", "search")
MODELS = ("models",)
EDGES = ("tasks", "management", "admin", "feeds", "api", "portal")
WIRING = ("apps",)
# Checks and middleware see the models and nothing right of them; they are called by wiring, by dotted string.
LAYERS = {name: rank for rank, names in enumerate((BOTTOM, BASICS, MODELS)) for name in names}
SERVICE, EDGE = 3, 4


def modules(folder: str) -> list[Path]:
    aside = {"tests", "migrations", "bench", "faults"}
    found = [file for file in (ROOT / folder).rglob("*.py") if not aside & set(file.parts)]
    assert found
    return sorted(found)


def imported(source: str, package: str) -> Iterator[str]:
    """Every module that the source imports, also inside a function, as dotted names; relative ones made absolute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, node.module] if node.module else base)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in {
            "import_string",
            "import_module",
            "__import__",
        }:
            yield from (argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant))


def package_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).parent.parts)


def room(dotted: str) -> str | None:
    parts = dotted.split(".")
    return parts[1] if parts[0] == "crm" and len(parts) > 1 else None


def rank(name: str) -> int:
    return EDGE if name in EDGES else LAYERS.get(name, SERVICE)


def breaches(own: str, source: str, package: str) -> set[str]:
    found = set()
    for dotted in imported(source, package):
        other = room(dotted)
        if other is None or other == own or other == "tests":
            continue
        if rank(other) > rank(own) or (rank(other) == EDGE and rank(own) == EDGE):
            found.add(f"{own} imports {dotted}")
    return found


def crm_room(file: Path) -> str:
    parts = file.relative_to(ROOT / "crm").parts
    return parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", modules("crm"), ids=lambda file: str(file.relative_to(ROOT)))
def test_no_module_imports_its_right(file):
    own = crm_room(file)
    if own in WIRING or own == "__init__":
        return
    assert not breaches(own, file.read_text(), package_of(file))


@pytest.mark.parametrize("file", [*modules("project"), ROOT / "manage.py"], ids=lambda file: file.name)
def test_wiring_names_crm_by_dotted_string_only(file):
    tree = ast.parse(file.read_text())
    plain = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {name for node in plain for name in imported(ast.unparse(node), package_of(file))}
    assert not {name for name in names if name.split(".")[0] == "crm"}


@pytest.mark.parametrize("file", modules("crm"), ids=lambda file: str(file.relative_to(ROOT)))
def test_only_one_module_imports_unfolds_own_classes(file):
    """Unfold breaks between minor versions: one place to repair. The site and URLs of it are wiring of that place."""
    if file.relative_to(ROOT).as_posix() in {"crm/admin/ui.py", "crm/admin/site.py"}:
        return
    assert not {name for name in imported(file.read_text(), package_of(file)) if name.split(".")[0] == "unfold"}


@pytest.mark.parametrize("name", [name for name in BOTTOM if (ROOT / "crm" / f"{name}.py").exists()])
def test_the_bottom_layer_imports_django_only(name):
    file = ROOT / "crm" / f"{name}.py"
    roots = {dotted.split(".")[0] for dotted in imported(file.read_text(), "crm")}
    assert roots <= {"django", "collections", "dataclasses", "datetime", "enum", "functools", "typing", "uuid"}


def test_no_module_of_the_product_imports_its_tests():
    for file in [*modules("crm"), *modules("project")]:
        assert not {name for name in imported(file.read_text(), package_of(file)) if name.startswith("crm.tests")}, file


def test_no_circle_among_the_services():
    edges: dict[str, set[str]] = {}
    for file in modules("crm"):
        own = crm_room(file)
        if rank(own) == SERVICE and own not in (*WIRING, "__init__"):
            others = {room(name) for name in imported(file.read_text(), package_of(file))} - {None, own}
            edges.setdefault(own, set()).update(other for other in others if rank(other) == SERVICE)

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(edges.get(start, ()))
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting.extend(edges.get(name, ()))
        return seen

    assert not {name for name in edges if name in reachable(name)}


# --- The reader itself ---


@pytest.mark.parametrize(
    ("own", "source"),
    [
        ("models", "from crm.workflow import approve"),
        ("models", "from crm import workflow"),
        ("models", "import crm.admin.cases"),
        ("models", "def f():\n    from crm.roles import sync"),
        ("models", "from ..workflow import approve"),
        ("models", "import_string('crm.workflow.approve')"),
        ("encryption", "from crm.models import Client"),
        ("choices", "from crm.search import fold"),
        ("workflow", "from crm.admin.cases import CaseAdmin"),
        ("workflow", "from crm import tasks"),
        ("tasks", "from crm.admin import ui"),
        ("management", "from crm.tasks import job"),
    ],
)
def test_the_reader_sees_a_breach(own, source):
    assert breaches(own, source, f"crm.{own}")


@pytest.mark.parametrize(
    ("own", "source"),
    [
        ("models", "from crm.encryption import Unreadable"),
        ("models", "from crm.models.base import operation"),
        ("workflow", "from crm import deadlines"),
        ("admin", "from crm.workflow import approve"),
        ("admin", "from crm.admin.ui import x\nimport django"),
        ("workflow", "# from crm.admin import ui\ntext = 'import crm.admin'"),
    ],
)
def test_the_reader_lets_the_rest_pass(own, source):
    assert not breaches(own, source, f"crm.{own}")
