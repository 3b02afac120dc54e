#!/usr/bin/env bash
# The comparison with Gunicorn and the field. Makes its own environment in bench/.venv-X.Y on first use, then runs `python -m bench`;
# every option is passed on (bench/run.sh --help). BENCH_PYTHON chooses the interpreter; the newest of 3.13, 3.12, 3.11 is the default.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'bench: %s\n' "$*" >&2; }

interpreter() {
  local candidate
  for candidate in "${BENCH_PYTHON:-}" \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1{3,2,1}.*/bin/python python3.13 python3.12 python3.11 python3; do
    [ -n "$candidate" ] || continue
    candidate=$(command -v "$candidate" || true)
    if [ -n "$candidate" ] && "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  say "needs Python 3.11 or newer with venv; on Debian: apt-get install python3-venv; or set BENCH_PYTHON"
  exit 1
}

# wrk sends the load, nginx is the machine's limit; a C compiler and Python's headers build uWSGI. Debian's packages start their services at once:
# RUNLEVEL=1 keeps nginx from doing that, since the harness starts its own.
tools() {
  local missing=() output
  PATH="$PATH:/usr/sbin" command -v nginx >/dev/null || missing+=(nginx-light)
  command -v wrk >/dev/null || missing+=(wrk)
  command -v cc >/dev/null || command -v gcc >/dev/null || missing+=(gcc libc6-dev)
  [ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] || missing+=(python3-dev)
  command -v taskset >/dev/null || missing+=(util-linux)
  [ "${#missing[@]}" -gt 0 ] || return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing ${missing[*]}"
    output=$(apt-get update -qq 2>&1 && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
      apt-get install -y -qq --no-install-recommends "${missing[@]}" 2>&1) || {
      say "apt-get failed: $output"
      exit 1
    }
  else
    say "missing: ${missing[*]}; on Debian: sudo apt-get install ${missing[*]}"
    exit 1
  fi
}

# --use-pep517: the pip of older Pythons would else warn of each package that comes as source without a pyproject.toml.
install() {
  "$bin/python" -m pip install --quiet --disable-pip-version-check --use-pep517 "$@"
}

# Released in 2020 and not to be had for today's Pythons: forkserve builds a mended one. It is in a few tables only.
meinheld() {
  local output
  output=$("$bin/forkserve-worker" --install-backend meinheld 2>&1) || say "NOT INSTALLED: meinheld: $(tail -n 1 <<<"$output")"
}

# One peer that cannot be built must not stop the others: it is reported as not installed, in the report too.
peers() {
  local requirement
  install -r bench/requirements.txt -c bench/constraints.txt && return
  say "not everything could be installed at once; trying one by one"
  while read -r requirement; do
    case "$requirement" in '' | '#'*) continue ;; esac
    install "$requirement" -c bench/constraints.txt || say "NOT INSTALLED: $requirement"
  done <bench/requirements.txt
}

# In a function, so that the whole file is read before anything runs: it may change while the environment is being made.
main() {
  local version venv stamp
  python=$(interpreter)
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  venv=bench/.venv-$version
  bin=$venv/bin
  tools
  stamp=$(cat bench/requirements.txt bench/constraints.txt pyproject.toml hatch_build.py forkserve/serving/native/*.[ch] | cksum)
  if [ "$(cat "$venv/.stamp" 2>/dev/null)" != "$stamp" ]; then
    say "making $venv with $python (once; one or two minutes)"
    [ -x "$bin/python" ] || "$python" -m venv "$venv"
    peers
    install -e ".[gevent,uvloop,websocket]"
    meinheld
    echo "$stamp" >"$venv/.stamp"
  fi

  ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
  PYTHONPATH="$PWD" exec "$bin/python" -m bench "$@"
}

main "$@"
