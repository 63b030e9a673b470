//! What is told once and not at every call of the storage daemon's: what of the configuration can't be used.

use super::opened::Changer;

/// The file in the work directory with what was told.
const FILE: &str = "told";

impl Changer {
    /// Which of these were not told before. They count as told from now on, where the work directory can be written.
    pub(crate) fn not_told(&self, lines: Vec<String>) -> Vec<String> {
        let told = self.store.bytes(FILE).and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
        let text: String = lines.iter().map(|line| line.replace('\n', " ") + "\n").collect();
        if told == text {
            return Vec::new();
        }
        let _ = self.store.write(FILE, text.as_bytes(), false);
        lines.into_iter().filter(|line| !told.lines().any(|known| known == line.replace('\n', " "))).collect()
    }
}
