"""The pages and the README do what they say: every block of code runs, every command and path in them exists.

A block is not run only behind a comment ``<!-- not run: REASON -->`` (its commands must parse all the same) or, where a
package is missing, behind ``<!-- needs: PACKAGE -->``. The blocks of a page share a folder and a namespace.
"""

import importlib
import importlib.util
import os
import pkgutil
import re
import shlex
import shutil
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import commin
from commin.cli.main import app
from commin.codec.deepjscc import DeepJSCC
from commin.codec.files import save_codec
from commin.images import to_picture
from commin.training.kinds import KINDS
from commin.training.recipe import parse
from commin.zoo import receivers as registry
from commin.zoo.cards import card, cards
from tests.conftest import smooth_images

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"(?:<!-- (not run|needs): (.+?) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OTHERS = ("export", "cp")
"""Commands that need no check of their own."""
CLI: Any = typer.main.get_command(app)


@dataclass(frozen=True)
class Block:
    marker: str | None
    reason: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(m[1], m[2] or "", m[3], m[4]) for m in FENCE.finditer(page.read_text())]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def lines(script: str) -> Iterator[str]:
    """The commands of a shell block, one by one, loops by their body."""
    for line in script.replace("\\\n", " ").splitlines():
        body = re.search(r"\bdo (.+?);? *done\b", line)
        if words := shlex.split(body[1] if body else line, comments=True):
            yield shlex.join(words)


def arguments(command: str) -> list[str] | None:
    """What ``commin`` is given, also under a launcher or behind assignments; None for another command."""
    words = [word for word in shlex.split(command) if word != "&"]
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words.pop(0)
    if words and Path(words[0]).name == "commin":
        return words[1:]
    return words[words.index("commin") + 1 :] if "-m commin " in command else None


def check_command(words: list[str]) -> None:
    """The words parse as a command line of commin, and the files of this repository that they name exist."""
    context, command = CLI.make_context("commin", list(words), resilient_parsing=True), CLI
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"no command {words[:1]}"
        command, words = command.commands[words[0]], words[1:]
    if "--help" not in words:
        command.make_context(command.name, list(words), parent=context)
    for word in words:
        if re.match(r"(recipes|examples|src)/", word):
            assert list(ROOT.glob(word)), f"{word} does not exist"


def check_other(command: str) -> None:
    """A command that is not commin's: scripts exist and know the options, make has the target, pip the extra."""
    words = shlex.split(command)
    if words[1:3] == ["-m", "venv"]:
        return
    if Path(words[0]).name.startswith("python"):
        script = next(word for word in words if word.endswith(".py"))
        source = (ROOT / script).read_text()
        assert all(f'"{word}"' in source for word in words if word.startswith("--")), command
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
    elif Path(words[0]).name == "pip":
        assert words[1] == "install", command
    else:
        assert words[0] in OTHERS, f"{words[0]}: what is this?"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_parse(page: Path) -> None:
    for block in blocks(page):
        if block.language not in ("sh", "console", "bash"):
            continue
        for command in lines(block.text):
            words = arguments(command)
            if words is not None:
                check_command(words)
            else:
                check_other(command)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_words_in_the_text_exist(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for found in re.finditer(r"(?:commin|\.)\[([a-z,]+)\]", page.read_text()):
        assert set(found[1].split(",")) <= extras.keys(), found[0]
    for found in re.finditer(r"`commin ([a-z]+[^`]*)`", text):
        words, command = found[1].split(), CLI
        while hasattr(command, "commands") and words and re.fullmatch("[a-z]+", words[0]):
            assert words[0].split("|")[0] in command.commands, found[0]
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word for word in words if re.match("--?[a-z]", word)} <= options, found[0]
    for found in re.finditer(r"`((?:recipes|examples|benchmarks|src|docs|results)/[\w./-]+\.\w+)`", text):
        assert (ROOT / found[1]).exists(), found[0]
    for found in re.finditer(r"`(commin(?:\.\w+)+)`", text):
        module, _, attribute = found[1].rpartition(".")
        try:
            importlib.import_module(found[1])
        except ImportError:
            assert hasattr(importlib.import_module(module), attribute), found[0]
    for found in re.finditer(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", text):
        target = page.parent / found[1] if found[1] else page
        if not found[1].startswith(("_tour/", "_api/")):
            assert target.exists(), found[0]


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: DeepJSCC) -> Path:
    """A folder with what the pages speak of: photos, a small data set, a finished run, a few of our own files."""
    for folder in ("recipes", "examples", "benchmarks"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    for photo in ("me.jpg", "photo.jpg"):
        shutil.copyfile(ROOT / "examples" / "astronaut.png", tmp_path / photo)
    (tmp_path / "photos").mkdir()
    with zipfile.ZipFile(tmp_path / "celeba_aligned.zip", "w") as archive:
        rows = ["file,split,identity"]
        for index, picture in enumerate(smooth_images(40)):
            to_picture(picture).save(tmp_path / "photos" / f"{index:02}.png")
            archive.write(tmp_path / "photos" / f"{index:02}.png", f"{index:02}.png")
            rows.append(f"{index:02}.png,{'test' if index % 2 else 'train'},{index}")
        archive.writestr("manifest.csv", "\n".join(rows) + "\n")
    save_codec(codec, Path(os.environ["COMMIN_HOME"]) / "runs" / "mine-codec" / "best.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "RECEIVERS", dict(registry.RECEIVERS))  # a page adds one
    return tmp_path


def run_command(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = arguments(os.path.expandvars(command))
    if words is not None:
        assert CLI.main(words, standalone_mode=False) in (None, 0), command
    elif command.startswith("export "):
        for word in shlex.split(command)[1:]:
            variable, _, value = word.partition("=")
            monkeypatch.setenv(variable, value)
    elif command.startswith("cp "):
        shutil.copyfile(*shlex.split(command)[1:3])


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name)
def test_blocks_run(page: Path, workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace: dict[str, Any] = {"__name__": "page"}
    missing = []
    for block in blocks(page):
        if block.marker == "needs" and importlib.util.find_spec(block.reason) is None:
            missing.append(block.reason)
            continue
        if block.language == "python":
            file = re.match(r"# (\w+\.py)\n", block.text)
            code = compile(block.text, name(page), "exec")
            if file:
                (workshop / file[1]).write_text(block.text)
            if block.marker != "not run":
                exec(code, namespace)
        elif block.language == "yaml":
            check_recipe(yaml.safe_load(block.text))
        elif block.language in ("sh", "console", "bash") and block.marker != "not run":
            for command in lines(block.text):
                run_command(command, monkeypatch)
        else:
            assert block.language in ("sh", "console", "bash", "text"), f"a block of {block.language}"
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; the other blocks ran")


def check_recipe(content: dict[str, Any]) -> None:
    """The keys of a recipe that a page shows are those of a recipe: laid over the shipped codec's it is one."""
    whole = yaml.safe_load((ROOT / "recipes" / "faces64-codec.yaml").read_text())
    for key, value in content.items():
        whole[key] = {**whole.get(key, {}), **value} if isinstance(value, dict) else value
    parse(KINDS["codec"].recipe, whole, Path("page"))


def test_every_page_is_in_a_list_of_contents() -> None:
    listed = re.findall(r"^[\w-]+$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= {*listed, "index"}


def test_every_room_is_in_the_reference() -> None:
    listed = set(re.findall(r"^   commin\.(\w+)$", (ROOT / "docs" / "api.rst").read_text(), re.MULTILINE))
    rooms = {module.name for module in pkgutil.iter_modules(commin.__path__)}
    assert listed == rooms - {"cli", "__main__"}


def test_pictures_seen_are_those_of_the_cards() -> None:
    for page in ("own-data.md", "limits.md"):
        text = (ROOT / "docs" / page).read_text()
        for weights in ("faces64-codec", "faces64-prior"):
            assert f"{card(weights).images_seen:,}" in text, f"{page} is behind the card of {weights}"


def test_equal_effort_is_that_of_the_cards() -> None:
    text = (ROOT / "docs" / "inverse-jscc.md").read_text()
    rows = re.findall(r"^\|.*\| `(faces64-[\w-]+)` \| ([\d,]+) \|", text, re.MULTILINE)
    trained = {c.name: c.images_seen for c in cards().values() if c.model == "faces64" and c.images_seen}
    assert {name: int(seen.replace(",", "")) for name, seen in rows} == trained


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_import(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(script.parent))
    try:
        importlib.import_module(script.stem)
    except ModuleNotFoundError as missing:
        if missing.name in {"commin", *(path.stem for path in script.parent.glob("*.py"))}:
            raise
        pytest.skip(f"needs {missing.name}")


def test_tour_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="the tour draws with matplotlib")
    pyplot.switch_backend("Agg")
    script = ROOT / "docs" / "tour" / "five_minutes.py"
    monkeypatch.chdir(script.parent)
    exec(compile(script.read_text(), str(script), "exec"), {"__name__": "tour"})
    assert len(pyplot.get_fignums()) == 4
    pyplot.close("all")


def docs_config() -> Any:
    pytest.importorskip("sphinx", reason="the docs are built with Sphinx (extra docs)")
    spec = importlib.util.spec_from_file_location("docs_config", ROOT / "docs" / "conf.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_names_that_share_a_line_stay_together() -> None:
    lines = ["Args:", "    bcr, snr_db: the point, in dB: here."]
    docs_config().plain(None, "class", "", None, None, lines)
    assert lines == ["Args:", "    bcr,snr_db: the point, in dB: here."]


def test_docstrings_are_escaped_outside_quotes() -> None:
    lines = ["mean |z|² of x_{t−1}, ``a|b*`` and `c_`, 2 * 3", "", "    x0|t", "after"]
    docs_config().plain(None, "module", "", None, None, lines)
    assert lines == [r"mean \|z\|² of x\_{t−1}, ``a|b*`` and `c_`, 2 \* 3", "", "", r"    | x0\|t", "", "after"]


@pytest.mark.parametrize("page", ["concepts.md"])
def test_formulas_become_mathml(page: str) -> None:
    docs_config()
    from docutils.utils.math.latex2mathml import tex2mathml

    formulas = re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", (ROOT / "docs" / page).read_text(), re.DOTALL)
    assert len(formulas) > 20
    for display, inline in formulas:
        assert tex2mathml(display or inline, as_block=bool(display)).startswith("<math")


def test_tables_are_those_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    tables: Any = importlib.import_module("tables")
    for page in tables.PAGES:
        assert tables.renewed(page.read_text()) == page.read_text(), f"{page}: python benchmarks/tables.py --write"
    marked = re.findall(r"^<!-- table: (\S+) -->$", "".join(page.read_text() for page in tables.PAGES), re.MULTILINE)
    assert sorted(marked) == sorted(tables.TABLES)
    wrong = "<!-- table: inn -->\n| ρ | −5 dB | 0 dB | 5 dB |\n|---|---|---|---|\n| 1/192 | 0 | 0 | 0 |\n\nand on"
    assert tables.renewed(wrong) != wrong
    assert tables.renewed(wrong).endswith("|\n\nand on")
