#!/usr/bin/env bash
# See that there is a Chromium, in which the tests use the pages.
set -euo pipefail

command -v chromium > /dev/null && exit

as_root=()
if [ "$(id -u)" != 0 ]; then
  as_root=(sudo -n)
fi
if command -v apt-get > /dev/null && "${as_root[@]}" true 2> /dev/null; then
  echo "Installing Chromium, in which the tests use the pages" >&2
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends chromium > /dev/null
else
  echo "A part of the tests needs Chromium. Install it, and try again:" >&2
  echo "  sudo apt-get install chromium" >&2
  exit 1
fi
