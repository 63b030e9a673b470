//! A drive's own account of its health, by smartctl where that is installed.

use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::base::paths::Root;
use crate::base::program::Program;

/// Asks a drive; `None` where nobody can be asked: no smartctl, or a file in place of a drive.
///
/// smartctl's exit status tells of the drive's health as well as of its own errors (smartctl(8), EXIT STATUS), so only
/// what it prints counts. What isn't an account says why in smartctl's own form.
pub fn account(root: &Root, device: &Path) -> Option<Value> {
    let program = Program::installed(root, "smartctl")?;
    if !std::fs::metadata(device).is_ok_and(|meta| meta.file_type().is_block_device()) {
        return None;
    }
    Some(ask(program, root, device))
}

/// Many USB bridges have to be told that an ATA drive is behind them (`-d sat`), so a drive that gives no verdict is asked
/// a second time.
fn ask(program: Program, root: &Root, device: &Path) -> Value {
    let first = said(program.args(["--json", "--all"]).args([device]));
    if has_verdict(&first) {
        return first;
    }
    let Some(program) = Program::installed(root, "smartctl") else { return first };
    let second = said(program.args(["--json", "--all", "--device", "sat"]).args([device]));
    if has_verdict(&second) { second } else { first }
}

fn said(program: Program) -> Value {
    match program.run().map(|finished| serde_json::from_str::<Value>(&finished.text)) {
        Ok(Ok(account @ Value::Object(_))) => account,
        Ok(_) => excuse("smartctl did not answer in JSON; version 7 is needed"),
        Err(failure) => excuse(failure.message()),
    }
}

fn has_verdict(account: &Value) -> bool {
    account.pointer("/smart_status/passed").is_some_and(Value::is_boolean)
}

fn excuse(why: &str) -> Value {
    json!({ "smartctl": { "messages": [{ "string": why, "severity": "error" }] } })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// What is made of a drive behind a program that answers as told, plainly and when it is told of the bridge.
    fn asked(plain: &str, behind_bridge: &str) -> Value {
        let directory = tempfile::tempdir().unwrap();
        let programs = directory.path().join("usr/sbin");
        std::fs::create_dir_all(&programs).unwrap();
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *'--device sat'*) echo '{behind_bridge}' ;; *) echo '{plain}' ;; esac\n"
        );
        std::fs::write(programs.join("smartctl"), script).unwrap();
        std::fs::set_permissions(programs.join("smartctl"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let root = Root::new(directory.path());
        ask(Program::installed(&root, "smartctl").unwrap(), &root, Path::new("/dev/sdz"))
    }

    #[test]
    fn a_drive_behind_a_usb_bridge_is_asked_a_second_time() {
        // As smartctl 7.3 answers.
        let unknown = r#"{"smartctl":{"messages":[{"string":"/dev/sdz: Unknown USB bridge [0x1234:0x5678]","severity":"error"}],"exit_status":1}}"#;
        let passed = r#"{"smart_status":{"passed":true}}"#;
        assert_eq!(asked(unknown, passed).to_string(), passed);
        assert_eq!(asked(passed, r#"{"smart_status":{"passed":false}}"#).to_string(), passed);
        let neither = asked(unknown, "no JSON").to_string();
        assert!(neither.contains("Unknown USB bridge"), "{neither}");
    }
}
