//! Builds the table of docs/conformance.md from the sources, and fails where the page has drifted from them
//!
//! A requirement is covered by a test whose doc comment carries its id (`S12-ESC-02`, or a range
//! `S11-HB-03 to S11-HB-13`), by a vector of `vectors.jsonl`, or by a test elsewhere that
//! `conformance/elsewhere.tsv` names. What is left needs a reason in `conformance/reasons.tsv`.
//!
//! `CONFORMANCE=write cargo test -p stomp-codec --test conformance` writes the page anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

struct Row {
    id: &'static str,
    versions: &'static str,
    role: &'static str,
    level: &'static str,
    requirement: &'static str,
}

fn rows() -> Vec<Row> {
    let rows: Vec<_> = include_str!("conformance/rows.tsv")
        .lines()
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            let [id, versions, role, level, requirement] = *fields else { panic!("{line}") };
            Row { id, versions, role, level, requirement }
        })
        .collect();
    assert_eq!(rows.len(), 416);
    rows
}

fn pairs(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    text.lines().map(|line| line.split_once('\t').unwrap_or_else(|| panic!("{line}")))
}

/// The ids in a line, ranges spelt out
fn ids(line: &str, all: &[Row]) -> Vec<&'static str> {
    let mut found: Vec<&'static str> = Vec::new();
    let mut is_range = false;
    for word in line.split(|it: char| !it.is_ascii_alphanumeric() && it != '-') {
        let index = all.iter().position(|row| row.id == word);
        match index {
            Some(index) => {
                if is_range {
                    let first = all.iter().position(|row| Some(&row.id) == found.last()).unwrap();
                    found.extend(all[first + 1..index].iter().map(|row| row.id));
                }
                found.push(all[index].id);
                is_range = false;
            }
            None if word == "to" && !found.is_empty() => is_range = true,
            None if word.is_empty() => {}
            None => is_range = false,
        }
    }
    found
}

/// Which tests of a source file carry which ids
fn scan(
    path: &Path,
    name: &str,
    all: &[Row],
    covered: &mut BTreeMap<&'static str, BTreeSet<String>>,
) {
    let mut pending = Vec::new();
    for line in fs::read_to_string(path).unwrap().lines() {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix("///") {
            pending.extend(ids(comment, all));
        } else if let Some(rest) = line.strip_prefix("fn ") {
            let function = rest.split('(').next().unwrap();
            for id in pending.drain(..) {
                covered.entry(id).or_default().insert(format!("{name} `{function}`"));
            }
        } else if !line.starts_with('#') && !line.is_empty() {
            pending.clear();
        }
    }
}

fn covered(all: &[Row]) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut covered = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![PathBuf::from("src/decode/tests.rs")];
    for entry in fs::read_dir(root.join("tests")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".rs") && name != "conformance.rs" {
            files.push(Path::new("tests").join(name));
        }
    }
    files.sort();
    for file in files {
        scan(&root.join(&file), file.to_str().unwrap(), all, &mut covered);
    }
    for row in all {
        if include_str!("vectors.jsonl").contains(&format!("{{\"id\": \"{}\"", row.id)) {
            covered.entry(row.id).or_default().insert("tests/vectors.rs".to_owned());
        }
    }
    covered
}

/// Tests in other crates, checked to be there
fn elsewhere(all: &[Row], repository: &Path) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut elsewhere: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for (id, place) in pairs(include_str!("conformance/elsewhere.tsv")) {
        assert!(all.iter().any(|row| row.id == id), "{id} is no requirement");
        let (file, function) = place.split_once(' ').unwrap_or((place, ""));
        let text = fs::read_to_string(repository.join(file))
            .unwrap_or_else(|error| panic!("{id}: {file}: {error}"));
        assert!(text.contains(function.trim_matches('`')), "{id}: {file} has no {function}");
        elsewhere.entry(id).or_default().insert(place.to_owned());
    }
    elsewhere
}

fn page(repository: &Path) -> String {
    let all = rows();
    let covered = covered(&all);
    let elsewhere = elsewhere(&all, repository);
    let reasons: BTreeMap<_, _> = pairs(include_str!("conformance/reasons.tsv")).collect();
    let mut table = String::new();
    let mut uncovered = Vec::new();
    let mut counts = [0; 3];
    for row in &all {
        let tests: Vec<_> = [covered.get(row.id), elsewhere.get(row.id)]
            .into_iter()
            .flatten()
            .flatten()
            .cloned()
            .collect();
        let mut place = tests.join(", ");
        if let Some(reason) = reasons.get(row.id) {
            if !place.is_empty() {
                place += ". ";
            }
            place += reason;
        }
        if covered.contains_key(row.id) {
            counts[0] += 1;
        } else if elsewhere.contains_key(row.id) {
            counts[1] += 1;
        } else if reasons.contains_key(row.id) {
            counts[2] += 1;
        } else {
            uncovered.push(row.id);
        }
        writeln!(
            table,
            "| {} | {} | {} | {} | {} | {place} |",
            row.id, row.versions, row.role, row.level, row.requirement
        )
        .unwrap();
    }
    assert!(uncovered.is_empty(), "neither a test nor a reason: {uncovered:?}");
    for id in reasons.keys() {
        assert!(all.iter().any(|row| row.id == *id), "{id} is no requirement");
    }
    let [here, there, reasoned] = counts;
    format!(
        "{}\n{here} of the {} requirements are covered by tests of stomp-codec, {there} by tests of the \
         other crates, {reasoned} have a reason instead. Paths are relative to `stomp-codec/` or to the \
         repository.\n\n\
         | Id | Versions | Role | Level | Requirement | Test or reason |\n|---|---|---|---|---|---|\n{table}\n{}{}",
        include_str!("conformance/head.md"),
        all.len(),
        include_str!("conformance/peers.md"),
        include_str!("conformance/differential.md"),
    )
}

#[test]
fn every_requirement_has_a_test_or_a_reason_and_the_page_says_which() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = repository.join("docs/conformance.md");
    if !repository.join("stomp-codec").exists() || !repository.join("docs").exists() {
        // Packaged alone: the page is not part of the crate.
        return;
    }
    let page = page(&repository);
    if std::env::var("CONFORMANCE").is_ok_and(|it| it == "write") {
        fs::write(&path, &page).unwrap();
    }
    assert!(
        fs::read_to_string(&path).is_ok_and(|text| text == page),
        "docs/conformance.md has drifted: CONFORMANCE=write cargo test -p stomp-codec --test conformance"
    );
}

#[test]
fn ranges_are_spelt_out() {
    let all = rows();
    assert_eq!(
        ids("S11-VER-02 to S11-VER-04, S10-TX-01: x", &all),
        ["S11-VER-02", "S11-VER-03", "S11-VER-04", "S10-TX-01"]
    );
    assert!(ids("S99-XXX-01 to nothing", &all).is_empty());
}
