"""The Czech catalogue: what has to be translated, gathered from the sources, and the one file that holds it.

Our own strings are all in it. Of a package it holds what that package, or Django, does not bring in Czech itself, and
what we say better: an entry that a person added to django.po stays while the package has the string. Ours goes first.
For a developer's machine: Babel and polib are imported inside, because production has neither."""

import ast
import re
from importlib import import_module
from io import BytesIO
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.utils.translation.template import templatize

from crm.exceptions import CrmError

LANGUAGE = "cs"
PLURALS = "nplurals=3; plural=(n==1) ? 0 : (n>=2 && n<=4) ? 1 : 2;"
OWN = ("crm", "project")
KEYWORDS = {
    "_": None,
    **{f"gettext{suffix}": None for suffix in ("", "_lazy", "_noop")},
    **{f"ngettext{suffix}": (1, 2) for suffix in ("", "_lazy")},
    **{f"pgettext{suffix}": ((1, "c"), 2) for suffix in ("", "_lazy")},
    **{f"npgettext{suffix}": ((1, "c"), 2, 3) for suffix in ("", "_lazy")},
}
SKIPPED_FOLDERS = {"tests", "bench", "migrations", "locale", "__pycache__"}
# What packages write to the log or a terminal stays English, so that it can be searched for.
LOGGING_MODULES = {"cluster", "monitor", "monitor_terminal", "pusher", "scheduler", "signals", "timeout", "worker"}
BRACES = re.compile(r"{\w*}")

Key = tuple[str | None, str]  # context, msgid


class ToolMissing(CrmError):
    message = "%(tool)s is not installed. The catalogue is made on a developer's machine: make setup-dev"


def catalogue_path() -> Path:
    return settings.BASE_DIR / "crm" / "locale" / LANGUAGE / "LC_MESSAGES" / "django.po"


def sources(name: str) -> list[Path]:
    """The files of a package that may hold strings a person sees."""
    top = Path(import_module(name).__file__).parent
    folders = [top]
    if name == "django":
        installed = [Path(config.path) for config in apps.get_app_configs() if top in Path(config.path).parents]
        folders = [*installed, *(top / part for part in ("core", "db", "forms", "utils", "views"))]
    skipped = SKIPPED_FOLDERS if name in OWN else {*SKIPPED_FOLDERS, "management"}
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(top).parts
            if skipped & set(inside[:-1]) or (name not in OWN and path.stem in LOGGING_MODULES):
                continue
            if path.suffix == ".py" or (path.suffix in {".html", ".txt"} and "templates" in inside):
                found.append(path)
    return found


def gather(path: Path):
    """The strings of one Python file or template as (context, msgid), plural, flags."""
    from babel.messages.catalog import Message
    from babel.messages.extract import extract

    source = path.read_bytes()
    literals = None
    if path.suffix == ".py":
        # Babel takes gettext(data["added"]["name"]) for the text "addedname".
        literals = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    else:
        # Babel reads a templatized template as Python, to which its indentation would be an error.
        lines = templatize(source.decode(), origin=path.name).splitlines()
        source = "\n".join(line.lstrip() for line in lines).encode()
    options = {"encoding": "utf-8"}
    for _line, ids, _comments, context in extract("python", BytesIO(source), keywords=KEYWORDS, options=options):
        msgid, plural = ids if isinstance(ids, tuple) else (ids, None)
        flags = ["python-format"] if Message(ids).python_format else []
        flags += ["python-brace-format"] if BRACES.search(msgid) and not flags else []
        if msgid and (literals is None or msgid in literals):
            yield (context, msgid), plural, flags


def packages() -> list[str]:
    return sorted({config.name.partition(".")[0] for config in apps.get_app_configs()} - set(OWN))


def translated_elsewhere() -> set[Key]:
    import polib

    folders = [Path(import_module("django.conf").__file__).parent]
    folders += [Path(config.path) for config in apps.get_app_configs() if config.name != "crm"]
    files = [folder / "locale" / LANGUAGE / "LC_MESSAGES" / "django.mo" for folder in folders]
    return {(entry.msgctxt, entry.msgid) for path in files if path.is_file() for entry in polib.mofile(str(path))}


def permission_names() -> set[str]:
    """Names that stand in the models as data, so that no call of gettext shows them."""
    return {name for model in apps.get_app_config("crm").get_models() for _codename, name in model._meta.permissions}


def wanted() -> dict[Key, dict]:
    """Everything that has to be in the catalogue; `from` says which packages use the string."""
    kept = {(entry.msgctxt, entry.msgid) for entry in read() if entry.translated()}
    elsewhere = translated_elsewhere() - kept
    strings: dict[Key, dict] = {
        (None, name): {"plural": None, "flags": [], "from": ["crm"]} for name in permission_names()
    }
    for name in [*OWN, *packages()]:
        for key, plural, flags in (string for path in sources(name) for string in gather(path)):
            if name in OWN or key in strings or key not in elsewhere:
                string = strings.setdefault(key, {"plural": plural, "flags": flags, "from": []})
                string["plural"] = string["plural"] or plural
                if name not in string["from"]:
                    string["from"].append(name)
    return strings


def read():
    import polib

    path = catalogue_path()
    return polib.pofile(str(path), wrapwidth=100) if path.is_file() else polib.POFile(wrapwidth=100)


def build():
    """The catalogue as it should be: sorted, no line numbers, no dates; translations kept, dead strings gone."""
    import polib

    known = {(entry.msgctxt, entry.msgid): entry for entry in read()}
    catalogue = polib.POFile(wrapwidth=100)
    catalogue.metadata = {
        "Project-Id-Version": "hypodesk",
        "Language": LANGUAGE,
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=UTF-8",
        "Content-Transfer-Encoding": "8bit",
        "Plural-Forms": PLURALS,
    }
    for (context, msgid), string in sorted(wanted().items(), key=lambda item: (item[0][1], item[0][0] or "")):
        entry = polib.POEntry(msgid=msgid, msgctxt=context, flags=string["flags"], comment=", ".join(string["from"]))
        old = known.get((context, msgid))
        if string["plural"]:
            entry.msgid_plural = string["plural"]
            entry.msgstr_plural = dict.fromkeys(range(3), "")
            if old and len(old.msgstr_plural) == 3:
                entry.msgstr_plural = old.msgstr_plural
        elif old:
            entry.msgstr = old.msgstr
        if old and old.fuzzy:
            entry.flags = [*entry.flags, "fuzzy"]
        catalogue.append(entry)
    return catalogue


def write() -> list[str]:
    """Writes both files; returns what still needs a translator."""
    catalogue = build()
    path = catalogue_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{catalogue}\n", "utf-8")
    path.with_suffix(".mo").write_bytes(catalogue.to_binary())
    return untranslated(catalogue)


def untranslated(catalogue) -> list[str]:
    fuzzy = [f"fuzzy: {entry.msgid!r}" for entry in catalogue if entry.fuzzy]
    return fuzzy + [f"missing: {entry.msgid!r}" for entry in catalogue if not entry.translated() and not entry.fuzzy]


def problems() -> list[str]:
    """What stands between the sources and the two files; writes nothing."""
    catalogue, on_disk = build(), read()
    new = {(entry.msgctxt, entry.msgid) for entry in catalogue}
    old = {(entry.msgctxt, entry.msgid) for entry in on_disk}
    found = untranslated(catalogue)
    found += [f"dead: {msgid!r}" for _context, msgid in sorted(old - new, key=str)]
    path = catalogue_path()
    if not found and path.read_text("utf-8") != f"{catalogue}\n":
        found.append("django.po is not as update_messages writes it")
    compiled = path.with_suffix(".mo")
    if not compiled.is_file() or compiled.read_bytes() != on_disk.to_binary():
        found.append("django.mo is behind django.po")
    return found


def refuse_without_tools() -> None:
    for tool in ("babel", "polib"):
        try:
            import_module(tool)
        except ImportError as error:
            raise ToolMissing(tool=tool) from error
