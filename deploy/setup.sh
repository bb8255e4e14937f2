#!/bin/sh
# Prepare this checkout: .venv, the locked packages, and RabbitMQ if there is none. Finished steps are skipped.
# usage: deploy/setup.sh run|test|matrix|compose|bench|docs|tools
set -eu
cd "$(dirname "$0")/.."
purpose=${1:-run}

say() { printf '==> %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 1
}

# The command that runs another as root without a question; empty if there is none.
if [ "$(id -u)" = 0 ]; then
    as_root="env"
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n env"
else
    as_root=""
fi
can_install() { [ -n "$as_root" ] && command -v apt-get >/dev/null 2>&1; }
apt_install() {
    log=$(mktemp)
    # shellcheck disable=SC2086 # the words must be split
    if $as_root DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@" >"$log" 2>&1 ||
        { $as_root apt-get -q update >"$log" 2>&1 &&
            $as_root DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@" >"$log" 2>&1; }; then
        rm -f "$log"
        return
    fi
    tail -n 15 "$log" >&2
    rm -f "$log"
    fail "apt-get could not install $*" "see its output above; fix the cause, or install it by hand"
}

# Only pyproject.toml contains the range, such as ">=3.11,<3.15".
lowest=$(sed -n 's/^requires-python = ">=3\.\([0-9]*\),<3\.[0-9]*"$/\1/p' pyproject.toml)
too_new=$(sed -n 's/^requires-python = ">=3\.[0-9]*,<3\.\([0-9]*\)"$/\1/p' pyproject.toml)
is_supported() {
    "$1" -c "import sys; sys.exit(not (3, $lowest) <= sys.version_info < (3, $too_new))" 2>/dev/null
}
# Prints the path of the newest supported Python, or of the supported Python that PYTHON names.
find_python() {
    names=""
    minor=$lowest
    while [ "$minor" -lt "$too_new" ]; do
        names="python3.$minor $names"
        minor=$((minor + 1))
    done
    for name in ${PYTHON:-} $names python3; do
        if is_supported "$name"; then
            command -v "$name"
            return
        fi
    done
}
# Prints the version of the unsupported Python.
unsupported_python() {
    for name in ${PYTHON:-} python3; do
        if version=$("$name" --version 2>/dev/null); then
            echo "$(command -v "$name") is $version"
            return
        fi
    done
    echo "there is no python3"
}

make_venv() {
    if is_supported .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; then
        return
    fi
    python=$(find_python)
    [ -n "$python" ] || fail "no Python 3.$lowest to 3.$((too_new - 1)) found; $(unsupported_python)" \
        "install one, on Debian and Ubuntu: apt-get install python3 python3-venv" \
        "or name yours: make run PYTHON=/path/to/python3"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        can_install || fail "$python has no module 'venv' with pip, which Debian packages apart" \
            "install it as root: apt-get install python3-venv"
        say "installing python3-venv, which Debian packages apart from Python"
        apt_install python3-venv
    fi
    say "making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
}

# Installs the packages of a file, and those that build this folder's package. One run of pip is faster than two.
install_packages() {
    stamp=".venv/.installed-$(printf %s "$1" | tr / -)"
    want=$(cat "$1" requirements-build.txt | cksum)
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
        return
    fi
    say "installing the packages of $1, each checked against its hash"
    log=$(mktemp)
    if ! .venv/bin/python -m pip --disable-pip-version-check --no-input install --require-hashes -r "$1" \
        -r requirements-build.txt >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        fail "pip could not install the packages of $1" "see its output above; pip needs a network"
    fi
    rm -f "$log"
    printf '%s' "$want" >"$stamp"
}

# Adds this folder to .venv: the program .venv/bin/fastcommerce, the package for it, and the entry points of the plugins.
install_project() {
    project_stamp=".venv/.installed-project"
    # The program contains the path of its interpreter, and the metadata the version.
    installed="$(cat pyproject.toml runner/__init__.py | cksum) $(pwd)"
    if [ -f "$project_stamp" ] && [ "$(cat "$project_stamp")" = "$installed" ]; then
        return
    fi
    # The other folder of a link would run the code of this one.
    [ ! -L .venv ] || fail ".venv is a link to another folder's environment" "remove the link, and run this again"
    log=$(mktemp)
    if ! .venv/bin/python -m pip --disable-pip-version-check --no-input install --no-index --no-deps --no-build-isolation \
        --editable . >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        fail "pip could not install this folder in .venv" "see its words above"
    fi
    rm -f "$log"
    # An earlier version wrote it by hand.
    rm -f .venv/lib/python3.*/site-packages/fastcommerce.pth
    printf '%s' "$installed" >"$project_stamp"
}

has_postgresql() {
    PATH="$PATH:$(printf %s: /usr/lib/postgresql/*/bin)" command -v initdb >/dev/null 2>&1
}
# The names are those of tests/browser/chromium.py.
has_chromium() {
    for name in chromium chromium-browser google-chrome-stable google-chrome; do
        if command -v $name >/dev/null 2>&1; then return; fi
    done
    return 1
}
has_rabbitmq() {
    PATH="$PATH:/usr/sbin:/usr/lib/rabbitmq/bin" command -v rabbitmq-server >/dev/null 2>&1
}
# Succeeds if no broker answers and none can be started. The runner itself reports all other errors.
lacks_broker() {
    .venv/bin/python - 2>/dev/null <<'PYTHON'
import sys
from pathlib import Path

from runner.broker.find import find_broker
from runner.config.project import load_project
from runner.errors import BrokerMissing, RunnerError

try:
    broker = load_project(Path()).config.broker
    find_broker(broker.url, broker.autostart, Path("var/broker"))
except BrokerMissing:
    sys.exit(0)
except RunnerError:
    pass
sys.exit(1)
PYTHON
}
has_c_client() {
    command -v cc >/dev/null 2>&1 && printf '#include <amqp.h>\n' | cc -E - >/dev/null 2>&1
}
# Installs programs that only some benchmarks need. Without them, these benchmarks report that they did not run.
install_measures() {
    missing=""
    has_c_client || missing="gcc libc6-dev librabbitmq-dev"
    command -v wrk >/dev/null 2>&1 || missing="${missing:+$missing }wrk"
    if [ -z "$missing" ]; then return; fi
    if can_install; then
        say "installing programs for the benchmarks: apt-get install $missing"
        # shellcheck disable=SC2086 # the words must be split
        if (apt_install $missing); then return; fi
    fi
    say "some benchmarks will not run; they need, as root: apt-get install $missing"
}

# Runs an installation without starting the packages' services: ours listen only on loopback, with their own data.
without_services() {
    guard=/usr/sbin/policy-rc.d
    if [ ! -e $guard ]; then
        printf '#!/bin/sh\nexit 101\n' | $as_root sh -c "cat > $guard && chmod 755 $guard"
        # shellcheck disable=SC2064 # expanded now on purpose
        trap "$as_root rm -f $guard" EXIT
        # Not every shell runs the EXIT trap after a signal.
        trap 'exit 130' INT
        trap 'exit 143' TERM HUP
    fi
    "$@"
}
install_postgresql() {
    say "installing PostgreSQL for the tests: apt-get install postgresql; this takes a minute"
    without_services apt_install postgresql
}
install_chromium() {
    say "installing Chromium for the tests: apt-get install chromium; with its libraries about 400 MB"
    apt_install chromium
}
install_rabbitmq() {
    say "installing RabbitMQ: apt-get install rabbitmq-server, with Erlang about 100 MB; this takes a minute or two"
    without_services apt_install rabbitmq-server
    if [ -d /run/systemd/system ]; then
        $as_root systemctl --quiet disable rabbitmq-server
        say "the service rabbitmq-server is installed, but neither started nor enabled"
    fi
}

make_venv
case $purpose in
run) install_packages requirements.txt ;;
bench) install_packages bench/requirements.txt ;;
docs) install_packages docs/site/requirements.txt ;;
*) install_packages requirements-test.txt ;;
esac
install_project

case $purpose in
run)
    # If it cannot be installed, the runner itself lists other remedies.
    if lacks_broker && can_install; then install_rabbitmq; fi
    ;;
compose)
    missing=""
    for program in buildah debootstrap; do
        command -v $program >/dev/null 2>&1 || missing="${missing:+$missing }$program"
    done
    if [ -n "$missing" ]; then
        can_install || fail "the containers need $missing" "install it as root: apt-get install $missing"
        say "installing programs that build the image without an engine: apt-get install $missing"
        # shellcheck disable=SC2086 # the words must be split
        apt_install $missing
    fi
    ;;
test | matrix | bench)
    # The tests start their own brokers, so that a running broker does not help.
    if ! has_rabbitmq; then
        can_install || fail "the tests need rabbitmq-server" "install it as root: apt-get install rabbitmq-server"
        install_rabbitmq
    fi
    if [ "$purpose" != bench ] && ! has_postgresql; then
        can_install || fail "the tests need PostgreSQL's programs" "install them as root: apt-get install postgresql"
        install_postgresql
    fi
    if [ "$purpose" = test ] && ! has_chromium; then
        can_install || fail "the tests need Chromium" "install it as root: apt-get install chromium"
        install_chromium
    fi
    if [ "$purpose" = bench ]; then install_measures; fi
    if [ "$purpose" = matrix ] && ! command -v debootstrap >/dev/null 2>&1 && can_install; then
        say "installing debootstrap, which makes the folders of other Debian releases"
        apt_install debootstrap
    fi
    ;;
esac
