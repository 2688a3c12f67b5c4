#!/bin/sh
# The tools of docs/gas.md on the market maker and the order book: makes the pictures in docs/gas, and docs/gas/tour.txt of what is printed.
# Run in the clone, with `slackline` in the path, after `cargo xtask contracts`.
set -eu
cd "$(dirname "$0")/../.."
pictures=docs/gas
# Where tests leave the code of contracts with debug information.
debug=${CARGO_TARGET_DIR:-contracts/target}/contracts
work=$(mktemp -d)
running=
finish() { for pid in $running; do kill "$pid" 2> /dev/null || true; done; wait; rm -r "$work"; }
trap finish EXIT
exec > $pictures/tour.txt

show() {
    echo "\$ slackline $*" | sed "s#$work/##g; s#$debug#contracts/target/contracts#g"
    slackline "$@" | sed "s#$work/##g; s/ *\$//"
    echo
}

for example in amm orderbook; do
    dir=contracts/examples/$example
    show gas report $dir --only $example
    show gas snapshot $dir --file "$work/$example.snapshot"
    show gas snapshot $dir --file "$work/$example.snapshot" --check
    show gas profile $dir --only $example --top 12 --flamegraph $pictures/$example.svg --speedscope "$work/$example.speedscope.json" --pprof "$work/$example.pb.gz"
    show gas limit $dir --only $example
done
show gas report contracts/examples/amm --only amm.swap --host
show gas profile contracts/examples/amm --only amm.swap --lines --source amm/src
show gas profile contracts/examples/orderbook --only orderbook.place --lines --source orderbook/src
show gas limit --command "cargo test -p slackline-gas --test growth -- --ignored" --only orderbook.place --plots $pictures

# On a chain: a swap, and an order that matches two others.
mkfifo "$work/ready"
slackline dev --listen 127.0.0.1:0 --print-json > "$work/ready" 2> "$work/log" &
running=$!
read -r about < "$work/ready"
SLACKLINE_RPC=$(echo "$about" | sed 's/.*"rpc": *"\([^"]*\)".*/\1/')
export SLACKLINE_RPC
cell() { awk -v label="$1" '$1 == label { print $2 }'; }
deploy() { slackline deploy "target/contracts/$1.wasm" "$2" | cell contract; }
call() { slackline call "$@" | cell transaction; }
a=$(deploy token '{"supply": "1000000000"}')
b=$(deploy token '{"supply": "1000000000"}')
pool=$(deploy amm "[\"$a\", \"$b\", 30]")
book=$(deploy orderbook "[\"$a\", \"$b\", \"10\"]")
for token in "$a" "$b"; do
    for user in "$pool" "$book"; do call "$token" approve "[\"$user\", \"400000000\"]" > /dev/null; done
done
call "$pool" add '["400000", "100000", "1"]' > /dev/null
call "$book" deposit '["Base", "400000000"]' > /dev/null
call "$book" deposit '["Quote", "400000000"]' > /dev/null
for price in 3 4; do call "$book" place "{\"side\": \"Sell\", \"price\": \"$price\", \"lots\": \"5\", \"max_fills\": 0}" > /dev/null; done
swap=$(call "$pool" swap "[\"$a\", \"10000\", \"1\", null]")
place=$(call "$book" place '{"side": "Buy", "price": "4", "lots": "10", "max_fills": 8}')
show trace "$swap"
show trace "$swap" --profile --top 12 --debug "$debug" --flamegraph $pictures/swap.svg
show trace "$place"
show trace "$place" --profile --top 12 --debug "$debug" --flamegraph $pictures/place.svg

# The same node at work: the order book is read and traded with, the pool is asked and swapped with.
for price in 5 6 7 8; do call "$book" place "{\"side\": \"Sell\", \"price\": \"$price\", \"lots\": \"5\", \"max_fills\": 0}" > /dev/null; done
busy() { while slackline "$@" > /dev/null 2>&1; do :; done; }
call "$b" transfer '["bob", "1000000"]' > /dev/null
call "$b" approve "[\"$book\", \"1000000\"]" --from bob > /dev/null
call "$book" deposit '["Quote", "1000000"]' --from bob > /dev/null
busy view "$book" orders '{"side": "Sell", "limit": 64}' &
running="$running $!"
busy view "$pool" quote "[\"$a\", \"10000\"]" &
running="$running $!"
busy call "$pool" swap "[\"$a\", \"10\", \"0\", null]" &
running="$running $!"
busy call "$book" place '{"side": "Buy", "price": "1", "lots": "1", "max_fills": 0}' --from bob &
running="$running $!"
show profile --seconds 20 --interval 100 --top 12 --debug "$debug" --flamegraph $pictures/node.svg
