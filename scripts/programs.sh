# Shared by the scripts that print the path of a program of others, for the tests. Plain POSIX sh, sourced after lib.sh.

# use_program VARIABLE NAME [FETCHED]: where the program is here already, prints its path and ends the script: what the
# variable names, one on the PATH, or else what an earlier run fetched.
use_program() {
    eval "found=\${$1:-}"
    [ -n "$found" ] || found=$(command -v "$2" || true)
    [ -n "$found" ] || [ ! -x "${3:-}" ] || found=$3
    [ -n "$found" ] || return 0
    [ -x "$(command -v "$found")" ] || die "$1 names no program: $found"
    say "$found"
    exit
}

# keep_program PROGRAM WHERE: moves it there and prints where. In one step, so that a second run beside this one finds
# all of it or nothing.
keep_program() {
    mkdir -p "$(dirname "$2")"
    mv "$1" "$2.$$"
    mv "$2.$$" "$2"
    say "$2"
}

# make_work FOLDER: makes a folder in it, $work, that is gone when the script ends.
make_work() {
    mkdir -p "$1"
    work=$(mktemp -d "$1/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
}

# need_apt VARIABLE NAME: packages are unpacked, not installed; elsewhere than on Debian and its children, not at all.
need_apt() {
    for tool in apt-get dpkg-deb; do
        command -v "$tool" >/dev/null || die "$tool not found: install $2 yourself, and name it with $1=..."
    done
}

# What makes apt-get -c "$work/apt.conf" use lists and folders of its own, so that nobody has to be root. As root, it
# would download as a user that may not enter our folder. Hooks that other packages put into apt's configuration are
# about the system's own lists.
private_apt() {
    mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/none"
    cat >"$work/apt.conf" <<CONF
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::Cache "$work";
Dir::State::lists "$work/lists";
CONF
}

# unpack_program PACKAGE NAME: takes usr/bin/NAME out of the package to $work.
unpack_program() {
    dpkg-deb --fsys-tarfile "$1" | tar -x -C "$work" "./usr/bin/$2"
}
