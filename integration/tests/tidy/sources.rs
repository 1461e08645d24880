//! Sizes, marks of unfinished work, and complete suites.

use super::{File, files, none};

/// The most lines of a source file, tests at its end aside.
const LIMIT: usize = 400;

#[test]
fn source_files_are_short() {
    let mut faults = Vec::new();
    for file in sources() {
        let length = length(&file.text);
        if length > LIMIT {
            faults.push(format!(
                "{}: {length} lines: at most {LIMIT}: split it by what it is about",
                file.path
            ));
        }
    }
    none(&faults);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut faults = Vec::new();
    for file in files(
        "",
        &[
            ".rs",
            ".toml",
            ".md",
            ".sh",
            ".yaml",
            ".yml",
            "scripts/test",
            "run",
        ],
    ) {
        for (number, mark) in unfinished(&file.text) {
            faults.push(format!(
                "{}:{number}: `{mark}`: finish it, or say in an issue what is missing",
                file.path
            ));
        }
    }
    none(&faults);
}

#[test]
fn every_conformance_case_is_in_the_list_of_its_suite() {
    let mut faults = Vec::new();
    let (mut cases, suite) = (0, "testkit/src/conformance");
    let sources = files(suite, &[".rs"]);
    for list in sources
        .iter()
        .filter(|file| file.text.contains("macro_rules! __"))
    {
        let port = list.path.trim_end_matches("mod.rs");
        for theme in sources
            .iter()
            .filter(|file| file.path != list.path && file.path.starts_with(port))
        {
            for case in case_names(&theme.text) {
                cases += 1;
                if !has_word(&list.text, case) {
                    faults.push(format!(
                        "{}: case `{case}` is never run: add it to the list in {}",
                        theme.path, list.path
                    ));
                }
            }
        }
    }
    assert!(
        cases > 100,
        "only {cases} cases were found below {suite}: has their form changed?"
    );
    none(&faults);
}

#[test]
fn the_checks_find_what_they_look_for() {
    assert_eq!(
        length("one\n#[cfg(test)]\nmod tests;\ntwo\n#[cfg(test)]\nmod tests {\nthree\n}"),
        4
    );
    let marks = [
        concat!("// TO", "DO later"),
        concat!("    to", "do!()"),
        "fn todos() {}",
        concat!("# FIX", "ME"),
    ];
    let found: Vec<usize> = unfinished(&marks.join("\n"))
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    assert_eq!(found, [1, 2, 4]);
    let theme = "pub async fn a_case<H: Harness>(h: &H) -> Outcome {\nasync fn helper(h: &H) -> Outcome {\n";
    assert_eq!(case_names(theme), ["a_case"]);
    assert!(has_word("x: a_case @threads,", "a_case") && !has_word("a_case_2", "a_case"));
}

/// The sources that are part of a program.
fn sources() -> Vec<File> {
    let mut sources = files("", &[".rs"]);
    sources.retain(|file| {
        let is_test = file.path.ends_with("/tests.rs") || file.path.contains("/tests/");
        file.path.contains("/src/") && !is_test
    });
    assert!(sources.len() > 50, "only {} sources were found", sources.len());
    sources
}

/// The lines before the tests at the end.
fn length(text: &str) -> usize {
    let end = text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines().count()
}

/// Line numbers and marks. The marks are written in two parts here, or this file would find itself.
fn unfinished(text: &str) -> Vec<(usize, &'static str)> {
    const MARKS: [&str; 5] = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
    ];
    let numbered = text.lines().enumerate();
    numbered
        .filter_map(|(i, line)| Some((i + 1, *MARKS.iter().find(|mark| has_word(line, mark))?)))
        .collect()
}

fn case_names(theme: &str) -> Vec<&str> {
    let heads = theme
        .split("\npub async fn ")
        .skip(1)
        .chain(theme.strip_prefix("pub async fn "));
    heads
        .filter(|head| {
            head.split('{')
                .next()
                .is_some_and(|signature| signature.contains("-> Outcome"))
        })
        .map(|head| head.split(['<', '(']).next().unwrap())
        .collect()
}

fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}
