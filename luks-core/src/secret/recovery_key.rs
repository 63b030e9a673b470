//! A key that a person can write down and type.
//!
//! 256 random bits as 13 groups of four symbols of Crockford's base 32, each group with a check symbol of its own. The
//! five symbols of a group satisfy one linear equation over GF(32) with different coefficients (powers of a primitive
//! element) and a constant that differs in every group. So each wrong symbol, each exchange of two symbols within a
//! group and each exchange of two groups is noticed for certain, and the group is known.

use zeroize::Zeroizing;

use super::base32;
use super::bytes::{Secret, SecretError};

const ENTROPY_BYTES: usize = 32;
const GROUPS: usize = 13;
const DATA_PER_GROUP: usize = 4;
const GROUP: usize = DATA_PER_GROUP + 1;
const SYMBOLS: usize = GROUPS * GROUP;
/// x^5 + x^2 + 1, whose root generates all non-zero elements of GF(32).
const POLYNOMIAL: u8 = 0b10_0101;

/// A printable key of 256 random bits, such as `0NX7K-...` in 13 groups of five.
///
/// The secret that goes into a key slot is the printed text itself (capitals, with hyphens), so that plain `cryptsetup
/// open` takes it at its prompt as well. It has full entropy: use [`SecretKind::KeyFile`](crate::SecretKind::KeyFile).
/// Like [`Secret`] it has no `Debug`, `Display`, `Clone` or `Serialize`.
pub struct RecoveryKey {
    text: Secret,
}

/// Where a typed recovery key is wrong; groups and characters count from 1. The key itself is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryKeyError {
    /// A character that no recovery key contains.
    #[error(
        "group {group} has '{character}' at place {place}, which no recovery key contains; look at that character again"
    )]
    Character {
        /// The group.
        group: usize,
        /// The place within the group.
        place: usize,
        /// The character.
        character: char,
    },
    /// A group without its five characters.
    #[error("group {group} has {len} characters in place of {GROUP}; look at that group again")]
    GroupLength {
        /// The group.
        group: usize,
        /// How many characters it has.
        len: usize,
    },
    /// Too few or too many groups.
    #[error(
        "there are {count} groups in place of {GROUPS}, and group {group} is the first that doesn't fit; was one left out or typed twice there?"
    )]
    GroupCount {
        /// How many there are.
        count: usize,
        /// The first that isn't the group of its place; the one behind the last when only that is missing.
        group: usize,
    },
    /// Typed without separators, and with a character too few or too many.
    #[error(
        "there are {count} characters in place of {SYMBOLS}; the first mistake is in or just before group {group}"
    )]
    Count {
        /// How many there are.
        count: usize,
        /// The first group that doesn't check.
        group: usize,
    },
    /// A typing mistake.
    #[error("group {group} has a typing mistake; compare its {GROUP} characters with the paper")]
    Mistake {
        /// The group.
        group: usize,
    },
    /// Two groups in each other's place.
    #[error("groups {first} and {second} are exchanged")]
    Exchanged {
        /// The one that comes first.
        first: usize,
        /// The other one.
        second: usize,
    },
}

impl RecoveryKey {
    /// Makes a new one from the kernel's random generator.
    ///
    /// # Errors
    /// [`SecretError::NoRandomness`].
    pub fn generate() -> Result<Self, SecretError> {
        let entropy = Secret::random(ENTROPY_BYTES)?;
        Ok(Self::from_entropy(entropy.expose()))
    }

    fn from_entropy(entropy: &[u8]) -> Self {
        let data = Zeroizing::new(base32::values(entropy));
        let mut text = Vec::with_capacity(SYMBOLS + GROUPS);
        for (index, group) in data.chunks(DATA_PER_GROUP).enumerate() {
            if index > 0 {
                text.push(b'-');
            }
            let symbols = group.iter().copied().chain([check_symbol(group, index)]);
            text.extend(symbols.map(|value| u8::try_from(base32::symbol(value)).unwrap_or(b'0')));
        }
        Self { text: Secret::from_bytes(text) }
    }

    /// Reads a typed key: lower case, blanks or dots in place of hyphens, none at all, `O` for 0 and `I` or `L` for 1
    /// are all accepted.
    ///
    /// # Errors
    /// Says in which group the mistake is.
    pub fn parse(typed: &str) -> Result<Self, RecoveryKeyError> {
        let is_separator = |character: char| character.is_whitespace() || "-._,".contains(character);
        let groups = typed.split(is_separator).filter(|group| !group.is_empty());
        let mut values = Zeroizing::new(Vec::with_capacity(SYMBOLS * 2));
        let mut lengths = Vec::with_capacity(GROUPS);
        for (index, group) in groups.enumerate() {
            for (place, character) in group.chars().enumerate() {
                // Without separators the groups are counted, not seen.
                let (group, place) = if index == 0 { (place / GROUP, place % GROUP) } else { (index, place) };
                values.push(base32::value(character).ok_or(RecoveryKeyError::Character {
                    group: group + 1,
                    place: place + 1,
                    character,
                })?);
            }
            lengths.push(group.chars().count());
        }
        check_lengths(&lengths, &values)?;
        check_groups(&values)?;
        let data: Zeroizing<Vec<u8>> = Zeroizing::new(
            values.chunks(GROUP).flat_map(|group| group.iter().take(DATA_PER_GROUP)).copied().collect(),
        );
        // The last four bits only fill the last symbol up; other values than zero are a mistake there.
        let entropy =
            base32::decode(&data).map(Zeroizing::new).ok_or(RecoveryKeyError::Mistake { group: GROUPS })?;
        Ok(Self::from_entropy(&entropy))
    }

    /// What goes into the key slot.
    pub fn secret(&self) -> &Secret {
        &self.text
    }

    /// As [`RecoveryKey::secret`], for those who need nothing else of it.
    pub fn into_secret(self) -> Secret {
        self.text
    }

    /// The text to be shown once and written down: 13 groups of five characters with hyphens.
    pub fn expose_text(&self) -> &str {
        std::str::from_utf8(self.text.expose()).unwrap_or_default()
    }
}

fn check_lengths(lengths: &[usize], values: &[u8]) -> Result<(), RecoveryKeyError> {
    let count = values.len();
    let odd = lengths.iter().position(|len| *len != GROUP);
    match (lengths.len(), odd) {
        (GROUPS, None) => Ok(()),
        (GROUPS, Some(group)) => {
            let len = lengths.get(group).copied().unwrap_or_default();
            Err(RecoveryKeyError::GroupLength { group: group + 1, len })
        }
        // Separators at other places, or none: only the characters count.
        _ if count == SYMBOLS => Ok(()),
        (groups, None) if groups > 1 => {
            let group = first_wrong(values).unwrap_or(groups + 1);
            Err(RecoveryKeyError::GroupCount { count: groups, group })
        }
        _ => Err(RecoveryKeyError::Count { count, group: first_wrong(values).unwrap_or(GROUPS).min(GROUPS) }),
    }
}

/// The first group, from 1, that isn't the one of its place.
fn first_wrong(values: &[u8]) -> Option<usize> {
    values.chunks(GROUP).enumerate().position(|(index, group)| !checks(group, index)).map(|index| index + 1)
}

fn check_groups(values: &[u8]) -> Result<(), RecoveryKeyError> {
    let groups: Vec<&[u8]> = values.chunks(GROUP).collect();
    let mut wrong = groups.iter().enumerate().filter(|(index, group)| !checks(group, *index));
    let Some((first, first_group)) = wrong.next() else { return Ok(()) };
    match (wrong.next(), wrong.next()) {
        (Some((second, second_group)), None)
            if checks(first_group, second) && checks(second_group, first) =>
        {
            Err(RecoveryKeyError::Exchanged { first: first + 1, second: second + 1 })
        }
        _ => Err(RecoveryKeyError::Mistake { group: first + 1 }),
    }
}

/// Whether the five symbols satisfy the equation of the group's place.
fn checks(group: &[u8], index: usize) -> bool {
    match group.split_last() {
        Some((check, data)) if data.len() == DATA_PER_GROUP => *check == check_symbol(data, index),
        _ => false,
    }
}

/// The constant of the place plus the data symbols times rising powers of the generator.
fn check_symbol(data: &[u8], index: usize) -> u8 {
    let place = u8::try_from(index + 1).unwrap_or_default();
    // Horner's scheme: the first symbol gets the highest power, the last one the generator itself.
    place ^ data.iter().fold(0, |sum, value| times_generator(sum ^ value))
}

/// Multiplies an element of GF(32) by the generator x.
fn times_generator(value: u8) -> u8 {
    let doubled = value << 1;
    if doubled & 0b10_0000 == 0 { doubled } else { doubled ^ POLYNOMIAL }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(seed: &[u8; 32]) -> RecoveryKey {
        RecoveryKey::from_entropy(seed)
    }

    fn error(typed: &str) -> Option<RecoveryKeyError> {
        RecoveryKey::parse(typed).err()
    }

    /// The text with the character at a symbol's place (0 to 64) exchanged.
    fn with(text: &str, symbol: usize, character: u8) -> String {
        let mut bytes = text.as_bytes().to_vec();
        bytes[symbol + symbol / GROUP] = character;
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_text_is_stable() {
        // Fixed: keys on paper must stay readable.
        let key = key(&std::array::from_fn(|index| u8::try_from(index + 1).unwrap()));
        assert_eq!(
            key.expose_text(),
            "04100-6105F-0R3GM-G28A8-1C602-T3GFP-208H0-44RM5-2MB1P-E60SK-38DH2-R78YM-3WG09"
        );
    }

    #[test]
    fn generated_keys_differ_and_parse() {
        let (one, two) = (RecoveryKey::generate().unwrap(), RecoveryKey::generate().unwrap());
        assert_ne!(one.expose_text(), two.expose_text());
        assert!(error(one.expose_text()).is_none());
        assert_eq!(one.secret().expose(), one.expose_text().as_bytes());
    }

    #[test]
    fn the_generator_is_primitive() {
        let mut seen = vec![1];
        while seen.len() < 32 && times_generator(*seen.last().unwrap()) != 1 {
            seen.push(times_generator(*seen.last().unwrap()));
        }
        assert_eq!(seen.len(), 31);
    }

    #[test]
    fn lengths_and_foreign_characters_are_located() {
        let key = key(&[7; 32]);
        let text = key.expose_text();
        let groups: Vec<_> = text.split('-').collect();
        let join = |groups: &[&str]| groups.join(" ");
        assert_eq!(error(""), Some(RecoveryKeyError::Count { count: 0, group: GROUPS }));
        for (left_out, group) in [(0, 1), (5, 6), (12, 13)] {
            let rest = [&groups[..left_out], &groups[left_out + 1..]].concat();
            assert_eq!(error(&join(&rest)), Some(RecoveryKeyError::GroupCount { count: 12, group }));
        }
        let twice = [&groups[..5], &groups[4..]].concat();
        assert_eq!(error(&join(&twice)), Some(RecoveryKeyError::GroupCount { count: 14, group: 6 }));
        let mut short = groups.clone();
        short[4] = &groups[4][..3];
        assert_eq!(error(&join(&short)), Some(RecoveryKeyError::GroupLength { group: 5, len: 3 }));
        let foreign = with(text, 3 * GROUP + 2, b'U');
        assert_eq!(error(&foreign), Some(RecoveryKeyError::Character { group: 4, place: 3, character: 'U' }));
        let joined = foreign.replace('-', "");
        assert_eq!(error(&joined), Some(RecoveryKeyError::Character { group: 4, place: 3, character: 'U' }));
        let mut missing = text.replace('-', "");
        missing.remove(6 * GROUP);
        let Some(RecoveryKeyError::Count { count: 64, group }) = error(&missing) else {
            panic!("not noticed")
        };
        assert!(group >= 7, "located before the mistake");
    }

    proptest! {
        #[test]
        fn print_and_parse_are_inverse(seed: [u8; 32]) {
            let key = key(&seed);
            let text = key.expose_text();
            let forms = [
                text.to_owned(),
                text.to_lowercase(),
                text.replace('-', ""),
                text.replace('-', " "),
                text.replace('0', "O").replace('1', "l"),
                format!(" {text}\n"),
            ];
            for typed in forms {
                let parsed = RecoveryKey::parse(&typed).map_err(|error| TestCaseError::fail(format!("{typed}: {error}")))?;
                prop_assert_eq!(parsed.expose_text(), text);
            }
        }

        #[test]
        fn a_wrong_symbol_is_located(seed: [u8; 32], symbol in 0..SYMBOLS, change in 1_u8..32) {
            let key = key(&seed);
            let text = key.expose_text();
            let old = base32::value(char::from(text.as_bytes()[symbol + symbol / GROUP])).unwrap();
            let typed = with(text, symbol, u8::try_from(base32::symbol(old ^ change)).unwrap());
            prop_assert_eq!(error(&typed), Some(RecoveryKeyError::Mistake { group: symbol / GROUP + 1 }));
        }

        #[test]
        fn exchanged_symbols_of_a_group_are_located(seed: [u8; 32], group in 0..GROUPS, a in 0..GROUP, b in 0..GROUP) {
            let key = key(&seed);
            let text = key.expose_text();
            let at = |place: usize| text.as_bytes()[group * (GROUP + 1) + place];
            prop_assume!(at(a) != at(b));
            let typed = with(&with(text, group * GROUP + a, at(b)), group * GROUP + b, at(a));
            prop_assert_eq!(error(&typed), Some(RecoveryKeyError::Mistake { group: group + 1 }));
        }

        #[test]
        fn exchanged_groups_are_named(seed: [u8; 32], a in 0..GROUPS, b in 0..GROUPS) {
            prop_assume!(a < b);
            let key = key(&seed);
            let mut groups: Vec<_> = key.expose_text().split('-').collect();
            groups.swap(a, b);
            let found = error(&groups.join("-"));
            // Two groups may check in each other's place only when they were exchanged: that is what is told.
            prop_assert_eq!(found, Some(RecoveryKeyError::Exchanged { first: a + 1, second: b + 1 }));
        }

        #[test]
        fn parsing_never_panics(typed: String) {
            let _any = RecoveryKey::parse(&typed).is_ok();
        }
    }
}
