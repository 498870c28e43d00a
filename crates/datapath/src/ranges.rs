//! Port ranges as prefixes of a port, which tries can hold.

use kilter_model::PortRange;

/// The fewest prefixes (first port, bits) that cover exactly `range`; at most 30.
pub(crate) fn prefixes(range: PortRange) -> Vec<(u16, u32)> {
    let mut found = Vec::new();
    let (mut first, last) = (u32::from(range.first), u32::from(range.last));
    while first <= last {
        // As large as the alignment of its first port allows, and no larger than what is left.
        let aligned = first.trailing_zeros().min(16);
        let fits = (last - first + 1).ilog2();
        let size = aligned.min(fits);
        // `first` is at most `last`, a u16.
        found.push((first as u16, 16 - size));
        first += 1 << size;
    }
    found
}

/// The ports of one prefix.
pub(crate) fn range_of(first: u16, bits: u32) -> PortRange {
    let rest = u32::from(u16::MAX).checked_shr(bits).unwrap_or(0) as u16;
    PortRange { first: first & !rest, last: first | rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(range: PortRange) -> Vec<u16> {
        prefixes(range)
            .into_iter()
            .flat_map(|(first, bits)| {
                let range = range_of(first, bits);
                range.first..=range.last
            })
            .collect()
    }

    #[test]
    fn prefixes_cover_each_port_once_in_order() {
        for (first, last) in
            [(0, 65535), (80, 80), (0, 0), (65535, 65535), (1, 65534), (1024, 4096), (79, 8081)]
        {
            let range = PortRange { first, last };
            assert_eq!(covered(range), (first..=last).collect::<Vec<_>>(), "{range}");
            assert!(prefixes(range).len() <= 30);
        }
    }

    #[test]
    fn everything_is_one_prefix_of_no_bits() {
        assert_eq!(prefixes(PortRange::ALL), [(0, 0)]);
        assert_eq!(prefixes(PortRange::single(443)), [(443, 16)]);
    }
}
