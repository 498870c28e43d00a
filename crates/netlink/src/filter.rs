//! The tc filters of a link, whoever made them.

use futures::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::packet_route::tc::{TcAttribute, TcMessage};

use crate::{Error, Netlink};

/// A filter of one side of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Filters of lesser preference are asked first.
    pub preference: u32,
    /// Its number among those of the same preference.
    pub handle: u32,
    /// `bpf`, `flower`...
    pub kind: String,
}

impl Netlink {
    /// The filters that see what a link receives (`ingress`) or what leaves by it. A link that has no
    /// place for filters, or is gone, has none.
    pub async fn filters(&self, link: u32, ingress: bool) -> Result<Vec<Filter>, Error> {
        let request = self.handle.traffic_filter(link as i32).get();
        let request = if ingress { request.ingress() } else { request.egress() };
        let all: Result<Vec<TcMessage>, _> = request.execute().try_collect().await;
        match all {
            Ok(all) => Ok(all.into_iter().filter_map(filter).collect()),
            Err(rtnetlink::Error::NetlinkError(message)) if is_absent(message.raw_code()) => Ok(Vec::new()),
            Err(error) => Err(self.fail("list the filters of", format!("link {link}"))(error)),
        }
    }
}

/// No such link, or no qdisc that holds filters.
fn is_absent(code: i32) -> bool {
    [Errno::ENODEV as i32, Errno::EINVAL as i32, Errno::ENOENT as i32].contains(&-code)
}

fn filter(message: TcMessage) -> Option<Filter> {
    // The message that a preference is in use at all has no handle.
    let handle = Some(message.header.handle.into()).filter(|handle| *handle != 0)?;
    let kind = message.attributes.into_iter().find_map(|it| match it {
        TcAttribute::Kind(kind) => Some(kind),
        _ => None,
    })?;
    // TC_H_MAJ: the preference; TC_H_MIN: the protocol (linux/pkt_sched.h).
    Some(Filter { preference: message.header.info >> 16, handle, kind })
}
