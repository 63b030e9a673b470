//! A drive's own account of its health, as smartctl tells it.
//!
//! The members are those of `smartctl --json --all` (smartmontools 7, smartctl(8)): `ata_smart_attributes`,
//! `nvme_smart_health_information_log` (NVM Express Base Specification, SMART / Health Information), `scsi_grown_defect_list`.

use serde::Serialize;
use serde_json::Value;

/// What a drive says about its health, in the JSON of `smartctl --json --all` (smartmontools 7).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Before the first write.
    pub before: Option<Value>,
    /// After verifying.
    pub after: Option<Value>,
}

/// The ATA attributes that count what went wrong: sectors reallocated, errors not corrected, sectors pending and
/// uncorrectable, and transfers damaged by the cable.
const ATA_COUNTS: [u64; 5] = [5, 187, 197, 198, 199];

/// Where NVMe and SCSI drives count what went wrong.
const OTHER_COUNTS: [(&str, &str); 6] = [
    ("/nvme_smart_health_information_log/critical_warning", "Critical_Warning"),
    ("/nvme_smart_health_information_log/media_errors", "Media_Errors"),
    ("/nvme_smart_health_information_log/percentage_used", "Percentage_Used"),
    ("/scsi_grown_defect_list", "Grown_Defects"),
    ("/scsi_error_counter_log/write/total_uncorrected_errors", "Uncorrected_Writes"),
    ("/scsi_error_counter_log/read/total_uncorrected_errors", "Uncorrected_Reads"),
];

impl Health {
    /// One line for each account that there is: when it was given (`before`, `after`), and what it says.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        if let Some(before) = &self.before {
            lines.push(("before", words(before, None)));
        }
        if let Some(after) = &self.after {
            lines.push(("after", words(after, self.before.as_ref())));
        }
        lines
    }
}

/// The verdict and the counts of what went wrong, with what a count was before where it grew.
fn words(account: &Value, before: Option<&Value>) -> String {
    let mut text = verdict(account);
    let earlier = before.map(counts).unwrap_or_default();
    for (name, count) in counts(account) {
        text += &format!(", {name} {count}");
        if let Some((_, was)) = earlier.iter().find(|(other, was)| *other == name && *was != count) {
            text += &format!(" (was {was})");
        }
    }
    text
}

fn verdict(account: &Value) -> String {
    let flag = |place: &str| account.pointer(place).and_then(Value::as_bool);
    match (flag("/smart_status/passed"), flag("/smart_support/available")) {
        (Some(true), _) => "passed".into(),
        (Some(false), _) => "FAILING".into(),
        (None, Some(false)) => "the drive keeps no account".into(),
        (None, _) => match account.pointer("/smartctl/messages/0/string").and_then(Value::as_str) {
            Some(message) => format!("no verdict: {message}"),
            None => "no verdict".into(),
        },
    }
}

fn counts(account: &Value) -> Vec<(String, u64)> {
    let number = |entry: &Value, place: &str| entry.pointer(place).and_then(Value::as_u64);
    let table = account.pointer("/ata_smart_attributes/table").and_then(Value::as_array);
    let ata = table
        .into_iter()
        .flatten()
        .filter(|entry| number(entry, "/id").is_some_and(|id| ATA_COUNTS.contains(&id)))
        .filter_map(|entry| Some((entry.get("name")?.as_str()?.to_owned(), number(entry, "/raw/value")?)));
    let others =
        OTHER_COUNTS.iter().filter_map(|(place, name)| Some(((*name).to_owned(), number(account, place)?)));
    ata.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ata(reallocated: u64) -> Value {
        json!({
            "smart_status": {"passed": true},
            "ata_smart_attributes": {"table": [
                {"id": 5, "name": "Reallocated_Sector_Ct", "raw": {"value": reallocated}},
                {"id": 9, "name": "Power_On_Hours", "raw": {"value": 900}},
                {"id": 197, "name": "Current_Pending_Sector", "raw": {"value": 0}},
            ]},
        })
    }

    #[test]
    fn a_count_that_grew_shows_what_it_was() {
        let health = Health { before: Some(ata(0)), after: Some(ata(8)) };
        assert_eq!(
            health.lines(),
            [
                ("before", "passed, Reallocated_Sector_Ct 0, Current_Pending_Sector 0".into()),
                ("after", "passed, Reallocated_Sector_Ct 8 (was 0), Current_Pending_Sector 0".into()),
            ]
        );
        assert!(Health::default().lines().is_empty());
    }

    #[test]
    fn every_kind_of_drive_has_its_words() {
        let nvme = json!({
            "smart_status": {"passed": false},
            "nvme_smart_health_information_log": {"critical_warning": 4, "media_errors": 7, "percentage_used": 101},
        });
        assert_eq!(words(&nvme, None), "FAILING, Critical_Warning 4, Media_Errors 7, Percentage_Used 101");
        let scsi = json!({"smart_status": {"passed": true}, "scsi_grown_defect_list": 3});
        assert_eq!(words(&scsi, None), "passed, Grown_Defects 3");
        assert_eq!(
            words(&json!({"smart_support": {"available": false}}), None),
            "the drive keeps no account"
        );
        let unknown =
            json!({"smartctl": {"messages": [{"string": "Unknown USB bridge", "severity": "error"}]}});
        assert_eq!(words(&unknown, None), "no verdict: Unknown USB bridge");
        assert_eq!(words(&Value::Null, None), "no verdict");
    }
}
