# shellcheck shell=bash
# The set-up shared by the scripts: .venv holds what a lock file names, plus this checkout (editable).
# Source it under `set -euo pipefail` and call `ensure_venv runtime` or `ensure_venv dev`; afterwards
# $root and $python are set. `use_venv .venv-pipecat` before `ensure_venv pipecat` does the same with
# Pipecat. A stamp makes the second call free. Nothing is compiled: wheels only, each checked against
# its hash.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)

# use_venv DIRECTORY: what follows is about this one.
use_venv() {
    venv=$root/$1
    python=$venv/bin/python
}

use_venv .venv

say() { printf 'backbeat: %s\n' "$*" >&2; }

die() {
    say "$@"
    exit 1
}

# Whether "$1" is a Python that the locks are for. -I: no user site, no PYTHONPATH, no cwd.
_suits() {
    "$1" -I -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

# Prints the interpreter that makes the venv: $PYTHON, else the first suitable one on PATH.
_find_python() {
    local candidate bare=""
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
        if ! _suits "$candidate"; then
            [ "$candidate" != "${PYTHON:-}" ] || die "PYTHON=$PYTHON is not a Python 3.11 to 3.14."
        elif "$candidate" -I -c 'import ensurepip, venv' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        else
            bare=${bare:-$candidate}
        fi
    done
    [ -z "$bare" ] || die "$bare has no venv module (on Debian: apt-get install $bare-venv)."
    die "no Python 3.11 to 3.14 found; install one or name it: PYTHON=/path/to/python $0"
}

# Prints what a finished set-up of lock "$1" looks like: lock, build file, interpreter, place.
_stamp() {
    "$python" -I -S -c '
import hashlib, sys
root, *paths = sys.argv[1:]
digest = hashlib.sha256(f"{sys.version} {root}".encode())
for path in paths:
    with open(path, "rb") as file:
        digest.update(file.read())
print(digest.hexdigest())' "$root" "$root/pyproject.toml" "$1" 2>/dev/null
}

_lock_of() {
    case $1 in
    runtime) printf '%s\n' "$root/scripts/requirements.lock" ;;
    dev) printf '%s\n' "$root/scripts/requirements-dev.lock" ;;
    pipecat) printf '%s\n' "$root/scripts/requirements-pipecat.lock" ;;
    esac
}

_is_ready() {
    local stamp=$venv/.backbeat-$1
    [ -r "$stamp" ] && [ "$(cat "$stamp")" = "$(_stamp "$(_lock_of "$1")")" ]
}

_pip_install() {
    "$python" -I -m pip install --no-input --disable-pip-version-check \
        --no-warn-script-location "$@"
}

# Reads pip's chatter and says how far it is; on a terminal one line is rewritten in place.
_progress() {
    local total=$1 count=0 line name
    while IFS= read -r line; do
        case $line in
        "Collecting "* | "Processing "* | "Requirement already satisfied: "*)
            count=$((count + 1))
            name=${line#*satisfied: } name=${name#Collecting } name=${name#Processing }
            name=${name%% *} name=${name##*/}
            if [ -t 2 ]; then
                printf '\r\033[Kbackbeat: %d/%d %s' "$count" "$total" "$name" >&2
            elif [ $((count % 10)) -eq 0 ]; then
                say "$count of up to $total"
            fi
            ;;
        "Installing collected packages"*)
            [ ! -t 2 ] || printf '\r\033[K' >&2
            say "unpacking"
            ;;
        esac
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
}

_set_up() {
    local kind=$1 lock interpreter total
    lock=$(_lock_of "$kind")
    if ! _suits "$python" || ! "$python" -I -c 'import pip' 2>/dev/null; then
        interpreter=$(_find_python)
        say "creating ${venv##*/} with $("$interpreter" -I --version)"
        "$interpreter" -I -m venv --clear "$venv" || die "$interpreter could not create $venv."
    fi
    rm -f "$venv"/.backbeat-*
    total=$(grep -c '^[a-z0-9].*==' "$lock")
    say "installing up to $total packages into ${venv##*/}; this is done once and takes a minute or two"
    # --no-deps: a lock is whole, and leaves out what has no wheel and is not needed.
    _pip_install --progress-bar off --require-hashes --only-binary :all: --no-deps -r "$lock" \
        | _progress "$total" || die "the packages could not be installed; see above."
    # The lock brings the build backend, so this needs no network and no build environment.
    _pip_install -q --no-index --no-deps --no-build-isolation -e "$root" \
        || die "this checkout could not be installed into ${venv##*/}; see above."
    # A dev venv serves both: its lock holds the same pins and more.
    [ "$kind" = pipecat ] || _stamp "$(_lock_of runtime)" >"$venv/.backbeat-runtime"
    [ "$kind" = runtime ] || _stamp "$lock" >"$venv/.backbeat-$kind"
    say "set-up finished"
}

ensure_venv() {
    ! _is_ready "$1" || return 0
    # One set-up at a time: tests and editors may start a second script meanwhile.
    (
        ! command -v flock >/dev/null || flock 9
        _is_ready "$1" || _set_up "$1"
    ) 9<"${BASH_SOURCE[0]}"
}
