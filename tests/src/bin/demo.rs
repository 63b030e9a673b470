//! The main job on real parts, as a story: blank drives become magazines, a real Bacula backs up to
//! them, drives are swapped by unplugging and plugging alone, and everything comes back byte by byte.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use offsite_tests::guest_site::GuestSite;
use offsite_tests::story::Story;
use offsite_tests::vm::{Drive, Image, Size, Vm};

fn main() -> ExitCode {
    let mut story = Story::default();
    let result = tell(&mut story);
    println!("\n{}", story.table());
    match result {
        Ok(()) if story.held() => {
            println!("Every file came back as it was.");
            ExitCode::SUCCESS
        }
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tell(story: &mut Story) -> Result<()> {
    let image = story.step("a guest image with Bacula is ready", || {
        let image = Image::ready(|line| println!("    {line}"))?;
        Ok((image, "built once, then cached".into()))
    })?;
    let vm = &story.step("a server starts (a virtual machine)", || {
        let vm = Vm::start(&image)?;
        let kernel = vm.sh("uname -r")?;
        Ok((vm, format!("kernel {}", kernel.trim())))
    })?;
    let site = &story.step("offsite is installed; offsite init", || {
        let site = GuestSite::install(vm)?;
        Ok((site, "a 4096-byte key file, root's alone".into()))
    })?;

    let a = vm.blank_drive("DEMO-A", Size::mib(192))?;
    let b = vm.blank_drive("DEMO-B", Size::mib(192))?;
    for (drive, name) in [(&a, "A"), (&b, "B")] {
        story.step(&format!("drive {name} is prepared: random fill, LUKS, filesystem, volumes"), || {
            vm.plug(drive)?;
            let shown = vm.sh("offsite identify")?;
            ensure!(shown.contains(drive.serial()), "identify doesn't show the drive: {shown}");
            let said = site.prepare(drive, name)?;
            vm.unplug(drive)?;
            Ok(((), said.lines().last().unwrap_or_default().to_owned()))
        })?;
    }
    story.step("offsite conf; Bacula and offsited start", || {
        site.start()?;
        Ok(((), "bacula-dir, bacula-sd, bacula-fd with an SQLite catalog".into()))
    })?;
    story.step("a tree of files to back up", || {
        let said = site.generate_tree()?;
        Ok(((), said.trim().to_owned()))
    })?;

    story.step("drive A is plugged; its volumes are in the catalog", || {
        vm.plug(&a)?;
        let volumes = site.wait_for_catalog("A", Duration::from_mins(3))?;
        Ok(((), format!("{volumes} volumes, labelled by themselves")))
    })?;
    story.step("Full backup", || {
        let job = site.backup("Full")?;
        ensure!(job.level == "F" && job.volumes.len() >= 3, "not a Full over several volumes: {job:?}");
        ensure!(job.volumes.iter().all(|v| v.starts_with("c0_A_")), "not all on drive A: {job:?}");
        Ok(((), format!("{} files, {} bytes on {}", job.files, job.bytes, job.volumes.join(" "))))
    })?;
    story.step("drive A is unplugged, drive B is plugged", || {
        vm.unplug(&a)?;
        vm.plug(&b)?;
        let volumes = site.wait_for_catalog("B", Duration::from_mins(3))?;
        Ok(((), format!("{volumes} volumes; no command was typed")))
    })?;
    story.step("Incremental backup", || {
        site.change_tree()?;
        let job = site.backup("Incremental")?;
        ensure!(job.level == "I", "not an Incremental: {job:?}");
        ensure!(
            !job.volumes.is_empty() && job.volumes.iter().all(|v| v.starts_with("c0_B_")),
            "not on drive B: {job:?}"
        );
        Ok(((), format!("{} files, {} bytes on {}", job.files, job.bytes, job.volumes.join(" "))))
    })?;

    story.step("drive B is unplugged; Bacula knows that no drive is there", || {
        vm.unplug(&b)?;
        site.wait_for_empty_changer(Duration::from_mins(2))?;
        Ok(((), "a restorer begins with an empty dock".into()))
    })?;
    let mut plugged: Option<&Drive> = None;
    story.step("everything is restored, each drive plugged when Bacula asks for it", || {
        let mut asked = Vec::new();
        let job = site.restore("/restored", || {
            let Some(volume) = site.wanted_volume()? else { return Ok(()) };
            let drive: &Drive = if volume.starts_with("c0_A_") { &a } else { &b };
            if plugged.is_none_or(|other| !std::ptr::eq(drive, other)) {
                if let Some(other) = plugged {
                    vm.unplug(other)?;
                }
                vm.plug(drive)?;
                plugged = Some(drive);
                asked.push(volume);
            }
            Ok(())
        })?;
        ensure!(asked.len() == 2, "each drive is asked for once: {asked:?}");
        Ok(((), format!("{} files; asked for {}", job.files, asked.join(", "))))
    })?;
    story.step("compared byte by byte", || {
        let said = vm.sh_within(include_str!("../../guest/compare-trees.sh"), Duration::from_mins(2))?;
        Ok(((), said.trim().to_owned()))
    })?;
    Ok(())
}
