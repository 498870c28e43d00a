use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

use kilter_netns::NetNs;

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
    let read = namespace.run(|| read_whole(key)).map_err(io::Error::other).and_then(|read| read);
    match read {
        Ok(value) => Ok(value.trim_end().to_owned()),
        Err(source) => Err(Error::new("read sysctl", key, name, source)),
    }
}

/// Reads several sysctls of a namespace, with one thread inside; `None` for one that is not there, as
/// those of a link that is gone.
pub fn read_sysctls<K: AsRef<str> + Sync>(namespace: &NetNs, keys: &[K]) -> Result<Vec<Option<String>>, Error> {
    let name = namespace.path().display().to_string();
    let read = |key: &K| match read_whole(key.as_ref()) {
        Ok(value) => Ok(Some(value.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::new("read sysctl", key.as_ref(), name.clone(), source)),
    };
    match namespace.run(|| keys.iter().map(read).collect()) {
        Ok(values) => values,
        Err(source) => Err(Error::new("read", "sysctls", name, io::Error::other(source))),
    }
}

/// Lists of ports end with the first read, however short it is: a page is the most that one may be.
fn read_whole(key: &str) -> io::Result<String> {
    let mut buffer = [0; 4096];
    let length = fs::File::open(path(key))?.read(&mut buffer)?;
    String::from_utf8(buffer[..length].to_vec()).map_err(io::Error::other)
}

fn write_all<K: AsRef<str>>(namespace: &str, values: &[(K, &str)]) -> Result<(), Error> {
    for (key, value) in values {
        let key = key.as_ref();
        fs::write(path(key), value)
            .map_err(|source| Error::new("set sysctl", format!("{key}={value}"), namespace, source))?;
    }
    Ok(())
}

fn path(key: &str) -> PathBuf {
    let separator = key.chars().find(|c| matches!(c, '.' | '/')).unwrap_or('/');
    let mut path = PathBuf::from("/proc/sys");
    path.extend(key.split(separator));
    path
}

fn keys<K: AsRef<str>>(values: &[(K, &str)]) -> String {
    values.iter().map(|(key, _)| key.as_ref()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_decides_so_links_may_have_dots() {
        assert_eq!(path("net.ipv4.ip_forward"), PathBuf::from("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(
            path("net/ipv4/conf/eth0.7/rp_filter"),
            PathBuf::from("/proc/sys/net/ipv4/conf/eth0.7/rp_filter")
        );
    }
}
