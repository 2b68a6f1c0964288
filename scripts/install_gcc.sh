#!/usr/bin/env bash
# See that there is a C compiler, with which the tests make a disk that fails.
set -euo pipefail

echo '#include <stdio.h>' | gcc -E - > /dev/null 2>&1 && exit

as_root=()
if [ "$(id -u)" != 0 ]; then
  as_root=(sudo -n)
fi
if command -v apt-get > /dev/null && "${as_root[@]}" true 2> /dev/null; then
  echo "Installing gcc, with which the tests make a disk that fails" >&2
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends gcc libc6-dev > /dev/null
else
  echo "A part of the tests needs gcc. Install it, and try again:" >&2
  echo "  sudo apt-get install gcc libc6-dev" >&2
  exit 1
fi
