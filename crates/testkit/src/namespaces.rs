use std::ops::Deref;
use std::path::Path;

use kilter_netns::NetNs;
use nix::mount::{MsFlags, mount};

use crate::TempDir;

/// A network namespace of a test, with a path that other processes can open; gone when dropped.
///
/// `lo` is up. Use it as a [`NetNs`].
#[derive(Debug)]
pub struct TestNetNs {
    netns: NetNs,
    _dir: TempDir,
}

impl TestNetNs {
    /// Makes one; `label` becomes its file name. Needs root.
    #[track_caller]
    pub fn new(label: &str) -> Self {
        let dir = TempDir::new("netns");
        let path = dir.path().join(label);
        let fresh = NetNs::create()
            .unwrap_or_else(|error| panic!("make namespace {label} (are you root?): {error:?}"));
        std::fs::File::create(&path).unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
        bind(&fresh, &path);
        let netns = NetNs::open(&path).unwrap_or_else(|error| panic!("{error:?}"));
        netns.run(loopback_up).unwrap_or_else(|error| panic!("{error:?}"));
        Self { netns, _dir: dir }
    }
}

impl Deref for TestNetNs {
    type Target = NetNs;

    fn deref(&self) -> &NetNs {
        &self.netns
    }
}

/// The descriptor's magic link names the namespace wherever the thread that made it is.
#[track_caller]
fn bind(netns: &NetNs, path: &Path) {
    use std::os::fd::{AsFd, AsRawFd};
    let source = format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd());
    mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .unwrap_or_else(|error| panic!("bind the namespace to {}: {error}", path.display()));
}

/// `SIOCSIFFLAGS` on `lo`: a namespace starts with it down, and then nothing can connect to itself.
fn loopback_up() {
    use std::os::fd::AsRawFd;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket in the new namespace");
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: (libc::IFF_UP | libc::IFF_RUNNING) as i16 },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    // SAFETY: the descriptor is open for the whole call and `request` is a complete ifreq, which
    // SIOCSIFFLAGS only reads.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    assert_eq!(result, 0, "set lo up: {}", std::io::Error::last_os_error());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_namespace_can_connect_to_itself_and_goes_away() {
        let path = {
            let netns = TestNetNs::new("alone");
            let connected = netns.run(|| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                TcpStream::connect(listener.local_addr().unwrap()).is_ok()
            });
            assert!(connected.unwrap());
            assert_eq!(NetNs::open(netns.path()).unwrap().inode().unwrap(), netns.inode().unwrap());
            netns.path().to_path_buf()
        };
        assert!(!path.exists());
    }
}
