use std::time::{Duration, Instant};

/// Between two looks at a condition that nothing announces.
const PARK: Duration = Duration::from_millis(2);

/// Waits until `condition` holds; panics, naming `what`, when it does not within `deadline`.
///
/// For conditions of which no event tells (a file in `/proc`, an id that the kernel frees after a
/// grace period). Where there is an event, wait for the event.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(deadline, what, || condition().then_some(()));
}

/// Like [`wait_until`], and hands over what the condition found.
#[track_caller]
pub fn wait_for<T>(deadline: Duration, what: &str, find: impl FnMut() -> Option<T>) -> T {
    find_within(deadline, find).unwrap_or_else(|| panic!("{what}: not within {deadline:?}"))
}

/// Looks until `find` finds something or `deadline` has passed.
pub(crate) fn find_within<T>(deadline: Duration, mut find: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        // Looking once more after the end keeps a slow `find` from failing without a second look.
        let late = Instant::now() >= end;
        let found = find();
        if found.is_some() || late {
            return found;
        }
        std::thread::park_timeout(PARK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_is_looked_at_again_until_it_holds() {
        let mut looks = 0;
        wait_until(Duration::from_secs(5), "three looks", || {
            looks += 1;
            looks == 3
        });
        assert_eq!(looks, 3);
    }

    #[test]
    #[should_panic(expected = "a thing that never comes: not within 5ms")]
    fn a_missed_deadline_names_what_was_waited_for() {
        wait_until(Duration::from_millis(5), "a thing that never comes", || false);
    }
}
