#!/usr/bin/env bash
# Install a lock file and Backdrop itself into .venv, which is made where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=$1

is_new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null
}

find_python() {
  local name
  for name in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
    if is_new_enough "$name"; then
      command -v "$name"
      return
    fi
  done
  echo "Backdrop needs Python 3.11 or newer, and $("${PYTHON:-python3}" --version 2>&1 || true) is not." >&2
  echo "Install one (on Debian and Ubuntu: apt-get install python3 python3-venv), or name it:" >&2
  echo "  make run PYTHON=/path/to/python3.12" >&2
  return 1
}

has_venv() { # Debian keeps a part of the standard library in a package of its own
  "$1" -c 'import ensurepip, venv' 2> /dev/null
}

install_venv() {
  local package as_root=()
  package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  if command -v apt-get > /dev/null && [ "$(id -u)" != 0 ]; then
    as_root=(sudo -n)
  fi
  if command -v apt-get > /dev/null && "${as_root[@]}" true 2> /dev/null; then
    echo "Installing $package, which Debian keeps apart from Python" >&2
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq "$package" > /dev/null
  else
    echo "This Python can't make virtual environments. Install what is missing, and try again:" >&2
    echo "  sudo apt-get install $package" >&2
    return 1
  fi
}

if ! { is_new_enough .venv/bin/python && .venv/bin/python -m pip --version; } > /dev/null 2>&1; then
  python=$(find_python)
  has_venv "$python" || install_venv "$python"
  rm -rf .venv
  "$python" -m venv .venv
fi

echo "Installing $lock into .venv"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement "$lock"
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
  --no-deps --no-build-isolation --editable .
