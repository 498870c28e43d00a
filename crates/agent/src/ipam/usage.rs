use std::fmt;

use ipnet::IpNet;

use super::Millis;

/// Who holds how much of a block, for the error that says that it has no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The block.
    pub block: IpNet,
    /// Addresses of pods.
    pub held: usize,
    /// Freed addresses that still rest.
    pub resting: usize,
    /// When the first of those may be used.
    pub next: Option<Millis>,
    /// When this was so.
    pub now: Millis,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { block, held, resting, .. } = self;
        write!(f, "{block}: {held} held by pods, {resting} in quarantine")?;
        match self.next {
            Some(next) => {
                let wait = next.saturating_sub(self.now).div_ceil(1000);
                write!(f, ", the first until {} UTC (in {wait} s)", clock(next))
            }
            None => Ok(()),
        }
    }
}

/// The time of day of a moment, UTC. POSIX time has no leap seconds, so each day has as many.
fn clock(at: Millis) -> String {
    let second = at / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// Several blocks, one after another.
pub fn list(blocks: &[Usage]) -> String {
    blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_block_says_who_has_it_and_until_when() {
        let block = "10.244.1.0/29".parse().unwrap();
        let now = 1_700_000_000_000;
        let full = Usage { block, held: 5, resting: 0, next: None, now };
        assert_eq!(full.to_string(), "10.244.1.0/29: 5 held by pods, 0 in quarantine");
        let resting = Usage { held: 3, resting: 2, next: Some(now + 12_300), ..full.clone() };
        assert_eq!(
            list(&[full, resting]),
            "10.244.1.0/29: 5 held by pods, 0 in quarantine; \
             10.244.1.0/29: 3 held by pods, 2 in quarantine, the first until 22:13:32 UTC (in 13 s)"
        );
    }
}
