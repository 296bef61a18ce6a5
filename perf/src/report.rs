//! Rows of a report: one schema for every path, now and later.

use serde::Serialize;

/// What was measured of one path at one number of sessions. Times are nanoseconds per packet, per turn for `idle`, and
/// per load for `calibration`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Path.
    pub path: &'static str,
    /// Sessions that the worker held.
    pub sessions: u32,
    /// Octets of a frame as received, without the check sequence.
    pub frame_bytes: usize,
    /// Least of all runs.
    pub ns_min: f64,
    /// Median of all runs.
    pub ns_median: f64,
    /// Most of all runs.
    pub ns_max: f64,
    /// Runs.
    pub runs: usize,
}

impl Row {
    /// Of these runs.
    #[must_use]
    pub fn new(path: &'static str, sessions: u32, frame_bytes: usize, mut ns: Vec<f64>) -> Self {
        ns.sort_by(f64::total_cmp);
        let at = |index: usize| ns.get(index).map_or(0.0, |ns| (ns * 10.0).round() / 10.0);
        Self {
            path,
            sessions,
            frame_bytes,
            ns_min: at(0),
            ns_median: at(ns.len() / 2),
            ns_max: at(ns.len().saturating_sub(1)),
            runs: ns.len(),
        }
    }

    /// The head of the table that [`Row::line`] fills.
    #[must_use]
    pub fn head() -> String {
        format!(
            "{:<18} {:>9} {:>6} {:>9} {:>9} {:>9} {:>7} {:>5}",
            "path", "sessions", "octets", "ns min", "median", "max", "spread", "runs"
        )
    }

    /// One line of the table.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "{:<18} {:>9} {:>6} {:>9.1} {:>9.1} {:>9.1} {:>6.0}% {:>5}",
            self.path,
            self.sessions,
            self.frame_bytes,
            self.ns_min,
            self.ns_median,
            self.ns_max,
            self.spread(),
            self.runs
        )
    }

    /// How far the slowest run is from the fastest, percent.
    #[must_use]
    pub fn spread(&self) -> f64 {
        if self.ns_min > 0.0 { (self.ns_max / self.ns_min - 1.0) * 100.0 } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_least_middle_and_most_in_tenths() {
        let row = Row::new("x", 1, 60, vec![3.04, 1.0, 9.96]);
        assert_eq!((row.ns_min, row.ns_median, row.ns_max, row.runs), (1.0, 3.0, 10.0, 3));
        assert_eq!(row.spread(), 900.0);
    }

    #[test]
    fn the_schema_is_what_readers_of_the_json_expect() {
        let row = serde_json::to_value(Row::new("idle", 0, 0, vec![1.5])).unwrap();
        let wanted =
            r#"{"path":"idle","sessions":0,"frame_bytes":0,"ns_min":1.5,"ns_median":1.5,"ns_max":1.5,"runs":1}"#;
        assert_eq!(row, serde_json::from_str::<serde_json::Value>(wanted).unwrap());
    }
}
