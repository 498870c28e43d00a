//! What the machine did beside the benchmark.

use std::fs;

/// Above this share of stolen time figures say more of the machine's host than of their subject.
const WORTH_TELLING: f64 = 0.02;

/// Processor time since boot, in ticks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    all: u64,
    stolen: u64,
}

impl Times {
    /// As they are now; nothing where the kernel does not say.
    pub fn now() -> Self {
        Self::read(&fs::read_to_string("/proc/stat").unwrap_or_default()).unwrap_or_default()
    }

    /// The first line: user, nice, system, idle, iowait, irq, softirq, steal, and guests', which are counted
    /// before (proc_stat(5)).
    fn read(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_whitespace().take(8).filter_map(|it| it.parse().ok()).collect();
        Some(Self { all: ticks.iter().sum(), stolen: *ticks.get(7)? })
    }

    /// What to tell of the time since then, if anything: a virtual machine's host may have taken its
    /// processors away, which makes whatever was measured slower.
    pub fn note(&self) -> Option<String> {
        self.until(Self::now())
    }

    fn until(&self, now: Self) -> Option<String> {
        let (all, stolen) = (now.all.saturating_sub(self.all), now.stolen.saturating_sub(self.stolen));
        let share = stolen as f64 / all.max(1) as f64;
        (share > WORTH_TELLING).then(|| {
            format!(
                "the host of this virtual machine took {:.0} % of its processors' time meanwhile (steal in /proc/stat): \
                 compare subjects, not runs",
                share * 100.0
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_took_is_told_where_it_matters() {
        let at = |stolen: u64| Times::read(&format!("cpu  100 0 100 800 0 0 0 {stolen} 7 7\ncpu0 1\n")).unwrap();
        let later = Times { all: at(0).all + 1000, stolen: 10 };
        assert_eq!(at(0).until(later), None);
        let note = at(0).until(Times { stolen: 620, ..later }).unwrap();
        assert!(note.contains("62 %"), "{note}");
        assert_eq!(Times::default().until(Times::default()), None);
    }
}
