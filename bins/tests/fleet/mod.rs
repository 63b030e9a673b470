//! A site whose drives are files with LUKS headers.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use luks_core::{Container, FormatOptions, Header, KeySlot, LuksUuid, Secret, SecretKind, load_key_file};
use offsite::base::paths::Root;
use offsite::records::header_backups;
use offsite::site::description::Site;

use crate::world::{World, text};

/// A site with drives, which are files.
pub(crate) struct Fleet {
    pub(crate) world: World,
    pub(crate) root: Root,
}

impl Fleet {
    pub(crate) fn new(names: &[&str]) -> Self {
        let world = World::initialised();
        let root = Root::new(world.root.path());
        let fleet = Self { world, root };
        for name in names {
            fleet.enrol(name);
        }
        fleet
    }

    pub(crate) fn key(&self) -> Secret {
        load_key_file(&self.world.path("etc/offsite/key")).unwrap()
    }

    pub(crate) fn site(&self) -> Site {
        Site::load(&self.root).unwrap()
    }

    pub(crate) fn enrol(&self, name: &str) {
        let options = FormatOptions { keyslots_area_bytes: Some(0x10_0000), ..FormatOptions::default() };
        self.enrol_as(name, &options);
    }

    pub(crate) fn enrol_as(&self, name: &str, options: &FormatOptions) {
        self.enrol_in(name, options, 4);
    }

    /// Enrols a drive of that many MiB.
    pub(crate) fn enrol_in(&self, name: &str, options: &FormatOptions, mib: u64) {
        let drive = self.drive(name);
        File::create_new(&drive).unwrap().set_len(mib << 20).unwrap();
        let container =
            Container::format(&drive, options, &self.key(), SecretKind::KeyFile, KeySlot::ONE).unwrap();
        let header = Header::read(&drive).unwrap();
        header_backups::enrol(&self.root, &header, &[&self.key()]).unwrap();
        let digest = header.enrolment().digest();
        let table = format!(
            "\n[[magazine]]\nname = \"{name}\"\nluks_uuid = \"{}\"\nluks_digest = \"{digest}\"\nfs_uuid = \"{}\"\nfs_type = \"ext4\"\nserial = {:?}\n",
            container.uuid(),
            LuksUuid::random(),
            drive.to_str().unwrap() // which is what a file has in place of a serial number
        );
        let site = self.world.path("etc/offsite/site.toml");
        File::options().append(true).open(site).unwrap().write_all(table.as_bytes()).unwrap();
    }

    pub(crate) fn drive(&self, name: &str) -> PathBuf {
        self.world.path(&format!("drive-{name}"))
    }

    pub(crate) fn container(&self, name: &str) -> Container {
        Container::load(&self.drive(name)).unwrap()
    }

    pub(crate) fn backup(&self, name: &str) -> PathBuf {
        header_backups::path(&self.root, self.container(name).uuid())
    }

    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let output = self.world.offsite(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}
