#!/usr/bin/env python3
"""Checks reports of tierce-bench: JSON that is consistent, HTML that is well formed and refers to nothing outside.
check_report.py JSON HTML --subjects NAMES --least PROGRAMS.  No time is judged."""
import argparse
import json
import re
import statistics
import sys
import xml.etree.ElementTree as ET

parser = argparse.ArgumentParser()
parser.add_argument("json")
parser.add_argument("html")
parser.add_argument("--subjects", required=True)
parser.add_argument("--least", type=int, required=True)
parser.add_argument("--compiler", action="store_true", help="the JSON has latencies, that in the page what is lost to the compiler")
args = parser.parse_args()
failures = []


def check(good, what):
    if not good:
        failures.append(what)


def close(a, b):
    return abs(a - b) <= 1e-4 * abs(b)


def check_program(program, subjects):
    name, results = program["name"], program["results"]
    check(name.startswith(program["group"] + "_"), f"{name} is not of {program['group']}")
    check(list(results) == subjects, f"{name}: subjects {list(results)}")
    for subject, result in results.items():
        rounds = result["rounds"]
        for r in rounds:
            check(r["outcome"] == "good", f"{name}, {subject}: {r['outcome']}")
            check(r["units"] >= 1 and 0 < r["best_ns"] <= r["unit_ns"], f"{name}, {subject}: {r}")
            check(r["guest_elapsed_ns"] > 0 and r["host_elapsed_ns"] > 0, f"{name}, {subject}: {r}")
        times = [r["unit_ns"] for r in rounds]
        figures = result["unit_ns"]
        check(close(figures["median"], statistics.median(times)), f"{name}, {subject}: median")
        check(close(figures["min"], min(times)) and close(figures["max"], max(times)), f"{name}, {subject}: min and max")
        ratios = [r["unit_ns"] / n["unit_ns"] for r, n in zip(rounds, results["native"]["rounds"])]
        check(close(result["times_native"]["median"], statistics.median(ratios)), f"{name}, {subject}: times native")


def check_json(report, subjects):
    check([s["name"] for s in report["subjects"]] == subjects, "subjects")
    check(len(report["programs"]) >= args.least, f"{len(report['programs'])} programs")
    check(report["host"]["cpus"] >= 1 and report["host"]["kernel"], "host")
    for program in report["programs"]:
        check_program(program, subjects)
    for group in report["groups"]:
        of_group = [p["results"][group["subject"]] for p in report["programs"]
                    if p["group"] == group["name"] and not (group["name"] == "translate" and p["name"].endswith("_again"))]
        means = [statistics.geometric_mean(r) for r in zip(*(
            [x["unit_ns"] / n["unit_ns"] for x, n in zip(p["results"][group["subject"]]["rounds"], p["results"]["native"]["rounds"])]
            for p in report["programs"] if p["group"] == group["name"]
            and not (group["name"] == "translate" and p["name"].endswith("_again"))))]
        check(of_group and close(group["times_native"]["median"], statistics.median(means)), f"geometric mean of {group}")


def check_figures(report, name, least, most):
    for machine in report["machines"]:
        figures = machine.get(name)
        check(figures and None not in figures.values() and least <= figures["min"] <= figures["median"] <= figures["max"] <= most, f"{name}: {figures}")
    check(any(goal["got"]["median"] == report["machines"][0][name]["median"] for goal in report["goals"]), f"no goal of {name}")


def check_html(text):
    root = ET.fromstring(text.removeprefix("<!DOCTYPE html>"))
    check(root.tag == "html", "root element")
    check(root.find("./head/meta[@charset='utf-8']") is not None, "character set")
    outside = re.findall(r"https?://|//[a-z]+\.|url\(|@import|<link|<img|<iframe|src=", text)
    check(not outside, f"refers outside: {outside}")
    report = json.loads(root.find(".//script[@id='data']").text)
    check(report["tool"] == "tierce-bench", "the JSON in the page")
    if args.compiler:
        check_figures(report, "compiler_loss_percent", -90, 1000)
    check(root.find(".//table") is not None, "no table")
    return len(root.findall(".//svg"))


with open(args.json) as f:
    subjects = args.subjects.split(",")
    report = json.load(f)
    check_json(report, subjects)
    if args.compiler:
        check_figures(report, "latency_ms", 0.1, 1500)
with open(args.html) as f:
    charts = check_html(f.read())
check(charts >= 1 or len(subjects) == 1, "no chart")
for failure in failures:
    print("wrong:", failure)
print(f"reports: {len(failures)} failed")
sys.exit(1 if failures else 0)
