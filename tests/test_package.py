"""What would be published: the wheel and the sdist, built, checked, installed and run."""

import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import d2cli
from tests.marks import compiled

ROOT = Path(__file__).parent.parent
NAME = f"d2prune-{d2cli.__version__}"

#: The extra `package`. Nothing is downloaded: the build uses what is installed.
needed = ("build", "hatchling", "hatch_fancy_pypi_readme", "twine")
pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in needed), reason="needs the extra package"
)


def run(*command, **more):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, **more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sdist, and the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    assert {p.name for p in folder.iterdir()} == {
        f"{NAME}.tar.gz", f"{NAME}-py3-none-any.whl"
    }  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    return built / f"{NAME}-py3-none-any.whl"


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))


def test_checks_of_an_index_pass(built):
    said = run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())
    assert said.count("PASSED") == 2


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    inside = {name for name in names if not name.startswith(f"{NAME}.dist-info/")}
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "d2cli").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == wanted
    assert {"d2cli/py.typed", "d2cli/page/templates/report.html"} <= inside


def test_the_sdist_holds_tests_and_sample_data_and_no_stray_files(built):
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    for path in ("tests/test_package.py", "sample_data/emb.npy", "docs/scores.md", "Makefile"):
        assert path in names
    allowed = {
        "d2cli", "docs", "tests", "bench", "evidence", "sample_data", "PKG-INFO", "README.md",
        "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml", ".gitignore",
    }  # fmt: skip
    assert {name.split("/")[0] for name in names} == allowed
    assert not [name for name in names if re.search(r"__pycache__|\.py[co]$|(^|/)build/", name)]


def test_the_description_leads_to_no_file(metadata):
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload()
    assert "# d2prune" in text
    assert "d2prune select --emb emb.npy" in text
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert links
    assert all(link.startswith("https://") for link in links)
    assert "![" not in text
    assert "The picture shows" not in text
    assert "quickstart" in text


def test_extras_name_what_the_hints_tell_to_install(metadata):
    extras = set(metadata.get_all("Provides-Extra"))
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "d2cli").rglob("*.py"))
    named = {word for one in re.findall(r"d2prune\[([\w,]+)\]", code) for word in one.split(",")}
    assert "report" in named
    assert named <= extras


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A new environment with the wheel; its dependencies are those that are installed here.

    They are on the path, but their ``.pth`` files are not read: a working copy is not found.
    """
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=False, symlinks=True)
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", vars=paths))
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder


def clean(tmp_path):
    """The environment variables of a run that sees this environment only."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {**kept, "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}


@compiled
def test_the_wheel_runs_the_demo_in_a_clean_environment(environment, built, tmp_path):
    program, settings = environment / "bin" / "d2prune", clean(tmp_path)
    assert run(program, "--version", env=settings, cwd=tmp_path) == f"{NAME.replace('-', ' ')}\n"
    where = "import d2cli; print(d2cli.__file__)"
    found = run(environment / "bin" / "python", "-c", where, env=settings, cwd=tmp_path)
    assert Path(found.strip()).is_relative_to(environment)
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        for name in ("emb.npy", "scores.npy"):
            source = archive.extractfile(f"{NAME}/sample_data/{name}")
            with open(tmp_path / name, "wb") as file:
                shutil.copyfileobj(source, file)
    line = ["select", "--emb", "emb.npy", "--scores", "scores.npy", "--ratio", "0.3"]
    run(program, *line, env=settings, cwd=tmp_path)
    run(sys.executable, "-m", "d2cli", *line, "--out", "here.npy", cwd=tmp_path)
    assert (tmp_path / "selected.npy").read_bytes() == (tmp_path / "here.npy").read_bytes()
