//! Two clusters cut the outside along different blocks; here both are cut along all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Change;
use crate::connections::{Connection, End, Range, address, number};

/// On which side of a connection the outside is, and whether it is IPv4.
type Side = (bool, bool);

/// Cuts both lists' ranges where a range of either begins or ends.
pub fn align(old: &mut Vec<Connection>, new: &mut Vec<Connection>) {
    let mut starts: BTreeMap<Side, BTreeSet<u128>> = BTreeMap::new();
    for connection in old.iter().chain(new.iter()) {
        for (side, range) in ranges(connection) {
            let starts = starts.entry(side).or_default();
            starts.insert(number(range.first));
            starts.extend(number(range.last).checked_add(1));
        }
    }
    for list in [old, new] {
        *list = list.drain(..).flat_map(|it| cut(it, &starts)).collect();
    }
}

fn ranges(connection: &Connection) -> impl Iterator<Item = (Side, Range)> {
    [(true, &connection.from), (false, &connection.to)].into_iter().filter_map(|(source, end)| match end {
        End::External(range) => Some(((source, range.first.is_ipv4()), *range)),
        _ => None,
    })
}

fn cut(connection: Connection, starts: &BTreeMap<Side, BTreeSet<u128>>) -> Vec<Connection> {
    let Some(((source, ipv4), range)) = ranges(&connection).next() else { return vec![connection] };
    let (first, last) = (number(range.first), number(range.last));
    let inner = starts.get(&(source, ipv4)).into_iter().flat_map(|it| it.range(first + 1..=last)).copied();
    let firsts: Vec<u128> = std::iter::once(first).chain(inner).collect();
    let lasts = firsts.iter().skip(1).map(|next| next - 1).chain([last]);
    let piece = |(first, last): (&u128, u128)| {
        let end = End::External(Range { first: address(*first, ipv4), last: address(last, ipv4) });
        let mut piece = connection.clone();
        *(if source { &mut piece.from } else { &mut piece.to }) = end;
        piece
    };
    firsts.iter().zip(lasts).map(piece).collect()
}

/// Puts neighbouring ranges together again that changed alike. The changes are sorted by ends.
pub fn merge(changes: Vec<Change>) -> Vec<Change> {
    let mut merged: Vec<Change> = Vec::new();
    let mut last: BTreeMap<(bool, End), usize> = BTreeMap::new();
    for change in changes {
        let (key, range) = match (&change.from, &change.to) {
            (End::External(range), other) => ((true, other.clone()), *range),
            (other, End::External(range)) => ((false, other.clone()), *range),
            _ => {
                merged.push(change);
                continue;
            }
        };
        let before = last.get(&key).and_then(|at| merged.get_mut(*at));
        let alike =
            before.filter(|it| (it.kind, &it.old, &it.new) == (change.kind, &change.old, &change.new));
        let end = alike.map(|it| if key.0 { &mut it.from } else { &mut it.to });
        if !end.is_some_and(|end| extend(end, range)) {
            last.insert(key, merged.len());
            merged.push(change);
        }
    }
    merged
}

/// Whether `range` follows the end without a gap, which then includes it.
fn extend(end: &mut End, range: Range) -> bool {
    let End::External(before) = end else { return false };
    let follows = before.last.is_ipv4() == range.first.is_ipv4()
        && next(before.last).is_some_and(|next| next == number(range.first));
    if follows {
        before.last = range.last;
    }
    follows
}

fn next(address: IpAddr) -> Option<u128> {
    number(address).checked_add(1)
}
