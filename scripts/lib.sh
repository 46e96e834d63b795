# Shared by quickstart and test: what both need installed, and how it gets there. Plain POSIX sh, sourced from the
# root of the clone. Everything here may run again and again: what is there already is left alone.

venv=.venv

# Packages of Debian and its children: FUSE 3 with headers and a compiler (pyfuse3 comes as source), Python, sqlite3.
packages="ca-certificates fuse3 libfuse3-dev pkg-config gcc libc6-dev python3 python3-dev python3-venv sqlite3"

say() {
    printf '%s\n' "$*"
}

die() {
    printf 'ERROR: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# The packages of the list that dpkg does not have.
missing_packages() {
    for package in $packages; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || printf ' %s' "$package"
    done
}

install_packages() {
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        check_tools
        return
    fi
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        die "these packages are missing:$missing. Run this as root, install sudo, or install them yourself."
    fi
    say "installing packages:$missing"
    # Without package lists (fresh images have none) or with old ones the first try fails.
    # shellcheck disable=SC2086
    apt_install $missing >/dev/null 2>&1 || {
        as_root apt-get -q update || die "apt-get update failed, see above"
        apt_install $missing || die "could not install:$missing"
    }
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@" </dev/null
}

# Elsewhere than on Debian: no packages are installed, only looked for.
check_tools() {
    lacking=
    for tool in fusermount3 pkg-config cc python3 sqlite3; do
        command -v "$tool" >/dev/null || lacking="$lacking $tool"
    done
    [ -z "$lacking" ] && ! pkg-config --exists fuse3 && lacking=" the headers of FUSE 3"
    [ -z "$lacking" ] || die "not found:$lacking. Install what provides it (on Debian:$packages) and run this again."
}

# make_venv LOCK...: a virtual environment with exactly what the lock files name, the kernel and its plugins.
make_venv() {
    python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        die "litefs needs Python 3.11 or newer, $python is $("$python" -V 2>&1). Name another with PYTHON=..."
    # A virtual environment that was moved, or whose Python is gone, is of no use.
    if ! "$venv/bin/python" -c 'import pip' 2>/dev/null || [ ! "$venv/pyvenv.cfg" -ef "$(venv_root)/pyvenv.cfg" ]; then
        say "making a virtual environment in $venv"
        rm -rf "$venv"
        "$python" -m venv "$venv" || die "cannot make a virtual environment in $venv"
    fi
    for lock in requirements-build.lock "$@"; do
        install_lock "$lock"
    done
    install_projects
}

venv_root() {
    "$venv/bin/python" -c 'import sys; print(sys.prefix)' 2>/dev/null
}

pip_install() {
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-input --no-deps --no-build-isolation "$@"
}

# Once for each content of the lock file: the stamp beside the environment remembers it.
install_lock() {
    stamp="$venv/$1.done"
    cmp -s "$1" "$stamp" && return
    say "installing $1"
    pip_install --require-hashes -r "$1" || die "could not install what $1 names, see above"
    cp "$1" "$stamp"
}

# The kernel and the plugins run from the clone; only their metadata (entry points) is installed, once per change.
install_projects() {
    stamp="$venv/projects.done"
    projects=$(find pyproject.toml plugins -name pyproject.toml | sort)
    # shellcheck disable=SC2086
    cat $projects | cmp -s - "$stamp" && return
    say "installing litefs and its plugins"
    set --
    for project in $projects; do
        set -- "$@" -e "$(dirname "$project")"
    done
    pip_install "$@" || die "could not install litefs, see above"
    # shellcheck disable=SC2086
    cat $projects >"$stamp"
    # So that the first start is as fast as any later one.
    "$venv/bin/python" -m compileall -q litefs plugins || true
}

check_fuse() {
    [ -c /dev/fuse ] || as_root modprobe fuse 2>/dev/null || true
    [ -c /dev/fuse ] ||
        die "there is no /dev/fuse. Load the kernel module (modprobe fuse); a container needs" \
            "--device /dev/fuse --cap-add SYS_ADMIN (Docker: also --security-opt apparmor:unconfined)."
    # shellcheck disable=SC2217
    (: <>/dev/fuse) 2>/dev/null || die "/dev/fuse may not be opened by $(id -un). Run this as root, or allow it for users."
}
