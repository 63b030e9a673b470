//! A virtual machine by hand, for trying things: it keeps running from call to call.
//!
//! `cargo run -p offsite-tests --bin vm -- start | run COMMAND... | plug NAME [FILE [PORT]] | unplug NAME |
//! put FROM TO [MODE] | fetch FROM TO | console | stop`; `OFFSITE_VM_DIR` names the machine's directory
//! (default `/tmp/offsite-vm-by-hand`), so several can run side by side.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use offsite_tests::vm::{Drive, Image, Vm};

const USAGE: &str = "start | run COMMAND... | plug NAME [FILE [PORT]] | unplug NAME | put FROM TO [MODE] | fetch FROM TO | console | stop";
/// Size of a drive that `plug` makes when no file is named.
const BLANK_BYTES: u64 = 256 << 20;
const RUN_LIMIT: Duration = Duration::from_mins(30);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let directory =
        PathBuf::from(std::env::var_os("OFFSITE_VM_DIR").unwrap_or_else(|| "/tmp/offsite-vm-by-hand".into()));
    match act(&directory, &words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(directory: &Path, words: &[&str]) -> Result<ExitCode> {
    match words {
        ["start"] => start(directory)?,
        ["run", command @ ..] if !command.is_empty() => {
            let output = Vm::attach(directory)?.run_within(&command.join(" "), RUN_LIMIT)?;
            std::io::stdout().write_all(output.text.as_bytes())?;
            return Ok(ExitCode::from(u8::try_from(output.status).unwrap_or(1)));
        }
        ["plug", name] => Vm::attach(directory)?.plug(&drive(directory, name)?)?,
        ["plug", name, file] => Vm::attach(directory)?.plug(&Drive::of_file(name, Path::new(file))?)?,
        ["plug", name, file, port] => {
            let port = port.parse().context("a port is a number from 0 to 255")?;
            Vm::attach(directory)?.plug_into(&Drive::of_file(name, Path::new(file))?, port)?;
        }
        ["unplug", name] => Vm::attach(directory)?.unplug_named(name)?,
        ["put", from, to] => Vm::attach(directory)?.put(Path::new(from), to, 0o755)?,
        ["put", from, to, mode] => {
            let mode = u32::from_str_radix(mode, 8).context("a mode is octal")?;
            Vm::attach(directory)?.put(Path::new(from), to, mode)?;
        }
        ["fetch", from, to] => fs::write(to, Vm::attach(directory)?.fetch(from)?)?,
        ["console"] => print!("{}", Vm::attach(directory)?.console_log()),
        ["stop"] => {
            Vm::attach(directory)?.power_off()?;
            fs::remove_dir_all(directory)?;
        }
        _ => bail!("usage: vm {USAGE}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn start(directory: &Path) -> Result<()> {
    if directory.join("qmp.sock").exists() {
        bail!(
            "a machine runs in {} already, or was killed there: vm stop, or remove the directory",
            directory.display()
        );
    }
    let image = Image::ready(|line| println!("{line}"))?;
    let started = Instant::now();
    let pid = Vm::start_detached(&image, directory)?;
    println!(
        "runs in {} as process {pid} after {:.1} s",
        directory.display(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// A drive kept in the machine's directory, blank at first.
fn drive(directory: &Path, name: &str) -> Result<Drive> {
    let file = directory.join(format!("{name}.raw"));
    if !file.exists() {
        fs::File::create_new(&file)?.set_len(BLANK_BYTES)?;
    }
    Drive::of_file(name, &file)
}
