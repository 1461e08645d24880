//! A small mutator of bytes: enough to find what a careless parser trips over, in a second.

#![allow(clippy::print_stdout)] // shown when a test fails

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use tokio::time::Instant;

/// What parsers look at.
const TOKENS: [&[u8]; 24] = [
    b"\0",
    b"\r\n",
    b"\n",
    b":",
    b"-",
    b".",
    b"${",
    b"}",
    b"$${",
    b"\"",
    b"{",
    b"[",
    b"=",
    b" ",
    b"%",
    b"\xff",
    b"\xc3",
    b"\xe2\x80\xa8",
    b"99999999999999999999",
    b"-1",
    b"1e999",
    b"null",
    b"00",
    b"A",
];
/// The longest input that is made, in bytes.
const MAX_INPUT: usize = 16 << 10;

/// The longest that one input may take: far more than any does on a busy machine, far less than a parser that has gone
/// astray.
const LONGEST: Duration = Duration::from_secs(10);

/// Gives `target` the corpus, then `cases` inputs made of it. Whatever breaks it is printed with the seed.
///
/// The seed is new in each run, so that runs add up; a found input belongs into the corpus.
pub(crate) fn run(corpus: &[&[u8]], cases: usize, target: impl Fn(&[u8])) {
    let seed = RandomState::new().build_hasher().finish();
    println!("seed {seed}");
    let mut random = Random(seed | 1);
    let mut input = Vec::new();
    for base in corpus {
        attempt(base, seed, &target);
    }
    for _ in 0..cases {
        input.clear();
        input.extend_from_slice(random.of(corpus));
        for _ in 0..=random.below(6) {
            mutate(&mut input, corpus, &mut random);
        }
        input.truncate(MAX_INPUT);
        attempt(&input, seed, &target);
    }
}

fn attempt(input: &[u8], seed: u64, target: &impl Fn(&[u8])) {
    let named = Named { input, seed };
    let started = Instant::now();
    target(input);
    assert!(started.elapsed() < LONGEST, "it takes {:?}", started.elapsed());
    std::mem::forget(named);
}

/// Says which input it was when the target panics.
struct Named<'a> {
    input: &'a [u8],
    seed: u64,
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        println!("seed {}, input b\"{}\"", self.seed, self.input.escape_ascii());
    }
}

fn mutate(input: &mut Vec<u8>, corpus: &[&[u8]], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = at + random.below((input.len() - at).min(40) + 1);
    match random.below(7) {
        0 => drop(input.drain(at..end)),
        1 => insert(input, at, random.of(&TOKENS)),
        2 => {
            let piece = input[at..end].to_vec();
            for _ in 0..=random.below(20) {
                insert(input, at, &piece);
            }
        }
        3 => {
            let other = random.of(corpus);
            let from = random.below(other.len() + 1);
            insert(input, at, &other[from..]);
        }
        4 => insert(input, at, &[b'a'].repeat(random.below(600))),
        _ if at < input.len() => input[at] ^= 1 << random.below(8),
        _ => {}
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if input.len() + piece.len() <= MAX_INPUT {
        input.splice(at..at, piece.iter().copied());
    }
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or_default() % limit
    }

    fn of<'a>(&mut self, list: &[&'a [u8]]) -> &'a [u8] {
        list[self.below(list.len())]
    }
}
