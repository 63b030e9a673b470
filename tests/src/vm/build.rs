//! Builds the guest: root file system, kernel, initial file system, disk image.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::image::Files;
use super::tool::{run, run_command};
use super::{initramfs, mirror, recipe};

/// Size of the guest's disk; the file is sparse.
const DISK: &str = "3G";

/// Tells how far the build is, a line each time.
pub(super) type Say<'a> = &'a dyn Fn(&str);

/// Does one step and says how long it took.
pub(super) fn step<T>(say: Say<'_>, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let result = work().with_context(|| format!("guest image: {name}"))?;
    say(&format!("guest image: {name}: {:.1} s", started.elapsed().as_secs_f64()));
    Ok(result)
}

/// Makes disk, kernel and initial file system below `into`.
pub(super) fn build(into: &Path, say: Say<'_>) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "building the guest image needs root (debootstrap and chroot); run it once as root"
    );
    let root = into.join("root");
    let files = Files::below(into);
    let archive = mirror::find(Path::new("/"), recipe::SUITE)?;
    step(say, "Debian's base system", || {
        let root = root.to_string_lossy();
        run("debootstrap", ["--variant=minbase", recipe::SUITE, &root, &archive]).map(drop)
    })?;
    let apt = Apt::new(into, &root, &archive)?;
    let kernel = step(say, "packages and kernel fetched", || apt.fetch())?;
    step(say, "packages installed", || install(&root))?;
    let version = step(say, "kernel modules", || unpack_kernel(&kernel, &root, &files))?;
    step(say, "settings", || configure(&root))?;
    step(say, "initial file system", || {
        fs::write(&files.initramfs, initramfs::build(&root, &version)?).context("cannot write it")
    })?;
    step(say, "disk", || {
        let (root, disk) = (root.to_string_lossy(), files.disk.to_string_lossy());
        let features = ["-q", "-t", "ext4", "-O", "^metadata_csum,^has_journal", "-m", "0"];
        let options = ["-E", "lazy_itable_init=1,root_owner=0:0", "-d", &root, &disk, DISK];
        run("mke2fs", features.into_iter().chain(options)).map(drop)
    })?;
    fs::remove_dir_all(&root).context("cannot remove the guest's root directory")?;
    fs::remove_dir_all(into.join("apt")).context("cannot remove apt's files")
}

/// The host's apt, which knows proxies and certificates, looking at the guest's packages.
struct Apt {
    options: Vec<String>,
    directory: PathBuf,
}

impl Apt {
    fn new(into: &Path, root: &Path, archive: &str) -> Result<Self> {
        let directory = into.join("apt");
        let debs = root.join("var/cache/apt/archives");
        for made in [directory.join("lists/partial"), debs.join("partial")] {
            fs::create_dir_all(made)?;
        }
        let sources = directory.join("sources.list");
        fs::write(&sources, format!("deb {archive} {} main\n", recipe::SUITE))?;
        let settings = [
            ("Dir::Etc::sourcelist", sources.display().to_string()),
            ("Dir::Etc::sourceparts", "-".into()),
            ("Dir::State::lists", directory.join("lists").display().to_string()),
            ("Dir::State::status", root.join("var/lib/dpkg/status").display().to_string()),
            ("Dir::Cache::archives", debs.display().to_string()),
            ("Dir::Cache::pkgcache", String::new()),
            ("Dir::Cache::srcpkgcache", String::new()),
            ("Acquire::Languages", "none".into()),
            ("Acquire::Retries", "3".into()),
            ("APT::Install-Recommends", "0".into()),
            ("APT::Sandbox::User", "root".into()),
            ("APT::Update::Post-Invoke", "true".into()),
        ];
        let options =
            settings.iter().flat_map(|(name, value)| ["-o".to_owned(), format!("{name}={value}")]).collect();
        Ok(Self { options, directory })
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(&self.options).args(arguments).current_dir(&self.directory).env("LC_ALL", "C");
        run_command(&mut command)
    }

    /// Fetches all packages for the guest and returns the kernel's, which isn't installed but unpacked.
    fn fetch(&self) -> Result<PathBuf> {
        self.command("apt-get", &["update"])?;
        let install = ["-y", "--download-only", "install"];
        self.command("apt-get", &[&install, recipe::PACKAGES].concat())?;
        let depends = self.command("apt-cache", &["depends", recipe::KERNEL])?;
        let kernel = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        let kernel = kernel.with_context(|| format!("{} names no kernel", recipe::KERNEL))?;
        self.command("apt-get", &["download", kernel])?;
        let mut entries = fs::read_dir(&self.directory)?.flatten().map(|entry| entry.path());
        entries
            .find(|path| path.extension().is_some_and(|e| e == "deb"))
            .context("the kernel's package isn't there")
    }
}

/// Installs what was fetched. Whatever a package starts ends with the process namespace.
fn install(root: &Path) -> Result<()> {
    write(root, "etc/dpkg/dpkg.cfg.d/vm", 0o644, recipe::DPKG)?;
    write(root, "usr/sbin/policy-rc.d", 0o755, "#!/bin/sh\nexit 101\n")?;
    let archives = root.join("var/cache/apt/archives");
    let mut debs = Vec::new();
    for entry in fs::read_dir(&archives)?.flatten() {
        let name = entry.file_name();
        if Path::new(&name).extension().is_some_and(|extension| extension == "deb") {
            debs.push(format!("/var/cache/apt/archives/{}", name.to_string_lossy()));
        }
    }
    let chroot = format!("--root={}", root.display());
    let inside = ["--fork", "--pid", "--kill-child", "--mount", "--mount-proc", &chroot, "--"];
    let apt = ["apt-get", "-y", "-q", "--no-download", "--no-install-recommends", "install"];
    run("unshare", inside.into_iter().chain(apt).chain(debs.iter().map(String::as_str)))?;
    for heavy in ["var/cache/apt", "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"] {
        fs::remove_dir_all(root.join(heavy)).with_context(|| format!("cannot remove {heavy}"))?;
    }
    fs::remove_file(root.join("usr/sbin/policy-rc.d")).context("cannot remove policy-rc.d")
}

/// Puts the kept modules into the guest and the kernel beside the disk; returns the kernel's version.
fn unpack_kernel(package: &Path, root: &Path, files: &Files) -> Result<String> {
    let whole = package.with_extension("tree");
    run("dpkg-deb", ["-x", &package.to_string_lossy(), &whole.to_string_lossy()])?;
    let modules = whole.join("lib/modules");
    let version = fs::read_dir(&modules)?.flatten().next().context("the package has no modules")?;
    let version = version.file_name().to_string_lossy().into_owned();
    let (from, to) = (modules.join(&version), root.join("usr/lib/modules").join(&version));
    fs::create_dir_all(to.join("kernel"))?;
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        fs::copy(from.join(list), to.join(list)).with_context(|| format!("no {list}"))?;
    }
    let mut copy = Command::new("cp");
    copy.args(["-a", "--parents"])
        .args(recipe::MODULES)
        .arg(to.join("kernel"))
        .current_dir(from.join("kernel"));
    run_command(&mut copy)?;
    run("depmod", ["-b", &root.to_string_lossy(), &version])?;
    fs::copy(whole.join(format!("boot/vmlinuz-{version}")), &files.kernel).context("no kernel")?;
    Ok(version)
}

fn configure(root: &Path) -> Result<()> {
    for (path, mode, contents) in recipe::FILES {
        write(root, path, *mode, contents)?;
    }
    let system = root.join("etc/systemd/system");
    for unit in recipe::MASKED {
        link("/dev/null", &system.join(unit))?;
    }
    link("../guest-agent.service", &system.join("basic.target.wants/guest-agent.service"))?;
    for service in recipe::NOT_STARTED {
        let wanted = system.join(format!("multi-user.target.wants/{service}.service"));
        if wanted.is_symlink() {
            fs::remove_file(&wanted).with_context(|| format!("cannot remove {}", wanted.display()))?;
        }
    }
    run("chroot", [root.as_os_str(), "passwd".as_ref(), "-d".as_ref(), "root".as_ref()]).map(drop)
}

fn write(root: &Path, path: &str, mode: u32, contents: &str) -> Result<()> {
    let path = root.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    if path.is_symlink() || path.exists() {
        fs::remove_file(&path)?;
    }
    fs::write(&path, contents).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
}

fn link(target: &str, path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    if path.is_symlink() || path.exists() {
        fs::remove_file(path)?;
    }
    symlink(target, path).with_context(|| format!("cannot link {}", path.display()))
}
