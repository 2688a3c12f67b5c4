#!/usr/bin/env python3
"""Compares the operators' files with the code: `python3 deploy/check.py`, from anywhere. Needs nothing but Python 3.9.

It fails if
- a metric `slackline_*` or `process_*` in alerts.yml, grafana/dashboard.json or docs/operating.md is not registered in node/src/metrics.rs
  nor written in node/src/process.rs, or one that is registered is not in docs/operating.md;
- a setting (`section.name`, or `SLACKLINE_SECTION__NAME`) in docs/operating.md or a file here is not one of
  node/src/config.rs, or one of those is not in docs/operating.md;
- an alert is not explained in docs/operating.md, or a file does not parse.

With `--prometheus http://127.0.0.1:9090` it also asks a Prometheus that watches running nodes, as that of compose.yaml: it fails if
- one of its targets cannot be reached;
- an expression of the dashboard or of an alert is refused, or finds nothing though all metrics in it are there: labels that do not fit.

Names of the consensus engine's metrics are looked for in its sources if cargo has fetched them. YAML is parsed if PyYAML is there.
"""

import argparse
import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
RUNBOOK = ROOT / "docs/operating.md"
ALERTS = DEPLOY / "alerts.yml"
DASHBOARD = DEPLOY / "grafana/dashboard.json"
UNITS = {"seconds": "seconds", "bytes": "bytes", "ratios": "ratios"}
# Looks like a setting, and is a file.
FILES = {"mempool.journal", "store.md", "gossip.md", "mempool.md"}
ENGINE = "arc-malachitebft-*-0.8.2"

problems = []


def problem(text):
    problems.append(text)


def read(path):
    return (ROOT / path).read_text()


def call_arguments(text, start):
    """The text between the parenthesis at `start` and the one that closes it. Strings may hold parentheses."""
    depth, index, quoted = 0, start, False
    while index < len(text):
        char = text[index]
        if quoted:
            index += char == "\\"
            quoted = char != '"'
        elif char == '"':
            quoted = True
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth == 0:
                return text[start + 1 : index]
        index += 1
    sys.exit("node/src/metrics.rs: a parenthesis is not closed")


def struct_fields(text, name):
    """Names and types of the public or private fields of a struct."""
    found = re.search(r"struct %s(?:<[^>]*>)? \{\n(.*?)\n\}" % name, text, re.S)
    if not found:
        return None
    return re.findall(r"^\s*(?:pub(?:\([a-z]+\))? )?([a-z_0-9]+): (.+?),?$", found[1], re.M)


def metrics():
    """Name of each metric, without what its kind appends, and its kind."""
    text = read("node/src/metrics.rs").split("#[cfg(test)]")[0]
    prefix = re.search(r'Registry::with_prefix\("([a-z_]+)"\)', text)[1]
    kinds = {}
    for field, kind in struct_fields(text, "Metrics") or []:
        found = re.search(r"\b(Gauge|Counter|Histogram)\b", kind)
        if found:
            kinds[field] = found[1].lower()
    names = {}
    for found in re.finditer(r"([a-z_0-9]+): registered!(?=\()", text):
        arguments = call_arguments(text, found.end())
        name = re.match(r'\s*"([a-z_0-9]+)"', arguments)[1]
        unit = re.search(r"Unit::([A-Z][a-z]+)\b(?!\()", arguments)
        other = re.search(r"\bfuel\(\)", arguments)
        suffix = "_" + UNITS[unit[1].lower()] if unit else "_fuel" if other else ""
        names[f"{prefix}_{name}{suffix}"] = kinds.get(found[1]) or sys.exit(f"metrics.rs: of what kind is {found[1]}?")
    if len(names) != text.count("registered!(\n") + text.count('registered!("'):
        sys.exit("node/src/metrics.rs: a registration was not understood; change deploy/check.py with it")
    # Written by hand.
    for name in re.findall(r'\bhistogram\(\s*&mut [a-z_]+,\s*"([a-z_0-9]+)"', text):
        names[name] = "histogram"
    written = re.findall(r'\("(process_[a-z_]+)", "(gauge|counter)"\)', read("node/src/process.rs"))
    if not written:
        sys.exit("node/src/process.rs: its metrics were not understood; change deploy/check.py with it")
    return names | dict(written)


def samples(names):
    endings = {"gauge": [""], "counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return {name + ending for name, kind in names.items() for ending in endings[kind]}


def settings():
    """All settings, with dots."""
    sources = {
        "slackline_consensus::Config": ("consensus/src/config.rs", "Config"),
        "StoreOptions": ("store/src/options.rs", "StoreOptions"),
    }

    def walk(path, name, before):
        for field, kind in struct_fields(read(path), name):
            source, inner = sources.get(kind, (path, kind))
            if re.fullmatch(r"[A-Z]\w+", inner) and struct_fields(read(source), inner):
                yield from walk(source, inner, f"{before}{field}.")
            else:
                yield before + field

    return set(walk("node/src/config.rs", "Config", ""))


def crates():
    names = re.findall(r'^name = "([a-z-]+)"', "\n".join(p.read_text() for p in ROOT.glob("**/Cargo.toml") if "target" not in p.parts), re.M)
    return {name.replace("-", "_") for name in names}


def engine_metrics():
    """Names that the engine registers, without prefixes. `None` if its sources are not there."""
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    sources = [p for d in home.glob(f"registry/src/*/{ENGINE}") for p in d.glob("src/**/*.rs")]
    if not sources:
        return None
    return {n for p in sources for n in re.findall(r'\.register\(\s*"([a-z_]+)"', p.read_text())}


def check_metrics(names):
    known, engine, ignored = samples(names), engine_metrics(), crates()
    for path in (ALERTS, DASHBOARD, RUNBOOK):
        text = path.read_text()
        where = path.relative_to(ROOT)
        allowed = known | (set(names) if path == RUNBOOK else set())
        for name in sorted(set(re.findall(r"(?<![\w:/.-])(?:slackline|process)_[a-z0-9_]+", text)) - ignored):
            if name not in allowed:
                problem(f"{where}: there is no metric {name}")
        for name in sorted(set(re.findall(r"\bmalachitebft_([a-z_]+)", text))) if engine else []:
            bare = re.sub(r"^(core_consensus|sync|network|discovery)_", "", name)
            if not {bare, re.sub(r"_(total|bucket|sum|count)$", "", bare)} & engine:
                problem(f"{where}: the engine has no metric malachitebft_{name}")
    runbook = RUNBOOK.read_text()
    for name, kind in sorted(names.items()):
        name += "_total" if kind == "counter" else ""
        if not re.search(rf"`{name}[`{{]", runbook):
            problem(f"docs/operating.md: the metric {name} is not explained")
    return engine


def check_settings(known):
    sections = {name.split(".")[0] for name in known}
    parents = {name.rsplit(".", 1)[0] for name in known}
    tables = "|".join(sorted(sections))
    files = [p for p in DEPLOY.glob("**/*") if p.is_file() and p != Path(__file__).resolve()]
    for path in [RUNBOOK, *files]:
        text, where = path.read_text(), path.relative_to(ROOT)
        found = {
            name.rstrip(".")
            for name in re.findall(rf"(?<![\w./:-])((?:{tables})\.[a-z_][a-z_0-9.]*)", text)
            if not name.endswith((".rs", ".toml"))
        }
        for name in re.findall(r"\bSLACKLINE_([A-Z]+(?:__[A-Z_0-9]+)+)", text):
            if name != "SECTION__NAME":
                found.add(name.replace("__", ".").lower())
        for name in sorted(found - known - parents - FILES):
            problem(f"{where}: there is no setting {name}")
    runbook = RUNBOOK.read_text()
    for name in sorted(known):
        if f"| `{name}` |" not in runbook:
            problem(f"docs/operating.md: the setting {name} is not in the table")


def check_files():
    for path in DEPLOY.glob("**/*.json"):
        try:
            json.loads(path.read_text())
        except ValueError as error:
            problem(f"{path.relative_to(ROOT)}: {error}")
    runbook = RUNBOOK.read_text()
    for alert in re.findall(r"- alert: (\w+)", ALERTS.read_text()):
        if f"`{alert}`" not in runbook:
            problem(f"docs/operating.md: the alert {alert} is not explained")
    for alert in set(re.findall(r"`(Slackline[A-Z]\w+)`", runbook)) - set(re.findall(r"- alert: (\w+)", ALERTS.read_text())):
        problem(f"docs/operating.md: there is no alert {alert}")
    try:
        import yaml
    except ImportError:
        return False
    for path in [*DEPLOY.glob("**/*.yml"), *DEPLOY.glob("**/*.yaml")]:
        try:
            yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            problem(f"{path.relative_to(ROOT)}: {error}")
    return True


def expressions():
    """Each expression of the dashboard, and of the alerts without what they compare with, and where it is."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    while panels:
        panel = panels.pop()
        panels += panel.get("panels", [])
        for target in panel.get("targets", []):
            yield f"dashboard, {panel['title']}", target["expr"]
    import yaml

    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]


def check_running(prometheus):
    """Asks Prometheus. Counts the expressions, and those that find nothing as nothing has happened."""

    def ask(path, **parameters):
        url = f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            return {"refused": json.load(error).get("error")}

    for target in ask("targets")["activeTargets"]:
        if target["health"] != "up":
            problem(f"{target['scrapeUrl']}: {target['lastError'] or target['health']}")
    count, silent = 0, []
    variables = {"$__rate_interval": "1m", "$__interval": "15s", "$__range": "5m", "$instance": ".*"}
    for where, text in expressions():
        for name, value in variables.items():
            text = text.replace(name, value)
        count += 1
        answer = ask("query", query=text)
        if "refused" in answer:
            problem(f"{where}: {answer['refused']}: {text}")
        elif not answer["result"]:
            # A comparison that is false finds nothing, and that is well. What is compared must be there.
            metrics = set(re.findall(r"\b(?:slackline|malachitebft|process)_[a-z0-9_]+", text))
            there = metrics and all(ask("query", query=name)["result"] for name in metrics)
            left = re.split(r"\s(?:[<>]=?|==|!=)\s|\sunless\s", text)[0]
            if there and left.count("(") == left.count(")") and not ask("query", query=left).get("result"):
                problem(f"{where}: finds nothing, though there is all that it asks for: {left}")
            elif not there:
                silent.append(where)
    return count, silent


def main():
    options = argparse.ArgumentParser(description="Compares the operators' files with the code.")
    options.add_argument("--prometheus", metavar="URL", help="also ask this one, which watches running nodes")
    options = options.parse_args()
    names, known = metrics(), settings()
    if not names or not known:
        sys.exit("deploy/check.py understands node/src/metrics.rs or config.rs no more: change it with them")
    engine = check_metrics(names)
    check_settings(known)
    parsed = check_files()
    asked = check_running(options.prometheus.rstrip("/")) if options.prometheus else None
    for text in problems:
        print(text, file=sys.stderr)
    if not problems:
        notes = [] if engine else ["the engine's metrics were not looked at: its sources are not there"]
        if asked:
            count, silent = asked
            notes.append(f"Prometheus answers {count} expressions, {len(silent)} of them of what has not happened")
            notes += silent
        notes += [] if parsed else ["YAML was not parsed: there is no PyYAML"]
        print("; ".join([f"{len(names)} metrics and {len(known)} settings agree", *notes]))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
