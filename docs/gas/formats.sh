#!/bin/sh
# Reads what `slackline gas profile` writes with tools of others: pprof of Go, the JSON schema of speedscope, an XML parser.
#
#   docs/gas/formats.sh SCHEMA [ARGUMENTS OF slackline gas profile]
#
# SCHEMA is file-format-schema.json of speedscope's npm package. Needs go, and python3 with jsonschema. Run in the clone, with `slackline` in the path.
set -eu
schema=$1
shift
[ $# -gt 0 ] || set -- contracts/examples/amm
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
slackline gas profile "$@" --json --keep "$work/records" > "$work/profile.json"
slackline gas profile --from "$work/records" --pprof "$work/p.pb.gz" --speedscope "$work/p.json" --flamegraph "$work/p.svg" --folded "$work/p.folded" > /dev/null
go tool pprof -raw "$work/p.pb.gz" > "$work/raw" 2> "$work/log" || { cat "$work/log"; exit 1; }
go tool pprof -top -nodecount 5 "$work/p.pb.gz" 2> "$work/log"
python3 - "$work" "$schema" <<'PYTHON'
import json, sys, xml.etree.ElementTree as xml
import jsonschema
work, schema = sys.argv[1:]
read = lambda name: open(f"{work}/{name}").read()
fuel = json.loads(read("profile.json"))["fuel"]
speedscope = json.loads(read("p.json"))
jsonschema.validate(speedscope, json.load(open(schema)))
samples = read("raw").split("Samples:\n")[1].split("Locations\n")[0].splitlines()[1:]
sums = {
    "pprof": sum(int(line.split(":")[0]) for line in samples if ":" in line),
    "speedscope": sum(sum(profile["weights"]) for profile in speedscope["profiles"]),
    "folded": sum(int(line.rsplit(" ", 1)[1]) for line in read("p.folded").splitlines()),
}
root = xml.fromstring(read("p.svg"))
frames = len(root.findall(".//{http://www.w3.org/2000/svg}rect"))
assert root.tag == "{http://www.w3.org/2000/svg}svg" and frames > 10, (root.tag, frames)
print(f"fuel {fuel:,}; the sums are {sums}; {frames} rectangles in the SVG")
assert set(sums.values()) == {fuel}
PYTHON
