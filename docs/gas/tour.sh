#!/bin/sh
# The market maker on a development chain: two tokens, a pool, one swap. Prints what docs/gas.md uses: the transaction of the swap, the pool, a token.
# Run in the clone with `slackline` in the path, while `slackline dev` runs (or with SLACKLINE_RPC set).
set -eu
cell() { awk -v label="$1" '$1 == label { print $2 }'; }
deploy() { slackline deploy "target/contracts/$1.wasm" "$2" | cell contract; }
call() { slackline call "$@" | cell transaction; }

a=$(deploy token '{"supply": "1000000"}')
b=$(deploy token '{"supply": "1000000"}')
pool=$(deploy amm "[\"$a\", \"$b\", 30]")
for token in "$a" "$b"; do call "$token" approve "[\"$pool\", \"1000000\"]" > /dev/null; done
call "$pool" add '["400000", "100000", "1"]' > /dev/null
echo "swap  $(call "$pool" swap "[\"$a\", \"10000\", \"1\", null]")"
echo "pool  $pool"
echo "token $a"
