use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use kilter_netns::NetNs;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::Error;

/// The name of a sysctl and the value that it is to have.
pub type Setting = (String, &'static str);

/// Sets one sysctl of a namespace, `net/ipv4/ip_forward` or `net.ipv4.ip_forward`. The first
/// separator met decides, as in `sysctl(8)`, because names of links may contain dots.
pub fn sysctl(namespace: &NetNs, key: &str, value: &str) -> Result<(), Error> {
    sysctls(namespace, &[(key, value)])
}

/// Sets several sysctls of a namespace, in order, with one thread inside: `/proc/sys/net` shows the
/// namespace of the thread that looks.
pub fn sysctls<K: AsRef<str> + Sync>(namespace: &NetNs, values: &[(K, &str)]) -> Result<(), Error> {
    let name = namespace.path().display().to_string();
    match namespace.run(|| write_all(&name, values)) {
        Ok(written) => written,
        Err(source) => Err(Error::new("set sysctls", keys(values), name, io::Error::other(source))),
    }
}

/// Sets several sysctls of the calling thread's own namespace.
pub fn sysctls_here<K: AsRef<str>>(values: &[(K, &str)]) -> Result<(), Error> {
    write_all("(this thread's)", values)
}

/// Reads a sysctl of a namespace, without the newline at its end.
pub fn read_sysctl(namespace: &NetNs, key: &str) -> Result<String, Error> {
    let name = namespace.path().display().to_string();
    let read = || Directory::open()?.read(key);
    let read = namespace.run(read).map_err(io::Error::other).and_then(|read| read);
    match read {
        Ok(value) => Ok(value.trim_end().to_owned()),
        Err(source) => Err(Error::new("read sysctl", key, name, source)),
    }
}

/// Reads several sysctls of a namespace, with one thread inside; `None` for one that is not there, as
/// those of a link that is gone.
pub fn read_sysctls<K: AsRef<str> + Sync>(namespace: &NetNs, keys: &[K]) -> Result<Vec<Option<String>>, Error> {
    let name = namespace.path().display().to_string();
    let read = |directory: &Directory, key: &K| match directory.read(key.as_ref()) {
        Ok(value) => Ok(Some(value.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::new("read sysctl", key.as_ref(), name.clone(), source)),
    };
    let read_all = || {
        let directory = Directory::open().map_err(|source| Error::new("read", "sysctls", name.clone(), source))?;
        keys.iter().map(|key| read(&directory, key)).collect()
    };
    match namespace.run(read_all) {
        Ok(values) => values,
        Err(source) => Err(Error::new("read", "sysctls", name, io::Error::other(source))),
    }
}

fn write_all<K: AsRef<str>>(namespace: &str, values: &[(K, &str)]) -> Result<(), Error> {
    let failed = |key: String| move |source| Error::new("set sysctl", key, namespace, source);
    let directory = Directory::open().map_err(failed(keys(values)))?;
    for (key, value) in values {
        let key = key.as_ref();
        directory.write(key, value).map_err(failed(format!("{key}={value}")))?;
    }
    Ok(())
}

/// All sysctls, as the calling thread's namespaces have them, in an instance of proc(5) of our own: `/proc` keeps an
/// entry of the same name for each network namespace that was looked into, all in one chain of a hash table, which
/// beside a few thousand pods was most of what a pod's network cost.
struct Directory(OwnedFd);

impl Directory {
    fn open() -> io::Result<Self> {
        let readable = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(match own_proc() {
            Ok(root) => openat(root, "sys", readable, Mode::empty())?,
            // Not every container may, and reading needs no rights at all.
            Err(_) => openat(CWD, "/proc/sys", readable, Mode::empty())?,
        }))
    }

    fn file(&self, key: &str, flags: OFlags) -> io::Result<File> {
        Ok(openat(&self.0, path(key), flags | OFlags::CLOEXEC, Mode::empty())?.into())
    }

    fn write(&self, key: &str, value: &str) -> io::Result<()> {
        self.file(key, OFlags::WRONLY)?.write_all(value.as_bytes())
    }

    /// Lists of ports end with the first read, however short it is: a page is the most that one may be.
    fn read(&self, key: &str) -> io::Result<String> {
        let mut buffer = [0; 4096];
        let length = self.file(key, OFlags::RDONLY)?.read(&mut buffer)?;
        String::from_utf8(buffer[..length].to_vec()).map_err(io::Error::other)
    }
}

/// A mount that is nowhere; it goes with the descriptor.
fn own_proc() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// Where it is below the directory of all.
fn path(key: &str) -> PathBuf {
    let separator = key.chars().find(|c| matches!(c, '.' | '/')).unwrap_or('/');
    key.split(separator).collect()
}

fn keys<K: AsRef<str>>(values: &[(K, &str)]) -> String {
    values.iter().map(|(key, _)| key.as_ref()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_decides_so_links_may_have_dots() {
        assert_eq!(path("net.ipv4.ip_forward"), PathBuf::from("net/ipv4/ip_forward"));
        assert_eq!(
            path("net/ipv4/conf/eth0.7/rp_filter"),
            PathBuf::from("net/ipv4/conf/eth0.7/rp_filter")
        );
    }
}
