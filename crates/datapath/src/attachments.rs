//! What really runs at the hooks, read back from the kernel: whether a program of ours is missing, was
//! replaced by another, or has a foreign one before it.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use crate::datapath::{Datapath, POD, SOCKETS};
use crate::filter::Filter;
use crate::link::{Hook, Target};
use crate::{Error, Result, sys};

/// A hook of the data plane, the program that belongs there, and those that run there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Where.
    pub place: Place,
    /// The name of the program that belongs there.
    pub program: &'static str,
    /// That program, as this process has loaded it.
    pub expected: Program,
    /// What runs there, in the order in which packets or sockets meet it.
    pub running: Vec<Program>,
}

/// Where a program can run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// What an interface of the node receives: from the other nodes, or from a pod behind it.
    Ingress(u32),
    /// What the node sends by an interface.
    Egress(u32),
    /// Sockets of a cgroup, at the hook of the program's name.
    Cgroup(PathBuf),
}

/// A program in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The kernel's number for it.
    pub id: u32,
    /// Its name, of which the kernel keeps 15 bytes.
    pub name: String,
    /// The kernel's hash of its instructions; which maps they use makes no difference to it.
    pub tag: [u8; 8],
    /// What it holds as constants (`.rodata`): the node's addresses, blocks and marks.
    pub constants: Vec<u8>,
}

/// What is wrong at a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The data plane's program does not run there.
    Missing,
    /// A program of its name runs there, with other instructions: of another build.
    OtherBuild(Program),
    /// It runs there with other constants: of another configuration.
    OtherConstants(Program),
    /// Another program sees everything first, and may let it pass, change it or drop it.
    ForeignBefore(Program),
    /// Another program is asked after it, of a hook where all are heard, and may change what it did.
    ForeignAfter(Program),
}

impl Attachment {
    /// What is wrong here; nothing, as a rule.
    pub fn faults(&self) -> Vec<Fault> {
        let is_ours = |program: &&Program| program.name == self.expected.name;
        let mut faults: Vec<Fault> =
            self.running.iter().take_while(|it| !is_ours(it)).cloned().map(Fault::ForeignBefore).collect();
        if matches!(self.place, Place::Cgroup(_)) {
            let after = self.running.iter().skip_while(|it| !is_ours(it)).skip(1);
            faults.extend(after.cloned().map(Fault::ForeignAfter));
        }
        match self.running.iter().find(is_ours) {
            // What is there instead is no finding of its own: nothing of ours comes after it.
            None => faults.insert(0, Fault::Missing),
            Some(ours) if ours.tag != self.expected.tag => faults.push(Fault::OtherBuild(ours.clone())),
            Some(ours) if ours.constants != self.expected.constants => {
                faults.push(Fault::OtherConstants(ours.clone()));
            }
            Some(_) => {}
        }
        faults
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ingress(ifindex) => write!(f, "ingress of interface {ifindex}"),
            Self::Egress(ifindex) => write!(f, "egress of interface {ifindex}"),
            Self::Cgroup(path) => write!(f, "cgroup {}", path.display()),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program {} {}, tag ", self.id, self.name)?;
        self.tag.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the data plane's program does not run here"),
            Self::OtherBuild(program) => write!(f, "{program} is of another build"),
            Self::OtherConstants(program) => {
                write!(f, "{program} has the constants of another configuration")
            }
            Self::ForeignBefore(program) => write!(f, "{program} is foreign and runs first"),
            Self::ForeignAfter(program) => write!(f, "{program} is foreign and runs, too"),
        }
    }
}

impl Datapath {
    /// Every hook that the data plane should have, with what runs there now. Changes nothing.
    ///
    /// On a pod's link, tcx programs of others are seen, which run before all filters; tc filters of
    /// others are not.
    pub fn attachments(&self) -> Result<Vec<Attachment>> {
        let mut all = Vec::new();
        for (hook, ifindex) in self.links() {
            all.push(self.link_attachment(hook, ifindex)?);
        }
        let cgroup = Target::cgroup(&self.config.cgroup)?;
        for hook in SOCKETS {
            all.push(self.socket_attachment(hook, &cgroup)?);
        }
        for ifindex in self.endpoints.keys() {
            for filter in POD {
                all.push(self.pod_attachment(*ifindex, filter)?);
            }
        }
        Ok(all)
    }

    fn link_attachment(&self, hook: Hook, ifindex: u32) -> Result<Attachment> {
        let ids = sys::query(ifindex as i32, hook.attach_type, 0);
        self.attachment(hook.program, Place::Ingress(ifindex), ids)
    }

    fn socket_attachment(&self, hook: Hook, cgroup: &Target) -> Result<Attachment> {
        // Those of the cgroups above run, too.
        let ids = sys::query(cgroup.raw(), hook.attach_type, libbpf_sys::BPF_F_QUERY_EFFECTIVE);
        self.attachment(hook.program, Place::Cgroup(self.config.cgroup.clone()), ids)
    }

    fn pod_attachment(&self, ifindex: u32, filter: Filter) -> Result<Attachment> {
        let (place, tcx) = match filter.side {
            libbpf_sys::BPF_TC_INGRESS => (Place::Ingress(ifindex), libbpf_sys::BPF_TCX_INGRESS),
            _ => (Place::Egress(ifindex), libbpf_sys::BPF_TCX_EGRESS),
        };
        let ids = gone_is_empty(sys::query(ifindex as i32, tcx, 0))
            .and_then(|ids| Ok(ids.into_iter().chain(sys::tc_attached(ifindex, filter.side)?).collect()));
        self.attachment(filter.program, place, ids)
    }

    fn attachment(
        &self,
        program: &'static str,
        place: Place,
        ids: io::Result<Vec<u32>>,
    ) -> Result<Attachment> {
        let failed = |source| Error::Attach { program, target: place.to_string(), source };
        let expected = describe(self.programs.get(program)?).map_err(failed)?;
        let mut running = Vec::new();
        for id in gone_is_empty(ids).map_err(failed)? {
            match sys::program_by_id(id).and_then(|program| describe(program.as_fd())) {
                Ok(program) => running.push(program),
                // It went between the two calls.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(Attachment { place, program, expected, running })
    }
}

/// At an interface that is gone nothing runs.
fn gone_is_empty(ids: io::Result<Vec<u32>>) -> io::Result<Vec<u32>> {
    match ids {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(Vec::new()),
        other => other,
    }
}

fn describe(program: BorrowedFd<'_>) -> io::Result<Program> {
    let (info, maps) = sys::program_info(program)?;
    let name: Vec<u8> = info.name.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    let mut constants = Vec::new();
    for id in maps {
        constants.extend(sys::constants_of(id)?.into_iter().flatten());
    }
    Ok(Program { id: info.id, name: String::from_utf8_lossy(&name).into_owned(), tag: info.tag, constants })
}
