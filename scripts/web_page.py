"""Builds the web page of `serve_app/ui/source` into `serve_app/ui/bundle`, or into a directory that is given.

It is built in a directory of its own with the packages of its lock file, so that neither what else lies in the source's directory
nor a Node of the machine changes a byte.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.node_packages import NODE, install

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "serve_app" / "ui" / "source"
BUNDLE = ROOT / "serve_app" / "ui" / "bundle"
#: What says which packages there are.
MANIFEST = ("package.json", "package-lock.json", ".npmrc")
#: The types of the API's answers, at the path that the source names.
_TYPES = Path("clients") / "typescript" / "src"


def checkout(folder: Path) -> Path:
    """Lays the source into ``folder`` with its packages, and returns where it is.

    Raises: `NotInstalled` if the packages cannot be had."""
    packages = install(SOURCE, MANIFEST) / "node_modules"
    source = folder / SOURCE.relative_to(ROOT)
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("node_modules"))
    (folder / _TYPES).mkdir(parents=True)
    shutil.copy(ROOT / _TYPES / "api.ts", folder / _TYPES)
    (source / "node_modules").symlink_to(packages)
    return source


def build(source: Path, target: Path) -> None:
    """Builds a checkout into ``target``, which is emptied before.

    Raises: `subprocess.CalledProcessError` with what was printed."""
    vite = source / "node_modules" / "vite" / "bin" / "vite.js"
    command: list[str | Path] = [NODE, vite, "build", "--logLevel", "warn", "--emptyOutDir", "--outDir", target]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)


def types(source: Path) -> str:
    """What the compiler finds in a checkout; empty if that is nothing."""
    tsc = source / "node_modules" / "typescript" / "bin" / "tsc"
    done = subprocess.run([NODE, tsc], cwd=source, check=False, capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode else ""


def main(arguments: list[str]) -> int:
    """Builds the page, unless the compiler finds something."""
    target = Path(arguments[0]).absolute() if arguments else BUNDLE
    with tempfile.TemporaryDirectory() as folder:
        source = checkout(Path(folder))
        found = types(source)
        if found:
            sys.stdout.write(found)
            return 1
        build(source, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
