//! Links that are slow on purpose, by the kernel's `netem`.

use std::time::Duration;

use futures::StreamExt;
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use crate::{Error, Netlink};

/// Frames that wait at once. What comes when so many do is lost: at 10 Gbit/s in frames of 1,500 bytes they
/// are 120 ms.
const QUEUE: u32 = 100_000;
// linux/rtnetlink.h and linux/pkt_sched.h.
const TCA_OPTIONS: u16 = 2;
const TCA_NETEM_LATENCY64: u16 = 10;
/// Ours, by which it is found again.
const HANDLE: TcHandle = TcHandle { major: 0x6b6c, minor: 0 };

impl Netlink {
    /// Makes whatever leaves by a link leave so much later, in place of the queue that the link has; zero
    /// gives it back the one it was made with.
    ///
    /// # Errors
    /// Among others where the kernel has no `netem`: then [`Error::is_missing`] is true.
    pub async fn set_delay(&self, link: u32, delay: Duration) -> Result<(), Error> {
        let mut message = TcMessage::with_index(link as i32);
        message.header.parent = TcHandle::ROOT;
        message.header.handle = HANDLE;
        if delay.is_zero() {
            return match self.ask(RouteNetlinkMessage::DelQueueDiscipline(message), 0).await {
                // Another queue, or none, is there: nothing of ours is to be removed.
                Err(error) if matches!(to_errno(&error), Some(2 | 22)) => Ok(()),
                other => other.map_err(self.fail("end the delay of", format!("link {link}"))),
            };
        }
        message.attributes.push(TcAttribute::Kind("netem".into()));
        message.attributes.push(TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, options(delay))));
        let asked = self.ask(RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_REPLACE).await;
        asked.map_err(self.fail("delay (netem)", format!("link {link}")))
    }

    async fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> Result<(), rtnetlink::Error> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut answers = self.handle.clone().request(request)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(rtnetlink::Error::NetlinkError(error));
            }
        }
        Ok(())
    }
}

/// `struct tc_netem_qopt` (latency in ticks, limit, loss, gap, duplicate, jitter), and the latency in
/// nanoseconds, which counts where the kernel knows it (4.16).
fn options(delay: Duration) -> Vec<u8> {
    let nanoseconds = i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX);
    // A tick is 64 ns (net/pkt_sched.h, PSCHED_SHIFT).
    let ticks = u32::try_from(nanoseconds >> 6).unwrap_or(u32::MAX);
    let words = [ticks, QUEUE, 0, 0, 0, 0].into_iter().flat_map(u32::to_ne_bytes);
    let attribute = [12u16.to_ne_bytes(), TCA_NETEM_LATENCY64.to_ne_bytes()].concat();
    words.chain(attribute).chain(nanoseconds.to_ne_bytes()).collect()
}

fn to_errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(-message.raw_code()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `tc qdisc add dev lo root netem limit 100000 delay 100ms` sends it, and the nanoseconds after it.
    #[test]
    fn a_delay_is_said_as_tc_says_it() {
        let expected = [
            [0x84, 0xd7, 0x17, 0].as_slice(),
            &[0xa0, 0x86, 1, 0],
            &[0; 16],
            &[12, 0, 10, 0],
            &[0, 0xe1, 0xf5, 5, 0, 0, 0, 0],
        ];
        assert_eq!(options(Duration::from_millis(100)), expected.concat());
    }
}
