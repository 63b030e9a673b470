//! Whether bytes look random: tests of the kind of NIST SP 800-22, and what a wipe could do wrong besides.
//!
//! Each statistic is brought to a normal deviate. True randomness exceeds six about twice in 10^9 tries.
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

const LIMIT: f64 = 6.0;

/// Distances at which a repetition would show: blocks of the ciphers, sectors, pages, pieces, requests.
const LAGS: [usize; 8] = [1, 2, 16, 64, 512, 4096, 64 << 10, 1 << 20];

/// Names what doesn't look random; at least some MiB are needed.
pub(crate) fn suspicions(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut judge = |what: &str, deviate: f64| {
        if deviate.is_nan() || deviate.abs() > LIMIT {
            found.push(format!("{what}: {deviate:.1} deviations"));
        }
    };
    judge("ones", ones(bytes.iter().copied(), bytes.len()));
    judge("runs", runs(bytes));
    judge("ones in pages", pages(bytes));
    judge("bytes", chi_squared(bytes.iter().map(|byte| usize::from(*byte)), 256));
    let pair = |pair: &[u8]| usize::from(pair[0]) << 8 | usize::from(pair[1]);
    judge("pairs of bytes", chi_squared(bytes.chunks_exact(2).map(pair), 65_536));
    for lag in LAGS.into_iter().filter(|lag| 2 * lag <= bytes.len()) {
        let later = bytes.iter().skip(lag);
        judge(
            &format!("bits {lag} bytes apart"),
            ones(bytes.iter().zip(later).map(|(a, b)| a ^ b), bytes.len() - lag),
        );
    }
    let repeated = repeated_blocks(bytes);
    if repeated > 0 {
        found.push(format!("{repeated} blocks of 16 bytes twice"));
    }
    found
}

#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
fn deviate(count: u64, tries: u64) -> f64 {
    (count as f64 - tries as f64 / 2.0) / (tries as f64 / 4.0).sqrt()
}

fn ones(bytes: impl Iterator<Item = u8>, length: usize) -> f64 {
    deviate(bytes.map(|byte| u64::from(byte.count_ones())).sum(), 8 * length as u64)
}

/// Changes from one bit to the next.
fn runs(bytes: &[u8]) -> f64 {
    let within = bytes.iter().map(|byte| u64::from(((byte ^ (byte << 1)) & 0xfe).count_ones()));
    let between = bytes.windows(2).map(|pair| u64::from((pair[0] ^ (pair[1] >> 7)) & 1));
    deviate(within.chain(between).sum(), 8 * bytes.len() as u64 - 1)
}

/// The sum of the squared deviates of each page: chi squared with as many degrees of freedom as there are pages.
#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
fn pages(bytes: &[u8]) -> f64 {
    let pages = bytes.chunks_exact(4096);
    let count = pages.len() as f64;
    let sum: f64 = pages.map(|page| ones(page.iter().copied(), page.len()).powi(2)).sum();
    (sum - count) / (2.0 * count).sqrt()
}

#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
fn chi_squared(values: impl Iterator<Item = usize>, kinds: usize) -> f64 {
    let mut counts = vec![0_u64; kinds];
    values.for_each(|value| counts[value] += 1);
    let expected = counts.iter().sum::<u64>() as f64 / kinds as f64;
    let sum: f64 = counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    let freedom = kinds as f64 - 1.0;
    (sum - freedom) / (2.0 * freedom).sqrt()
}

fn repeated_blocks(bytes: &[u8]) -> usize {
    let mut blocks: Vec<&[u8]> = bytes.chunks_exact(16).collect();
    blocks.sort_unstable();
    blocks.windows(2).filter(|pair| pair[0] == pair[1]).count()
}
