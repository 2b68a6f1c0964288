#!/usr/bin/env bash
# Pin everything that pyproject.toml asks for, and all that those need: requirements.lock (to run
# Backdrop, and to install it) and requirements-dev.lock (to check it too).
# Made with the oldest Python that is supported, so that what only that one needs is in them.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" - "$work" <<'PYTHON'
"""Write what pyproject.toml asks for, as two requirements files."""
import pathlib
import sys
import tomllib

folder = pathlib.Path(sys.argv[1])
asked = tomllib.loads(pathlib.Path("pyproject.toml").read_text(encoding="utf-8"))
run = [*asked["project"]["dependencies"], *asked["build-system"]["requires"]]
check = [*run, *asked["project"]["optional-dependencies"]["dev"]]
(folder / "requirements.in").write_text("\n".join(run), encoding="utf-8")
(folder / "requirements-dev.in").write_text("\n".join(check), encoding="utf-8")
PYTHON

pin() { # pin NAME [CONSTRAINTS…]: the newest versions of all that NAME.in needs, into NAME.lock
  local name=$1
  shift
  "$python" -m venv "$work/$name"
  "$work/$name/bin/pip" install --quiet --upgrade -r "$work/$name.in" "$@"
  {
    echo "# Made by \`make lock\` (Python $("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')). Don't edit."
    "$work/$name/bin/pip" freeze --all | grep -v '^pip==' \
      | sed "s/^atheris==.*/&; python_version < '3.14'/" # the version for 3.11 has no wheel for 3.14
  } > "$work/$name.lock"
}

pin requirements
pin requirements-dev -c "$work/requirements.lock"
mv "$work"/requirements.lock "$work"/requirements-dev.lock .
