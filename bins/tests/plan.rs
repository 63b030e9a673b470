//! `offsite plan` as a person and a script meet it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use serde_json::Value as Json;
use tempfile::TempDir;

fn plan(site: Option<&str>, arguments: &[&str]) -> Output {
    let root = TempDir::new().unwrap();
    if let Some(site) = site {
        std::fs::create_dir_all(root.path().join("etc/offsite")).unwrap();
        std::fs::write(root.path().join("etc/offsite/site.toml"), site).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_offsite"));
    command.arg("--root").arg(root.path()).arg("plan").args(arguments).output().unwrap()
}

fn json(site: Option<&str>, arguments: &[&str]) -> Json {
    let output = plan(site, &[arguments, &["--json", "--start", "2026-11-24"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Six drives of 750 GB, swapped weekly, four weeks of retention: what the tutorial sets.
const TUTORIAL: [&str; 8] =
    ["--drives", "6", "--retention", "4 weeks", "--volumes", "69", "--full", "200 GiB"];

#[test]
fn the_tutorials_settings_recycle_what_lies_in_the_safe() {
    let plan = json(None, &TUTORIAL);
    assert_eq!(plan["cycle"], "6 weeks");
    assert_eq!(plan["least_retention"], "7 weeks");
    assert_eq!(plan["first_pruned_away"], "2026-12-22", "four weeks after the first backup: {plan}");
    assert!(plan["nights_with_pruned_away"].as_u64().unwrap() > 1000);
    let mended = json(None, &[&TUTORIAL[..2], &["--retention", "7 weeks"], &TUTORIAL[4..]].concat());
    assert_eq!(mended["first_pruned_away"], Json::Null);
}

#[test]
fn a_holiday_needs_the_slack() {
    let six = ["--drives", "6", "--retention", "6 weeks", "--growth", "0"];
    assert_eq!(json(None, &six)["first_pruned_away"], Json::Null);
    let christmas = [&six[..], &["--holiday", "2026-12-20..2027-01-06"]].concat();
    let plan = json(None, &christmas);
    assert_eq!(plan["skipped_swaps"], serde_json::json!([4, 5, 6]), "{plan}");
    assert_ne!(plan["first_pruned_away"], Json::Null, "{plan}");
}

#[test]
fn growth_fills_the_drives_and_names_the_day() {
    let plan = json(None, &["--drives", "4", "--full", "500 GB", "--growth", "30", "--retention", "5 weeks"]);
    let first = &plan["each_drive"][0];
    assert!(first["fills"].as_str().unwrap() > "2026-11-24", "{plan}");
    assert!(plan["first_blocked"].as_str().unwrap() > "2026-11-24", "{plan}");
    assert_eq!(plan["each_drive"].as_array().unwrap().len(), 4);
}

#[test]
fn a_lost_drive_has_its_price() {
    let plan = json(None, &["--drives", "3", "--growth", "0", "--full", "100 GB", "--years", "1"]);
    assert_eq!(plan["worst_loss_days"], 7);
    for drive in plan["each_drive"].as_array().unwrap() {
        assert!(drive["nights_lost_with_it"].as_u64().unwrap() > 0, "{drive}");
        assert_eq!(drive["worst_loss_days"], 14, "the next newest drive is a week older");
    }
    assert_eq!(json(None, &["--drives", "1"])["worst_loss_days"], Json::Null, "nothing lies in the safe");
}

#[test]
fn site_toml_says_what_the_command_line_does_not() {
    let site = "[rotation]\nswap_every = '3 days'\nfull = '100 GB'\nholidays = ['2026-12-25']\n\
                [bacula.pool]\nretention = '30 days'\nmaximum_volume_bytes = '20 GB'\n\
                [[magazine]]\nname = 'Red'\nfs_uuid = 'e6ffe50b-bbe7-854f-fea8-766ae1265eba'\nfs_type = 'ext4'\n\
                [[magazine]]\nname = 'Blue'\nfs_uuid = 'f73dedc6-e570-e605-02d3-5ad3a07519b9'\nfs_type = 'ext4'\n";
    let plan = json(Some(site), &["--drive-size", "1 TB"]);
    assert_eq!((plan["drives"].as_u64(), &plan["swap_every"]), (Some(2), &Json::from("3 days")));
    assert_eq!((plan["volumes_per_drive"].as_u64(), &plan["retention"]), (Some(50), &Json::from("30 days")));
    assert_eq!(plan["each_drive"][1]["drive"], "Blue");
    assert_eq!(plan["assumed"], serde_json::json!(["incremental"]));
    assert_eq!(json(Some(site), &["--drives", "5", "--swap-every", "2 weeks"])["cycle"], "10 weeks");
}

#[test]
fn the_table_says_it_in_words() {
    let output = plan(None, &[&TUTORIAL[..], &["--start", "2026-11-24"]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("6 drives x 1 week = a cycle of 6 weeks, with a late swap 7 weeks"), "{text}");
    assert!(text.contains("from 2026-12-22 on, history in the safe may be recycled"), "{text}");
    assert!(text.contains("at worst 7 days would be lost") && text.contains("--incremental"), "{text}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (arguments, said) in [
        (&["--years", "0"][..], "0 years"),
        (&["--swap-every", "1 hour"], "every 1 hour"),
        (&["--drives", "0"], "so many drives"),
        (&["--drives", "4000000000"], "so many drives"),
        (&["--volumes", "4000000000"], "too many to plan"),
        (&["--drive-size", "1 GB"], "holds no volume"),
        (&["--holiday", "Christmas"], "is no day"),
        (&["--retention", "4"], "is no duration"),
    ] {
        let output = plan(None, arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}
