//! A set of slot numbers, kept and written as ranges: `1-69,75`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A set of numbers from 1, small in memory and in the file when its members are neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Places {
    /// first -> last of each range; ranges neither overlap nor touch
    ranges: BTreeMap<u32, u32>,
}

impl Places {
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.ranges.range(..=number).next_back().is_some_and(|(_, last)| *last >= number)
    }

    pub(crate) fn insert(&mut self, number: u32) {
        if self.contains(number) {
            return;
        }
        let mut first = number;
        let mut last = number;
        if let Some((before_first, before_last)) = self.ranges.range(..number).next_back()
            && *before_last + 1 == number
        {
            first = *before_first;
        }
        if let Some(after_last) = number.checked_add(1).and_then(|next| self.ranges.remove(&next)) {
            last = after_last;
        }
        self.ranges.insert(first, last);
    }

    pub(crate) fn highest(&self) -> Option<u32> {
        self.ranges.last_key_value().map(|(_, last)| *last)
    }

    pub(crate) fn lowest(&self) -> Option<u32> {
        self.ranges.first_key_value().map(|(first, _)| *first)
    }

    pub(crate) fn len(&self) -> u32 {
        self.ranges.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.ranges.iter().map(|(first, last)| (*first, *last))
    }

    /// The same set in parts of at most `most` members, and of a few ranges each: the console takes lines of some
    /// hundred characters only.
    pub(crate) fn parts(&self, most: u32) -> Vec<Self> {
        const MOST_RANGES: usize = 10;
        let mut parts: Vec<Self> = Vec::new();
        let mut part = Self::default();
        for (mut first, last) in self.ranges() {
            while first <= last {
                if part.len() >= most || part.ranges.len() >= MOST_RANGES {
                    parts.push(std::mem::take(&mut part));
                }
                let room = most.saturating_sub(part.len()).max(1);
                let end = last.min(first.saturating_add(room - 1));
                part.ranges.insert(first, end);
                first = end + 1;
            }
        }
        parts.extend((!part.is_empty()).then_some(part));
        parts
    }

    /// The members, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges().flat_map(|(first, last)| first..=last)
    }
}

impl FromIterator<u32> for Places {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut places = Self::default();
        for number in numbers {
            places.insert(number);
        }
        places
    }
}

/// Hands out the lowest free numbers of several sets, each number once.
pub(crate) struct FreePlaces {
    taken: Places,
    next: u32,
}

impl FreePlaces {
    pub(crate) fn beside<'a>(taken: impl IntoIterator<Item = &'a Places>) -> Self {
        let mut all: Vec<(u32, u32)> = taken.into_iter().flat_map(Places::ranges).collect();
        all.sort_unstable();
        let mut ranges: BTreeMap<u32, u32> = BTreeMap::new();
        for (first, last) in all {
            match ranges.last_entry() {
                Some(mut entry) if *entry.get() + 1 >= first => {
                    let longer = last.max(*entry.get());
                    entry.insert(longer);
                }
                _ => drop(ranges.insert(first, last)),
            }
        }
        Self { taken: Places { ranges }, next: 1 }
    }

    /// Takes a number, if it is free.
    pub(crate) fn take(&mut self, number: u32) -> bool {
        let free = !self.taken.contains(number);
        if free {
            self.taken.insert(number);
        }
        free
    }

    /// Takes the lowest free number.
    pub(crate) fn lowest(&mut self) -> u32 {
        while let Some((_, last)) =
            self.taken.ranges.range(..=self.next).next_back().filter(|(_, last)| **last >= self.next)
        {
            self.next = last + 1;
        }
        let number = self.next;
        self.taken.insert(number);
        number
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if first == last {
                write!(f, "{first}")?;
            } else {
                write!(f, "{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl From<Places> for String {
    fn from(places: Places) -> Self {
        places.to_string()
    }
}

/// A text that lists no ranges of slots.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no list of slots such as 1-69,75")]
pub(crate) struct BadPlaces {
    text: String,
}

impl FromStr for Places {
    type Err = BadPlaces;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadPlaces { text: text.to_owned() };
        let mut ranges = BTreeMap::new();
        let mut before = 0;
        for range in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u32, u32) =
                (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
            if first == 0 || last < first || last > HIGHEST || (before > 0 && first <= before + 1) {
                return Err(bad());
            }
            ranges.insert(first, last);
            before = last;
        }
        Ok(Self { ranges })
    }
}

impl TryFrom<String> for Places {
    type Error = BadPlaces;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// The highest slot number that is ever given: Bacula keeps slots in 32-bit signed integers and makes tables of them.
pub(crate) const HIGHEST: u32 = 10_000_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_set(numbers in prop::collection::vec(1u32..40, 0..60)) {
            let set: BTreeSet<u32> = numbers.iter().copied().collect();
            let places: Places = numbers.into_iter().collect();
            prop_assert!(places.iter().eq(set.iter().copied()));
            prop_assert_eq!(places.len() as usize, set.len());
            prop_assert_eq!(places.to_string().parse::<Places>(), Ok(places.clone()));
            for most in [1, 3, 100] {
                let parts = places.parts(most);
                prop_assert!(parts.iter().flat_map(Places::iter).eq(places.iter()));
                prop_assert!(parts.iter().all(|part| part.len() <= most && part.ranges.len() <= 10));
                prop_assert!(parts.len() <= set.len());
            }
            let mut free = FreePlaces::beside([&places]);
            for _ in 0..20 {
                let number = free.lowest();
                prop_assert!(!set.contains(&number));
            }
            prop_assert!((1..=free.next).all(|n| free.taken.contains(n)));
        }
    }

    #[test]
    fn refuses_what_it_would_not_write() {
        for bad in ["0", "3-1", "1,1", "1-2,3", "x", "1-", "5,3", "4294967295"] {
            assert!(bad.parse::<Places>().is_err(), "{bad}");
        }
        assert!("".parse::<Places>().is_ok_and(|p| p.is_empty()));
    }
}
