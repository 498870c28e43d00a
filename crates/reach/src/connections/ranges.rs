use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::Range;

/// All addresses of one family, cut at both ends of every prefix.
pub fn cut<'a>(prefixes: impl IntoIterator<Item = &'a IpNet>, ipv4: bool) -> Vec<Range> {
    let highest = if ipv4 { u128::from(u32::MAX) } else { u128::MAX };
    let mut starts = BTreeSet::from([0]);
    for prefix in prefixes.into_iter().filter(|it| it.addr().is_ipv4() == ipv4) {
        starts.insert(number(prefix.network()));
        starts.extend(number(prefix.broadcast()).checked_add(1).filter(|next| *next <= highest));
    }
    let lasts = starts.iter().skip(1).map(|next| next - 1).chain([highest]);
    let pairs = starts.iter().zip(lasts);
    pairs.map(|(first, last)| Range { first: address(*first, ipv4), last: address(last, ipv4) }).collect()
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(it) => u128::from(u32::from(it)),
        IpAddr::V6(it) => u128::from(it),
    }
}

fn address(number: u128, ipv4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if ipv4 => Ipv4Addr::from(number).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(prefixes: &[&str], ipv4: bool) -> Vec<String> {
        let prefixes: Vec<IpNet> = prefixes.iter().map(|it| it.parse().unwrap()).collect();
        cut(&prefixes, ipv4).iter().map(|it| format!("{}-{}", it.first, it.last)).collect()
    }

    #[test]
    fn ranges_are_cut_at_both_ends_of_every_prefix() {
        assert_eq!(text(&[], true), ["0.0.0.0-255.255.255.255"]);
        assert_eq!(
            text(&["0.0.0.0/0", "255.255.255.255/32"], true),
            ["0.0.0.0-255.255.255.254", "255.255.255.255-255.255.255.255"]
        );
        assert_eq!(
            text(&["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"], true),
            [
                "0.0.0.0-9.255.255.255",
                "10.0.0.0-10.0.255.255",
                "10.1.0.0-10.1.255.255",
                "10.2.0.0-10.255.255.255",
                "11.0.0.0-255.255.255.255"
            ]
        );
        assert_eq!(text(&["::/0", "10.0.0.0/8"], false), ["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
    }
}
