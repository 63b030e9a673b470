//! A key split among several people, of whom some number together have it and fewer have nothing (Shamir's scheme).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use blahaj::{Share, Sharks};
use zeroize::{Zeroize, Zeroizing};

use super::bytes::{MAX_LEN, Secret};
use super::fingerprint::Fingerprint;

const TITLE: &str = "offsite key share, version 1";
const LINE: usize = 64;
/// Longer than the shares of the longest key.
const LONGEST_TEXT: usize = 2 * MAX_LEN;

/// One of the shares that a key was split into, as a text that can be kept in a file or printed.
///
/// A share alone says nothing of the key but its fingerprint. Like [`Secret`] it has no `Debug`, `Clone` or `Serialize`.
pub struct KeyShare {
    key: Fingerprint,
    needed: u8,
    number: u8,
    bytes: Zeroizing<Vec<u8>>,
}

/// Why a key was not split or not put together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyShareError {
    /// The numbers make no sense.
    #[error(
        "{needed} of {shares} shares is not possible; 2 to 255 shares, of which at least 2 and at most all are needed"
    )]
    Numbers {
        /// How many would be needed.
        needed: u8,
        /// How many would be made.
        shares: u8,
    },
    /// The text is no share.
    #[error("it is no key share: {reason}")]
    NotAShare {
        /// What is wrong.
        reason: &'static str,
    },
    /// Something in the text was changed.
    #[error("share {number} was changed or copied with a mistake: its check line doesn't fit")]
    Changed {
        /// The number that it names.
        number: u8,
    },
    /// Shares of different keys.
    #[error("share {number} is of the key {found}, the others of {expected}")]
    OtherKey {
        /// The odd one.
        number: u8,
        /// The key of the first share.
        expected: Fingerprint,
        /// The key of this one.
        found: Fingerprint,
    },
    /// There are too few.
    #[error("{given} different shares are there and {needed} are needed")]
    TooFew {
        /// How many different ones there are.
        given: usize,
        /// How many are needed.
        needed: u8,
    },
    /// Together they make no key, or another one.
    #[error("the shares don't belong together: they were made by different splits of the key")]
    Unfitting,
}

/// Splits a key into `shares`, of which any `needed` give it back.
///
/// # Errors
/// [`KeyShareError::Numbers`] unless 2 <= `needed` <= `shares`.
pub fn split_key(key: &Secret, needed: u8, shares: u8) -> Result<Vec<KeyShare>, KeyShareError> {
    if needed < 2 || needed > shares {
        return Err(KeyShareError::Numbers { needed, shares });
    }
    let fingerprint = key.fingerprint();
    let dealt = Sharks(needed).dealer(key.expose()).take(shares.into());
    Ok(dealt
        .map(|share| {
            let mut whole = Vec::from(&share);
            let bytes = Zeroizing::new(whole.split_off(1));
            KeyShare { key: fingerprint, needed, number: whole.first().copied().unwrap_or_default(), bytes }
        })
        .collect())
}

/// Puts a key together again and makes sure, by its fingerprint, that it is the one that was split.
///
/// # Errors
/// [`KeyShareError::TooFew`], or what is wrong with which share.
pub fn join_key(shares: &[KeyShare]) -> Result<Secret, KeyShareError> {
    let Some(first) = shares.first() else { return Err(KeyShareError::TooFew { given: 0, needed: 2 }) };
    let mut different: Vec<&KeyShare> = Vec::with_capacity(shares.len());
    for share in shares {
        if share.key != first.key {
            let (expected, found) = (first.key, share.key);
            return Err(KeyShareError::OtherKey { number: share.number, expected, found });
        }
        if share.needed != first.needed || share.bytes.len() != first.bytes.len() {
            return Err(KeyShareError::Unfitting);
        }
        match different.iter().find(|other| other.number == share.number) {
            Some(other) if other.bytes != share.bytes => return Err(KeyShareError::Unfitting),
            Some(_same) => {}
            None => different.push(share),
        }
    }
    if different.len() < first.needed.into() {
        return Err(KeyShareError::TooFew { given: different.len(), needed: first.needed });
    }
    let parts = different.iter().map(|share| share.to_part()).collect::<Result<Vec<_>, _>>()?;
    let joined = Sharks(first.needed).recover(&parts).map_err(|_| KeyShareError::Unfitting)?;
    let key = Secret::from_bytes(joined);
    if key.fingerprint() == first.key { Ok(key) } else { Err(KeyShareError::Unfitting) }
}

impl KeyShare {
    /// The fingerprint of the key that was split.
    pub fn key(&self) -> Fingerprint {
        self.key
    }

    /// How many shares are needed.
    pub fn needed(&self) -> u8 {
        self.needed
    }

    /// Its number, from 1.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The text to be kept.
    pub fn expose_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.bytes.len() * 2 + 512));
        // Writing into a String can't fail.
        let _cannot_fail =
            write!(text, "{TITLE}\nkey:    {}\nneeded: {}\nnumber: {}\n", self.key, self.needed, self.number);
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(&*self.bytes));
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, behind) = rest.split_at(rest.len().min(LINE));
            text.push_str(line);
            text.push('\n');
            rest = behind;
        }
        let _cannot_fail = writeln!(text, "check:  {}", self.check());
        text
    }

    /// Whether these bytes begin as a share does.
    pub fn is_share(bytes: &[u8]) -> bool {
        bytes.trim_ascii_start().starts_with(TITLE.as_bytes())
    }

    /// Reads a share's text; blanks and empty lines don't matter.
    ///
    /// # Errors
    /// [`KeyShareError::NotAShare`] or [`KeyShareError::Changed`].
    pub fn parse(text: &str) -> Result<Self, KeyShareError> {
        let wrong = |reason| KeyShareError::NotAShare { reason };
        if text.len() > LONGEST_TEXT {
            return Err(wrong("it is longer than any share"));
        }
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        if lines.next() != Some(TITLE) {
            return Err(wrong("its first line is another one"));
        }
        let (mut key, mut needed, mut number, mut check) = (None, None, None, None);
        let mut encoded = Zeroizing::new(String::with_capacity(text.len()));
        for line in lines {
            match line.split_once(':').map(|(name, value)| (name.trim(), value.trim())) {
                Some(("key", value)) => key = value.parse().ok(),
                Some(("needed", value)) => needed = value.parse().ok(),
                Some(("number", value)) => number = value.parse().ok(),
                Some(("check", value)) => check = value.parse().ok(),
                Some(_) => return Err(wrong("it has a line that no share has")),
                None => encoded.extend(line.split_whitespace()),
            }
        }
        let mut bytes = Zeroizing::new(vec![0; encoded.len() / 4 * 3 + 3]);
        let len = BASE64_STANDARD
            .decode_slice(encoded.as_bytes(), &mut bytes)
            .map_err(|_| wrong("its data can't be read"))?;
        bytes.truncate(len);
        let share = Self {
            key: key.ok_or(wrong("it names no key"))?,
            needed: needed
                .filter(|needed| *needed >= 2)
                .ok_or(wrong("it doesn't say how many are needed"))?,
            number: number.filter(|number| *number >= 1).ok_or(wrong("it has no number"))?,
            bytes,
        };
        let check: Fingerprint = check.ok_or(wrong("it has no check line"))?;
        if share.bytes.is_empty() {
            return Err(wrong("it has no data"));
        }
        if check == share.check() { Ok(share) } else { Err(KeyShareError::Changed { number: share.number }) }
    }

    /// Over everything in the share, so that a mistake in copying is noticed and located.
    fn check(&self) -> Fingerprint {
        let mut whole = Zeroizing::new(Vec::with_capacity(self.bytes.len() + 64));
        whole.extend_from_slice(self.key.to_string().as_bytes());
        whole.extend_from_slice(&[self.needed, self.number]);
        whole.extend_from_slice(&self.bytes);
        Fingerprint::of(&whole)
    }

    fn to_part(&self) -> Result<Share, KeyShareError> {
        let mut whole = Vec::with_capacity(self.bytes.len() + 1);
        whole.push(self.number);
        whole.extend_from_slice(&self.bytes);
        let part = Share::try_from(whole.as_slice()).map_err(|_| KeyShareError::Unfitting);
        whole.zeroize();
        part
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(share: &KeyShare) -> KeyShare {
        KeyShare::parse(&share.expose_text()).map_err(|error| error.to_string()).unwrap()
    }

    fn error(result: Result<Secret, KeyShareError>) -> Option<KeyShareError> {
        result.err()
    }

    #[test]
    fn any_two_of_three_give_the_key_back() {
        let key = Secret::random(4096).unwrap();
        let shares = split_key(&key, 2, 3).unwrap();
        assert_eq!(shares.iter().map(KeyShare::number).collect::<Vec<_>>(), [1, 2, 3]);
        for (a, b) in [(0, 1), (0, 2), (1, 2), (2, 0)] {
            let joined = join_key(&[read(&shares[a]), read(&shares[b])]).ok().unwrap();
            assert!(joined.expose() == key.expose(), "{a} and {b}");
        }
        assert!(join_key(&[read(&shares[0]), read(&shares[1]), read(&shares[2])]).is_ok());
    }

    #[test]
    fn too_few_or_foreign_shares_are_named() {
        let (one, two) = (Secret::random(64).unwrap(), Secret::random(64).unwrap());
        let (a, b) = (split_key(&one, 2, 3).unwrap(), split_key(&two, 2, 3).unwrap());
        assert_eq!(error(join_key(&[])), Some(KeyShareError::TooFew { given: 0, needed: 2 }));
        let twice = [read(&a[0]), read(&a[0])];
        assert_eq!(error(join_key(&twice)), Some(KeyShareError::TooFew { given: 1, needed: 2 }));
        let found = error(join_key(&[read(&a[0]), read(&b[1])]));
        assert!(matches!(found, Some(KeyShareError::OtherKey { number: 2, .. })), "{found:?}");
        let again = split_key(&one, 2, 3).unwrap();
        assert_eq!(error(join_key(&[read(&a[0]), read(&again[1])])), Some(KeyShareError::Unfitting));
        for (needed, shares) in [(0, 3), (1, 3), (4, 3), (2, 1)] {
            assert!(matches!(split_key(&one, needed, shares), Err(KeyShareError::Numbers { .. })));
        }
    }

    #[test]
    fn the_key_is_in_no_share() {
        let key = Secret::random(4096).unwrap();
        for share in split_key(&key, 2, 255).unwrap() {
            let same = share.bytes.iter().zip(key.expose()).filter(|(a, b)| a == b).count();
            assert!(same < 200, "{same} bytes of {} are the key's", share.number);
        }
    }

    proptest! {
        #[test]
        fn a_changed_character_is_noticed(at: prop::sample::Index, character in "[A-Za-z0-9+/:. -]") {
            let shares = split_key(&Secret::from_bytes(vec![7; 64]), 2, 2).unwrap();
            let text = shares[0].expose_text();
            let at = at.index(text.len());
            let changed = format!("{}{character}{}", &text[..at], &text[at + 1..]);
            // What means the same is no change: a blank for a blank, a small letter in a fingerprint.
            if let Ok(read) = KeyShare::parse(&changed) {
                prop_assert!(read.bytes == shares[0].bytes && read.number == 1 && read.needed == 2);
            }
        }

        #[test]
        fn no_text_brings_it_down(text: String, title: bool) {
            let text = if title { format!("{TITLE}\n{text}") } else { text };
            prop_assert!(KeyShare::parse(&text).is_err());
        }
    }
}
