#!/bin/sh
# Compares what a contract's tests cost at two commits: docs/gas-ci.md. Writes the difference as Markdown, and ends with 1 if a test costs
# more or less than its snapshot says, by more than a tolerance; with 2 if that could not be found out.
#
#   docs/gas/ci.sh DIR BASE OUT.md [PERCENT]
#
# DIR is the contract's directory, BASE the commit to compare with. Tracked files must be as committed: BASE is checked out for a while.
set -eu
dir=$1 base=$2 out=$3 tolerance=${4:-0}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
gas() { slackline gas "$@" > "$work/printed" || exit 2; }

git diff --quiet HEAD -- || { echo "error: there are changes that are not committed" >&2; exit 2; }
head=$(git symbolic-ref --short -q HEAD || git rev-parse HEAD)
there=$(git -C "$dir" rev-parse --show-prefix)
gas report "$dir" --functions --save "$work/after.json" --keep "$work/after"
if git cat-file -e "$base:${there}Cargo.toml" 2> /dev/null; then
    # Back also when something fails in between.
    trap 'git -c advice.detachedHead=false checkout -q "$head"; rm -r "$work"' EXIT
    git -c advice.detachedHead=false checkout -q "$base"
    gas report "$dir" --functions --save "$work/before.json"
    git -c advice.detachedHead=false checkout -q "$head"
    slackline gas diff "$work/before.json" "$work/after.json" --md > "$out" || exit 2
else
    { echo "The contract is new."; slackline gas report --from "$work/after" --md; } > "$out" || exit 2
fi
# Of the same run: the tests are not run a third time.
slackline gas snapshot "$dir" --from "$work/after" --check --tolerance "$tolerance"
