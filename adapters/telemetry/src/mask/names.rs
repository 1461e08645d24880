//! Names of fields that are hidden.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// The longest name that is looked at from its start.
const LONGEST: usize = 256;

/// A list of names without case and separators.
#[derive(Debug)]
pub(super) struct Names {
    /// Tells the answers of several lists apart.
    id: u64,
    listed: Vec<Box<[u8]>>,
    /// Whether a name on the list begins with this letter.
    initials: [bool; 256],
}

/// The answer for a name, which is told by its address: it is never freed.
type Remembered = (u64, usize, usize, bool);

const PLACES: usize = 256;

thread_local! {
    static ANSWERS: [Cell<Remembered>; PLACES] = const { [const { Cell::new((0, 0, 0, false)) }; PLACES] };
}

impl Names {
    pub(super) fn new(names: &[String]) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let plain = |name: &String| -> Box<[u8]> {
            let letters = name.bytes().filter(|byte| is_part(*byte));
            letters.map(|byte| byte.to_ascii_lowercase()).collect()
        };
        let listed: Vec<_> = names.iter().map(plain).filter(|name| !name.is_empty()).collect();
        let mut initials = [false; 256];
        for name in &listed {
            initials[usize::from(name[0])] = true;
            initials[usize::from(name[0].to_ascii_uppercase())] = true;
        }
        Self {
            id: NEXT.fetch_add(1, Relaxed),
            listed,
            initials,
        }
    }

    /// As [`Names::has`], for a name that was asked for before in a few nanoseconds.
    pub(super) fn remembers(&self, name: &'static str) -> bool {
        let (address, length) = (name.as_ptr().addr(), name.len());
        ANSWERS.with(|answers| {
            let place = &answers[(address ^ (address >> 8) ^ length) % PLACES];
            let (id, known, known_length, answer) = place.get();
            if (id, known, known_length) == (self.id, address, length) {
                return answer;
            }
            let answer = self.has(name.as_bytes());
            place.set((self.id, address, length, answer));
            answer
        })
    }

    /// Whether one or several parts of `name` in a row are on the list.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        let name = &name[..name.len().min(LONGEST)];
        (0..name.len()).any(|start| {
            self.initials[usize::from(name[start])]
                && begins_part(name, start)
                && self.listed.iter().any(|listed| is_at(&name[start..], listed))
        })
    }
}

/// Whether `name` begins with the letters of `listed`, whatever stands between them, and another part follows.
fn is_at(name: &[u8], listed: &[u8]) -> bool {
    let mut at = 0;
    for letter in listed {
        // A separator inside a listed name, but not two words run together.
        while at > 0 && name.get(at).is_some_and(|byte| is_separator(*byte)) {
            at += 1;
        }
        if name.get(at).is_none_or(|byte| !byte.eq_ignore_ascii_case(letter)) {
            return false;
        }
        at += 1;
    }
    match name.get(at) {
        None => true,
        Some(next) => !next.is_ascii_alphabetic() || begins_part(name, at),
    }
}

/// Whether a part of a name begins here: at its start, after a separator or a digit, or where case changes.
fn begins_part(name: &[u8], at: usize) -> bool {
    let Some(before) = at.checked_sub(1).map(|before| name[before]) else {
        return true;
    };
    !before.is_ascii_alphabetic() || (before.is_ascii_lowercase() && name[at].is_ascii_uppercase())
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'_' | b'-' | b'.' | b' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Redaction;

    #[test]
    fn l_02_l_03_names_are_found_whatever_their_case_and_separators() {
        let names = Names::new(&Redaction::default().fields);
        for name in [
            "password",
            "PASSWORD",
            "user_password",
            "userPassword",
            "db.password",
            "password2",
            "password_hash",
            "api_key",
            "apiKey",
            "apikey",
            "API-KEY",
            "x-api-key",
            "http.request.header.authorization",
            "set-cookie",
            "access_token",
            "AccessToken",
            "dsn",
        ] {
            assert!(names.has(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "pass",
            "user",
            "tokens_used",
            "tokenizer",
            "secretary",
            "adsn",
            "passworded",
            "api",
            "key",
            "method",
            "monkey_api_x",
            "compass_word",
        ] {
            assert!(!names.has(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_list_of_ones_own_does_not_mix_with_another() {
        let (own, none) = (Names::new(&["Shoe-Size".into()]), Names::new(&[]));
        for _ in 0..2 {
            assert!(own.remembers("shoe_size") && !own.remembers("password"));
            assert!(!none.remembers("shoe_size"));
        }
    }
}
