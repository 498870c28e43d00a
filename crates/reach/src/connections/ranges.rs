use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kilter_model::IpBlock;

use super::Range;

/// All addresses of one family, cut where a block begins or ends to match. Two holes side by side
/// make one cut less than two prefixes do.
pub fn cut<'a>(blocks: impl IntoIterator<Item = &'a IpBlock>, ipv4: bool) -> Vec<Range> {
    let highest = if ipv4 { u128::from(u32::MAX) } else { u128::MAX };
    let mut starts = BTreeSet::from([0]);
    for block in blocks.into_iter().filter(|it| it.cidr.addr().is_ipv4() == ipv4) {
        for (first, last) in matched(block) {
            starts.insert(first);
            starts.extend(last.checked_add(1).filter(|next| *next <= highest));
        }
    }
    let lasts = starts.iter().skip(1).map(|next| next - 1).chain([highest]);
    let pairs = starts.iter().zip(lasts);
    pairs.map(|(first, last)| Range { first: address(*first, ipv4), last: address(last, ipv4) }).collect()
}

/// The ranges of addresses that a block matches.
fn matched(block: &IpBlock) -> Vec<(u128, u128)> {
    let (first, last) = ends(&block.cidr);
    let mut holes: Vec<_> = block.except.iter().filter(|it| block.cidr.contains(*it)).map(ends).collect();
    holes.sort_unstable();
    let (mut ranges, mut next) = (Vec::new(), Some(first));
    for (hole_first, hole_last) in holes {
        let Some(start) = next else { break };
        if start < hole_first {
            ranges.push((start, hole_first - 1));
        }
        next = hole_last.checked_add(1).map(|after| after.max(start));
    }
    ranges.extend(next.filter(|start| *start <= last).map(|start| (start, last)));
    ranges
}

fn ends(prefix: &IpNet) -> (u128, u128) {
    (number(prefix.network()), number(prefix.broadcast()))
}

/// An address as a number, to reckon with.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(it) => u128::from(u32::from(it)),
        IpAddr::V6(it) => u128::from(it),
    }
}

/// The address of a number.
pub fn address(number: u128, ipv4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if ipv4 => Ipv4Addr::from(number).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(blocks: &[(&str, &[&str])], ipv4: bool) -> Vec<String> {
        let block = |(cidr, except): &(&str, &[&str])| IpBlock {
            cidr: cidr.parse().unwrap(),
            except: except.iter().map(|it| it.parse().unwrap()).collect(),
        };
        let blocks: Vec<IpBlock> = blocks.iter().map(block).collect();
        cut(&blocks, ipv4).iter().map(|it| format!("{}-{}", it.first, it.last)).collect()
    }

    #[test]
    fn ranges_are_cut_where_a_block_begins_or_ends_to_match() {
        assert_eq!(text(&[], true), ["0.0.0.0-255.255.255.255"]);
        assert_eq!(
            text(&[("0.0.0.0/0", &["255.255.255.255/32"])], true),
            ["0.0.0.0-255.255.255.254", "255.255.255.255-255.255.255.255"]
        );
        assert_eq!(
            text(&[("10.0.0.0/8", &["10.1.0.0/16"]), ("fd00::/8", &[])], true),
            [
                "0.0.0.0-9.255.255.255",
                "10.0.0.0-10.0.255.255",
                "10.1.0.0-10.1.255.255",
                "10.2.0.0-10.255.255.255",
                "11.0.0.0-255.255.255.255"
            ]
        );
        assert_eq!(
            text(&[("10.0.0.0/8", &[]), ("0.0.0.0/0", &["10.128.0.0/9", "10.0.0.0/9", "10.0.0.0/10"])], true),
            ["0.0.0.0-9.255.255.255", "10.0.0.0-10.255.255.255", "11.0.0.0-255.255.255.255"]
        );
        assert_eq!(
            text(&[("::/0", &[]), ("10.0.0.0/8", &[])], false),
            ["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
        );
    }
}
