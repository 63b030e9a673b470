//! What is installed beside the programs.

use std::path::Path;
use std::process::Command;

#[test]
fn the_openrc_script_is_a_shell_script() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/offsited.openrc");
    let output = Command::new("sh").arg("-n").arg(&script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&script).unwrap();
    assert!(text.contains("retry=\"TERM/120\""), "the stop is waited for as long as systemd does");
}
