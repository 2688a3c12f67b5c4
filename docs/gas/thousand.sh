#!/bin/sh
# How long `slackline gas` takes beside the plain tests, on a suite of 1,000: gas/tests/thousand.rs. Run in the clone, with `slackline` in the
# path. All of KINDS take turns; the medians of ROUNDS (5) are printed last.
set -eu
test=${TEST:-cargo test --locked -p slackline-gas --test thousand}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
$test --no-run
for round in $(seq "${ROUNDS:-5}"); do
    for what in ${KINDS:-plain report snapshot profile limit}; do
        case $what in
            plain) set -- $test ;;
            snapshot) set -- slackline gas snapshot --command "$test" --file "$work/gas-snapshot" ;;
            *) set -- slackline gas $what --command "$test" ;;
        esac
        start=$(date +%s%N)
        "$@" > "$work/out" 2>&1 || { tail "$work/out"; exit 1; }
        took=$((($(date +%s%N) - start) / 1000000))
        echo "round $round: $what $took ms"
        echo "$took" >> "$work/$what"
    done
done
median() { sort -n "$work/$1" | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }
plain=$(median plain)
for what in ${KINDS:-plain report snapshot profile limit}; do
    median $what | awk -v what=$what -v plain="$plain" '{ printf "%-8s %7d ms  %.2f\n", what, $1, $1 / plain }'
done
