//! Whether this machine can run the data plane, before anything is tried that fails less clearly.

use std::io;
use std::path::Path;

use libbpf_rs::{MapHandle, MapType};
use nix::sys::utsname::uname;

use crate::{Error, Result, sys};

/// The first kernel with tcx, whose links let programs be replaced in place.
const OLDEST: (u32, u32) = (6, 6);

pub(crate) fn check() -> Result<()> {
    let release = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    if version(&release).is_some_and(|running| running < OLDEST) {
        return Err(unsupported(
            format!("kernel {release} is older than {}.{}", OLDEST.0, OLDEST.1),
            "boot a newer kernel",
        ));
    }
    can_use_bpf()?;
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(unsupported(
            "the kernel carries no BTF (/sys/kernel/btf/vmlinux)".into(),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y",
        ));
    }
    // Interface 1 is `lo`, in every network namespace.
    sys::query(1, libbpf_sys::BPF_TCX_INGRESS, 0).map(drop).map_err(|error| {
        unsupported(
            format!("the kernel has no tcx hooks ({error})"),
            "use a kernel built with CONFIG_NET_XGRESS=y",
        )
    })
}

/// Makes the smallest map there is.
fn can_use_bpf() -> Result<()> {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    match MapHandle::create(MapType::Array, Some("kilter_check"), 4, 4, 1, &options) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == libbpf_rs::ErrorKind::PermissionDenied => Err(unsupported(
            format!("this process may not use bpf(2) ({error})"),
            "run as root, outside of containers that take CAP_BPF and CAP_NET_ADMIN away",
        )),
        Err(error) => Err(unsupported(
            format!("bpf(2) does not work ({error})"),
            "use a kernel built with CONFIG_BPF_SYSCALL=y",
        )),
    }
}

/// Major and minor of `6.18.44-something`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn unsupported(missing: String, remedy: &'static str) -> Error {
    Error::Unsupported { missing, remedy }
}

/// How many CPUs a map per CPU has values for: the possible ones, not those that are online.
pub(crate) fn possible_cpus() -> Result<usize> {
    let failed = |source| Error::Run { program: "count the CPUs", source };
    libbpf_rs::num_possible_cpus().map_err(|e| failed(io::Error::other(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_compared_by_number() {
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(version("6.6-rc1"), Some((6, 6)));
        assert!(version("6.5.0-generic").unwrap() < OLDEST);
        assert!(version("10.0.1").unwrap() > OLDEST);
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn this_machine_can_run_it() {
        check().unwrap();
    }
}
