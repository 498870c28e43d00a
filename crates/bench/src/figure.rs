//! What a benchmark says: figures, and what a reader must know to compare them.

use std::fmt;

use serde::Serialize;

/// One measured figure. As JSON, one object a line, it is a contract with other programs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// `datapath`, `cni`, `policy`, `services` or `twin`.
    pub bench: &'static str,
    /// What was done, and over which path: `tcp-keepalive same-node`.
    pub case: String,
    /// Who did it: `kilter`, `loopback`, `kernel`...
    pub subject: String,
    /// Of the numbers below: `us`, `ms`, `s`, `Gbit/s`, `MB`, `%`, `count`.
    pub unit: &'static str,
    /// Median over the runs of each run's median.
    pub p50: f64,
    /// Median over the runs of each run's 99th percentile; for a throughput the slowest hundredth.
    pub p99: f64,
    /// The lowest median of a run.
    pub low: f64,
    /// The highest median of a run.
    pub high: f64,
    /// How many runs.
    pub runs: usize,
}

/// The figures of one benchmark.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order measured.
    pub figures: Vec<Figure>,
    /// What the table ends with: machine, versions, what a subject is and is not.
    pub notes: Vec<String>,
}

impl Report {
    /// One JSON object a line.
    pub fn json_lines(&self) -> String {
        let line = |figure| serde_json::to_string(figure).expect("BUG: a figure is plain data");
        self.figures.iter().map(|figure| line(figure) + "\n").collect()
    }
}

/// A table for people, one block a case.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let case_width = self.figures.iter().map(|figure| figure.case.len()).max().unwrap_or(0).max(4);
        let subject_width = self.figures.iter().map(|figure| figure.subject.len()).max().unwrap_or(0).max(7);
        writeln!(
            f,
            "{:case_width$}  {:subject_width$}  {:>9} {:>9}  {:<6}  spread of p50 ({} runs)",
            "CASE",
            "SUBJECT",
            "P50",
            "P99",
            "UNIT",
            self.figures.first().map_or(0, |figure| figure.runs),
        )?;
        for figure in &self.figures {
            writeln!(
                f,
                "{:case_width$}  {:subject_width$}  {:>9} {:>9}  {:<6}  {} .. {}",
                figure.case,
                figure.subject,
                number(figure.p50),
                number(figure.p99),
                figure.unit,
                number(figure.low),
                number(figure.high),
            )?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

/// As many digits as a figure is worth.
fn number(value: f64) -> String {
    let decimals = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let figure = |subject: &str, p50| Figure {
            bench: "datapath",
            case: "tcp-keepalive same-node".into(),
            subject: subject.into(),
            unit: "us",
            p50,
            p99: p50 * 2.0,
            low: p50 - 1.0,
            high: p50 + 1.0,
            runs: 15,
        };
        Report {
            figures: vec![figure("kilter", 15.34), figure("kernel", 116.9)],
            notes: vec!["one core".into()],
        }
    }

    #[test]
    fn a_line_of_json_has_the_fields_of_the_contract() {
        let lines = report().json_lines();
        let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        for field in ["bench", "case", "subject", "unit", "p50", "p99", "runs"] {
            assert!(first.get(field).is_some(), "{field} is missing in {first}");
        }
        assert_eq!(lines.lines().count(), 2);
    }

    #[test]
    fn the_table_lines_up_and_ends_with_the_notes() {
        assert_eq!(
            report().to_string(),
            "CASE                     SUBJECT        P50       P99  UNIT    spread of p50 (15 runs)\n\
             tcp-keepalive same-node  kilter        15.3      30.7  us      14.3 .. 16.3\n\
             tcp-keepalive same-node  kernel         117       234  us      116 .. 118\n\
             one core\n"
        );
    }
}
